"""Suites: which families, variants, instruction kinds and scenes an evaluation consists of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.errors import nearest
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.rubric import Rubric
from finevla_runtime.contracts.strict_yaml import Node, load_yaml

SUITE_VERSION = 1
SPLITS = ("train", "heldout")
"""Paraphrase splits: demonstrations show ``train``, an evaluation should ask with ``heldout``."""
FIRST_EVALUATION_SEED = 1_000_000
"""Scene seeds below this one belong to demonstrations; evaluating on them would measure memory."""


@dataclass(frozen=True, slots=True)
class SuiteFamily:
    """One family of a suite.

    Attributes:
        family: family id of the rubric.
        variants: variants that are asked for; all of them share every scene.
        trials: trials per variant and instruction kind, which is the number of scenes.
    """

    family: str
    variants: tuple[str, ...]
    trials: int


@dataclass(frozen=True, slots=True)
class Cell:
    """Trials that share family, variant and instruction kind; their scenes are ``seeds``."""

    family: str
    variant: str
    kind: InstructionKind
    seeds: range


@dataclass(frozen=True, slots=True)
class Suite:
    """A named evaluation.

    Attributes:
        name: shown in manifests and reports.
        rubric: name of the rubric file, without ``.yaml``.
        kinds: instruction kinds that are asked.
        split: paraphrases that are asked, one of SPLITS.
        first_seed: scene seed of the first trial of every variant, at least FIRST_EVALUATION_SEED.
        execution_rows: rows executed before the policy is asked again.
        families: in report order.
    """

    name: str
    rubric: str
    kinds: tuple[InstructionKind, ...]
    split: str
    first_seed: int
    execution_rows: int
    families: tuple[SuiteFamily, ...]

    def cells(self) -> Iterator[Cell]:
        """Yield every cell; the variants of a family follow one another on the same seeds."""
        for family in self.families:
            for kind in self.kinds:
                for variant in family.variants:
                    seeds = range(self.first_seed, self.first_seed + family.trials)
                    yield Cell(family.family, variant, kind, seeds)

    @property
    def trial_count(self) -> int:
        """Trials of one policy."""
        return sum(len(cell.seeds) for cell in self.cells())


def load_suite(path: Path, rubric: Rubric) -> Suite:
    """Read a suite file strictly and check it against its rubric.

    Raises:
        SetupError: FV-CFG-* for YAML that is not as expected, FV-SUI-001 (version), -002 (unknown family or
            variant), -003 (seed that demonstrations use), -004 (number out of range), -005 (repeated entry).
    """
    top = load_yaml(path)
    required = ["suite", "name", "rubric", "kinds", "split", "first_seed", "execution_rows", "trials", "families"]
    keys = top.mapping(required)
    if (version := keys["suite"].integer()) != SUITE_VERSION:
        raise keys["suite"].fail("FV-SUI-001", f"suite version {version}, this program reads 1.")
    first_seed = keys["first_seed"].integer()
    if first_seed < FIRST_EVALUATION_SEED:
        raise keys["first_seed"].fail(
            "FV-SUI-003", f"seed {first_seed} may have been demonstrated; use {FIRST_EVALUATION_SEED} or more."
        )
    trials = _count(keys["trials"])
    kinds = keys["kinds"].map(lambda node: InstructionKind(node.one_of([kind.value for kind in InstructionKind])))
    families = keys["families"].map(lambda node: _read_family(node, rubric, trials))
    if not kinds or not families:
        raise top.fail("FV-SUI-004", "wanted at least one kind and one family.")
    _refuse_repeats(keys["kinds"], [kind.value for kind in kinds])
    _refuse_repeats(keys["families"], [family.family for family in families])
    name = keys["name"].text()
    if not re.fullmatch(r"[a-z][a-z0-9_-]*", name):
        raise keys["name"].fail("FV-SUI-004", f"{name!r} is no usable name; use a-z, 0-9, - and _.")
    return Suite(
        name=name,
        rubric=keys["rubric"].text(),
        kinds=kinds,
        split=keys["split"].one_of(SPLITS),
        first_seed=first_seed,
        execution_rows=_count(keys["execution_rows"]),
        families=families,
    )


def _read_family(node: Node, rubric: Rubric, trials: int) -> SuiteFamily:
    keys = node.mapping(["family"], ["variants", "trials"])
    name = _known(keys["family"], "family", keys["family"].text(), [item.id for item in rubric.families])
    known = rubric.family(name).variants
    variants = known
    if "variants" in keys:
        variants = keys["variants"].map(lambda item: _known(item, "variant", item.text(), known))
        _refuse_repeats(keys["variants"], variants)
        if not variants:
            raise keys["variants"].fail("FV-SUI-004", "wanted at least one variant; leave the key out for all.")
    return SuiteFamily(name, variants, _count(keys["trials"]) if "trials" in keys else trials)


def _known(node: Node, kind: str, name: str, known: Iterable[str]) -> str:
    names = list(known)
    if name not in names:
        guess = nearest(name, names)
        hint = f" Did you mean {guess!r}?" if guess else ""
        raise node.fail("FV-SUI-002", f"the rubric has no {kind} {name!r}.{hint} Known: {', '.join(names)}.")
    return name


def _count(node: Node) -> int:
    value = node.integer()
    if not 1 <= value <= 100_000:
        raise node.fail("FV-SUI-004", f"got {value}, wanted 1 to 100000.")
    return value


def _refuse_repeats(node: Node, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise node.fail("FV-SUI-005", f"{name!r} appears twice.")
        seen.add(name)
