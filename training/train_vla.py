"""`finevla train RECIPE` for policies on a vision-language backbone: from datasets to a trained checkpoint."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from finevla_runtime.contracts.clock import Clock
from finevla_runtime.contracts.embodiment import Embodiment, load_embodiment
from finevla_runtime.contracts.errors import unknown_name
from finevla_runtime.contracts.policy import Normalisation
from finevla_runtime.paths import HW_CONFIGS
from training.average import Average
from training.checkpoint import Checkpoint
from training.checkpoint_store import FolderRow
from training.data.fg_share import parse_share
from training.data.frame_reader import FrameReader
from training.data.instruction_mixture import InstructionMixture, MixturePlan
from training.data.mixture_statistics import joint_modes, mixture_normalisation
from training.data.vla_dataset import DataSource, VLADataset, open_vla_dataset
from training.distributed import AccelerateStepper, Spread, micro_batches, open_accelerator
from training.importer.imported_checkpoint import BACKBONE, BACKBONE_FILES
from training.log_sinks import LogSink, Report, Screen, open_sinks
from training.policies.backbone import resolve_folder
from training.policies.prompt_layout import read_tokenizer
from training.policies.vla import PolicyPlan, build_policy, plan_prompt
from training.policy_spec import vla_policy_spec
from training.recipes.vla import KEEP, VLARecipe
from training.starting_point import read_starting_point, statistics_of
from training.task import Part
from training.train import DEVICES, LOGGERS, begin, run_until_stopped
from training.trainer import Budget, Cadence, Trainer
from training.vla_task import Loading, VLATask

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class VLAJob:
    """What to train and where.

    Attributes:
        recipe: settings.
        sources: datasets of the mixture.
        out: run folder; a checkpoint in it is resumed.
        cache: folder of rows, statistics and marks of checked videos.
        init: checkpoint or imported policy to take weights from, when the run folder has none.
        embodiment: body that the policy will drive (file in ``hw_configs``); that of the first dataset when empty.
        device: ``auto``, ``cpu`` or ``cuda``.
        strategy: ``ddp`` or ``fsdp2``; with one process nothing is spread.
        workers: threads per process that prepare batches.
        cache_mb: memory per process for decoded frames.
        loggers: besides JSON lines and the screen; see ``training.log_sinks``.
    """

    recipe: VLARecipe
    sources: tuple[DataSource, ...]
    out: Path
    cache: Path
    init: Path | None = None
    embodiment: str = ""
    device: str = "auto"
    strategy: str = "ddp"
    workers: int = 2
    cache_mb: int = 512
    loggers: tuple[str, ...] = LOGGERS


def train_vla(
    job: VLAJob, clock: Clock, report: Report, cadence: Cadence | None = None, screen: LogSink | None = None
) -> Path:
    """Train a policy in this process, or in all that ``torchrun`` started; return the newest checkpoint.

    SIGTERM and Ctrl-C end the run after its current step; the state is saved, and the same command goes on.

    Args:
        job: what to train and where.
        clock: counts the time.
        report: takes lines for people, from the main process alone.
        cadence: steps between side jobs; those of the recipe when None.
        screen: takes the log; lines of JSON through ``report`` when None.

    Raises:
        FineVLAError: FV-TRN-*, FV-DAT-*, FV-POL-* and FV-REC-* for bad settings, data and backbones, before the first
            step wherever it can be known.
    """
    if job.device not in DEVICES:
        raise unknown_name("FV-TRN-014", "device", job.device, DEVICES)
    recipe, store = job.recipe, FolderRow(job.out, job.recipe.keep_checkpoints)
    spread = Spread(job.device, job.strategy, recipe.bf16)
    accelerator = open_accelerator(spread)
    spread = replace(
        spread, micro_batches=micro_batches(recipe.global_batch, recipe.batch_per_device, accelerator.num_processes)
    )
    say = report if accelerator.is_main_process else _silent
    resumed = store.load()
    given = resumed or (read_starting_point(job.init) if job.init else None)
    task = _task(job, accelerator, spread.micro_batches, given, say)
    say(task.summary())
    if accelerator.is_main_process:
        _keep_backbone(resolve_folder(recipe.backbone), job.out / BACKBONE)
    stepper = AccelerateStepper(task, recipe.optimiser(), accelerator, spread)
    trainer = Trainer(
        task,
        stepper,
        recipe.schedule_settings(),
        Budget(steps=recipe.steps),
        Average(task.module, recipe.ema),
        store,
        clock,
        cadence or Cadence(recipe.log_steps, recipe.check_steps, float("inf"), recipe.save_steps),
    )
    begin(trainer, store, job.init, say)
    del resumed, given
    sinks: tuple[LogSink, ...] = ()
    if accelerator.is_main_process:
        step, chosen = trainer.progress.step, screen or Screen(say)
        sinks = open_sinks(job.out, job.loggers, chosen, step, recipe.name, asdict(recipe))
    try:
        run_until_stopped(trainer, sinks, say)
    finally:
        task.close()
    return store.path


def policy_plan(recipe: VLARecipe) -> PolicyPlan:
    """Return the shape of a recipe's policy."""
    return PolicyPlan(
        framework=recipe.framework,
        backbone=recipe.backbone,
        cameras=recipe.camera_specs(),
        chunk_rows=recipe.chunk_rows,
        state=recipe.state,
        max_tokens=recipe.max_tokens or None,
        random_weights=recipe.random_backbone,
        checkpointing=recipe.gradient_checkpointing,
        seed=recipe.seed,
        sizes=recipe.head,
        repeats=recipe.repeats,
    )


