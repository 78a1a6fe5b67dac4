"""How far bodies can get between two rows of a path, so that nothing thin is stepped over.

Everything here holds for the straight line in joint space from each row to the next. Along it a point of a link takes a
bent way; how far that bends off the straight way between its two ends follows from the second derivative: a turn by
dq_j under a turn by dq_k moves a point with at most dq_j dq_k times its distance to the outer joint. The sum over all
pairs of joints is at most (sum of dq) times (sum of dq times reach), and an eighth of it bounds the deviation.
"""

from __future__ import annotations

import numpy as np

from finevla_runtime.safety.body import Body, Floats


def bows(steps: Floats, moves: Floats, reach: Floats) -> Floats:
    """Return float64[B, n - 1], how far points of B bodies leave the straight way between their ends, metres.

    Args:
        steps: float64[n - 1, joints], magnitudes of the joints' steps.
        moves: [B, joints], 1 for joints that move the body.
        reach: float64[B, joints], the furthest that a point of the body can be from each of them.
    """
    return np.asarray((moves @ steps.T) * (reach @ steps.T) / 8.0)


def beside(between: Floats) -> Floats:
    """Return float64[B, n], for every row the greater of the values before and after it, from float64[B, n - 1]."""
    rows = np.zeros((between.shape[0], between.shape[1] + 1))
    rows[:, :-1] = between
    rows[:, 1:] = np.maximum(rows[:, 1:], between)
    return rows


class Sweep:
    """The motion between the rows of one path.

    Attributes:
        bow: float64[shapes, n], metres by which a point of a shape leaves the straight way beside each row.
        tool_bow: float64[2, n], the same for the tool points.
        half_way: float64[shapes, n], metres that any point of a shape can be away from its place in the row, up to the
            middle of the way to the neighbouring rows; from there on it is nearer to its place in that row.
    """

    def __init__(self, body: Body, joint_values: Floats, centres: Floats, halves: Floats, radii: Floats) -> None:
        """Measure a path.

        Args:
            body: whose it is.
            joint_values: float64[n, joints].
            centres: float64[shapes, n, 3], of the capsules around the shapes, in the world.
            halves: float64[shapes, n, 3], their half segments.
            radii: float64[shapes].
        """
        steps = np.abs(np.diff(joint_values, axis=0))
        moves = body.moves.astype(np.float64)
        bow = bows(steps, moves, body.reach)
        turned = moves @ steps.T
        # A point of a segment moves no further than the end that moves further, one beside it by the turn in addition.
        far = [np.linalg.norm(np.diff(centres + sign * halves, axis=1), axis=2) for sign in (-1.0, 1.0)]
        self.bow = beside(bow)
        self.half_way = beside((np.maximum(*far) + radii[:, None] * turned) / 2.0 + bow)
        self.tool_bow = beside(bows(steps, (body.tool_reach > 0).astype(np.float64), body.tool_reach))
