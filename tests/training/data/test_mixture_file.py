"""A mixture file gives every dataset its own weight, cameras and units; mistakes are found with file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from finevla_runtime.contracts.errors import SetupError
from tests.training.data.vla_sets import VIEWS, episode, processor, word_tokenizer, write_set
from training.data.gripper_range import GripperRange
from training.data.mixture_file import read_mixture
from training.data.named_sources import named_sources
from training.data.vla_dataset import DataSource, open_vla_dataset
from training.export.staged_golden import golden_inputs

MIXTURE = """\
datasets:
  - folders: rdt/*
    weight: 2
    gripper: {closed: 0, open: 4.7}
  - folders: robomind2
    cameras: {cam_high: cam_left_wrist, cam_left_wrist: cam_high}
"""


SWAPPED = {"cam_high": "cam_left_wrist", "cam_left_wrist": "cam_high"}


@pytest.fixture
def written(tmp_path: Path) -> Path:
    for name in ("rdt/pour", "rdt/fold", "robomind2"):
        write_set(tmp_path / name, lengths=(3,), annotated=(0,))
    (tmp_path / "rdt/notes").mkdir()
    (tmp_path / "mix.yaml").write_text(MIXTURE)
    return tmp_path / "mix.yaml"


def test_a_pattern_takes_every_dataset_it_matches_and_nothing_else(written: Path) -> None:
    near = GripperRange(0, 4.7)
    assert read_mixture(written) == (
        DataSource(written.parent / "rdt/fold", 2.0, grippers=near),
        DataSource(written.parent / "rdt/pour", 2.0, grippers=near),
        DataSource(written.parent / "robomind2", 1.0, cameras=SWAPPED),
    )


def test_an_absolute_pattern_does_not_depend_on_where_the_file_lies(written: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other" / "mix.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(f"datasets:\n  - folders: {tmp_path}/rdt/*\n")
    assert [s.root for s in read_mixture(elsewhere)] == [tmp_path / "rdt/fold", tmp_path / "rdt/pour"]


@pytest.mark.parametrize(
    ("text", "code", "line"),
    [
        ("datasets:\n  - folders: rdt/*\n    wieght: 2\n", "FV-CFG-003", 3),
        ("datasets:\n  - folders: rdt/*\n    weight: -1\n", "FV-DAT-015", 3),
        ("datasets:\n  - folders: rdt/*\n    gripper: {closed: 1, open: 1}\n", "FV-DAT-005", 3),
        ("datasets:\n  - folders: rtd/*\n", "FV-DAT-015", 2),
        ("datasets:\n  - folders: rdt/*\n  - folders: rdt/fold\n", "FV-DAT-015", 3),
        ("datasets: []\n", "FV-DAT-015", 1),
        ('datasets:\n  - folders: ""\n', "FV-DAT-015", 2),
        ('datasets:\n  - folders: "**pour"\n', "FV-DAT-015", 2),
    ],
)
def test_a_mistake_is_named_with_file_and_line(written: Path, text: str, code: str, line: int) -> None:
    written.write_text(text)
    with pytest.raises(SetupError, match=rf"{code}: .*mix\.yaml:{line} "):
        read_mixture(written)


def test_folders_weights_and_files_stand_side_by_side(written: Path) -> None:
    extra = write_set(written.parent / "extra", lengths=(3,), annotated=())
    sources = named_sources([str(written), f"{extra}=0.5"], {"cam_high": "front"}, GripperRange(1, 0))
    assert [(s.root.name, s.weight) for s in sources] == [("fold", 2), ("pour", 2), ("robomind2", 1), ("extra", 0.5)]
    assert (sources[3].cameras, sources[3].grippers) == ({"cam_high": "front"}, GripperRange(1, 0))
    assert sources[2].grippers == GripperRange()


@pytest.mark.parametrize("entries", [[], ["set=heavy"]])
def test_no_dataset_and_a_weight_that_is_no_number_are_refused(entries: list[str]) -> None:
    with pytest.raises(SetupError, match="FV-TRN-021"):
        named_sources(entries)


def test_a_folder_that_is_named_twice_is_refused(written: Path) -> None:
    with pytest.raises(SetupError, match=r"FV-DAT-015: .*fold is named twice"):
        named_sources([str(written), str(written.parent / "rdt" / "fold")])


def test_the_name_of_a_camera_that_nobody_has_is_refused(written: Path) -> None:
    source = DataSource(written.parent / "robomind2", cameras={"cam_hgih": "cam_high"})
    with pytest.raises(SetupError, match=r"FV-DAT-016.*Did you mean 'cam_high'"):
        open_vla_dataset(source, VIEWS, written.parent / "cache")


def test_options_that_a_mixture_file_would_not_hear_are_refused(written: Path) -> None:
    with pytest.raises(SetupError, match=r"FV-TRN-021: .*state them in .*mix\.yaml"):
        named_sources([str(written)], grippers=GripperRange(0, 4.7))


def test_each_dataset_is_read_in_its_own_unit_and_by_its_own_cameras(written: Path) -> None:
    fold, _, other = (open_vla_dataset(s, VIEWS, written.parent / "cache") for s in read_mixture(written))
    recorded = episode(0, 3, True)
    np.testing.assert_allclose(fold.rows.action[:, 6], recorded.action[:, 6] / 4.7, rtol=1e-6)
    np.testing.assert_array_equal(other.rows.action[:, 6], recorded.action[:, 6])
    assert other.cameras["cam_high"] == "cam_left_wrist"


def test_the_golden_batch_of_a_bundle_reads_a_dataset_as_training_did(written: Path) -> None:
    spec, tokenizer_json = processor(state=True).spec, word_tokenizer().to_str()
    fold, _, other = read_mixture(written)
    near, far = (golden_inputs(spec, tokenizer_json, (spec.prompt.max_tokens,), source) for source in (fold, other))
    # Normalisation is symmetric around zero, so units stay factors.
    np.testing.assert_allclose(near["state"][:, 6], far["state"][:, 6] / 4.7, rtol=1e-6)
    # All three datasets hold the same frames; the last calls its two cameras the other way round.
    assert (near["image.cam_high"] != far["image.cam_high"]).any()
