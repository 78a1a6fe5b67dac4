"""Instruction text to token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.errors import PolicyError, SetupError
from finevla_runtime.contracts.policy import PromptSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def load_tokenizer(tokenizer_json: str) -> Tokenizer:
    """Parse a Hugging Face ``tokenizer.json``.

    Raises:
        SetupError: FV-TOK-001 when the ``tokenizers`` package is missing, FV-TOK-002 when the text is no tokenizer.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise SetupError("FV-TOK-001", "reading prompts needs: pip install 'finevla-runtime[server]'.") from error
    try:
        return Tokenizer.from_str(tokenizer_json)
    except Exception as error:  # The Rust binding raises bare Exception for every kind of bad file.
        raise SetupError("FV-TOK-002", f"tokenizer.json is not a tokenizer: {error}") from error


class Prompt:
    """Turns instruction text into the fixed-length ids of one policy."""

    def __init__(self, spec: PromptSpec, tokenizer: Tokenizer) -> None:
        """Keep the prompt rule and its tokenizer."""
        self._spec = spec
        self._tokenizer = tokenizer

    def text(self, instruction: str) -> str:
        """Return the exact text the tokenizer reads."""
        text = self._spec.template.format(instruction=" ".join(instruction.split()))
        return text.lower() if self._spec.lowercase else text

    def tokens(self, instruction: str) -> npt.NDArray[np.int64]:
        """Return int64[max_tokens], padded on the right.

        Raises:
            PolicyError: FV-TOK-003 when the prompt is longer than the model accepts; it is never cut, because the
                cut words could be the ones that say how.
        """
        ids = self._tokenizer.encode(self.text(instruction)).ids
        if len(ids) > self._spec.max_tokens:
            raise PolicyError(
                "FV-TOK-003",
                f"the instruction has {len(ids)} tokens, the model accepts {self._spec.max_tokens}; shorten it.",
            )
        padded = np.full(self._spec.max_tokens, self._spec.pad_id, dtype=np.int64)
        padded[: len(ids)] = ids
        return padded
