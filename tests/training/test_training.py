"""Training end to end on a tiny dataset: it learns the choice, resumes exactly, exports what it trained."""

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

from finevla_runtime.bundle import load_bundle
from finevla_runtime.contracts.clock import ManualClock
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.processing.pipeline import Processor
from training.checkpoint import load_checkpoint
from training.data.mixture import MixtureSettings
from training.export.golden import golden_inputs
from training.export.onnx import export_bundle, run_graph
from training.recipes import TabletopRecipe, find_recipe
from training.train import Job, train
from training.trainer import CHECKPOINT, LOG, Cadence

from .conftest import CAMERAS, write_dataset

TINY = TabletopRecipe(
    width=32,
    heads=2,
    blocks=1,
    warmup_steps=5,
    steps=12,
    ema=0.9,
    learning_rate=3e-3,
    mixture=MixtureSettings(batch=16, word_dropout=0.0),
)


def run(recipe: TabletopRecipe, demos: Path, out: Path, cache: Path, init: Path | None = None) -> Path:
    job = Job(recipe, demos, out, cache, init=init, device="cpu", threads=1)
    cadence = Cadence(log_steps=4, check_steps=recipe.steps, save_s=1e9)
    return train(job, ManualClock(), lambda line: None, cadence)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("frames")


@pytest.fixture(scope="module")
def trained(demos: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(TINY, demos, tmp_path_factory.mktemp("run"), cache)


def test_a_small_dataset_is_learnt_and_the_choice_on_a_new_scene_is_right(tmp_path: Path) -> None:
    easy = write_dataset(tmp_path / "easy", swap=False)
    run(replace(TINY, steps=120), easy, tmp_path, tmp_path / "cache")
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    losses = [line["l1"] for line in lines if "l1" in line]
    assert losses[-1] < 0.35 * losses[0]
    assert lines[-1]["choice"] == {"colour": 1.0}


def test_flow_matching_learns_exports_and_answers_as_its_noise_says(tmp_path: Path) -> None:
    easy = write_dataset(tmp_path / "easy", swap=False)
    recipe = replace(TINY, name="tabletop-gr00t", framework="gr00t", steps=150)
    checkpoint = run(recipe, easy, tmp_path, tmp_path / "cache")
    lines = [json.loads(line) for line in (tmp_path / LOG).read_text().splitlines()]
    losses = [line["flow"] for line in lines if "flow" in line]
    assert losses[-1] < 0.6 * losses[0]
    assert lines[-1]["choice"] == {"colour": 1.0}
    exported = export_bundle(checkpoint, tmp_path / "bundle")
    graph, parity = exported.bundle.graphs["policy"].read_bytes(), exported.bundle.parity
    assert exported.bundle.spec.framework == "gr00t"
    shifted = {**parity.inputs, "noise": np.asarray(parity.inputs["noise"]) + np.float32(0.5)}
    assert np.array_equal(run_graph(graph, dict(parity.inputs)), run_graph(graph, dict(parity.inputs)))
    assert np.abs(run_graph(graph, shifted) - parity.outputs["actions"]).max() > 1e-2


def test_two_runs_with_one_seed_are_equal_and_another_seed_differs(
    demos: Path, cache: Path, trained: Path, tmp_path: Path
) -> None:
    again = load_checkpoint(run(TINY, demos, tmp_path / "again", cache))
    first = load_checkpoint(trained)
    assert all(torch.equal(first.tensors[name], again.tensors[name]) for name in first.tensors)
    other = load_checkpoint(run(replace(TINY, seed=2), demos, tmp_path / "other", cache))
    assert not torch.equal(first.tensors["ema.queries"], other.tensors["ema.queries"])


_KILLED = """
import os, signal, sys
from pathlib import Path
from finevla_runtime.contracts.clock import ManualClock
from training.stepping import LocalStepper
from training.train import Job, train
from training.trainer import Cadence
sys.path.insert(0, sys.argv[4])
from tests.training.test_training import TINY
step = LocalStepper.step
def stepped(self, number, rates):
    found = step(self, number, rates)
    if number == 6:
        os.kill(os.getpid(), getattr(signal, sys.argv[5]))
    return found
LocalStepper.step = stepped
clock = ManualClock()
class Moving(ManualClock):
    def now_ns(self):
        self.advance_s(1.0)
        return super().now_ns()
demos, out, cache = map(Path, sys.argv[1:4])
train(Job(TINY, demos, out, cache, device="cpu", threads=1), Moving(), print, Cadence(100, 100, 2.5))
"""


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_a_killed_run_resumes_to_the_same_weights(
    name: str, demos: Path, cache: Path, trained: Path, tmp_path: Path
) -> None:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", _KILLED, str(demos), str(tmp_path), str(cache), str(root), name]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    died = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert died.returncode not in (0, 1) or "KeyboardInterrupt" in died.stderr, died.stderr
    if name == "SIGKILL":
        assert died.returncode == -signal.SIGKILL
    assert 0 < load_checkpoint(tmp_path / CHECKPOINT).progress.step < TINY.steps
    resumed, whole = load_checkpoint(run(TINY, demos, tmp_path, cache)), load_checkpoint(trained)
    assert resumed.progress.samples == whole.progress.samples
    assert all(torch.equal(whole.tensors[n], resumed.tensors[n]) for n in whole.tensors)


def test_the_fused_optimiser_steps_as_plain_adamw_in_every_memory_layout(
    demos: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused = load_checkpoint(run(replace(TINY, steps=3), demos, tmp_path / "fused", cache))
    plain = torch.optim.AdamW

    def unfused(*args: object, **options: object) -> torch.optim.AdamW:
        return plain(*args, **{**options, "fused": False, "foreach": False})

    monkeypatch.setattr(torch.optim, "AdamW", unfused)
    wanted = load_checkpoint(run(replace(TINY, steps=3), demos, tmp_path / "plain", cache))
    for name, tensor in wanted.part("model").items():
        assert torch.allclose(tensor, fused.part("model")[name], atol=3e-4), name


def test_the_measured_fine_grained_share_travels_into_the_bundle(trained: Path, demos: Path, tmp_path: Path) -> None:
    exported = export_bundle(trained, tmp_path / "bundle", golden_inputs(trained, demos))
    progress = load_checkpoint(trained).progress
    assert progress.samples == 12 * 16
    assert exported.bundle.spec.fg_share == pytest.approx(progress.fine_grained / progress.samples, abs=1e-4)
    assert exported.bundle.provenance["dataset_digest"] == load_checkpoint(trained).meta["dataset_digest"] != ""


def test_the_exported_graph_says_what_the_network_says_for_any_batch(
    trained: Path, demos: Path, tmp_path: Path
) -> None:
    exported = export_bundle(trained, tmp_path / "bundle", golden_inputs(trained, demos))
    bundle = load_bundle(tmp_path / "bundle")
    graph = bundle.graphs["policy"].read_bytes()
    assert exported.difference <= bundle.parity.atol
    for count in (1, 3, 8):
        some = {name: value[:count] for name, value in bundle.parity.inputs.items()}
        found = run_graph(graph, some)
        assert found.shape == (count, 16, 14)
        assert np.abs(found - bundle.parity.outputs["actions"][:count]).max() <= bundle.parity.atol
    assert str(Path(__file__).resolve().parents[2]).encode() not in graph


def test_rows_after_padding_do_not_change_an_answer(trained: Path, demos: Path, tmp_path: Path) -> None:
    bundle = export_bundle(trained, tmp_path / "bundle", golden_inputs(trained, demos)).bundle
    graph = bundle.graphs["policy"].read_bytes()
    inputs = dict(bundle.parity.inputs)
    longest = int((np.asarray(inputs["tokens"]) != 0).sum(axis=1).max())
    from training.export.onnx import restore_policy

    policy = restore_policy(load_checkpoint(trained), bundle.spec)
    views = [torch.from_numpy(np.asarray(inputs[f"image.{c.name}"])) for c in CAMERAS]
    with torch.inference_mode():
        short = policy.act(*views, torch.from_numpy(np.asarray(inputs["tokens"])[:, :longest])).numpy()
    assert np.abs(short - run_graph(graph, inputs)).max() < 1e-4


def test_labels_and_served_rows_are_inverse_of_one_another(trained: Path, demos: Path, tmp_path: Path) -> None:
    bundle = export_bundle(trained, tmp_path / "bundle").bundle
    processor = Processor(bundle.spec, bundle.tokenizer_json)
    rows = np.linspace(0.0, 1.0, 16 * 14, dtype=np.float32).reshape(16, 14)
    assert np.abs(processor.positions(processor.model_rows(rows)) - rows).max() < 1e-5


def test_a_warm_start_needs_the_same_words(demos: Path, cache: Path, trained: Path, tmp_path: Path) -> None:
    path = run(replace(TINY, steps=1, learning_rate=0.0), demos, tmp_path / "warm", cache, init=trained)
    assert torch.equal(load_checkpoint(path).tensors["model.queries"], load_checkpoint(trained).tensors["ema.queries"])
    worded = write_dataset(tmp_path / "worded", scenes=2, polite="kindly")
    with pytest.raises(SetupError, match="another tokenizer") as caught:
        run(TINY, worded, tmp_path / "cold", tmp_path / "cache", init=trained)
    assert caught.value.code == "FV-TRN-010"


def test_a_run_folder_of_another_recipe_is_not_continued(
    demos: Path, cache: Path, trained: Path, tmp_path: Path
) -> None:
    shutil.copy(trained, tmp_path / CHECKPOINT)
    with pytest.raises(SetupError, match="another recipe") as caught:
        run(replace(TINY, seed=9), demos, tmp_path, cache)
    assert caught.value.code == "FV-TRN-012"


def test_a_loss_that_is_not_finite_names_episode_and_frame(demos: Path, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"episode \d+, frame \d+") as caught:
        run(replace(TINY, learning_rate=1e30, warmup_steps=1), demos, tmp_path, cache)
    assert caught.value.code == "FV-TRN-013"


@pytest.mark.parametrize("damage", [b"", b"no tensors here", None])
def test_a_damaged_or_missing_checkpoint_is_refused(damage: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    if damage is not None:
        path.write_bytes(damage)
    with pytest.raises(SetupError) as caught:
        load_checkpoint(path)
    assert caught.value.code == "FV-TRN-009"


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(SetupError, match="Did you mean 'tabletop-oft'"):
        find_recipe("tabletop-otf")
