"""Our side of the measurement: `server SIZES [BUNDLE]` and `client ADDRESS SIZES`, each one process."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers

from benchmarks.server_round_trip.client_loop import serve_rounds
from finevla_runtime.bundle import Bundle, Parity, load_bundle
from finevla_runtime.contracts.action import DOF, JOINT_NAMES, ActionSpace
from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.policy import CameraSpec, Normalisation, PolicySpec, PromptSpec
from finevla_runtime.transport.allocator import keep_heap
from finevla_runtime.transport.client import RemotePolicy
from policy_server.engines.engine import EngineOptions, Tensors
from policy_server.server import PolicyServer, ServerOptions

ROWS = 16
CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
TEXT = "put the red block into the bowl with the left arm"


class InstantEngine:
    """Answers zeros at once, so that everything but the model is measured."""

    continues = False

    def run(self, inputs: Tensors) -> FloatArray:
        """Return zeros float32[batch, 16, 14]."""
        return np.zeros((len(inputs["tokens"]), ROWS, DOF), np.float32)


def sizes_of(text: str) -> list[tuple[int, int]]:
    """Parse ``480x640,64x64,64x64`` into (height, width) of the three cameras."""
    return [(int(h), int(w)) for h, w in (size.split("x") for size in text.split(","))]


def instant_bundle(sizes: list[tuple[int, int]]) -> Bundle:
    """Return a bundle in memory with the given camera sizes; its graph is never run."""
    words = {word: index for index, word in enumerate(["[PAD]", "[UNK]", *TEXT.split()])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    spec = PolicySpec(
        name="instant",
        version="1",
        embodiment="cobot_magic_sim",
        framework="oft",
        cameras=tuple(CameraSpec(name, h, w, "refuse") for name, (h, w) in zip(CAMERAS, sizes, strict=True)),
        action=ActionSpace(JOINT_NAMES, ("rad",) * DOF, (-3.0,) * DOF, (3.0,) * DOF),
        layout="project",
        state=False,
        normalisation=Normalisation(("min_max",) * DOF, (-2.0,) * DOF, (2.0,) * DOF, clip=False),
        prompt=PromptSpec("{instruction}", 32, 0, True),
        chunk_rows=ROWS,
        execution_rows=8,
        control_hz=10.0,
        trained_kinds=(InstructionKind.RAW,),
        fg_share=0.0,
    )
    return Bundle(Path(), spec, str(tokenizer.to_str()), {}, Parity({}, {}, 0.0), {}, "")


def run_server(sizes: str, bundle: str = "") -> None:
    """Serve a bundle, or the instant policy, until standard input closes; print the address first."""
    keep_heap()
    if bundle:
        server = PolicyServer(load_bundle(Path(bundle)), ServerOptions(engine_options=EngineOptions(threads=1)))
    else:
        server = PolicyServer(instant_bundle(sizes_of(sizes)), ServerOptions(), engine=InstantEngine())
    sys.stdout.write(f"{server.address}\n")
    sys.stdout.flush()
    sys.stdin.read()
    server.drain(1.0)


def run_client(address: str, sizes: str) -> None:
    """Ask the server in rounds, as a process that streams images should: with a heap that is kept."""
    keep_heap()
    rng = np.random.default_rng(0)
    images = {
        name: rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        for name, size in zip(CAMERAS, sizes_of(sizes), strict=True)
    }
    instruction = Instruction(TEXT, InstructionKind.RAW)
    state = np.zeros(DOF, np.float32)
    with RemotePolicy.connect(address, timeout_s=60.0) as policy:

        def ask(step: int) -> None:
            chunk = policy.infer(Observation(images, state, instruction, step, step))
            if chunk.first_control_step != step:
                raise ValueError("got the answer to another request.")

        serve_rounds(ask)


if __name__ == "__main__":
    {"server": run_server, "client": run_client}[sys.argv[1]](*sys.argv[2:])
