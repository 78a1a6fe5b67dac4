"""Engines that tests steer by hand."""

from __future__ import annotations

import threading

import numpy as np

from finevla_runtime.contracts.arrays import FloatArray
from policy_server.engines.engine import Tensors
from tests.serving.tiny_bundle import DOF, ROWS


def batch_of(inputs: Tensors) -> int:
    return len(next(iter(inputs.values())))


class GateEngine:
    """Waits at a gate before it answers zeros, and says when it is waiting."""

    continues = False

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.gate = threading.Semaphore(0)
        self.batches: list[int] = []

    def run(self, inputs: Tensors) -> FloatArray:
        self.batches.append(batch_of(inputs))
        self.entered.release()
        self.gate.acquire(timeout=20)
        return np.zeros((batch_of(inputs), ROWS, DOF), np.float32)


class FirstPixelEngine:
    """Answers with the first pixel of the head camera; a pixel of 255 makes the whole batch fail, 254 gives NaN."""

    continues = False

    def run(self, inputs: Tensors) -> FloatArray:
        pixels = np.asarray(inputs["image.cam_high"])[:, 0, 0, 0].astype(np.float32)
        if (pixels == 255).any():
            raise RuntimeError("secret /home/somebody/model.onnx")
        pixels[pixels == 254] = np.nan
        return np.broadcast_to(pixels[:, None, None] / 255, (len(pixels), ROWS, DOF)).copy()


class NoiseEngine:
    """Answers with the noise it was given, as a flow-matching policy with nothing to do would."""

    continues = False

    def run(self, inputs: Tensors) -> FloatArray:
        return np.asarray(inputs["noise"], np.float32)
