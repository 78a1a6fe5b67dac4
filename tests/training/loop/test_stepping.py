"""One step of one process: what it does, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from finevla_runtime.contracts.clock import ManualClock
from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.paths import HW_CONFIGS
from tests.training.loop.synthetic_task import BATCH, Points, SyntheticTask
from training.average import Average
from training.checkpoint_store import FolderRow
from training.data.mixture import MixtureSettings
from training.data.tabletop_dataset import open_tabletop_dataset
from training.distributed import AccelerateStepper, Spread, micro_batches, open_accelerator
from training.log_sinks import LOG, JsonLines
from training.policy_spec import fit_policy_spec
from training.recipes import TabletopRecipe
from training.schedule import Schedule
from training.stepping import LocalStepper, OptimiserSettings, Stepper
from training.tabletop_task import TabletopTask
from training.task import Part, StepLoss, step_generator
from training.tokenizer import build_tokenizer
from training.trainer import Budget, Cadence, Trainer

RATES = (1e-2, 2e-2)


def tabletop(demos: Path, cache: Path, framework: str) -> TabletopTask:
    recipe = TabletopRecipe(
        framework=framework, width=32, heads=2, blocks=1, mixture=MixtureSettings(batch=16, word_dropout=0.0)
    )
    dataset = open_tabletop_dataset(demos, recipe.cameras, 2, cache, 1, lambda done, total: None)
    body = load_embodiment(HW_CONFIGS / "cobot_magic_sim.yaml")
    spec = fit_policy_spec(recipe, dataset.source.format, body, dataset.store.action)
    return TabletopTask(recipe, dataset, spec, build_tokenizer(dataset.texts()), torch.device("cpu"))


@pytest.mark.parametrize("framework", ["oft", "gr00t"])
def test_two_threads_do_bit_for_bit_what_a_plain_loop_over_two_halves_does(
    framework: str, demos: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    cache = tmp_path_factory.mktemp("frames")
    ours, plain = tabletop(demos, cache, framework), tabletop(demos, cache, framework)
    stepper = LocalStepper(ours, OptimiserSettings(weight_decay=1e-3), threads=2)
    parameters = list(plain.module.parameters())
    optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=1e-3, fused=True)
    average = Average(ours.module, 0.9)
    kept = {name: tensor.clone() for name, tensor in plain.module.state_dict().items()}
    for step in range(3):
        stepper.step(step, [1e-3])
        average.update(step)
        draw = plain.mixture.draw(step)
        gradients = []
        for number, part in enumerate(draw.parts(2)):
            found = plain.loss(part, step_generator(plain.info.seed, step, number))
            gradients.append(torch.autograd.grad(found.total, parameters))
        for parameter, one, other in zip(parameters, *gradients, strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(torch.stack([one, other]).mean(dim=0))
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        for name, tensor in plain.module.state_dict().items():
            kept[name].lerp_(tensor, 1 - min(0.9, (1 + step) / (10 + step)))
    stepper.close()
    for name, tensor in plain.module.state_dict().items():
        assert torch.equal(tensor, ours.module.state_dict()[name]), name
        assert torch.equal(kept[name], average.tensors[name]), name


def steppers(task: SyntheticTask) -> list[Stepper[object]]:
    spread = Spread("cpu", micro_batches=2)
    return [
        LocalStepper(task, OptimiserSettings(), 1),
        AccelerateStepper(task, OptimiserSettings(), open_accelerator(spread), spread),
    ]


@pytest.mark.parametrize("kind", [0, 1])
def test_each_module_moves_at_its_own_rate(kind: int) -> None:
    for rates, moved in (((0.0, 1e-2), "head"), ((1e-2, 0.0), "body")):
        task = SyntheticTask()
        before = {name: tensor.clone() for name, tensor in task.module.state_dict().items()}
        steppers(task)[kind].step(0, rates)
        for name, tensor in task.module.state_dict().items():
            assert torch.equal(tensor, before[name]) == (not name.startswith(moved))
    ratio = []
    for rates in ((1e-2, 1e-2), (1e-2, 3e-2)):
        task = SyntheticTask()
        before = task.module.head.weight.detach().clone()
        steppers(task)[kind].step(0, rates)
        ratio.append((task.module.head.weight.detach() - before).abs().max())
    # The first step of Adam is as long as its rate.
    assert float(ratio[1] / ratio[0]) == pytest.approx(3.0, rel=1e-4)


@pytest.mark.parametrize("kind", [0, 1])
def test_a_loss_that_is_not_finite_names_the_sample_and_changes_nothing(kind: int) -> None:
    task = SyntheticTask(bad=2 * BATCH + 5)
    stepper = steppers(task)[kind]
    for step in (0, 1):
        stepper.step(step, RATES)
    before = {name: tensor.clone() for name, tensor in task.module.state_dict().items()}
    with pytest.raises(SetupError, match=r"step 2; first at episode 2, frame 5") as caught:
        stepper.step(2, RATES)
    assert caught.value.code == "FV-TRN-013"
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.module.state_dict().items())


@pytest.mark.parametrize("kind", [0, 1])
def test_gradients_that_are_not_finite_never_reach_a_weight(kind: int) -> None:
    class Steep(SyntheticTask):
        def loss(self, batch: Points, generator: torch.Generator) -> StepLoss:
            # The root of zero is finite, and its slope is not.
            nothing = torch.stack([parameter.sum() * 0.0 for parameter in self.module.parameters()]).sum()
            return StepLoss(nothing.abs().sqrt(), torch.zeros(len(batch.numbers)), {})

    task = Steep()
    stepper = steppers(task)[kind]
    before = {name: tensor.clone() for name, tensor in task.module.state_dict().items()}
    with pytest.raises(SetupError, match="gradients are not finite at step 4") as caught:
        stepper.step(4, RATES)
    assert caught.value.code == "FV-TRN-013"
    assert "learning_rate_head" in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in task.module.state_dict().items())


def test_processes_meet_in_the_last_micro_batch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Meeting(torch.nn.Module):
        """Stands for DDP, which notes in the forward pass whether the backward pass will meet the others."""

        def __init__(self, inner: torch.nn.Module) -> None:
            super().__init__()
            self.inner, self.apart, self.met = inner, False, []

        def forward(self, *inputs: object) -> object:
            self.met.append(not self.apart)
            return self.inner(*inputs)

        @contextmanager
        def no_sync(self) -> Iterator[None]:
            self.apart = True
            yield
            self.apart = False

    made: list[Meeting] = []

    def wrap(module: torch.nn.Module) -> Meeting:
        made.append(Meeting(module))
        return made[-1]

    spread = Spread("cpu", micro_batches=4)
    accelerator = open_accelerator(spread)
    monkeypatch.setattr(accelerator, "prepare_model", wrap)
    AccelerateStepper(SyntheticTask(), OptimiserSettings(), accelerator, spread).step(0, RATES)
    assert made[0].met == [False, False, False, True]


def test_long_gradients_are_clipped_before_the_step() -> None:
    moved = []
    for limit in (1.0, 1e-12):
        task = SyntheticTask()
        before = task.module.head.weight.detach().clone()
        stepped = LocalStepper(task, OptimiserSettings(clip_norm=limit)).step(0, RATES)
        moved.append(float((task.module.head.weight.detach() - before).abs().max()))
        assert stepped.grad_norm > 0.1
    # Adam hides the scale of gradients until they vanish beside its epsilon.
    assert moved[1] < 1e-3 * moved[0]


def test_a_step_has_the_same_samples_however_it_is_cut() -> None:
    task = SyntheticTask()
    whole = task.batch(3, Part())
    for world in (2, 4):
        parts = [task.batch(3, Part(rank, world)) for rank in range(world)]
        assert torch.equal(torch.cat([part.x for part in parts]), whole.x)


def test_a_step_that_does_not_divide_names_what_would() -> None:
    assert micro_batches(512, 8, 64) == 1
    assert micro_batches(512, 8, 8) == 8
    with pytest.raises(SetupError, match=r"one of \[1, 2, 4\]") as caught:
        micro_batches(12, 8, 3)
    assert caught.value.code == "FV-TRN-024"
    with pytest.raises(SetupError, match="another global_batch"):
        micro_batches(4, 1, 8)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SetupError, match=r"FV-TRN-014.*sees no GPU"):
        open_accelerator(Spread("cuda"))


def test_an_unknown_strategy_names_the_nearest() -> None:
    with pytest.raises(SetupError, match="Did you mean 'fsdp2'") as caught:
        open_accelerator(Spread("cpu", "fsdp"))
    assert caught.value.code == "FV-TRN-026"


def test_the_log_has_means_rates_shares_and_groups_and_a_run_can_be_cut_anywhere(tmp_path: Path) -> None:
    def trained(steps: tuple[int, ...], out: Path) -> SyntheticTask:
        for last in steps:
            task = SyntheticTask()
            spread = Spread("cpu", micro_batches=2)
            stepper = AccelerateStepper(task, OptimiserSettings(), open_accelerator(spread), spread)
            store = FolderRow(out)
            trainer = Trainer(
                task,
                stepper,
                Schedule("constant"),
                Budget(steps=last),
                Average(task.module, 0.5),
                store,
                ManualClock(),
                Cadence(log_steps=2, check_steps=100, save_s=1e9, save_steps=3),
            )
            found = store.load()
            if found is not None:
                trainer.resume(found)
            trainer.run([JsonLines(out, trainer.progress.step)])
        return task

    whole, cut = trained((8,), tmp_path / "whole"), trained((3, 5, 8), tmp_path / "cut")
    for name, tensor in whole.module.state_dict().items():
        assert torch.equal(tensor, cut.module.state_dict()[name])
    lines = [json.loads(line) for line in (tmp_path / "whole" / LOG).read_text().splitlines()]
    first, last = lines[0], lines[-1]
    assert (first["step"], first["samples"], first["fg_share"]) == (2, 16, 0.5)
    assert first["lr"] == {"body": 1e-2, "head": 2e-2}
    assert first["l1"] == pytest.approx(np.mean(list(first["l1_by_half"].values())), rel=1e-4)
    assert set(last) >= {"step", "at_zero"}
    assert FolderRow(tmp_path / "cut").path.name == "step_00000008"
