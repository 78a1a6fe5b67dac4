"""Reads and checks LeRobot datasets of versions 2.1 and 3.0 without importing lerobot."""

from __future__ import annotations

from pathlib import Path

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.json_lines import read_object, value
from finevla_runtime.recording.lerobot_v21 import VERSION_21, read_v21
from finevla_runtime.recording.lerobot_v30 import VERSION_30, read_v30
from finevla_runtime.recording.recorded_dataset import Dataset
from finevla_runtime.recording.recorded_episode import RecordedEpisode

__all__ = ["Dataset", "RecordedEpisode", "read_dataset"]


def read_dataset(root: Path) -> Dataset:
    """Read the ``meta/`` of a LeRobot v2.1 or v3.0 dataset; rows and frames come later, per episode.

    Raises:
        SetupError: FV-REC-001 missing file, FV-REC-002 malformed line or key, FV-REC-003 another LeRobot version,
            FV-REC-006 totals that contradict each other, FV-REC-009 episodes out of order, FV-REC-027 fine-grained
            lines that fit no episode.
    """
    where = root / "meta" / "info.json"
    info = read_object(where)
    version = value(info, "codebase_version", str, str(where))
    if version == VERSION_21:
        return read_v21(root, info)
    if version == VERSION_30:
        return read_v30(root, info)
    raise SetupError(
        "FV-REC-003",
        f"{where}: the dataset is LeRobot {version}, this reader wants {VERSION_21} or {VERSION_30}; convert it first.",
    )
