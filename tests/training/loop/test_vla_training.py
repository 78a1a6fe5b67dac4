"""Policies on a vision-language backbone: trained, killed, resumed, refused, and handed on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from finevla_runtime.contracts.clock import ManualClock
from finevla_runtime.contracts.errors import FineVLAError, SetupError
from finevla_runtime.contracts.policy_json import spec_from_json
from tests.training.conftest import write_dataset
from tests.training.loop.two_processes import STEPS, recipe, train_tiny
from training.checkpoint import Checkpoint, load_checkpoint
from training.cli import train as train_command
from training.data.vla_dataset import DataSource
from training.export.policy_source import read_policy
from training.importer.imported_checkpoint import save_imported
from training.log_sinks import LOG
from training.policies.tiny_backbone import write_tiny_backbone
from training.train_vla import VLAJob, train_vla
from training.vla_cli import _fitting

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("vla")
    write_tiny_backbone(root / "backbone")
    write_dataset(root / "demos", scenes=3)
    torch.set_num_threads(1)
    return root


@pytest.fixture(scope="module")
def trained(root: Path) -> Path:
    train_tiny(root / "whole", "tiny-gr00t", "ddp", per_device=8)
    return root / "whole"


def job(root: Path, out: Path, **changes: object) -> VLAJob:
    settings = replace(recipe("tiny-oft", root, 8), **changes)  # type: ignore[arg-type]
    return VLAJob(settings, (DataSource(root / "demos"),), out, root / "cache", device="cpu", workers=0, loggers=())


def run(wanted: VLAJob) -> Checkpoint:
    return load_checkpoint(train_vla(wanted, ManualClock(), lambda line: None))


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_killed_run_goes_on_to_the_same_weights(name: str, root: Path, trained: Path) -> None:
    out = root / f"killed-{name}"
    command = [sys.executable, "-m", "tests.training.loop.killed_run", str(out), "tiny-gr00t", name]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    died = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    if name == "SIGKILL":
        assert died.returncode == -signal.SIGKILL, died.stderr[-2000:]
        # Saved every second step, killed in the third.
        assert load_checkpoint(out).progress.step == 2
    else:
        assert "KeyboardInterrupt" in died.stderr, died.stderr[-2000:]
        assert load_checkpoint(out).progress.step == 3
    train_tiny(out, "tiny-gr00t", "ddp", per_device=8)
    resumed, whole = load_checkpoint(out), load_checkpoint(trained)
    assert resumed.progress.samples == whole.progress.samples
    assert set(resumed.tensors) == set(whole.tensors)
    assert all(torch.equal(resumed.tensors[tensor], whole.tensors[tensor]) for tensor in whole.tensors)
    logs = [[json.loads(line) for line in (folder / LOG).read_text().splitlines()] for folder in (out, trained)]
    assert logs[0] == logs[1]


def test_a_checkpoint_gives_the_policy_back_with_its_contract_and_measured_share(root: Path, trained: Path) -> None:
    found, checkpoint = read_policy(trained), load_checkpoint(trained)
    assert read_policy(trained / "checkpoints" / f"step_{STEPS:08d}").spec == found.spec
    progress = checkpoint.progress
    assert progress.samples == STEPS * 8
    assert 0 < progress.fine_grained < progress.samples
    assert found.spec.fg_share == pytest.approx(progress.fine_grained / progress.samples, abs=1e-4)
    assert json.loads(checkpoint.meta["mixture"])[0]["annotated"] == 9
    assert found.tokenizer_json == (root / "backbone" / "tokenizer.json").read_text()
    assert not found.policy.training
    for name, tensor in found.policy.state_dict().items():
        assert torch.equal(tensor, checkpoint.tensors[f"ema.{name}"])


def test_the_log_tells_error_by_kind_rates_by_module_and_what_the_actions_are_off_by(trained: Path) -> None:
    lines = [json.loads(line) for line in (trained / LOG).read_text().splitlines()]
    assert [line["step"] for line in lines if "flow" in line] == list(range(1, STEPS + 1))
    assert set(lines[0]["flow_by_kind"]) <= {"raw", "fine_grained"}
    assert lines[1]["lr"] == {"backbone": 1e-3, "head": 3e-3}
    assert set(lines[-1]["probe_l1"]) == {"raw", "fine_grained"}
    assert all(np.isfinite(value) for value in lines[-1]["probe_l1"].values())


def test_a_few_steps_learn_and_gradient_checkpointing_changes_nothing(root: Path) -> None:
    plain = run(job(root, root / "plain", steps=8, learning_rate_head=1e-2))
    lines = [json.loads(line) for line in (root / "plain" / LOG).read_text().splitlines()]
    errors = [line["l1"] for line in lines if "l1" in line]
    assert np.mean(errors[-3:]) < 0.9 * np.mean(errors[:2])
    saving = run(job(root, root / "saving", steps=8, learning_rate_head=1e-2, gradient_checkpointing=True))
    for name in plain.tensors:
        assert torch.allclose(plain.tensors[name], saving.tensors[name], atol=1e-4), name


def test_another_run_starts_from_given_weights_and_another_recipe_does_not_go_on(root: Path, trained: Path) -> None:
    frozen = {"learning_rate": 0.0, "learning_rate_backbone": 0.0, "learning_rate_head": 0.0, "ema": 0.0}
    settings = replace(recipe("tiny-gr00t", root, 8), steps=1, fg_raw="raw", **frozen)  # type: ignore[arg-type]
    begun = replace(job(root, root / "begun"), recipe=settings, init=trained)
    started, given = run(begun), load_checkpoint(trained)
    assert started.progress.fine_grained == 0
    assert all(torch.equal(t, given.tensors[f"ema.{name}"]) for name, t in started.part("model").items())
    shutil.copytree(trained, root / "copied")
    with pytest.raises(SetupError, match=r"another recipe \(.*fg_raw: '.*' then, 'raw' now") as caught:
        run(replace(begun, out=root / "copied", init=None))
    assert caught.value.code == "FV-TRN-012"
    turned = replace(settings, cameras=tuple(reversed(settings.cameras)))
    with pytest.raises(SetupError, match="another cameras") as caught:
        run(replace(begun, recipe=turned, out=root / "turned"))
    assert caught.value.code == "FV-TRN-010"
    with pytest.raises(SetupError, match="another network") as caught:
        run(replace(job(root, root / "mixed-up"), init=trained))
    assert caught.value.code == "FV-TRN-010"


def imported(path: Path, trained: Path, layout: str = "project", scale: float = 1.0) -> Path:
    """Turn a checkpoint into a folder of ``finevla import``, in another joint order or with other statistics."""
    read = load_checkpoint(trained)
    spec = spec_from_json(read.meta["spec"])
    low = tuple(value * scale for value in spec.normalisation.low)
    spec = replace(spec, layout=layout, normalisation=replace(spec.normalisation, low=low))
    (path.parent / "statistics.json").write_text("{}")
    save_imported(
        path, spec, read.meta["plan"], read.part("ema"), trained / "backbone", path.parent / "statistics.json", {}
    )
    return path


def test_weights_trained_for_other_rows_are_refused_or_taken_as_told(root: Path, trained: Path, tmp_path: Path) -> None:
    still = {"learning_rate": 0.0, "learning_rate_backbone": 0.0, "learning_rate_head": 0.0, "ema": 0.0}
    settings = replace(recipe("tiny-gr00t", root, 8), steps=1, **still)  # type: ignore[arg-type]
    wanted = replace(job(root, tmp_path / "same"), recipe=settings)
    begun = run(replace(wanted, init=imported(tmp_path / "imported", trained)))
    given = load_checkpoint(trained)
    assert all(torch.equal(t, given.tensors[f"ema.{name}"]) for name, t in begun.part("model").items())

    permuted = imported(tmp_path / "permuted", trained, layout="starvla_robotwin")
    with pytest.raises(SetupError, match=r"another layout.*--set layout") as caught:
        run(replace(wanted, out=tmp_path / "refused", init=permuted))
    assert caught.value.code == "FV-TRN-010"
    there = replace(settings, layout="starvla_robotwin", statistics="fit")
    assert run(replace(wanted, out=tmp_path / "there", recipe=there, init=permuted)).progress.step == 1

    scaled = imported(tmp_path / "scaled", trained, scale=2.0)
    with pytest.raises(SetupError, match=r"statistics=keep, or .*statistics=fit") as caught:
        run(replace(wanted, out=tmp_path / "refused", init=scaled))
    assert caught.value.code == "FV-TRN-010"
    lows = {}
    for choice in ("fit", "keep"):
        out = tmp_path / choice
        chosen = replace(wanted, out=out, recipe=replace(settings, statistics=choice), init=scaled)
        run(chosen)
        lows[choice] = read_policy(out).spec.normalisation.low
        # A resumed run keeps what it began with.
        assert run(replace(chosen, init=None)).progress.step == 1
    assert lows["fit"] == spec_from_json(given.meta["spec"]).normalisation.low
    assert lows["keep"] == tuple(2 * value for value in lows["fit"])


def test_a_loss_that_is_not_finite_names_step_dataset_episode_and_frame(root: Path) -> None:
    with pytest.raises(SetupError, match=r"step \d; first at episode \d+, frame \d+ of demos") as caught:
        run(job(root, root / "lost", steps=9, learning_rate_backbone=1e30, schedule="constant"))
    assert caught.value.code == "FV-TRN-013"


def without_annotations(demos: Path) -> None:
    (demos / "meta" / "FineGrainedInstruction.jsonl").write_text("")


def with_narrow_actions(demos: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = next(demos.rglob("episode_000001.parquet"))
    table = pq.read_table(path)
    rows = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(table.num_rows * 12, np.float32)), 12)
    pq.write_table(table.set_column(table.schema.get_field_index("action"), "action", rows), path)


@pytest.mark.parametrize(
    ("break_data", "changes", "words"),
    [
        (without_annotations, {}, "FineGrainedInstruction.jsonl missing or empty"),
        (with_narrow_actions, {}, "episode 1"),
        (None, {"cameras": ("cam_high", "cam_left_wrist", "cam_top")}, "no camera 'cam_top'"),
        (None, {"fg_raw": "1:x"}, "1:x"),
        (None, {"batch_per_device": 3}, "does not divide"),
        (None, {"max_tokens": 40}, "tokens"),
        (None, {"chunk_rows": 8, "execution_rows": 16}, "FV-SPC-004"),
        (None, {"backbone": "nowhere"}, "nowhere"),
    ],
)
def test_what_can_be_known_to_be_wrong_is_said_before_the_first_step(
    break_data: object, changes: dict[str, object], words: str, root: Path, tmp_path: Path
) -> None:
    wanted = job(root, tmp_path / "run", **changes)
    if callable(break_data):
        shutil.copytree(root / "demos", tmp_path / "demos")
        break_data(tmp_path / "demos")
        wanted = replace(wanted, sources=(DataSource(tmp_path / "demos"),), cache=tmp_path / "cache")
    with pytest.raises(FineVLAError, match=words):
        run(wanted)
    assert not (tmp_path / "run" / LOG).exists()
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_run_that_diverged_goes_on_at_a_lower_rate(root: Path) -> None:
    run(job(root, root / "slower", steps=1))
    assert run(job(root, root / "slower", steps=2, learning_rate_head=1e-6, clip_norm=0.5)).progress.step == 2


def test_a_backbone_may_lie_elsewhere_but_not_be_another(root: Path, tmp_path: Path) -> None:
    run(job(root, tmp_path / "run", steps=1))
    shutil.copytree(root / "backbone", tmp_path / "moved")
    later = job(root, tmp_path / "run", steps=2, backbone=str(tmp_path / "moved"))
    assert run(later).progress.step == 2
    config = tmp_path / "moved" / "config.json"
    config.write_text(config.read_text().replace("10000", "20000"))
    with pytest.raises(SetupError, match="another backbone") as caught:
        run(replace(later, recipe=replace(later.recipe, steps=3)))
    assert caught.value.code == "FV-TRN-012"


@pytest.mark.parametrize(("batch", "world", "wanted"), [(2, 1, 2), (6, 1, 3), (8, 1, 4), (8, 4, 2), (7, 1, 1)])
def test_a_small_batch_fits_itself_to_the_devices(
    batch: int, world: int, wanted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", str(world))
    assert _fitting(batch, 4) == wanted


def test_a_run_does_not_go_on_with_other_texts_or_cameras(root: Path, tmp_path: Path) -> None:
    shutil.copytree(root / "demos", tmp_path / "demos")
    begun = replace(job(root, tmp_path / "run", steps=1), sources=(DataSource(tmp_path / "demos"),))
    run(begun)
    swapped = {"cam_left_wrist": "cam_right_wrist", "cam_right_wrist": "cam_left_wrist"}
    later = replace(begun, recipe=replace(begun.recipe, steps=2))
    with pytest.raises(SetupError, match="another data"):
        run(replace(later, sources=(DataSource(tmp_path / "demos", cameras=swapped),)))
    notes = tmp_path / "demos" / "meta" / "FineGrainedInstruction.jsonl"
    notes.write_text("\n".join(notes.read_text().splitlines()[1:]) + "\n")
    with pytest.raises(SetupError, match="another data") as caught:
        run(later)
    assert caught.value.code == "FV-TRN-012"


def test_an_unknown_body_is_refused_with_the_known_ones(root: Path) -> None:
    with pytest.raises(SetupError, match="Did you mean 'cobot_magic_sim'") as caught:
        run(replace(job(root, root / "bodiless"), embodiment="cobot_magic_simm"))
    assert caught.value.code == "FV-TRN-029"


def test_the_command_lists_recipes_trains_and_says_what_to_run_next(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_command(["--list"]) == 0
    listed = capsys.readouterr().out
    assert "rdt-gr00t" in listed
    assert "512 samples" in listed
    assert train_command(["rdt-oftt"]) == 2
    assert "Did you mean" in capsys.readouterr().err
    out = tmp_path / "run"
    options = ["--dataset", str(root / "demos"), "--out", str(out), "--backbone", str(root / "backbone")]
    small = ["--device", "cpu", "--fg-raw", "fg", "--set", "steps=1", "image_px=32", "log_steps=1"]
    assert train_command(["tiny-oft", *options, *small]) == 0
    said = capsys.readouterr()
    assert f"next: finevla export {out}" in said.out
    assert read_policy(out).spec.fg_share == 1.0
    assert (out / "tensorboard").is_dir()
    with pytest.raises(SetupError, match="Did you mean 'schedule'"):
        train_command(["tiny-oft", *options, "--set", "shedule=constant"])