def _task(job: VLAJob, accelerator: Accelerator, micro: int, given: Checkpoint | None, report: Report) -> VLATask:
    recipe = job.recipe
    share = parse_share(recipe.fg_raw)
    with accelerator.local_main_process_first():
        # One process per machine fills the cache, the others find it full.
        datasets = [open_vla_dataset(source, recipe.cameras, job.cache) for source in job.sources]
        normalisation = _normalisation(job, datasets, given)
    mixture = InstructionMixture(
        datasets, MixturePlan(recipe.global_batch, share, recipe.unannotated, recipe.uniform_over), recipe.seed
    )
    plan = policy_plan(recipe)
    policy = build_policy(plan)
    spec = vla_policy_spec(
        recipe,
        share,
        _embodiment(job.embodiment, datasets[0]),
        _rate(datasets, report),
        normalisation,
        plan_prompt(plan, policy),
    )
    processes, rank = accelerator.num_processes, accelerator.process_index
    parts = tuple(Part(number * processes + rank, micro * processes) for number in range(micro))
    return VLATask(
        recipe,
        plan,
        policy,
        spec,
        read_tokenizer(resolve_folder(recipe.backbone)),
        mixture,
        FrameReader(job.cache_mb << 20),
        Loading(job.workers, parts, recipe.steps),
        torch.device(accelerator.device),
    )


def _normalisation(job: VLAJob, datasets: list[VLADataset], given: Checkpoint | None) -> Normalisation:
    """Return the statistics of the data, or those of the weights that the run begins with where it keeps them."""
    recipe = job.recipe
    if recipe.statistics == KEEP and given is not None:
        return statistics_of(given)
    modes = joint_modes(recipe.joint_mode, recipe.gripper_mode)
    return mixture_normalisation(datasets, modes, False, job.cache, recipe.layout)


def _embodiment(name: str, first: VLADataset) -> Embodiment:
    """Return the body named, or that of the dataset (FV-TRN-029 when there is no such file)."""
    known = sorted(path.stem for path in HW_CONFIGS.glob("*.yaml"))
    wanted = name or str(first.source.format.robot_type)
    if wanted not in known:
        where = "--embodiment" if name else f"{first.source.root}; name the body with --embodiment"
        raise unknown_name("FV-TRN-029", "embodiment", wanted, known, where)
    return load_embodiment(HW_CONFIGS / f"{wanted}.yaml")


def _rate(datasets: list[VLADataset], report: Report) -> float:
    """Return the rows per second of the first dataset; say so where the others have other rates."""
    rates = [float(dataset.source.format.fps) for dataset in datasets]
    if len(set(rates)) > 1:
        listed = ", ".join(f"{d.name} {rate:g}" for d, rate in zip(datasets, rates, strict=True))
        report(f"rows per second differ ({listed}): a chunk lasts differently long; the spec says {rates[0]:g}")
    return rates[0]


def _keep_backbone(source: Path, target: Path) -> None:
    """Copy the small files of the backbone into the run, so that its checkpoints can be exported anywhere."""
    target.mkdir(parents=True, exist_ok=True)
    for name in BACKBONE_FILES:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)


def _silent(line: str) -> None:
    """Say nothing: only the main process reports."""
