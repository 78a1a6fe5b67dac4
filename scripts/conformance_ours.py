"""Our side of `make conformance`: write the example episodes as v2.1 datasets for lerobot 0.3.3 to read."""

from __future__ import annotations

import sys
from pathlib import Path

from finevla_runtime.recording.lerobot_writer import DatasetWriter
from tests.recording.episodes import conformance_episodes, small_format

if __name__ == "__main__":
    for kind in ("png", "video"):
        writer = DatasetWriter(Path(sys.argv[1]) / f"ours_{kind}", small_format(kind))
        for episode in conformance_episodes():
            writer.add_episode(episode)
        writer.finish()
