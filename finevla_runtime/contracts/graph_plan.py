"""How the graphs of a bundle together make one answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from finevla_runtime.contracts.errors import SetupError, unknown_name

KINDS = ("single", "staged")
# Weights of graphs whose names begin so keep their precision in every engine, because half of it would change inputs.
EXACT_WEIGHTS = "exact."
KEYS = ("kind", "buckets", "denoise_steps")


@dataclass(frozen=True, slots=True)
class GraphPlan:
    """What an engine runs, in which order.

    Attributes:
        kind: ``single``: one graph ``policy`` from inputs to ``actions``. ``staged``: ``vision``, then ``prefix``
            once per query, then ``head`` (once for a regression head, ``denoise_steps`` times for flow matching).
        buckets: prompt lengths, ascending, for which static prefix graphs exist; the last is the longest prompt.
            Empty for a single graph.
        denoise_steps: Euler steps of a flow-matching head outside the graph; 0 where the head answers at once.
    """

    kind: str = "single"
    buckets: tuple[int, ...] = ()
    denoise_steps: int = 0

    def bucket(self, length: int) -> int:
        """Return the smallest bucket that holds ``length`` tokens.

        Raises:
            SetupError: FV-BUN-010 when none does; the processor refuses such prompts before.
        """
        for size in self.buckets:
            if length <= size:
                return size
        raise SetupError("FV-BUN-010", f"a prompt of {length} tokens fits none of the buckets {self.buckets}.")


def plan_from_json(raw: object, max_tokens: int) -> GraphPlan:
    """Check the ``plan`` entry of a bundle.

    Raises:
        SetupError: FV-BUN-011 for an unknown key, kind or impossible value.
    """
    if not isinstance(raw, Mapping):
        raise _wrong("the plan", raw, "a mapping")
    for key in raw:
        if key not in KEYS:
            raise unknown_name("FV-BUN-011", "key", str(key), KEYS, "bundle plan")
    kind, buckets, steps = raw.get("kind"), raw.get("buckets"), raw.get("denoise_steps")
    if kind not in KINDS:
        raise unknown_name("FV-BUN-011", "kind", str(kind), KINDS, "bundle plan")
    if not isinstance(buckets, list) or not all(type(size) is int and size > 0 for size in buckets):
        raise _wrong("buckets", buckets, "a list of positive whole numbers")
    if buckets != sorted(set(buckets)) or bool(buckets) != (kind == "staged"):
        raise _wrong("buckets", buckets, "ascending lengths for a staged bundle, none for a single graph")
    if buckets and buckets[-1] != max_tokens:
        raise _wrong("the longest bucket", buckets[-1], f"{max_tokens}, the longest prompt of the spec")
    if type(steps) is not int or steps < 0:
        raise _wrong("denoise_steps", steps, "a whole number, 0 or more")
    return GraphPlan(str(kind), tuple(buckets), steps)


def _wrong(what: str, value: object, wanted: str) -> SetupError:
    return SetupError("FV-BUN-011", f"bundle plan: {what} is {value!r}, wanted {wanted}; export the bundle again.")
