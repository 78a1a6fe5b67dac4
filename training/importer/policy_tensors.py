"""From a weight file to the state dict of our policy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from finevla_runtime.contracts.errors import SetupError
from training.importer.action_rule import ActionRule
from training.importer.decision import Decision
from training.importer.head_settings import HeadSettings
from training.importer.renaming import BACKBONE, INPUT_TABLE, OUTPUT_TABLE, STATE_ENCODER, rename
from training.importer.state_folding import fold_state, refuse_state_text, state_differs
from training.importer.weight_file import read_weights


def read_policy_tensors(
    path: Path, head: HeadSettings, rule: ActionRule
) -> tuple[dict[str, Tensor], tuple[Decision, ...]]:
    """Read a weight file under our names, with the state statistics folded in where the policy reads a state.

    Raises:
        SetupError: FV-IMP-005 to FV-IMP-007 for the file, FV-IMP-020 for foreign names, FV-IMP-015 when a state is
            read but has no statistics, FV-IMP-022 when OFT reads a state that is scaled unlike the actions.
    """
    tensors = rename(read_weights(path))
    if not head.state:
        return tensors, ()
    if rule.state is None:
        raise SetupError("FV-IMP-015", "the run reads a state, but dataset_statistics.json has no statistics of it.")
    if head.framework == "oft":
        refuse_state_text(rule.normalisation, rule.state)
    elif state_differs(rule.normalisation, rule.state) and f"{STATE_ENCODER}layer1.weight" in tensors:
        tensors, decision = fold_state(tensors, rule.normalisation, rule.state, rule.modes)
        return tensors, (decision,)
    same = "the statistics of state and action agree"
    return tensors, (Decision("state_statistics", "those of the actions", same),)


def complete(
    tensors: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], state: bool, tied: bool
) -> tuple[dict[str, Tensor], tuple[Decision, ...]]:
    """Return the weights with the tensors added that upstream may leave out because nothing depends on them.

    Args:
        tensors: weights under our names.
        shapes: shape by name of the network they are for.
        state: whether the policy reads a state.
        tied: whether the backbone's input and output tables are one.

    Raises:
        SetupError: FV-IMP-021 when tables that are one in this backbone differ in the file.
    """
    full, decisions = dict(tensors), []
    if tied and OUTPUT_TABLE in full and INPUT_TABLE in full and not torch.equal(full[OUTPUT_TABLE], full[INPUT_TABLE]):
        raise SetupError(
            "FV-IMP-021",
            f"{OUTPUT_TABLE} and {INPUT_TABLE} differ, but --backbone ties them (tie_word_embeddings); it is another "
            "model than the run was trained from.",
        )
    if OUTPUT_TABLE in shapes and OUTPUT_TABLE not in full and INPUT_TABLE in full:
        full[OUTPUT_TABLE] = full[INPUT_TABLE].clone()
        why = "the file lacks the output table, which no policy reads; a copy of the input table stands there"
        decisions.append(Decision("output_table", "input table", why))
    unused = [name for name in shapes if name.startswith(STATE_ENCODER) and name not in full]
    if unused and not state and not any(name.startswith(STATE_ENCODER) for name in full):
        full.update({name: _fresh(name, shapes) for name in unused})
        why = "the run has no state encoder (state_dim 0) and reads no state; training with one starts from these"
        decisions.append(Decision("state_encoder", "random numbers", why))
    return full, tuple(decisions)


def _fresh(name: str, shapes: Mapping[str, torch.Size]) -> Tensor:
    """Return numbers as a new linear layer has them, the same every time; from zeros nothing is learnt."""
    weight = f"{name.rpartition('.')[0]}.weight"
    bound = shapes[weight][-1] ** -0.5
    generator = torch.Generator().manual_seed(sum(name.encode()))
    return torch.empty(shapes[name]).uniform_(-bound, bound, generator=generator)


def backbone_dtype(tensors: Mapping[str, Tensor]) -> str:
    """Return the type that holds every backbone weight exactly: theirs when they share one, else float32."""
    found = {tensor.dtype for name, tensor in tensors.items() if name.startswith(BACKBONE)}
    dtype = next(iter(found)) if len(found) == 1 else torch.float32
    return str(dtype).removeprefix("torch.")
