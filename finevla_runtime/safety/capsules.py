"""Capsules around solid shapes: a lower bound on distances that is cheap for very many pairs at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finevla_runtime.safety.body import Floats, Shape

# Keeps divisions by the length of a segment defined when it is a point; metres squared.
TINY = 1e-18


def enclose(shapes: Sequence[Shape]) -> tuple[Floats, Floats]:
    """Return capsules that enclose shapes: half segments float64[S, 3] in the shapes' frames and radii float64[S].

    A capsule is everything within its radius of the segment from minus to plus the half segment. That of a box lies
    along its longest side and reaches the corners.
    """
    halves, radii = np.zeros((len(shapes), 3)), np.zeros(len(shapes))
    for index, shape in enumerate(shapes):
        if shape.half.any():
            longest = int(np.argmax(shape.half))
            halves[index, longest] = shape.half[longest]
            radii[index] = np.linalg.norm(np.delete(shape.half, longest))
        else:
            halves[index, 2] = shape.half_length
            radii[index] = shape.radius
    return halves, radii


def segment_distances(centre_a: Floats, half_a: Floats, centre_b: Floats, half_b: Floats) -> Floats:
    """Return float64[n], distances between segments given by centres and half segments, float64[n, 3] each.

    The nearest points are found by minimising for one segment after the other, each time within its ends; starting
    from the nearest points of the two lines this ends at the minimum (Ericson, Real-Time Collision Detection, 5.1.9).
    """
    apart = centre_a - centre_b
    aa, bb = _dot(half_a, half_a) + TINY, _dot(half_b, half_b) + TINY
    ab, ar, br = _dot(half_a, half_b), _dot(half_a, apart), _dot(half_b, apart)
    along_a = np.clip((ab * br - ar * bb) / (aa * bb - ab * ab + TINY * TINY), -1.0, 1.0)
    along_b = np.clip((ab * along_a + br) / bb, -1.0, 1.0)
    along_a = np.clip((ab * along_b - ar) / aa, -1.0, 1.0)
    nearest = apart + along_a[:, None] * half_a - along_b[:, None] * half_b
    return np.asarray(np.sqrt(_dot(nearest, nearest)))


def _dot(one: Floats, other: Floats) -> Floats:
    return np.asarray(np.einsum("ij,ij->i", one, other))
