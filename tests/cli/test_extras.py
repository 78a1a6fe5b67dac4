"""Each extra is read from the installed distribution, and a missing library names the extra that brings it."""

from __future__ import annotations

from pathlib import Path

import pytest

from finevla_runtime.cli import extras

REQUIRES = [
    "numpy>=1.21",
    "sapien==3.0.3; extra == 'sim'",
    "opencv-python>=4; extra == 'server'",
    "torch==2.13.0; extra == 'train'",
    "pyarrow>=18; extra == 'train'",
    "pyarrow>=18; extra == 'data'",
    'finevla-runtime[sim,train]; extra == "dev"',
]


@pytest.fixture(autouse=True)
def distribution(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras.metadata, "requires", lambda name: REQUIRES)


def test_requirements_are_grouped_by_extra_without_the_distribution_itself() -> None:
    assert extras.requirements() == {
        "": ("numpy",),
        "sim": ("sapien",),
        "server": ("opencv-python",),
        "train": ("torch", "pyarrow"),
        "data": ("pyarrow",),
    }


@pytest.mark.parametrize(
    ("module", "preferred", "extra"),
    [
        ("sapien", "sim", "sim"),
        ("pyarrow.parquet", "train", "train"),
        ("pyarrow", "sim", "data"),
        ("cv2", "sim", "server"),
        ("no_such_library", "sim", "sim"),
    ],
)
def test_the_extra_that_brings_a_library_is_named(module: str, preferred: str, extra: str) -> None:
    assert extras.extra_for(module, preferred) == extra


def test_a_checkout_installs_itself_and_a_wheel_asks_the_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "constraints.txt").touch()
    monkeypatch.setattr(extras, "CHECKOUT", tmp_path)
    assert extras.install_command("sim").endswith("-m pip install -c constraints.txt -e '.[sim]'")
    monkeypatch.setattr(extras, "CHECKOUT", tmp_path / "site-packages")
    assert extras.install_command("sim") == "pip install 'finevla-runtime[sim]'"
    assert extras.install_command("") == "pip install 'finevla-runtime'"


def test_an_absent_distribution_is_not_installed() -> None:
    assert extras.is_installed("numpy")
    assert not extras.is_installed("no-such-library")
