"""Statistics are those of all rows together and never another mode's."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finevla_runtime.contracts.action import LAYOUTS
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.processing.normalise import normalise
from tests.training.data.vla_sets import opened, write_set
from training.data.mixture_statistics import joint_modes, mixture_normalisation
from training.data.vla_dataset import VLADataset


def pooled(datasets: list[VLADataset]) -> np.ndarray:
    return np.concatenate([dataset.rows.action for dataset in datasets]).astype(np.float64)


@pytest.mark.parametrize("mode", ["q99", "min_max", "mean_std", "identity"])
def test_statistics_are_those_of_the_pooled_rows_and_not_an_average(
    partly: VLADataset, fully: VLADataset, tmp_path: Path, mode: str
) -> None:
    fitted = mixture_normalisation([partly, fully], joint_modes(mode), False, tmp_path)
    rows = pooled([partly, fully])
    wanted = {
        "q99": (np.quantile(rows, 0.01, axis=0), np.quantile(rows, 0.99, axis=0)),
        "min_max": (rows.min(axis=0), rows.max(axis=0)),
        "mean_std": (rows.mean(axis=0), rows.std(axis=0)),
        "identity": (np.zeros(14), np.ones(14)),
    }[mode]
    joints = [i for i in range(14) if i not in (6, 13)]
    assert np.array(fitted.low)[joints] == pytest.approx(wanted[0][joints])
    assert np.array(fitted.high)[joints] == pytest.approx(wanted[1][joints])
    assert fitted.mode[6] == fitted.mode[13] == "binary"
    assert set(np.unique(normalise(rows, fitted)[:, [6, 13]])) == {0.0, 1.0}
    if mode == "q99":
        each = [np.quantile(dataset.rows.action.astype(np.float64), 0.99, axis=0) for dataset in (partly, fully)]
        assert np.abs(np.mean(each, axis=0) - wanted[1])[joints].max() > 0.01


def test_two_modes_never_share_a_file_and_the_same_mode_is_fitted_once(
    partly: VLADataset, fully: VLADataset, tmp_path: Path
) -> None:
    files = set()
    for joints in ("q99", "min_max", "mean_std"):
        for grippers in ("binary", "min_max"):
            for clip in (False, True):
                modes = joint_modes(joints, grippers)
                first = mixture_normalisation([partly], modes, clip, tmp_path)
                assert (first.mode, first.clip) == (modes, clip)
                assert mixture_normalisation([partly], modes, clip, tmp_path) == first
                files |= {path.name for path in tmp_path.glob("statistics-*.json")}
    assert len(files) == 12
    mixture_normalisation([partly, fully], joint_modes(), False, tmp_path)
    assert len(list(tmp_path.glob("statistics-*.json"))) == 13


@pytest.mark.parametrize("damage", ["", "{", "truncate", "number", "key"])
def test_a_damaged_file_is_fitted_again(partly: VLADataset, tmp_path: Path, damage: str) -> None:
    wanted = mixture_normalisation([partly], joint_modes(), False, tmp_path)
    (path,) = tmp_path.glob("statistics-*.json")
    entry = json.loads(path.read_text())
    if damage == "number":
        entry["statistics"]["high"][3] += 1.0
    if damage == "key":
        entry["key"] = entry["key"].replace("q99", "min_max")
    texts = {"truncate": path.read_text()[:-40], "number": json.dumps(entry), "key": json.dumps(entry)}
    path.write_text(texts.get(damage, damage))
    assert mixture_normalisation([partly], joint_modes(), False, tmp_path) == wanted
    assert json.loads(path.read_text())["statistics"]["high"] == list(wanted.high)


def test_statistics_follow_the_layout_of_the_models_rows(partly: VLADataset, tmp_path: Path) -> None:
    ours = mixture_normalisation([partly], joint_modes(), False, tmp_path)
    theirs = mixture_normalisation([partly], joint_modes(), False, tmp_path, "starvla_robotwin")
    order = LAYOUTS["starvla_robotwin"]
    assert theirs.low == tuple(ours.low[i] for i in order)
    assert theirs.mode[12:] == ("binary", "binary")


def test_binary_grippers_that_never_change_are_refused(tmp_path: Path) -> None:
    """RoboMIND 2 reads 0 to 0.07: without its range every gripper target would be closed."""
    root = write_set(tmp_path / "metres", (6,), (0,))
    path = root / "data/chunk-000/episode_000000.parquet"
    table = pq.read_table(path)
    rows = np.array(table.column("action").to_pylist(), np.float32)
    rows[:, [6, 13]] = np.linspace(0, 0.07, 6)[:, None]
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 14)
    pq.write_table(table.set_column(table.schema.get_field_index("action"), "action", column), path)
    dataset = opened(root, tmp_path)
    with pytest.raises(SetupError, match=r"FV-DAT-006: metres: left_gripper moves within 0\.\.0\.07"):
        mixture_normalisation([dataset], joint_modes(), False, tmp_path)
    mixture_normalisation([dataset], joint_modes("q99", "min_max"), False, tmp_path)


def test_unknown_modes_and_layouts_are_refused(partly: VLADataset, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"FV-NRM-001.*'q99'"):
        joint_modes("q98")
    with pytest.raises(SetupError, match="FV-DAT-013"):
        mixture_normalisation([partly], joint_modes(), False, tmp_path, "starvla")
    with pytest.raises(SetupError, match="FV-DAT-013"):
        mixture_normalisation([partly], ("q99",), False, tmp_path)
