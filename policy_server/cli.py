"""`finevla serve`."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import tyro

from finevla_runtime.cli.options import parse

if TYPE_CHECKING:
    from policy_server.server import ServerOptions


@dataclass(frozen=True)
class ServeOptions:
    """Serve a policy bundle over gRPC, on this machine unless TLS and a token are given."""

    bundle: tyro.conf.Positional[Path]
    """Folder of the policy bundle."""
    host: str = "127.0.0.1"
    """Address to listen on; any but this machine needs --tls-cert, --tls-key and --token-file."""
    port: int = 8500
    """Port to listen on; 0 picks a free one."""
    socket: Path | None = None
    """Listen on this Unix socket instead of host and port."""
    ready_file: Path | None = None
    """Write the address into this file once the server answers."""
    engine: str = "onnxruntime"
    """What runs the model: onnxruntime, onnxruntime-cuda, torch or tensorrt."""
    engine_dir: Path | None = None
    """Folder that `finevla engine build` wrote, for --engine tensorrt."""
    precision: str = "stored"
    """fp32, fp16 or bf16 where the engine can choose; stored: as the bundle was exported or the engine built."""
    device: str = ""
    """cpu or cuda:<number>; empty for the engine's own choice."""
    threads: int = 1
    """CPU threads of one run of the model; 0 takes all cores."""
    max_batch: int = 8
    """Observations per run of the model."""
    max_queue: int = 64
    """Calls that may wait; more are refused at once."""
    max_sessions: int = 256
    """Sessions that may be open."""
    idle_timeout_s: float = 600.0
    """An unused session is forgotten after so long."""
    metrics_port: int | None = None
    """Prometheus metrics on 127.0.0.1; off when left out."""
    tls_cert: Path | None = None
    """PEM certificate of the server."""
    tls_key: Path | None = None
    """PEM private key of the server."""
    client_ca: Path | None = None
    """PEM authority; clients must show a certificate it signed."""
    token_file: Path | None = None
    """File with the token that clients must send."""
    drain_s: float = 10.0
    """How long calls in progress may finish after SIGTERM."""


def serve(argv: Sequence[str]) -> int:
    """Serve a policy bundle over gRPC."""
    options = parse(ServeOptions, argv, prog="finevla serve")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    stop = _stop_on_signals()
    return _run(options, stop)


def _run(options: ServeOptions, stop: threading.Event) -> int:
    from finevla_runtime.bundle import load_bundle
    from finevla_runtime.transport.allocator import keep_heap
    from finevla_runtime.transport.credentials import check_server
    from policy_server.server import PolicyServer

    settings = _server_options(options)
    check_server(settings.address, settings.credentials)
    keep_heap()
    bundle = load_bundle(options.bundle)
    server = PolicyServer(bundle, settings)
    sys.stdout.write(f"serving {bundle.spec.name} {bundle.spec.version} at {server.address}\n")
    sys.stdout.flush()
    if options.ready_file is not None:
        write_ready_file(options.ready_file, server.address)
    stop.wait()
    sys.stderr.write("draining\n")
    server.drain(options.drain_s)
    return 0


def write_ready_file(path: Path, address: str) -> None:
    """Write the address so that a reader sees nothing or all of it."""
    staged = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    staged.write_text(f"{address}\n", encoding="utf-8")
    os.replace(staged, path)


def _server_options(options: ServeOptions) -> ServerOptions:
    from finevla_runtime.transport.credentials import ServerCredentials, read_secret, read_token
    from policy_server.engines.engine import EngineOptions
    from policy_server.server import ServerOptions

    def secret(path: Path | None) -> bytes:
        return b"" if path is None else read_secret(path)

    host = f"[{options.host}]" if ":" in options.host else options.host
    return ServerOptions(
        address=f"{host}:{options.port}" if options.socket is None else f"unix:{options.socket}",
        engine=options.engine,
        engine_options=EngineOptions(options.threads, options.precision, options.engine_dir, options.device),
        max_batch=options.max_batch,
        max_queue=options.max_queue,
        max_sessions=options.max_sessions,
        idle_timeout_s=options.idle_timeout_s,
        credentials=ServerCredentials(
            certificate=secret(options.tls_cert),
            private_key=secret(options.tls_key),
            client_ca=secret(options.client_ca),
            token="" if options.token_file is None else read_token(options.token_file),
        ),
        metrics_port=options.metrics_port,
    )


def _stop_on_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set; a second signal ends the process at once."""
    stop = threading.Event()

    def request_stop(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(128 + number)
        stop.set()

    signal.signal(signal.SIGTERM, request_stop)
    signal.signal(signal.SIGINT, request_stop)
    return stop
