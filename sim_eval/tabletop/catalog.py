"""The registry of the suite: every family by id, and the instruction of a trial."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from finevla_runtime.contracts.errors import SetupError, unknown_name
from sim_eval.tabletop.families import (
    approach,
    arm,
    clean_table,
    colour,
    left_to_right,
    pose,
    rotate,
    stack_block,
)
from sim_eval.tabletop.family import Family
from sim_eval.tabletop.instructions import KINDS, SPLITS
from sim_eval.tabletop.scene import Scene

FAMILIES: dict[str, Family] = {
    item.id: item
    for item in (
        clean_table.FAMILY,
        stack_block.FAMILY,
        colour.FAMILY,
        pose.FAMILY,
        approach.FAMILY,
        rotate.FAMILY,
        arm.FAMILY,
        left_to_right.FAMILY,
    )
}
"""The eight families in the order of the paper's Table 5."""
EVALUATION_SEED_START = 1_000_000
"""Scene seeds from here on are held out; demonstrations use 0 .. 99_999."""


def find_family(name: str) -> Family:
    """The family of an id.

    Raises:
        SetupError: FV-SIM-001 for an unknown family.
    """
    try:
        return FAMILIES[name]
    except KeyError:
        raise unknown_name("FV-SIM-001", "family", name, list(FAMILIES), "the tabletop suite") from None


def sample_scene(family: str, seed: int) -> Scene:
    """The scene of a family for a seed; the same one for every variant.

    Raises:
        SetupError: FV-SIM-001 for an unknown family, FV-SIM-002 for a negative seed.
    """
    entry = find_family(family)
    if seed < 0:
        raise SetupError("FV-SIM-002", f"scene seed {seed} is negative; wanted 0 or more.")
    rng = np.random.default_rng([zlib.crc32(family.encode()), seed])
    return Scene(family, seed, entry.sample(rng))


def instruction(family: str, variant: str, kind: str, split: str, seed: int) -> str:
    """The instruction of a trial: a paraphrase picked by the seed, the same one for every variant of the family.

    Args:
        family: family id.
        variant: variant id; its words fill the template.
        kind: ``raw`` or ``fine_grained``.
        split: ``train`` or ``heldout`` paraphrases.
        seed: scene seed.

    Raises:
        SetupError: FV-SIM-001, 003 or 004 for an unknown family, variant, kind or split.
    """
    texts = find_family(family).phrases.texts(variant, kind, split)
    rng = np.random.default_rng([zlib.crc32(f"{family}/{kind}/{split}".encode()), seed])
    return texts[int(rng.integers(len(texts)))]


def training_variants() -> Iterator[tuple[str, str]]:
    """Every (family, variant) that demonstrations show."""
    for item in FAMILIES.values():
        for variant in item.demo_variants:
            yield item.id, variant


def evaluation_variants() -> Iterator[tuple[str, str]]:
    """Every (family, variant) that the evaluation asks for."""
    for item in FAMILIES.values():
        for variant in item.variants:
            yield item.id, variant


def vocabulary(split: str) -> frozenset[str]:
    """Lower-case words, without punctuation, of every text of a split.

    Raises:
        SetupError: FV-SIM-004 for an unknown split.
    """
    if split not in SPLITS:
        raise unknown_name("FV-SIM-004", "split", split, list(SPLITS), "the suite")
    words: set[str] = set()
    for item in FAMILIES.values():
        for variant in {*item.variants, *item.demo_variants}:
            for kind in KINDS:
                for text in item.phrases.texts(variant, kind, split):
                    words |= set(text.lower().replace(",", " ").replace(":", " ").replace(".", " ").split())
    return frozenset(words)
