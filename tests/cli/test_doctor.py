"""`finevla doctor`: each missing thing is named with its remedy, and only needed things fail."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from finevla_runtime.cli import checks, doctor
from finevla_runtime.cli.checks import Check

GOOD = Check("python", True, True, "3.11")
OPTIONAL_GAP = Check("extra train", False, False, "missing: torch", "pip install 'finevla-runtime[train]'")
NEEDED_GAP = Check("rendering", False, True, "no driver", "scripts/vulkan.sh")


def fake_checks(monkeypatch: pytest.MonkeyPatch, *answers: Check) -> None:
    monkeypatch.setattr(doctor, "run_checks", lambda timeout_s: answers)


def finished(stdout: str, code: int = 0, stderr: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], code, stdout, stderr)


def test_all_well_exits_0(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake_checks(monkeypatch, GOOD)
    assert doctor.doctor([]) == 0
    assert "Ready for: finevla demo" in capsys.readouterr().out


def test_an_absent_optional_extra_is_shown_and_no_failure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    fake_checks(monkeypatch, GOOD, OPTIONAL_GAP)
    assert doctor.doctor([]) == 0
    assert "pip install 'finevla-runtime[train]'" in capsys.readouterr().out


def test_a_missing_needed_thing_exits_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake_checks(monkeypatch, GOOD, NEEDED_GAP)
    assert doctor.doctor([]) == 1
    assert "scripts/vulkan.sh" in capsys.readouterr().out


def test_json_holds_every_check_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake_checks(monkeypatch, GOOD, NEEDED_GAP)
    assert doctor.doctor(["--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["ok"] is False
    assert document["checks"][1]["remedy"] == "scripts/vulkan.sh"


def test_the_core_libraries_of_this_environment_are_found() -> None:
    assert next(check for check in checks.extras() if check.name == "core libraries").ok


def test_a_missing_library_names_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "requirements", lambda: {"sim": ("no-such-library",)})
    (check,) = checks.extras()
    assert not check.ok
    assert check.needed
    assert check.remedy.endswith("[sim]'")


def test_a_hanging_driver_is_reported_instead_of_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*args: object, **kwargs: object) -> None:
        raise subprocess.TimeoutExpired("probe", 5)

    monkeypatch.setattr(checks.subprocess, "run", hang)
    assert "hung for 5 s" in checks.rendering(5).detail


@pytest.mark.parametrize(
    ("done", "ok", "part"),
    [
        (finished('{"ok": true, "detail": "llvmpipe"}\n'), True, "llvmpipe"),
        (finished('{"ok": false, "detail": "no device"}\n', 1), False, "no device"),
        (finished("", -6, "terminate called\nAborted\n"), False, "code -6: Aborted"),
        (finished("not json"), False, "code 0"),
        (finished("[1]"), False, "code 0"),
    ],
)
def test_the_probe_answer_is_read_also_after_a_crash(
    monkeypatch: pytest.MonkeyPatch, done: subprocess.CompletedProcess[str], ok: bool, part: str
) -> None:
    monkeypatch.setattr(checks.subprocess, "run", lambda *args, **kwargs: done)
    check = checks.rendering(5)
    assert check.ok is ok
    assert part in check.detail


def test_no_shipped_bundle_names_the_command_that_makes_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks.paths, "CHECKPOINTS", tmp_path)
    check = checks.bundle()
    assert not check.ok
    assert "finevla train" in check.remedy


def test_loopback_disk_and_cores_work_where_the_tests_run() -> None:
    assert checks.loopback().ok
    assert checks.disk().ok
    assert checks.cores().ok


def test_old_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.sys, "version_info", (3, 10, 13))
    assert "3.10.13" in checks.python().detail
    monkeypatch.setattr(checks.sys, "version_info", sys.version_info)
