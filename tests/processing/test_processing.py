"""The one processing path: exact inverses, refusal instead of guessing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from finevla_runtime.contracts.errors import PolicyError, SetupError
from finevla_runtime.contracts.policy import CameraSpec, Normalisation, PromptSpec
from finevla_runtime.processing.images import resize
from finevla_runtime.processing.normalise import MODES, check_normalisation, denormalise, fit_normalisation, normalise
from finevla_runtime.processing.pipeline import Processor, chunk_noise
from finevla_runtime.processing.prompt import state_text
from tests.builders import make_observation, make_spec, make_tokenizer_json

affine = st.sampled_from(["q99", "min_max", "mean_std", "identity"])
numbers = st.floats(-3, 3, width=32)


@given(st.lists(st.tuples(affine, numbers, st.floats(0.015625, 3, width=32)), min_size=1, max_size=14), st.data())
def test_denormalise_inverts_normalise(dims: list[tuple[str, float, float]], data: st.DataObject) -> None:
    stats = Normalisation(
        mode=tuple(d[0] for d in dims),
        low=tuple(d[1] for d in dims),
        high=tuple(d[1] + d[2] if d[0] in ("q99", "min_max") else d[2] for d in dims),
        clip=False,
    )
    values = data.draw(hnp.arrays(np.float32, (5, len(dims)), elements=numbers))
    np.testing.assert_allclose(denormalise(normalise(values, stats), stats), values, atol=1e-4)


def test_golden_normaliser_vectors() -> None:
    """Hand-computed from the published rules: 2 (x - q01) / (q99 - q01) - 1; x > 0.5 for binary."""
    stats = Normalisation(("q99", "binary", "mean_std", "identity"), (0.0, 0.0, 1.0, 0.0), (4.0, 1.0, 2.0, 1.0), False)
    assert normalise([[1.0, 0.6, 2.0, 7.0]], stats).tolist() == [[-0.5, 1.0, 0.5, 7.0]]
    assert denormalise([[-0.5, 0.4, 0.5, 7.0]], stats).tolist() == [[1.0, 0.0, 2.0, 7.0]]


def test_a_dimension_without_spread_passes_unchanged() -> None:
    stats = Normalisation(("q99", "mean_std"), (2.0, 2.0), (2.0, 0.0), False)
    assert normalise([[5.0, 5.0]], stats).tolist() == [[5.0, 5.0]]
    assert denormalise([[5.0, 5.0]], stats).tolist() == [[5.0, 5.0]]


def test_clipping_happens_only_when_the_statistics_say_so() -> None:
    ranged = ((0.0,), (2.0,))
    assert denormalise([[3.0]], Normalisation(("q99",), *ranged, False)).item() == 4.0
    assert denormalise([[3.0]], Normalisation(("q99",), *ranged, True)).item() == 2.0


def test_fitted_quantiles_are_pooled_over_all_samples() -> None:
    samples = np.concatenate([np.zeros((900, 1)), np.linspace(0, 10, 100)[:, None]])
    stats = fit_normalisation(samples, ["q99"], clip=False)
    assert stats.high[0] == pytest.approx(np.quantile(samples, 0.99))


@pytest.mark.parametrize(
    ("stats", "code"),
    [
        (Normalisation(("q98",), (0.0,), (1.0,), False), "FV-NRM-001"),
        (Normalisation(("q99",), (float("nan"),), (1.0,), False), "FV-NRM-002"),
        (Normalisation(("q99", "q99"), (0.0,), (1.0,), False), "FV-NRM-002"),
    ],
)
def test_bad_statistics_are_refused_before_serving(stats: Normalisation, code: str) -> None:
    with pytest.raises(SetupError, match=code):
        check_normalisation(stats, 1)
    assert "q99" in MODES


def test_a_frame_of_the_right_size_is_never_resampled() -> None:
    image = np.zeros((96, 96, 3), np.uint8)
    assert resize(image, CameraSpec("cam_high", 96, 96, "refuse")) is image
    with pytest.raises(PolicyError, match="FV-IMG-001"):
        resize(np.zeros((48, 96, 3), np.uint8), CameraSpec("cam_high", 96, 96, "refuse"))
    with pytest.raises(SetupError, match="FV-IMG-002"):
        resize(image, CameraSpec("cam_high", 96, 96, "nearest-ish"))


def test_area_resize_of_a_two_by_two_block_is_its_mean() -> None:
    image = np.array([[[0] * 3, [40] * 3], [[80] * 3, [120] * 3]], np.uint8)
    assert resize(image, CameraSpec("c", 1, 1, "area")).tolist() == [[[60, 60, 60]]]


def test_inputs_have_the_graphs_names_shapes_and_padding() -> None:
    processor = Processor(make_spec(), make_tokenizer_json())
    inputs = processor.inputs(make_observation("Pick up  the RED cube"))
    assert {name: value.shape for name, value in inputs.items()} == {
        "image.cam_high": (96, 96, 3),
        "image.cam_left_wrist": (64, 64, 3),
        "image.cam_right_wrist": (64, 64, 3),
        "tokens": (16,),
    }
    tokens = inputs["tokens"]
    assert (tokens[:5] > 1).all()
    assert (tokens[5:] == 0).all()


def test_a_missing_camera_and_an_overlong_prompt_are_refused_not_cut() -> None:
    processor = Processor(make_spec(cameras=(CameraSpec("cam_front", 96, 96),)), make_tokenizer_json())
    with pytest.raises(PolicyError, match=r"FV-OBS-003.*cam_front"):
        processor.inputs(make_observation())
    with pytest.raises(PolicyError, match="FV-TOK-003"):
        Processor(make_spec(), make_tokenizer_json()).inputs(make_observation("pick " * 17))
    with pytest.raises(SetupError, match="FV-TOK-002"):
        Processor(make_spec(), "{}")


@given(hnp.arrays(np.float32, (16, 14), elements=st.floats(-1.5, 1.5, width=32)))
def test_grippers_stay_physical_and_joints_are_not_hidden_from_the_guard(model_rows: np.ndarray) -> None:
    positions = Processor(make_spec(), make_tokenizer_json()).positions(model_rows)
    assert (positions[:, [6, 13]] >= 0).all()
    assert (positions[:, [6, 13]] <= 1).all()
    np.testing.assert_allclose(positions[:, 0], model_rows[:, 0] * 2.0, atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_absurd_model_rows_are_refused_whole(bad: float) -> None:
    rows = np.zeros((16, 14), np.float32)
    rows[3, 2] = bad
    with pytest.raises(PolicyError, match="FV-ACT-004"):
        Processor(make_spec(), make_tokenizer_json()).positions(rows)


def test_training_rows_and_served_positions_are_inverse_in_a_foreign_layout() -> None:
    processor = Processor(make_spec(layout="starvla_robotwin"), make_tokenizer_json())
    positions = np.random.default_rng(0).uniform(0, 1, (16, 14)).astype(np.float32)
    np.testing.assert_allclose(processor.positions(processor.model_rows(positions)), positions, atol=1e-5)


STATE_PROMPT = PromptSpec("{instruction}{state} go", max_tokens=64, pad_id=0, lowercase=True)


def test_a_state_becomes_256_bins_of_equal_width() -> None:
    """Worked out by hand; what lies outside falls into the first or last bin."""
    assert state_text([-0.5, 0.1, 0.8]) == " [STATE] 64 140 230 [ACTION]"
    assert state_text([-7.0, -1.0, 0.0, 0.9999, 1.0, 7.0]) == " [STATE] 0 0 128 255 255 255 [ACTION]"


@given(st.integers(0, 255), st.floats(0.001, 0.999))
def test_every_value_falls_into_the_bin_that_holds_it(index: int, share: float) -> None:
    edges = np.linspace(-1, 1, 257)
    value = edges[index] + share * (edges[index + 1] - edges[index])
    assert (
        state_text([value]) == f" [STATE] {np.digitize(value, edges[:-1]) - 1} [ACTION]" == f" [STATE] {index} [ACTION]"
    )


def test_an_oft_policy_reads_its_state_as_text_in_model_units() -> None:
    processor = Processor(make_spec(state=True, prompt=STATE_PROMPT), make_tokenizer_json())
    observation = make_observation()
    bins = state_text(processor.model_rows(observation.joint_position))
    text = processor.prompt.text("Pick", processor.model_rows(observation.joint_position))
    assert text == f"pick{bins.lower()} go"
    assert "state" not in processor.inputs(observation)
    with pytest.raises(PolicyError, match="FV-TOK-005"):
        processor.prompt.tokens("pick")


def test_a_flow_matching_policy_reads_its_state_and_its_noise_as_numbers() -> None:
    observation = make_observation(step=40)
    for state in (True, False):
        processor = Processor(make_spec(framework="gr00t", state=state), make_tokenizer_json())
        inputs = processor.inputs(observation, episode_seed=3)
        assert ("state" in inputs) == state
        assert inputs["noise"].dtype == np.float32
        np.testing.assert_array_equal(inputs["noise"], chunk_noise((16, 14), 3, 40))
    assert "noise" not in Processor(make_spec(), make_tokenizer_json()).inputs(observation)


def test_noise_is_standard_normal_and_follows_episode_and_step() -> None:
    draws = {(seed, step): chunk_noise((16, 14), seed, step) for seed in (0, 1, 2**63) for step in (0, 1, 500)}
    assert len({noise.tobytes() for noise in draws.values()}) == len(draws)
    np.testing.assert_array_equal(chunk_noise((16, 14), 1, 500), draws[1, 500])
    np.testing.assert_allclose(chunk_noise((16, 14), 0, 0)[0, :3], [0.12573022, -0.13210486, 0.64042264], rtol=1e-6)
    many = np.concatenate([chunk_noise((16, 14), 7, step).ravel() for step in range(200)])
    assert abs(many.mean()) < 0.02
    assert abs(many.std() - 1) < 0.02


@pytest.mark.parametrize(
    ("framework", "state", "template"),
    [("oft", True, "{instruction}"), ("oft", False, "{instruction}{state}"), ("gr00t", True, "{instruction}{state}")],
)
def test_a_prompt_and_a_spec_that_disagree_about_the_state_are_refused(
    framework: str, state: bool, template: str
) -> None:
    spec = make_spec(framework=framework, state=state, prompt=PromptSpec(template, 16, 0, True))
    with pytest.raises(SetupError, match="FV-TOK-006"):
        Processor(spec, make_tokenizer_json())
