"""The automatic judge of the tabletop suite: it answers the rubric's questions on a trace."""

from __future__ import annotations

from sim_eval.tabletop.judge.sheet import check_rubric, judge

__all__ = ["check_rubric", "judge"]
