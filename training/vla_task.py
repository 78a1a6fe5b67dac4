"""Learning a policy on a vision-language backbone from LeRobot datasets at a given FG:Raw share."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.policy import PolicySpec
from finevla_runtime.contracts.policy_json import spec_to_json
from finevla_runtime.processing.pipeline import Processor
from training.data.batch import Batch, BatchBuilder
from training.data.frame_reader import FrameReader
from training.data.instruction_mixture import InstructionMixture
from training.data.loader import PrefetchingLoader
from training.importer.plan_json import plan_to_json
from training.policies.backbone import resolve_folder
from training.policies.vla import PolicyPlan, VLAPolicy, parameter_count
from training.policy_spec import camera_names
from training.recipes.vla import FIT, KEEP, VLARecipe
from training.task import ParameterGroup, Part, StepLoss, TaskInfo

# What the error of a sample is called in the log.
ERRORS = {"oft": "l1", "gr00t": "flow"}
# Prompts of a batch are cut to the longest one, in whole chunks of the backbone's linear attention.
TOKEN_BLOCK = 64
# Samples of the check.
PROBE_SAMPLES = 16


@dataclass(frozen=True)
class Loading:
    """How batches are prepared.

    Attributes:
        workers: threads that decode and tokenise; 0 prepares each batch when it is asked for.
        parts: the slices of each step that this process trains on, in order.
        steps: steps of the run; nothing is prepared beyond.
    """

    workers: int = 0
    parts: tuple[Part, ...] = (Part(),)
    steps: int = 0


class VLATask:
    """An OFT or GR00T policy; a ``Task`` of ``Batch`` batches."""

    def __init__(
        self,
        recipe: VLARecipe,
        plan: PolicyPlan,
        policy: VLAPolicy,
        spec: PolicySpec,
        tokenizer_json: str,
        mixture: InstructionMixture,
        frames: FrameReader,
        loading: Loading,
        device: torch.device,
    ) -> None:
        """Keep what is learnt.

        Raises:
            FineVLAError: FV-TOK-003, FV-INS-001 naming an episode whose text cannot be a prompt; FV-DAT-012 when a
                step cannot be split into the parts.
        """
        self.recipe, self.spec, self.mixture = recipe, spec, mixture
        self._plan, self._tokenizer_json, self._device = plan, tokenizer_json, device
        self._policy = policy.to(device).train()
        self._processor, self._frames, self._loading = Processor(spec, tokenizer_json), frames, loading
        self._builders = [self._builder(part) for part in loading.parts]
        self._builders[0].check_texts()
        last = loading.steps * len(loading.parts) if loading.steps else None
        self._loader: PrefetchingLoader[Batch] = PrefetchingLoader(self._build, loading.workers, last_step=last)
        self._probe: Batch | None = None

    @property
    def info(self) -> TaskInfo:
        """Return what is fixed."""
        units = getattr(self._policy.backbone.model, "_no_split_modules", None) or ()
        same = {
            "tokenizer": "Train with the backbone that it was trained with.",
            "layout": "Train in its joint order (--set layout=..., its spec.txt names it).",
            "cameras": "Name the views in its order: --set cameras=...",
        }
        if self.recipe.statistics != FIT:
            same["normalisation"] = (
                f"Keep its statistics with --set statistics={KEEP}, or let the head get used to those of the new data "
                f"with --set statistics={FIT}."
            )
        error = ERRORS[self.recipe.framework]
        return TaskInfo(self.recipe.seed, error, "kind", tuple(sorted(units)), same)

    @property
    def module(self) -> VLAPolicy:
        """Return the policy."""
        return self._policy

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return backbone, head and whatever is neither, each with its learning rate; frozen ones are left out."""
        rates = {
            "backbone": self.recipe.learning_rate_backbone,
            "head": self.recipe.learning_rate_head,
            "base": self.recipe.learning_rate,
        }
        held: dict[str, list[torch.nn.Parameter]] = {name: [] for name in rates}
        for name, parameter in self._policy.named_parameters():
            owner = name.split(".", 1)[0]
            if parameter.requires_grad:
                held[owner if owner in rates else "base"].append(parameter)
        return [ParameterGroup(name, tuple(held[name]), rate) for name, rate in rates.items() if held[name]]

    def batch(self, step: int, part: Part) -> Batch:
        """Return a slice of the samples of ``step``, prepared ahead where it is one of this process."""
        parts = self._loading.parts
        if part in parts:
            return self._loader.item(step * len(parts) + parts.index(part))
        return self._builder(part).build(step)

    def _builder(self, part: Part) -> BatchBuilder:
        return BatchBuilder(self.mixture, self._processor, self._frames, part.rank, part.world)

    def _build(self, number: int) -> Batch:
        count = len(self._builders)
        return self._builders[number % count].build(number // count)

    def loss(self, batch: Batch, generator: torch.Generator) -> StepLoss:
        """Return L1 (OFT) or the flow-matching error (GR00T), a mean over the samples."""
        per_sample = self._policy(self._inputs(batch), self._tensor(batch.actions), generator)
        return StepLoss(per_sample.mean(), per_sample.detach(), {})

    def count(self, batch: Batch) -> tuple[int, int]:
        """Return samples and fine-grained samples."""
        fine = sum(sample.kind is InstructionKind.FINE_GRAINED for sample in batch.samples)
        return len(batch.samples), fine

    def groups(self, batch: Batch) -> Sequence[str]:
        """Return the kind of text of each sample."""
        return [sample.kind.value for sample in batch.samples]

    def where(self, batch: Batch, index: int) -> str:
        """Return dataset, episode and frame of a sample."""
        return batch.where(index)

    def check(self) -> Mapping[str, object]:
        """Return the L1 of the policy's answers on a fixed batch, in model units, by kind of text.

        The samples come from the training data, in a draw of their own. For GR00T this is the error of the actions
        after denoising, which its loss does not show.
        """
        if self._probe is None:
            plan = replace(self.mixture.plan, batch=PROBE_SAMPLES)
            mixture = InstructionMixture(self.mixture.datasets, plan, self.recipe.seed + 1)
            self._probe = BatchBuilder(mixture, self._processor, self._frames).build(0)
        batch = self._probe
        inputs = self._inputs(batch)
        if self.recipe.framework == "gr00t":
            # Batches carry no noise, because training draws its own; the check starts from the same one every time.
            noise = torch.randn(batch.actions.shape, generator=torch.Generator().manual_seed(self.recipe.seed))
            inputs["noise"] = noise.to(self._device)
        self._policy.eval()
        try:
            with torch.no_grad(), self._autocast():
                said = self._policy.act(inputs)
        finally:
            self._policy.train()
        off = np.abs(said.float().cpu().numpy() - batch.actions).mean(axis=(1, 2))
        kinds = np.array(self.groups(batch))
        return {"probe_l1": {str(kind): round(float(off[kinds == kind].mean()), 5) for kind in np.unique(kinds)}}

    def _autocast(self) -> torch.autocast:
        bf16 = self.recipe.bf16 and self._device.type == "cuda"
        return torch.autocast(self._device.type, torch.bfloat16, enabled=bf16)

    def meta(self, fg_share: float) -> Mapping[str, str]:
        """Return the texts that travel with a checkpoint."""
        report = [asdict(source) for source in self.mixture.report()]
        content = [dataset.key for dataset in self.mixture.datasets]
        return {
            "recipe": json.dumps(asdict(self.recipe), sort_keys=True),
            "data": hashlib.sha256(json.dumps([content, asdict(self.mixture.plan)]).encode()).hexdigest(),
            "mixture": json.dumps(report, indent=1),
            "episodes": str(sum(source.episodes for source in self.mixture.report())),
            "plan": plan_to_json(self._plan),
            "tokenizer": self._tokenizer_json,
            "backbone": (resolve_folder(self._plan.backbone) / "config.json").read_text(encoding="utf-8"),
            "layout": self.spec.layout,
            "cameras": camera_names(self.spec),
            "normalisation": json.dumps(asdict(self.spec.normalisation)),
            "spec": spec_to_json(replace(self.spec, fg_share=round(fg_share, 4))),
        }

    def summary(self) -> str:
        """Return one line about sizes, for the start of a run."""
        total, head = parameter_count(self._policy), parameter_count(cast(nn.Module, self._policy.head))
        names = ", ".join(f"{s.name} ({s.episodes} episodes, {s.annotated} annotated)" for s in self.mixture.report())
        return f"{total / 1e6:.1f} M parameters, {head / 1e6:.2f} M of them in the head; {names}; on {self._device}"

    def close(self) -> None:
        """Stop preparing batches."""
        self._loader.close()

    def _inputs(self, batch: Batch) -> dict[str, Tensor]:
        inputs = {name: self._tensor(value) for name, value in batch.inputs.items()}
        # Everything is causal and padded on the right, so columns in which all prompts are padded decide nothing.
        used = int((np.asarray(batch.inputs["tokens"]) != self.spec.prompt.pad_id).sum(axis=1).max())
        longest = min(-(-used // TOKEN_BLOCK) * TOKEN_BLOCK, inputs["tokens"].shape[1])
        inputs["tokens"] = inputs["tokens"][:, :longest]
        return inputs

    def _tensor(self, values: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> Tensor:
        return torch.from_numpy(np.asarray(values)).to(self._device, non_blocking=True)
