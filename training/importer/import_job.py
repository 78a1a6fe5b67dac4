"""One import, from a run folder to an imported policy."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from finevla_runtime.contracts.action import DOF
from finevla_runtime.contracts.embodiment import Embodiment
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.policy import CameraSpec, PolicySpec, PromptSpec
from training.importer.action_rule import ActionOptions, ActionRule, find_action_rule, find_mixture
from training.importer.data_config import kinds_of_share
from training.importer.decision import Decision, decisions_as_text
from training.importer.head_settings import HeadSettings, read_head_settings
from training.importer.imported_checkpoint import BACKBONE, ImportedCheckpoint, save_imported
from training.importer.imported_policy import meta_policy, tables_are_tied
from training.importer.plan_json import plan_to_json
from training.importer.policy_tensors import backbone_dtype, complete, read_policy_tensors
from training.importer.renaming import check_against
from training.importer.revision import find_revision
from training.importer.run_config import RunConfig, read_run_config
from training.importer.run_facts import (
    find_backbone,
    find_body,
    find_fg_share,
    fixed_decisions,
    refuse_other_prompts,
    source_texts,
)
from training.importer.run_folder import open_run
from training.importer.statistics import read_statistics
from training.importer.views import find_cameras
from training.policies.vla import PolicyPlan, plan_prompt


@dataclass(frozen=True, slots=True)
class ImportJob:
    """What to import, and what the command line says about it; None leaves a question to the run.

    Attributes:
        run: run folder, or one of its weight files.
        out: folder to write.
        embodiment: name in ``hw_configs/`` of the robot that the policy drives.
        control_hz: rate of the policy's rows, which no run records.
        backbone: Hugging Face folder of the backbone.
        step, tag, revision: which checkpoint, which statistics, which repository revision.
        action: joint order and normalisation.
        cameras: the robot's cameras in the order of the run's views.
        image_size: side of the square frames the model sees.
        resize: kernel for frames of another size.
        chunk_rows: rows per answer, where the config contradicts itself.
        execution_rows: rows to execute per answer; all of them when None, as upstream's client does.
        max_tokens: longest prompt.
        fg_share: share of fine-grained samples, where the mixture does not say it.
    """

    run: Path
    out: Path
    embodiment: str | None = None
    control_hz: float | None = None
    backbone: Path | None = None
    step: str | None = None
    tag: str | None = None
    revision: str | None = None
    action: ActionOptions = field(default_factory=ActionOptions)
    cameras: tuple[str, ...] = ()
    image_size: int | None = None
    resize: str = "area"
    chunk_rows: int | None = None
    execution_rows: int | None = None
    max_tokens: int | None = None
    fg_share: float | None = None


@dataclass(frozen=True, slots=True)
class Contract:
    """What a run's files and the options together say, before any weight is read.

    Attributes:
        body, control_hz: the robot, and the rate of the rows.
        head: claims about the head.
        rule: joint order and normalisation.
        cameras: views in model order.
        fg_share: share of fine-grained samples.
        decisions: what was decided on the way.
    """

    body: Embodiment
    control_hz: float
    head: HeadSettings
    rule: ActionRule
    cameras: tuple[CameraSpec, ...]
    fg_share: float
    decisions: tuple[Decision, ...]


def import_policy(job: ImportJob) -> ImportedCheckpoint:
    """Read a run, decide or refuse everything that is not certain, and write the imported policy.

    Raises:
        SetupError: FV-IMP-* with what was got, what was wanted and the option that settles it; FV-POL-* when the
            backbone folder is unsuitable.
    """
    run = open_run(job.run, job.step)
    config = read_run_config(run.configs)
    contract = _contract(job, config, run.statistics)
    backbone = find_backbone(config, job.backbone)
    tensors, decided_tensors = read_policy_tensors(run.weights, contract.head, contract.rule)
    plan = _plan(contract, backbone, job.max_tokens, backbone_dtype(tensors))
    policy = meta_policy(plan)
    shapes = {name: tensor.shape for name, tensor in policy.state_dict().items()}
    tensors, decided_missing = complete(tensors, shapes, contract.head.state, tables_are_tied(policy))
    check_against(tensors, shapes)
    name = config.text("run_id") or run.path.resolve().name
    spec = _spec(contract, plan_prompt(plan, policy), name, run.step, job.execution_rows)
    decisions = (*contract.decisions, *decided_tensors, *decided_missing)
    provenance = {**source_texts(run, config), **decisions_as_text(decisions)}
    stored = plan_to_json(replace(plan, backbone=BACKBONE))
    return save_imported(job.out, spec, stored, tensors, backbone, run.statistics, provenance)


def _contract(job: ImportJob, config: RunConfig, statistics: Path) -> Contract:
    body, control_hz = find_body(job.embodiment, job.control_hz)
    refuse_other_prompts(config)
    revision, decided = find_revision(config, job.revision)
    head, of_head = read_head_settings(config, revision, job.chunk_rows)
    rule, of_rule = find_action_rule(config, read_statistics(statistics, job.tag), revision, job.action)
    mixture = find_mixture(config)[1]
    data = mixture.config if mixture is not None else None
    cameras, of_cameras = find_cameras(config, data, revision, body, job.cameras, job.image_size, job.resize)
    share, of_share = find_fg_share(config, job.fg_share)
    fixed = fixed_decisions(revision, head.framework, config)
    decisions = (decided, *fixed, *of_head, *of_rule, *of_cameras, of_share)
    return Contract(body, control_hz, head, rule, cameras, share, decisions)


def _plan(contract: Contract, backbone: Path, max_tokens: int | None, dtype: str) -> PolicyPlan:
    head = contract.head
    return PolicyPlan(
        framework=head.framework,
        backbone=str(backbone),
        cameras=contract.cameras,
        chunk_rows=head.chunk_rows,
        dof=DOF,
        state=head.state,
        max_tokens=max_tokens,
        dtype=dtype,
        # The folder inside the checkpoint has no weights; every number comes from the imported state dict.
        random_weights=True,
        sizes=head.sizes,
        repeats=max(1, head.repeats),
        denoise_steps=max(1, head.denoise_steps),
    )


def _spec(contract: Contract, prompt: PromptSpec, name: str, version: str, execution_rows: int | None) -> PolicySpec:
    rows = contract.head.chunk_rows
    executed = rows if execution_rows is None else execution_rows
    if not 1 <= executed <= rows:
        raise SetupError("FV-IMP-018", f"--execution-rows is {executed}, wanted 1 to {rows}, the chunk length.")
    return PolicySpec(
        name=name,
        version=version,
        embodiment=contract.body.name,
        framework=contract.head.framework,
        cameras=contract.cameras,
        action=contract.body.action_space,
        layout=contract.rule.layout,
        state=contract.head.state,
        normalisation=contract.rule.normalisation,
        prompt=prompt,
        chunk_rows=rows,
        execution_rows=executed,
        control_hz=contract.control_hz,
        trained_kinds=kinds_of_share(contract.fg_share),
        fg_share=contract.fg_share,
    )
