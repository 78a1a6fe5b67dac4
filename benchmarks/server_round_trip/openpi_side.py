"""openpi's side: its unmodified client from PyPI, and a server of ours that behaves as openpi's is documented to.

openpi's own server is not on PyPI. This stand-in keeps its behaviour: one websocket per client, metadata as the first
frame, one msgpack frame each way without compression or size limit, and the policy called on the event loop itself.
Runs in its own environment, because openpi-client wants numpy < 2: `server SIZES [BUNDLE]` and `client ADDRESS SIZES`.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial
from pathlib import Path

import numpy as np
from openpi_client import msgpack_numpy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

sys.path.insert(0, str(Path(__file__).resolve().parent))
from client_loop import serve_rounds

ROWS, DOF = 16, 14
CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
TEXT = "put the red block into the bowl with the left arm"


class InstantPolicy:
    """Answers zeros at once."""

    def infer(self, observation: dict) -> dict:
        """Return zeros float32[16, 14] and the step of the observation."""
        return {"actions": np.zeros((ROWS, DOF), np.float32), "step": observation["step"]}


class GraphPolicy:
    """Runs the graph of a bundle on one thread; the prompt is constant, so that only the model is compared."""

    def __init__(self, graph: str) -> None:
        """Load the graph."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        length = next(value.shape[1] for value in self._session.get_inputs() if value.name == "tokens")
        self._tokens = np.ones((1, length), np.int64)

    def infer(self, observation: dict) -> dict:
        """Return rows float32[16, 14] and the step of the observation."""
        feed = {f"image.{name}": pixels[None] for name, pixels in observation["images"].items()}
        rows = self._session.run(["actions"], {**feed, "tokens": self._tokens})[0][0]
        return {"actions": rows, "step": observation["step"]}


async def answer(policy: InstantPolicy | GraphPolicy, connection: ServerConnection) -> None:
    """Talk to one client until it leaves."""
    packer = msgpack_numpy.Packer()
    await connection.send(packer.pack({}))
    while True:
        try:
            observation = msgpack_numpy.unpackb(await connection.recv())
        except ConnectionClosed:
            return
        await connection.send(packer.pack(policy.infer(observation)))


async def run_server(graph: str) -> None:
    """Serve until standard input closes; print the address first."""
    policy = GraphPolicy(graph) if graph else InstantPolicy()
    async with serve(partial(answer, policy), "127.0.0.1", 0, compression=None, max_size=None) as server:
        sys.stdout.write(f"127.0.0.1:{server.sockets[0].getsockname()[1]}\n")
        sys.stdout.flush()
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def run_client(address: str, sizes: str) -> None:
    """Ask the server in rounds."""
    rng = np.random.default_rng(0)
    images = {
        name: rng.integers(0, 256, (*map(int, size.split("x")), 3), dtype=np.uint8)
        for name, size in zip(CAMERAS, sizes.split(","), strict=True)
    }
    host, port = address.split(":")
    policy = WebsocketClientPolicy(host, int(port))

    def ask(step: int) -> None:
        state = np.zeros(DOF, np.float32)
        if policy.infer({"images": images, "state": state, "prompt": TEXT, "step": step})["step"] != step:
            raise ValueError("got the answer to another request.")

    serve_rounds(ask)


if __name__ == "__main__":
    if sys.argv[1] == "server":
        asyncio.run(run_server("".join(f"{folder}/graphs/policy.onnx" for folder in sys.argv[3:])))
    else:
        run_client(*sys.argv[2:])
