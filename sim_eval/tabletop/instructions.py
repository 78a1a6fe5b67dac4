"""Instruction templates: raw texts name the goal only, fine-grained ones also how; some are held out for tests."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = ("raw", "fine_grained")
"""Instruction kinds."""
SPLITS = ("train", "heldout")
"""Paraphrase splits: demonstrations use train, evaluation uses heldout."""


@dataclass(frozen=True, slots=True)
class Phrases:
    """The texts of a family.

    Attributes:
        raw_train, raw_heldout: goal-level texts, the same for every variant.
        fine_train, fine_heldout: fine-grained templates whose ``{word}`` placeholders are the only thing that
            differs between variants.
        words: placeholder values of each variant.
    """

    raw_train: tuple[str, ...]
    raw_heldout: tuple[str, ...]
    fine_train: tuple[str, ...]
    fine_heldout: tuple[str, ...]
    words: dict[str, dict[str, str]]

    def texts(self, variant: str, kind: str, split: str) -> tuple[str, ...]:
        """Every text of a variant, kind and split.

        Raises:
            SetupError: FV-SIM-003 for an unknown variant, FV-SIM-004 for an unknown kind or split.
        """
        from finevla_runtime.contracts.errors import unknown_name

        if variant not in self.words:
            raise unknown_name("FV-SIM-003", "variant", variant, list(self.words), "the instruction templates")
        for value, known in ((kind, KINDS), (split, SPLITS)):
            if value not in known:
                raise unknown_name("FV-SIM-004", "instruction kind or split", value, list(known), "the suite")
        train, heldout = (self.raw_train, self.raw_heldout) if kind == "raw" else (self.fine_train, self.fine_heldout)
        chosen = train if split == "train" else heldout
        return tuple(text.format(**self.words[variant]) for text in chosen)
