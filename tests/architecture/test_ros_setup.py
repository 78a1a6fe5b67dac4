"""ROS 2 is installed once and the workspace built once; only what decides about either does it again."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = ("pyproject.toml", "constraints-ros.txt", "requirements-ros.txt")

# Writes down how it was called; a build leaves what a build leaves, unless it is told to fail.
PYTHON = """
case "$*" in
  "-m colcon"*) if [ -e "{folder}/broken" ]; then echo "error: no such message"; exit 1; fi
    mkdir -p install && touch install/local_setup.bash install/one ;;
esac
echo "$*" >> {folder}/calls
"""


class Checkout:
    """A copy of the workspace with an interpreter that only writes down how it was called."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(ROOT / "ros2_ws/src", folder / "ros2_ws/src", ignore=shutil.ignore_patterns("__pycache__"))
        for name in FILES:
            shutil.copy(ROOT / name, folder / name)
        (folder / "calls").touch()
        self._program(folder / ".venv-ros/bin/python", PYTHON.format(folder=folder))
        for name in ("cmake", "g++", "make"):
            self._program(folder / "bin" / name, "exit 0")
        self._program(folder / "bin/uname", "echo x86_64")

    def _program(self, path: Path, body: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def setup(self) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PATH": f"{self.folder}/bin:{os.environ['PATH']}"}
        return subprocess.run([self.folder / "scripts/ros.sh"], env=environment, capture_output=True, text=True)

    def counts(self) -> tuple[int, int]:
        """Return how often pip installed and colcon built."""
        calls = (self.folder / "calls").read_text().splitlines()
        return sum("pip install" in call for call in calls), sum("colcon" in call for call in calls)

    def append(self, path: str, text: str) -> None:
        with (self.folder / path).open("a") as file:
            file.write(text)


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    made = Checkout(tmp_path)
    done = made.setup()
    assert done.returncode == 0, done.stderr
    assert made.counts() == (1, 1)
    return made


def test_a_second_setup_installs_and_builds_nothing(checkout: Checkout) -> None:
    assert checkout.setup().returncode == 0
    assert checkout.counts() == (1, 1)


def test_a_changed_pin_installs_and_builds_again(checkout: Checkout) -> None:
    checkout.append("constraints-ros.txt", "new==1.0\n")
    checkout.setup()
    assert checkout.counts() == (2, 2)


def test_an_edited_node_needs_no_build(checkout: Checkout) -> None:
    checkout.append("ros2_ws/src/finevla_cobot/finevla_cobot/recorder.py", "# Edited.\n")
    checkout.setup()
    assert checkout.counts() == (1, 1)


def test_a_new_program_builds_on_what_is_there(checkout: Checkout) -> None:
    (checkout.folder / "ros2_ws/install/kept").touch()
    checkout.append("ros2_ws/src/finevla_cobot/setup.py", "# Another node.\n")
    checkout.setup()
    assert checkout.counts() == (1, 2)
    assert (checkout.folder / "ros2_ws/install/kept").exists()


def test_a_changed_message_builds_from_nothing(checkout: Checkout) -> None:
    (checkout.folder / "ros2_ws/install/stale").touch()
    checkout.append("ros2_ws/src/finevla_interfaces/msg/Episode.msg", "uint8 another\n")
    checkout.setup()
    assert checkout.counts() == (1, 2)
    assert not (checkout.folder / "ros2_ws/install/stale").exists()


def test_a_failed_build_shows_why_and_is_tried_again(checkout: Checkout) -> None:
    (checkout.folder / "broken").touch()
    checkout.append("ros2_ws/src/finevla_interfaces/msg/Episode.msg", "Nonsense x\n")
    failed = checkout.setup()
    assert failed.returncode == 1
    assert "error: no such message" in failed.stderr
    (checkout.folder / "broken").unlink()
    assert checkout.setup().returncode == 0
    assert checkout.counts() == (1, 2)


def test_another_machine_is_told_that_the_wheels_are_not_for_it(tmp_path: Path) -> None:
    other = Checkout(tmp_path)
    (tmp_path / "bin/uname").write_text("#!/bin/sh\necho aarch64\n")
    done = other.setup()
    assert done.returncode == 1
    assert "x86-64 only, this is aarch64" in done.stderr
