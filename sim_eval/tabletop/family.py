"""A task family: paired variants on shared scenes, with a sampler, an expert's plan and a goal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sim_eval.tabletop.instructions import Phrases
from sim_eval.tabletop.motion import Plan
from sim_eval.tabletop.scene import ObjectPlacement, Scene
from sim_eval.tabletop.trace import Trace


@dataclass(frozen=True, slots=True)
class Family:
    """One column of the suite.

    Attributes:
        id: name used in manifests and reports.
        variants: levels of the control factor that the evaluation asks for; ``("default",)`` without a factor.
        demo_variants: variants that demonstrations show; differs from variants only for the out-of-distribution
            probe, whose asked combination is never shown.
        time_limit_steps: control steps after which an episode ends, about 1.8 times the expert's.
        sample: draws the visible objects of a scene.
        plan: the expert's clean joint targets for a scene and a variant.
        reached: whether a finished trace reached the goal of a variant.
        phrases: instruction templates.
        habit: the variant that a demonstrator shows who was only told the goal. Raw instructions are paired with
            these demonstrations: execution choices then follow visible habits (paper section 5.2: implicit
            co-occurrence statistics) and not the words. The habit is right-handed, see ``right_hand_object``.
        ood: True for the out-of-distribution probe.
    """

    id: str
    variants: tuple[str, ...]
    demo_variants: tuple[str, ...]
    time_limit_steps: int
    sample: Callable[[np.random.Generator], tuple[ObjectPlacement, ...]]
    plan: Callable[[Scene, str], Plan]
    reached: Callable[[Trace, str], bool]
    phrases: Phrases
    habit: Callable[[Scene], str]
    ood: bool = False
