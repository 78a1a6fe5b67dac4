"""The `finevla` command: help, mistakes, coded errors, missing libraries and Ctrl-C."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from finevla_runtime.cli import main as command
from finevla_runtime.cli.options import dispatch
from finevla_runtime.cli.verbs import Verb, installed_verbs
from finevla_runtime.contracts.errors import SetupError


class FakeVerb(Verb):
    """A verb whose function is given instead of imported."""

    def __init__(self, error: BaseException, extra: str = "") -> None:
        super().__init__("probe", "finevla_runtime.cli.doctor", "doctor", extra)
        object.__setattr__(self, "_error", error)

    def load(self):
        def run(argv: Sequence[str]) -> int:
            raise self._error

        return run


def test_no_arguments_lists_the_verbs_and_is_bad_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([]) == 2
    assert "doctor" in capsys.readouterr().out


def test_help_is_no_error_and_says_what_each_verb_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--help"]) == 0
    assert "Say what works on this machine" in capsys.readouterr().out


def test_version_names_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("finevla-runtime ")


def test_unknown_verb_names_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["docter"]) == 2
    assert "Did you mean 'doctor'?" in capsys.readouterr().err


def test_a_coded_error_is_one_line_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run_verb(FakeVerb(SetupError("FV-TST-001", "no such thing")), []) == 1
    assert capsys.readouterr().err == "FV-TST-001: no such thing\n"


def test_a_missing_library_says_which_extra_brings_it(capsys: pytest.CaptureFixture[str]) -> None:
    verb = FakeVerb(ModuleNotFoundError("No module named 'sapien'", name="sapien"), extra="sim")
    assert command.run_verb(verb, []) == 1
    assert "'finevla-runtime[sim]'" in capsys.readouterr().err


def test_a_missing_module_of_ours_asks_to_reinstall(capsys: pytest.CaptureFixture[str]) -> None:
    verb = FakeVerb(ModuleNotFoundError("No module named 'sim_eval.x'", name="sim_eval.x"), extra="sim")
    assert command.run_verb(verb, []) == 1
    assert "reinstall finevla-runtime" in capsys.readouterr().err


def test_ctrl_c_exits_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run_verb(FakeVerb(KeyboardInterrupt()), []) == 130
    assert "Traceback" not in capsys.readouterr().err


def test_an_unexpected_error_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        command.run_verb(FakeVerb(ZeroDivisionError()), [])


def test_a_place_that_cannot_be_written_is_named_without_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run_verb(FakeVerb(NotADirectoryError(20, "Not a directory", "build/x")), []) == 1
    assert "build/x: Not a directory" in capsys.readouterr().err
    with pytest.raises(OSError, match="no name"):
        command.run_verb(FakeVerb(OSError("no name")), [])


def test_traceback_variable_lets_coded_errors_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINEVLA_TRACEBACK", "1")
    with pytest.raises(SetupError):
        command.run_verb(FakeVerb(SetupError("FV-TST-001", "no such thing")), [])


def test_every_verb_of_the_project_is_registered_once() -> None:
    names = [verb.name for verb in installed_verbs()]
    expected = {"serve", "infer", "sim", "eval", "demo", "train", "export", "score", "compare", "report", "doctor"}
    assert sorted(names) == sorted(set(names))
    assert expected <= set(names)


def test_dispatch_runs_the_named_subverb_with_the_rest() -> None:
    seen: list[str] = []

    def demos(argv: Sequence[str]) -> int:
        """Write demonstrations."""
        seen.extend(argv)
        return 7

    assert dispatch("finevla sim", {"demos": demos}, ["demos", "--out", "x"]) == 7
    assert seen == ["--out", "x"]


def test_dispatch_names_the_nearest_subverb(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatch("finevla sim", {"demos": lambda argv: 0}, ["demo"]) == 2
    assert "Did you mean 'demos'?" in capsys.readouterr().err


def test_dispatch_help_lists_the_subverbs(capsys: pytest.CaptureFixture[str]) -> None:
    def demos(argv: Sequence[str]) -> int:
        """Write demonstrations."""
        return 0

    assert dispatch("finevla sim", {"demos": demos}, ["--help"]) == 0
    assert "demos  Write demonstrations." in capsys.readouterr().out
