"""Which families form the columns of the table and which variants form pairs; read from the rubric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from finevla_runtime.contracts.rubric import FamilyRubric, Rubric


@dataclass(frozen=True, slots=True)
class Column:
    """One family as the statistics see it.

    Attributes:
        family: family id.
        title: column heading.
        variants: variants whose trials form the column.
        controls: seen controls of a probe, reported beside it and never in the column.
        requested: variant -> observe question -> level asked for.
        dimension: control slots that vary, for people.
        ood: out-of-distribution probe.
    """

    family: str
    title: str
    variants: tuple[str, ...]
    controls: tuple[str, ...]
    requested: Mapping[str, Mapping[str, str]]
    dimension: str
    ood: bool

    @property
    def pair(self) -> tuple[str, str] | None:
        """Return the two paired variants of a single-factor family, None for every other family."""
        single = all(len(questions) == 1 for questions in self.requested.values())
        if self.ood or not single or len(self.variants) != 2:
            return None
        return self.variants[0], self.variants[1]

    def level(self, variant: str) -> str:
        """Return the requested level of a paired variant."""
        return next(iter(self.requested[variant].values()))


def column_of(family: FamilyRubric) -> Column:
    """Return the column of one family."""
    factor = family.factor
    controls = factor.seen_controls if factor else ()
    return Column(
        family=family.id,
        title=family.title,
        variants=tuple(name for name in family.variants if name not in controls),
        controls=controls,
        requested=factor.requested if factor else {},
        dimension=", ".join(factor.dimensions) if factor else "",
        ood=family.ood,
    )


def columns_of(rubric: Rubric) -> tuple[Column, ...]:
    """Return the columns in rubric order."""
    return tuple(column_of(family) for family in rubric.families)
