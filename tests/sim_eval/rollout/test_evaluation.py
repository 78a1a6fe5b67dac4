"""`finevla eval tabletop` with a served bundle, with the expert, and with everything that can be wrong."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.session.journal import read_journal
from finevla_runtime.session.manifest import load_manifest
from sim_eval import cli, rendering
from sim_eval.demo import demo
from sim_eval.evaluation import CellCount, Evaluation, evaluate_suite
from sim_eval.headline import headline
from sim_eval.plan import Selection
from sim_eval.policy_source import serve_bundle
from tests.serving import tiny_bundle


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tiny_bundle, "TOKENS", 64)
    return tiny_bundle.write_tiny_bundle(tmp_path / "bundle").path


def evaluation(out: Path, **changes: object) -> Evaluation:
    values: dict[str, object] = {
        "out": out,
        "suite": "tabletop",
        "selection": Selection(("raw",), ("arm",), 1),
        "workers": 1,
    }
    return Evaluation(**{**values, **changes})  # type: ignore[arg-type]


def test_a_bundle_is_served_run_and_recorded_with_its_digest_and_film_strips(bundle: Path, tmp_path: Path) -> None:
    manifest, result = evaluate_suite(evaluation(tmp_path / "run", bundle=bundle))
    assert (result.planned, result.scored) == (2, 2)
    digest = json.loads(subprocess.check_output(["cat", str(tmp_path / "run/manifest.json")]))["policies"]["tiny"]
    assert len(digest) == 64
    assert manifest.policies == {"tiny": digest}
    for record in read_journal(tmp_path / "run/journal.jsonl", manifest.hash):
        strip = tmp_path / "run" / record.artifacts["film_strip"]
        assert strip.read_bytes().startswith(b"\xff\xd8")
        assert record.timings["policy"] > 0


def test_no_server_is_left_behind(bundle: Path, tmp_path: Path) -> None:
    with serve_bundle(bundle, tmp_path) as address:
        port = int(address.rpartition(":")[2])
        assert _listens(port)
    assert not _listens(port)


def test_a_bundle_that_cannot_be_served_is_refused_with_the_servers_own_words(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"FV-RUN-004.*FV-BUN-001"):
        evaluate_suite(evaluation(tmp_path / "run", bundle=tmp_path / "none"))


def test_an_address_where_nobody_answers_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sim_eval import policy_source

    connect = policy_source.RemotePolicy.connect
    monkeypatch.setattr(
        policy_source.RemotePolicy,
        "connect",
        lambda address, label: connect(address, label=label, connect_timeout_s=0.2),
    )
    with pytest.raises(SetupError, match="FV-NET-001"):
        evaluate_suite(evaluation(tmp_path / "run", address="127.0.0.1:9"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"policy": "exprt"}, "Did you mean 'expert'"),
        ({"policy": "expert", "address": "127.0.0.1:9"}, "give one of"),
        ({"render": False}, "--no-render"),
        ({"policy": "expert", "workers": 0}, "--workers is 0"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(SetupError, match="FV-RUN-005") as caught:
        evaluate_suite(evaluation(tmp_path / "run", **changes))
    assert words in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_without_a_vulkan_driver_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VK_ICD_FILENAMES", os.devnull)
    monkeypatch.setenv("VK_DRIVER_FILES", os.devnull)
    with pytest.raises(SetupError, match=r"FV-SIM-020.*scripts/vulkan\.sh"):
        rendering.require_rendering()


def test_the_command_prints_its_counts_and_resumes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["tabletop", "--policy", "expert", "--no-render", "--no-report", "--out", str(tmp_path / "run")]
    argv += ["--trials", "1", "--families", "arm", "--workers", "1"]
    assert cli.evaluate([*argv, "--kinds", "fine_grained"]) == 0
    shown = capsys.readouterr().out
    assert "2/2 trials scored" in shown
    assert len(load_manifest(tmp_path / "run/manifest.json").trials) == 2
    with pytest.raises(SetupError, match="FV-MAN-005"):
        cli.evaluate([*argv, "--kinds", "raw"])
    before = (tmp_path / "run/journal.jsonl").read_bytes()
    assert cli.evaluate([*argv, "--kinds", "fine_grained"]) == 0
    assert (tmp_path / "run/journal.jsonl").read_bytes() == before


def test_the_headline_counts_following_in_families_with_a_factor_only() -> None:
    cells = [
        CellCount("colour", "fine_grained", "red", 4, 4, 4, 0, 100.0),
        CellCount("colour", "fine_grained", "blue", 4, 3, 3, 1, 80.0),
        CellCount("clean_table", "fine_grained", "default", 2, 1, 0, 0, 60.0),
    ]
    line = headline(cells, {"fine_grained": 0.75}).splitlines()[1]
    assert line.split()[-4:] == ["8/10", "7/8", "1/8", "+0.75"]


def test_the_headline_never_pools_the_unseen_combination() -> None:
    cells = [
        CellCount("colour", "fine_grained", "red", 4, 4, 4, 0, 100.0),
        CellCount("left_to_right", "fine_grained", "left_to_right_bowl", 3, 0, 0, 3, 60.0),
        CellCount("left_to_right", "fine_grained", "left_to_left_bowl", 3, 3, 3, 0, 100.0),
    ]
    _, line, probe = headline(cells, {}).splitlines()
    assert line.split()[-4:] == ["4/4", "4/4", "0/4", "-"]
    assert probe == "unseen combination (left to right bowl): 0/3 as told, reported apart"


def test_the_demo_runs_the_paired_suite_and_names_its_report(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sim_eval import evaluation as module

    whole = module.select
    monkeypatch.setattr(module, "select", lambda suite, _: whole(suite, Selection(families=("arm",), trials=1)))
    argv = ["--out", str(tmp_path / "demo"), "--bundle", str(bundle)]
    assert demo(argv) == 0
    shown = capsys.readouterr().out
    page = Path(shown.rpartition("Open the report: ")[2].strip())
    assert page == tmp_path / "demo/report.html"
    assert "data:image/jpeg" in page.read_text()
    assert "0/2" in shown
    assert json.loads((tmp_path / "demo/provenance.json").read_text())["command"].startswith("finevla demo --out")
    before = (tmp_path / "demo/journal.jsonl").read_bytes()
    assert demo(argv) == 0
    assert "4 trials (run earlier)" in capsys.readouterr().out
    assert (tmp_path / "demo/journal.jsonl").read_bytes() == before


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
