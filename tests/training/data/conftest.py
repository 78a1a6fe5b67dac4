"""Datasets that many tests only read."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.data.vla_sets import opened, write_set
from training.data.vla_dataset import VLADataset


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("vla-cache")


@pytest.fixture(scope="session")
def partly(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> VLADataset:
    """Four episodes (5, 7, 9, 4 steps, two tasks), of which 0 and 2 are annotated."""
    return opened(write_set(tmp_path_factory.mktemp("partly") / "partly"), cache)


@pytest.fixture(scope="session")
def fully(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> VLADataset:
    """Three annotated episodes (20, 6, 2 steps) with videos and three times the weight."""
    root = write_set(tmp_path_factory.mktemp("fully") / "fully", (20, 6, 2), (0, 1, 2), "video")
    return opened(root, cache, 3.0)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> VLADataset:
    """Two episodes without any fine-grained text."""
    return opened(write_set(tmp_path_factory.mktemp("plain") / "plain", (8, 8), ()), cache, 2.0)
