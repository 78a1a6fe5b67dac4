# CPU image (default):   docker build -t finevla-runtime .
# CUDA policy server:    docker build --target server-cuda -t finevla-server-cuda .

FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 AS server-cuda
RUN apt-get update && apt-get install -y --no-install-recommends python3 python3-venv && rm -rf /var/lib/apt/lists/*
ENV PATH=/opt/finevla/bin:$PATH PYTHONUNBUFFERED=1
RUN python3 -m venv /opt/finevla
WORKDIR /srv/finevla
COPY . .
# The GPU build of ONNX Runtime takes the place of the CPU build: both write the same package folder.
RUN pip install --no-cache-dir -c constraints.txt '.[server]' \
    && pip uninstall -y onnxruntime && pip install --no-cache-dir onnxruntime-gpu \
    && useradd --create-home finevla
USER finevla
EXPOSE 8500
# The server listens on loopback unless told otherwise; share the host's network or name an address on purpose.
ENTRYPOINT ["finevla"]
CMD ["serve", "--help"]

FROM python:3.11-slim-bookworm AS cpu
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /srv/finevla
COPY . .
RUN make setup-demo && rm -rf /var/lib/apt/lists/* /root/.cache && useradd --create-home finevla && mkdir -p out && chown finevla out
USER finevla
ENV PATH=/srv/finevla/.venv/bin:$PATH PYTHONUNBUFFERED=1
ENTRYPOINT ["finevla"]
CMD ["doctor"]
