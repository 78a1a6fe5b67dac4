"""Instruction text, and where a policy reads it as text the robot's state, to token ids."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.errors import PolicyError, SetupError
from finevla_runtime.contracts.policy import PromptSpec

if TYPE_CHECKING:
    from tokenizers import Tokenizer

STATE_BINS = 256
STATE_FIELD = "{state}"


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


def state_text(model_state: npt.ArrayLike) -> str:
    """Return a state float[dof] in model units as text: `` [STATE] i1 … in [ACTION]``.

    Each number becomes the index of its bin among 256 of equal width over [-1, 1] (StarVLA's rule for OFT with
    proprioception); what lies outside falls into the first or last bin.
    """
    values = np.asarray(model_state, dtype=np.float64)
    bins = np.clip(np.floor((values + 1.0) * (STATE_BINS / 2)), 0, STATE_BINS - 1).astype(int)
    return f" [STATE] {' '.join(str(index) for index in bins)} [ACTION]"


class Prompt:
    """Turns instruction text into the fixed-length ids of one policy."""

    def __init__(self, spec: PromptSpec, tokenizer: Tokenizer) -> None:
        """Keep the prompt rule and its tokenizer."""
        self._spec = spec
        self._tokenizer = tokenizer
        added = tokenizer.get_added_tokens_decoder().values()
        self._reserved = tuple(token.content for token in added if token.special)

    @property
    def reads_state(self) -> bool:
        """Return whether the template has a place for the state."""
        return STATE_FIELD in self._spec.template

    def text(self, instruction: str, model_state: npt.ArrayLike | None = None) -> str:
        """Return the exact text the tokenizer reads.

        Raises:
            PolicyError: FV-TOK-004 when the instruction contains a control token of the model, FV-TOK-005 when the
                template wants a state and none is given.
        """
        for token in self._reserved:
            if token in instruction:
                raise PolicyError(
                    "FV-TOK-004", f"the instruction contains {token!r}, which steers the model itself; remove it."
                )
        if self.reads_state and model_state is None:
            raise PolicyError("FV-TOK-005", "the policy reads its state as text; give the state with the instruction.")
        state = state_text(model_state) if self.reads_state and model_state is not None else ""
        text = self._spec.template.format(instruction=" ".join(instruction.split()), state=state)
        return text.lower() if self._spec.lowercase else text

    def tokens(self, instruction: str, model_state: npt.ArrayLike | None = None) -> npt.NDArray[np.int64]:
        """Return int64[max_tokens], padded on the right.

        Args:
            instruction: what to do.
            model_state: float[dof] in model units, for templates with ``{state}``.

        Raises:
            PolicyError: FV-TOK-003 when the prompt is longer than the model accepts; it is never cut, because the
                cut words could be the ones that say how. FV-TOK-004, FV-TOK-005 as in ``text``.
        """
        ids = self._tokenizer.encode(self.text(instruction, model_state)).ids
        if len(ids) > self._spec.max_tokens:
            raise PolicyError(
                "FV-TOK-003",
                f"the instruction has {len(ids)} tokens, the model accepts {self._spec.max_tokens}; shorten it.",
            )
        padded = np.full(self._spec.max_tokens, self._spec.pad_id, dtype=np.int64)
        padded[: len(ids)] = ids
        return padded
