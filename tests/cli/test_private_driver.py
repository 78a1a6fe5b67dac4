"""The driver that was unpacked without root is used once, and never over a choice of the user's."""

from __future__ import annotations

from pathlib import Path

import pytest

from finevla_runtime.cli.private_driver import driver_variables


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    libraries = tmp_path / "root/usr/lib/x86_64-linux-gnu"
    libraries.mkdir(parents=True)
    (libraries / "libvulkan_lvp.so").touch()
    (tmp_path / "lvp_icd.json").write_text("{}")
    return tmp_path


def test_an_unpacked_driver_is_named_to_the_loader(unpacked: Path) -> None:
    variables = driver_variables({"LD_LIBRARY_PATH": "/opt/lib"}, unpacked)
    assert variables["VK_ICD_FILENAMES"] == str(unpacked / "lvp_icd.json")
    assert variables["LD_LIBRARY_PATH"] == f"{unpacked}/root/usr/lib/x86_64-linux-gnu:/opt/lib"


def test_the_restarted_command_does_not_restart_again(unpacked: Path) -> None:
    assert driver_variables(driver_variables({}, unpacked), unpacked) == {}


def test_a_driver_that_the_user_chose_is_left_alone(unpacked: Path) -> None:
    assert driver_variables({"VK_ICD_FILENAMES": "/etc/gpu.json"}, unpacked) == {}


def test_without_an_unpacked_driver_nothing_changes(tmp_path: Path) -> None:
    assert driver_variables({}, tmp_path) == {}
