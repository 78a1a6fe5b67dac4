"""Demonstrations: the plan decides the dataset, whatever happens to the workers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finevla_runtime.contracts.errors import BodyError, SetupError
from finevla_runtime.recording.lerobot_reader import read_dataset
from sim_eval import suite_cli as cli
from sim_eval.demo_maker import demo_plan
from sim_eval.demos import Attempt, DemoFactory, DemoResult, make_demonstrations
from tests.recording.episodes import small_format
from tests.sim_eval.demos import fake_experts

ATTEMPTS = tuple(Attempt(n, "colour", ("red", "blue")[n % 2], n // 2) for n in range(10))


def run(out: Path, workers: int = 1, factory: DemoFactory = fake_experts.factory, limit_s: float = 60.0) -> DemoResult:
    return make_demonstrations(ATTEMPTS, out, small_format(), factory, workers, lambda *_: None, limit_s)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> DemoResult:
    return run(tmp_path_factory.mktemp("whole") / "set")


def test_failed_runs_are_left_out_and_counted(whole: DemoResult) -> None:
    assert [(t.variant, t.attempts, t.kept) for t in whole.tallies] == [("red", 5, 4), ("blue", 5, 4)]
    assert len(read_dataset(whole.dataset.root)) == 8


def test_nothing_but_the_dataset_is_left(whole: DemoResult) -> None:
    assert sorted(path.name for path in whole.dataset.root.iterdir()) == ["data", "meta"]
    read_dataset(whole.dataset.root).verify_files()


def test_two_workers_give_the_dataset_of_one(whole: DemoResult, tmp_path: Path) -> None:
    assert run(tmp_path / "set", workers=2).dataset.digest == whole.dataset.digest


@pytest.mark.parametrize(
    ("factory", "code", "limit_s"),
    [(fake_experts.dying_factory, "FV-DEM-002", 60.0), (fake_experts.hanging_factory, "FV-DEM-003", 4.0)],
)
def test_a_run_whose_worker_died_or_hung_goes_on_to_the_same_dataset(
    whole: DemoResult,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    factory: DemoFactory,
    code: str,
    limit_s: float,
) -> None:
    switch = tmp_path / "switch"
    switch.touch()
    monkeypatch.setenv(fake_experts.SWITCH, str(switch))
    with pytest.raises(BodyError, match=code) as caught:
        run(tmp_path / "set", 1, factory, limit_s)
    assert "run the same command to go on" in str(caught.value)
    switch.unlink()
    assert run(tmp_path / "set", 1, factory).dataset.digest == whole.dataset.digest


def test_going_on_with_another_plan_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = tmp_path / "switch"
    switch.touch()
    monkeypatch.setenv(fake_experts.SWITCH, str(switch))
    with pytest.raises(BodyError, match="FV-DEM-002"):
        run(tmp_path / "set", 1, fake_experts.dying_factory)
    with pytest.raises(SetupError, match="FV-DEM-001"):
        make_demonstrations(ATTEMPTS[:5], tmp_path / "set", small_format(), fake_experts.factory, 1, lambda *_: None)


def test_paired_variants_share_their_scenes_and_the_probe_is_never_shown() -> None:
    plan = demo_plan((), scenes=3, seed=10, scenes_unpaired=5)
    assert [attempt.number for attempt in plan] == list(range(len(plan)))
    seeds: dict[tuple[str, str], list[int]] = {}
    for attempt in plan:
        seeds.setdefault((attempt.family, attempt.variant), []).append(attempt.scene_seed)
    assert seeds["colour", "red"] == seeds["colour", "blue"] == [10, 11, 12]
    assert seeds["stack_block", "default"] == [10, 11, 12, 13, 14]
    assert ("left_to_right", "left_to_left_bowl") in seeds
    assert ("left_to_right", "left_to_right_bowl") not in seeds


def test_held_out_scenes_and_unknown_families_are_refused() -> None:
    with pytest.raises(SetupError, match="FV-DEM-004"):
        demo_plan((), scenes=3, seed=999_999, scenes_unpaired=3)
    with pytest.raises(SetupError, match=r"FV-SIM-001.*Did you mean 'colour'"):
        demo_plan(("color",), scenes=3, seed=0, scenes_unpaired=3)


def test_the_command_writes_the_same_paired_dataset_with_one_and_two_workers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digests = []
    for workers in ("1", "2"):
        out = tmp_path / workers
        common = ["--scenes", "1", "--families", "colour", "--json", "--workers", workers]
        assert cli.sim(["demos", "--out", str(out), *common]) == 0
        digests.append(json.loads(capsys.readouterr().out)["digest"])
        dataset = read_dataset(out)
        assert [episode.note.variant for episode in dataset if episode.note] == ["red", "blue"]
        for episode in dataset:
            episode.check(decode_frames=True)
            assert episode.note is not None
            assert 0 < episode.note.decision_steps < episode.length
    assert digests[0] == digests[1]
