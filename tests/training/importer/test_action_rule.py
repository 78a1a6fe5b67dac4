"""Joint order and normalisation: derived where the run names them, asked for otherwise, never guessed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.contracts.action import DOF, LAYOUTS, from_layout, to_layout
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.processing.normalise import denormalise, normalise
from finevla_runtime.session.strict_json import JsonNode
from tests.training.importer.foreign_run import GRIPPERS, changed, columns, run_config, run_statistics
from training.importer.action_rule import ActionOptions, ActionRule, find_action_rule
from training.importer.data_config import MIXTURES, PROJECT_PLACES, layout_of_keys
from training.importer.revision import REVISIONS
from training.importer.run_config import RunConfig
from training.importer.statistics import ForeignStatistics, read_statistics, to_normalisation

MIX = "datasets.vla_data.data_mix"
NOTHING_SAID = ActionOptions()
UNKNOWN = {MIX: "my_own_mixture"}
BLOCKS = ("left_joints", "right_joints", "left_gripper", "right_gripper")


def statistics(
    path: Path, revision: str, tag: str | None = None, tags: tuple[str, ...] = ("rdt",)
) -> ForeignStatistics:
    path.write_text(json.dumps(run_statistics(revision, tags)))
    return read_statistics(path, tag)


def rule(
    tmp_path: Path,
    revision: str,
    options: ActionOptions = NOTHING_SAID,
    changes: Mapping[str, object] | None = None,
    written_by: str | None = None,
) -> ActionRule:
    value = changed(run_config("oft", revision), changes or {})
    config = RunConfig((JsonNode("config.yaml", "", value, "FV-IMP-002"),))
    return find_action_rule(config, statistics(tmp_path / "s.json", written_by or revision), revision, options)[0]


def refusal(tmp_path: Path, revision: str, options: ActionOptions, changes: Mapping[str, object]) -> SetupError:
    with pytest.raises(SetupError) as caught:
        rule(tmp_path, revision, options, changes)
    return caught.value


def test_the_published_mixtures_give_each_revisions_joint_order(tmp_path: Path) -> None:
    assert rule(tmp_path, "finevla").layout == "project"
    assert rule(tmp_path, "starvla").layout == "starvla_robotwin"


def test_the_inherited_robotwin_example_keeps_starvlas_order_in_finevlas_repository(tmp_path: Path) -> None:
    assert rule(tmp_path, "finevla", changes={MIX: "robotwin"}, written_by="starvla").layout == "starvla_robotwin"


def test_grippers_are_binary_where_the_layout_has_them(tmp_path: Path) -> None:
    for revision in REVISIONS:
        modes = rule(tmp_path, revision).normalisation.mode
        assert tuple(index for index, mode in enumerate(modes) if mode == "binary") == GRIPPERS[revision]


def test_an_unknown_mixture_needs_the_layout_by_name(tmp_path: Path) -> None:
    modes = ActionOptions(joints="q99", grippers="binary")
    error = refusal(tmp_path, "finevla", modes, UNKNOWN)
    assert error.code == "FV-IMP-012"
    assert "project" in error.message
    assert "starvla-robotwin" in error.message
    told = ActionOptions("starvla-robotwin", "q99", "binary")
    assert rule(tmp_path, "finevla", told, UNKNOWN, "starvla").layout == "starvla_robotwin"


def test_an_unknown_mixture_needs_the_modes_by_name(tmp_path: Path) -> None:
    assert refusal(tmp_path, "finevla", ActionOptions("project", joints="q99"), UNKNOWN).code == "FV-IMP-014"
    assert refusal(tmp_path, "finevla", ActionOptions("project", "q98", "binary"), UNKNOWN).code == "FV-IMP-014"


def test_options_may_not_contradict_a_known_mixture(tmp_path: Path) -> None:
    assert refusal(tmp_path, "finevla", ActionOptions("starvla-robotwin"), {}).code == "FV-IMP-013"
    assert refusal(tmp_path, "finevla", ActionOptions(joints="min_max"), {}).code == "FV-IMP-014"
    assert rule(tmp_path, "finevla", ActionOptions("project", "q99", "binary")) == rule(tmp_path, "finevla")


def test_an_unknown_layout_lists_the_known_ones(tmp_path: Path) -> None:
    assert refusal(tmp_path, "finevla", ActionOptions("starvla"), UNKNOWN).code == "FV-IMP-012"


def test_whole_arm_keys_do_not_say_where_the_gripper_is(tmp_path: Path) -> None:
    mixture = {MIX: "lerobot_data_v21_merged_single"}
    assert refusal(tmp_path, "finevla", ActionOptions(), mixture).code == "FV-IMP-012"


def test_action_keys_written_in_the_config_decide_the_layout(tmp_path: Path) -> None:
    keys = {**UNKNOWN, "datasets.vla_data.action_keys": [f"action.{name}" for name in BLOCKS]}
    options = ActionOptions(joints="min_max", grippers="binary")
    assert rule(tmp_path, "finevla", options, keys, "starvla").layout == "starvla_robotwin"


def test_a_mask_that_thresholds_other_dimensions_betrays_a_wrong_order(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"\[12, 13\]") as caught:
        rule(tmp_path, "finevla", written_by="starvla")
    assert caught.value.code == "FV-IMP-013"


def test_a_wrong_layout_option_is_caught_by_the_mask(tmp_path: Path) -> None:
    error = refusal(tmp_path, "finevla", ActionOptions("starvla-robotwin", "q99", "binary"), UNKNOWN)
    assert error.code == "FV-IMP-013"


@pytest.mark.parametrize(("revision", "clip"), [("finevla", True), ("starvla", False)])
def test_the_clip_rule_follows_the_revision(tmp_path: Path, revision: str, clip: bool) -> None:
    assert rule(tmp_path, revision).normalisation.clip is clip


def test_several_embodiments_are_listed_and_one_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="rdt, robocoin_cm14") as caught:
        statistics(tmp_path / "s.json", "finevla", tags=("robocoin_cm14", "rdt"))
    assert caught.value.code == "FV-IMP-016"
    assert statistics(tmp_path / "s.json", "finevla", "rdt", ("robocoin_cm14", "rdt")).tag == "rdt"
    with pytest.raises(SetupError, match="Did you mean 'rdt'"):
        statistics(tmp_path / "s.json", "finevla", "rdtt", ("robocoin_cm14", "rdt"))


def test_statistics_become_the_documented_numbers() -> None:
    """Golden values, worked by hand from q01 = -1 + 0.01 i, q99 = 1 + 0.01 i, min = -2 + 0.01 i, max = 2 + 0.01 i."""
    modes = ["q99", "min_max", "mean_std", "binary", *["q99"] * 10]
    found = to_normalisation(columns(), modes, clip=False)
    assert found.mode == tuple(modes)
    assert found.low[:4] == (-1.0, -1.99, 0.12000000000000001, 0.0)
    assert found.high[:4] == (1.0, 2.01, 0.5, 1.0)
    rows = np.array([[0.5, 0.01, 0.62, 0.7, *[0.0] * 10]], np.float32)
    model = normalise(rows, found)
    assert model[0, :4] == pytest.approx([0.5, 0.0, 1.0, 1.0], abs=1e-6)
    assert denormalise(model, found)[0, :4] == pytest.approx([0.5, 0.01, 0.62, 1.0], abs=1e-6)


def test_a_joint_that_never_moved_comes_back_as_its_constant() -> None:
    still = {**columns(), "min": [0.3] * DOF, "max": [0.3] * DOF}
    found = to_normalisation(still, ["min_max"] * DOF, clip=True)
    assert normalise(np.full((1, DOF), 0.3), found) == pytest.approx(np.zeros((1, DOF)), abs=1e-7)
    assert denormalise(np.zeros((1, DOF)), found) == pytest.approx(np.full((1, DOF), 0.3))


@pytest.mark.parametrize(
    "broken",
    [
        {"q01": None},
        {"q99": [1.0] * 13},
        {"q01": [2.0] * 14},
        {"q01": ["low"] * 14},
        {"mask": [True] * 13},
        {"mask": [1] * 14},
    ],
    ids=["missing", "short", "low above high", "text", "short mask", "numbers as mask"],
)
def test_broken_statistics_are_refused(tmp_path: Path, broken: dict[str, object]) -> None:
    path = tmp_path / "s.json"
    action = {**columns(), "mask": [index not in (6, 13) for index in range(14)], **broken}
    path.write_text(json.dumps({"rdt": {"action": {k: v for k, v in action.items() if v is not None}}}))
    config = RunConfig((JsonNode("config.yaml", "", run_config("oft", "finevla"), "FV-IMP-002"),))
    with pytest.raises(SetupError) as caught:
        find_action_rule(config, read_statistics(path, None), "finevla", ActionOptions())
    assert caught.value.code == "FV-IMP-015"


@given(st.permutations(BLOCKS))
def test_an_order_of_keys_is_a_known_layout_or_refused(keys: list[str]) -> None:
    order = tuple(place for key in keys for place in PROJECT_PLACES[key])
    names = {places: name for name, places in LAYOUTS.items()}
    if order in names:
        assert layout_of_keys(tuple(keys), "test") == names[order]
    else:
        with pytest.raises(SetupError) as caught:
            layout_of_keys(tuple(keys), "test")
        assert caught.value.code == "FV-IMP-012"


def test_exactly_two_orders_of_the_blocks_are_known() -> None:
    known = 0
    for keys in permutations(BLOCKS):
        try:
            layout_of_keys(keys, "test")
        except SetupError:
            continue
        known += 1
    assert known == 2


@given(
    st.sampled_from(
        sorted(name for name, mixture in MIXTURES.items() if mixture.config.name != "lerobot_data_v21_merged_aloha")
    ),
    st.lists(st.floats(-3.0, 3.0, width=32), min_size=DOF, max_size=DOF),
)
def test_rows_survive_the_way_into_model_units_and_back(mixture: str, row: list[float]) -> None:
    """Project layout -> the run's order and units -> back, for every known mixture."""
    config = MIXTURES[mixture].config
    layout = layout_of_keys(tuple(key.name for key in config.keys), mixture)
    stats = to_normalisation(columns(), config.modes, clip=False)
    rows = np.array([row], np.float32)
    rows[:, [6, 13]] = rows[:, [6, 13]] > 0.5
    model = normalise(to_layout(rows, layout), stats)
    assert np.allclose(from_layout(denormalise(model, stats), layout), rows, atol=1e-5)
    grippers = [index for index, mode in enumerate(stats.mode) if mode == "binary"]
    assert np.array_equal(model[:, grippers], rows[:, [6, 13]])
