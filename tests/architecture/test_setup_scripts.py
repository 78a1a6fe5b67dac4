"""The set-up runs once, needs nothing a second time, and runs again when a dependency changes."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Checkout:
    """A copy of the set-up's files with an interpreter that only writes down how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("pyproject.toml", "constraints.txt"):
            shutil.copy(ROOT / name, folder / name)
        self.log = folder / "calls"
        self.log.touch()
        self._program(folder / ".venv/bin/python", f'echo "$*" >> {self.log}')
        # The machine seems to have every system library and a browser, so that nothing is installed.
        self._program(folder / "bin/ldconfig", "echo libGL.so.1 libX11.so.6 libgthread-2.0.so.0 libgomp.so.1")
        self._program(folder / "bin/chromium", "exit 0")

    def _program(self, path: Path, body: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def setup(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"FINEVLA_VULKAN": "off", "PATH": f"{self.folder}/bin:{os.environ['PATH']}"}
        command = [str(self.folder / "scripts/setup.sh"), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def installs(self) -> list[str]:
        return [line for line in self.log.read_text().splitlines() if "pip install" in line]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_a_second_setup_installs_nothing(checkout: Checkout) -> None:
    first, second = checkout.setup("demo"), checkout.setup("demo")
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert len(checkout.installs()) == 1


def test_what_the_tests_need_is_enough_for_the_demo(checkout: Checkout) -> None:
    assert checkout.setup("all").returncode == 0
    installed = checkout.installs()
    assert checkout.setup("demo").returncode == 0
    assert checkout.installs() == installed


def test_the_demo_installs_no_torch(checkout: Checkout) -> None:
    checkout.setup("demo")
    assert ".[server,sim,report]" in checkout.installs()[0]


def test_a_changed_pin_installs_again(checkout: Checkout) -> None:
    checkout.setup("demo")
    with (checkout.folder / "constraints.txt").open("a") as pins:
        pins.write("new==1.0\n")
    checkout.setup("demo")
    assert len(checkout.installs()) == 2


def test_a_changed_lint_rule_installs_nothing(checkout: Checkout) -> None:
    checkout.setup("demo")
    with (checkout.folder / "pyproject.toml").open("a") as project:
        project.write("\n# Only a tool's setting changed.\n")
    checkout.setup("demo")
    assert len(checkout.installs()) == 1


def test_a_failed_installation_is_tried_again(checkout: Checkout) -> None:
    python = checkout.folder / ".venv/bin/python"
    good = python.read_text()
    python.write_text("#!/bin/sh\nexit 1\n")
    assert checkout.setup("demo").returncode != 0
    python.write_text(good)
    assert checkout.setup("demo").returncode == 0
    assert len(checkout.installs()) == 1


def test_an_unknown_level_is_bad_usage(checkout: Checkout) -> None:
    done = checkout.setup("evrything")
    assert done.returncode == 2
    assert "known: demo, all" in done.stderr
