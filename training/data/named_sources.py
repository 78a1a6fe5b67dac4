"""Datasets as the command line names them: folders, folders with a weight, and mixture files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from finevla_runtime.contracts.errors import SetupError
from training.data.gripper_range import GripperRange
from training.data.mixture_file import SUFFIXES, read_mixture
from training.data.vla_dataset import DataSource


def named_sources(
    entries: Sequence[str], cameras: Mapping[str, str] | None = None, grippers: GripperRange | None = None
) -> tuple[DataSource, ...]:
    """Return the datasets of ``FOLDER``, ``FOLDER=WEIGHT`` and ``MIXTURE.yaml`` entries, in order.

    Args:
        entries: what was written.
        cameras: camera of the policy -> camera of the dataset, for folders; a mixture file states its own.
        grippers: gripper range of folders; a mixture file states its own.

    Raises:
        SetupError: FV-TRN-021 for no dataset, a bad weight, or cameras and grippers beside mixture files alone;
            FV-DAT-015 for a folder that is named twice; as ``read_mixture``.
    """
    if not entries:
        raise SetupError("FV-TRN-021", "--dataset names no dataset; give a LeRobot folder or a mixture file.")
    sources: list[DataSource] = []
    files = [entry for entry in entries if Path(entry).suffix in SUFFIXES]
    if len(files) == len(entries) and (cameras or grippers):
        raise SetupError(
            "FV-TRN-021",
            f"--cameras and --gripper-open, --gripper-closed are for folders; state them in {files[0]}.",
        )
    for entry in entries:
        if entry in files:
            sources.extend(read_mixture(Path(entry)))
            continue
        folder, weight = _weighted(entry)
        sources.append(DataSource(folder, weight, grippers=grippers or GripperRange(), cameras=dict(cameras or {})))
    places = [source.root.resolve() for source in sources]
    for number, place in enumerate(places):
        if place in places[:number]:
            raise SetupError("FV-DAT-015", f"{sources[number].root} is named twice; name it once, with a weight.")
    return tuple(sources)


def _weighted(entry: str) -> tuple[Path, float]:
    folder, equals, text = entry.rpartition("=")
    if not equals or Path(entry).exists():
        return Path(entry), 1.0
    try:
        return Path(folder), float(text)
    except ValueError as error:
        raise SetupError("FV-TRN-021", f"--dataset {entry!r}: {text!r} is no weight.") from error
