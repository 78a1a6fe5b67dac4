"""State statistics folded into a state encoder, and what upstream leaves out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.contracts.action import DOF
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.processing.normalise import normalise
from training.importer.policy_tensors import backbone_dtype, complete
from training.importer.state_folding import fold_state, refuse_state_text, state_differs
from training.importer.statistics import to_normalisation

LAYER = "head.state_encoder.layer1"
MODES = ("q99", "min_max", "mean_std", "binary")
OUTPUT = "backbone.model.lm_head.weight"
INPUT = "backbone.model.model.language_model.embed_tokens.weight"


def columns(seed: int) -> dict[str, list[float]]:
    rng = np.random.default_rng(seed)
    low, spread = rng.uniform(-2, 2, DOF), rng.uniform(0.5, 3, DOF)
    pairs = {"q01": low, "q99": low + spread, "min": low, "max": low + spread, "mean": low, "std": spread}
    return {name: values.tolist() for name, values in pairs.items()}


def encoder(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{LAYER}.weight": torch.randn(8, DOF, generator=generator),
        f"{LAYER}.bias": torch.randn(8, generator=generator),
    }


def read(tensors: dict[str, torch.Tensor], state: npt.ArrayLike) -> npt.NDArray[np.float64]:
    weight, bias = (tensors[f"{LAYER}.{part}"].double().numpy() for part in ("weight", "bias"))
    rows: npt.NDArray[np.float64] = np.asarray(state, np.float64) @ weight.T + bias
    return rows


@given(st.lists(st.sampled_from(MODES), min_size=DOF, max_size=DOF), st.integers(0, 1000))
def test_a_folded_encoder_reads_any_state_as_the_original_did(modes: list[str], seed: int) -> None:
    rows = to_normalisation(columns(seed), modes, clip=True)
    state = to_normalisation(columns(seed + 1), modes, clip=False)
    tensors = encoder(seed)
    joints = np.random.default_rng(seed).uniform(-1, 1, (3, DOF))
    folded, _ = fold_state(tensors, rows, state, modes)
    assert np.allclose(read(folded, normalise(joints, rows)), read(tensors, normalise(joints, state)), atol=1e-4)


def test_a_dimension_that_never_moved_stays_zero_for_the_encoder() -> None:
    still = {**columns(1), "min": [0.5] * DOF, "max": [0.5] * DOF}
    modes = ["min_max"] * DOF
    rows, state = to_normalisation(columns(0), modes, clip=False), to_normalisation(still, modes, clip=False)
    tensors = encoder(0)
    folded, _ = fold_state(tensors, rows, state, modes)
    joints = np.random.default_rng(0).uniform(-1, 1, (3, DOF))
    assert np.allclose(read(folded, normalise(joints, rows)), read(tensors, np.zeros((3, DOF))))


def test_a_deviation_of_exactly_one_is_no_standstill() -> None:
    unit = {**columns(1), "std": [1.0] * DOF}
    modes = ["mean_std"] * DOF
    rows, state = to_normalisation(columns(0), modes, clip=False), to_normalisation(unit, modes, clip=False)
    tensors = encoder(0)
    folded, _ = fold_state(tensors, rows, state, modes)
    joints = np.random.default_rng(0).uniform(-1, 1, (3, DOF))
    assert np.allclose(read(folded, normalise(joints, rows)), read(tensors, normalise(joints, state)), atol=1e-4)


def test_only_different_statistics_are_a_reason_to_refuse_state_as_text() -> None:
    rows, other = (to_normalisation(columns(seed), ["q99"] * DOF, clip=False) for seed in (0, 1))
    refuse_state_text(rows, rows)
    assert not state_differs(rows, rows)
    with pytest.raises(SetupError) as caught:
        refuse_state_text(rows, other)
    assert caught.value.code == "FV-IMP-022"


def test_a_head_without_state_encoder_is_completed_only_when_no_state_is_read() -> None:
    shapes = {f"{LAYER}.weight": torch.Size((8, DOF)), "head.future_tokens.weight": torch.Size((3, 4))}
    tensors = {"head.future_tokens.weight": torch.ones(3, 4)}
    full, decisions = complete(tensors, shapes, state=False, tied=True)
    assert set(full) == set(shapes)
    assert [decision.name for decision in decisions] == ["state_encoder"]
    # From zeros no gradient but that of the last bias would be left.
    assert full[f"{LAYER}.weight"].std() > 0.1
    assert set(complete(tensors, shapes, state=True, tied=True)[0]) == set(tensors)


def test_a_state_encoder_with_a_hole_is_not_completed() -> None:
    shapes = {f"{LAYER}.weight": torch.Size((8, DOF)), f"{LAYER}.bias": torch.Size((8,))}
    assert set(complete({f"{LAYER}.bias": torch.ones(8)}, shapes, state=False, tied=True)[0]) == {f"{LAYER}.bias"}


def test_mixed_precision_is_kept_in_the_type_that_holds_all_of_it() -> None:
    half, full = torch.ones(1, dtype=torch.bfloat16), torch.ones(1)
    assert backbone_dtype({OUTPUT: half, INPUT: half, "head.x": full}) == "bfloat16"
    assert backbone_dtype({OUTPUT: half, INPUT: full}) == "float32"
