"""Foreign tensor names to ours, and the exact comparison with the network they are for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from finevla_runtime.contracts.errors import SetupError, nearest

BACKBONE = "backbone.model."
HEAD = "head."
PREFIXES = {"qwen_vl_interface.model.": BACKBONE, "action_model.": HEAD}
INPUT_TABLE = f"{BACKBONE}model.language_model.embed_tokens.weight"
OUTPUT_TABLE = f"{BACKBONE}lm_head.weight"
STATE_ENCODER = f"{HEAD}state_encoder."
_SHOWN = 3


def rename(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under our names; the head becomes float32, which is how it is trained and run.

    Raises:
        SetupError: FV-IMP-020 for a tensor outside the backbone and the head.
    """
    renamed = {}
    strange = [name for name in tensors if not name.startswith(tuple(PREFIXES))]
    if strange:
        wanted = " and ".join(f"{prefix}*" for prefix in PREFIXES)
        raise SetupError("FV-IMP-020", f"the weights have {_listed(strange)}; wanted only {wanted}.")
    for foreign, ours in PREFIXES.items():
        for name, tensor in tensors.items():
            if name.startswith(foreign):
                renamed[ours + name.removeprefix(foreign)] = tensor.float() if ours == HEAD else tensor
    return renamed


def check_against(tensors: Mapping[str, Tensor], wanted: Mapping[str, torch.Size]) -> None:
    """Refuse weights whose names or shapes are not exactly those of the network.

    Args:
        tensors: weights under our names.
        wanted: shape by name of the network that the config describes.

    Raises:
        SetupError: FV-IMP-020 for missing or unexpected names with their nearest matches, FV-IMP-021 for shapes.
    """
    missing = [name for name in wanted if name not in tensors]
    unexpected = [name for name in tensors if name not in wanted]
    if missing or unexpected:
        parts = []
        if missing:
            parts.append(f"lack {_listed(missing, unexpected)}")
        if unexpected:
            parts.append(f"have {_listed(unexpected, missing)}, which the network has not")
        raise SetupError(
            "FV-IMP-020",
            f"the weights {' and '.join(parts)}. Check --backbone (another model or transformers version names its "
            "layers otherwise) and the DiT settings of the config.",
        )
    wrong = [
        f"{name} is {_shape(tensors[name].shape)}, wanted {_shape(shape)}"
        for name, shape in wanted.items()
        if tensors[name].shape != shape
    ]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise SetupError(
            "FV-IMP-021",
            f"{'; '.join(wrong[:_SHOWN])}{more}. The config or --backbone does not describe these weights.",
        )


def _listed(names: list[str], others: Iterable[str] = ()) -> str:
    candidates = list(others)
    shown = []
    for name in names[:_SHOWN]:
        match = nearest(name, candidates)
        shown.append(f"{name} (nearest: {match})" if match else name)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(shown) + more


def _shape(shape: torch.Size) -> str:
    return "x".join(str(size) for size in shape) or "scalar"
