"""Learning the tabletop suite: paired twins, auxiliary readings, and the choice on held-out scenes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor

from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.errors import unknown_name
from finevla_runtime.contracts.policy import PolicySpec
from finevla_runtime.contracts.policy_json import spec_to_json
from finevla_runtime.processing.normalise import normalise
from finevla_runtime.processing.prompt import Prompt, load_tokenizer
from training.choice import ChoiceCheck
from training.data.mixture import Draw, Mixture, token_rows
from training.data.tabletop_dataset import IntArray, TabletopDataset, acting_arms, choice_frames
from training.losses import Targets, losses
from training.policies.tabletop_backbone import TabletopConfig
from training.policies.tabletop_gr00t import TabletopGR00T
from training.policies.tabletop_oft import TabletopOFT
from training.policies.tabletop_policy import TabletopPolicy
from training.recipes.tabletop import TabletopRecipe
from training.task import ParameterGroup, Part, StepLoss, TaskInfo
from training.tokenizer import vocabulary_size

POLICIES: dict[str, type[TabletopPolicy]] = {"oft": TabletopOFT, "gr00t": TabletopGR00T}
# What the error of a sample is called in the log.
ERRORS = {"oft": "l1", "gr00t": "flow"}


class TabletopTask:
    """The small policies on demonstrations of ``finevla sim demos``; a ``Task`` of ``Draw`` batches."""

    def __init__(
        self,
        recipe: TabletopRecipe,
        dataset: TabletopDataset,
        spec: PolicySpec,
        tokenizer_json: str,
        device: torch.device,
    ) -> None:
        """Prepare the mixture and a network with fresh weights (FV-TRN-006..008 for bad settings)."""
        self.recipe, self.dataset, self.spec = recipe, dataset, spec
        self._device, self._tokenizer_json = device, tokenizer_json
        prompt = Prompt(spec.prompt, load_tokenizer(tokenizer_json))
        self._labels = normalise(dataset.store.action, spec.normalisation)
        self._choice = choice_frames(dataset, self._labels, recipe.chunk_rows)
        self.mixture = Mixture(dataset, prompt, self._choice, recipe.mixture, recipe.seed)
        tokens = token_rows(dataset.texts(), prompt)
        self._check = ChoiceCheck(dataset, self._labels, self._choice, tokens, recipe.chunk_rows, recipe.seed)
        self._arms = acting_arms(dataset.episodes)
        self._xy = np.array([e.note.target_xy for e in dataset.episodes], dtype=np.float32)
        kinds = {factor: index for index, factor in enumerate(dataset.factors)}
        self._factor = np.array([kinds[e.note.family, e.note.variant] for e in dataset.episodes], dtype=np.int64)
        torch.manual_seed(recipe.seed)
        self._policy = build_policy(recipe, vocabulary_size(tokenizer_json), len(dataset.factors), spec)
        self._policy.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._drawn: tuple[int, Draw] | None = None

    @property
    def info(self) -> TaskInfo:
        """Return what is fixed."""
        remedy = "Train on the demonstrations that it was trained on."
        same = {"tokenizer": remedy, "normalisation": remedy}
        return TaskInfo(self.recipe.seed, ERRORS[self.recipe.framework], "family", warm_keys=same)

    @property
    def module(self) -> TabletopPolicy:
        """Return the network."""
        return self._policy

    def parameter_groups(self) -> Sequence[ParameterGroup]:
        """Return all parameters under one learning rate."""
        return (ParameterGroup("all", tuple(self._policy.parameters()), self.recipe.learning_rate),)

    def batch(self, step: int, part: Part) -> Draw:
        """Return a slice of the samples of ``step``; the two samples of a slot stay together."""
        if self._drawn is None or self._drawn[0] != step:
            self._drawn = (step, self.mixture.draw(step))
        return self._drawn[1].parts(part.world)[part.rank]

    def loss(self, batch: Draw, generator: torch.Generator) -> StepLoss:
        """Return the head's loss with the auxiliary terms."""
        tokens, gain = (torch.from_numpy(array).to(self._device) for array in (batch.tokens, batch.gain))
        rows = self._labels[self.dataset.chunk_rows(batch.frames, self.recipe.chunk_rows)]
        actions = torch.from_numpy(rows).to(self._device)
        said = self._policy(self._views(batch.frames), tokens, gain, actions, generator.initial_seed())
        found = losses(said, self._targets(batch), self.recipe.loss)
        terms = {
            "target_cm": 100 * found.target_xy_m,
            "arm_right": found.arm_right,
            "factor_right": found.factor_right,
        }
        return StepLoss(found.total, found.per_sample, terms)

    def count(self, batch: Draw) -> tuple[int, int]:
        """Return samples and fine-grained samples."""
        return len(batch.frames), int(batch.fine_grained.sum())

    def groups(self, batch: Draw) -> Sequence[str]:
        """Return the family of each sample."""
        return [self.dataset.episodes[i].note.family for i in self.dataset.frame_episode[batch.frames]]

    def where(self, batch: Draw, index: int) -> str:
        """Return episode and frame of a sample."""
        frame = int(batch.frames[index])
        episode = self.dataset.episodes[int(self.dataset.frame_episode[frame])]
        return f"episode {episode.index}, frame {int(self.dataset.frame_step[frame])}"

    def check(self) -> Mapping[str, object]:
        """Ask the held-out questions: the share of right choices, and the L1, per family."""
        rows = self._check.run(self._act)
        return {
            "choice": {r.family: round(r.choice, 3) for r in rows if r.questions},
            "held_out_l1": {r.family: round(r.l1, 4) for r in rows if math.isfinite(r.l1)},
        }

    def meta(self, fg_share: float) -> Mapping[str, str]:
        """Return the texts that travel with a checkpoint."""
        return {
            "recipe": json.dumps(asdict(self.recipe), sort_keys=True),
            "data": self.dataset.store.key,
            "dataset_digest": self.dataset.source.digest,
            "episodes": str(len(self.dataset.episodes)),
            "tokenizer": self._tokenizer_json,
            "normalisation": json.dumps(asdict(self.spec.normalisation)),
            "factors": json.dumps(self.dataset.factors),
            "spec": spec_to_json(replace(self.spec, fg_share=round(fg_share, 4))),
        }

    def summary(self) -> str:
        """Return one line about sizes, for the start of a run."""
        return (
            f"{self._policy.parameter_count() / 1e6:.2f} M parameters, {len(self.dataset.episodes)} episodes, "
            f"{len(self.dataset.frame_step)} frames of which {self._choice.mean():.1%} ask for a choice, "
            f"on {self._device}"
        )

    def _act(self, frames: IntArray, tokens: IntArray) -> FloatArray:
        with torch.inference_mode():
            noise = (n.to(self._device) for n in self._policy.noise(len(frames), self.recipe.seed))
            rows = self._policy.act(*self._views(frames), torch.from_numpy(tokens).to(self._device), *noise)
        return np.asarray(rows.float().cpu().numpy(), dtype=np.float32)

    def _views(self, frames: IntArray) -> tuple[Tensor, Tensor, Tensor]:
        order = np.argsort(frames)
        back = np.argsort(order)
        views = []
        for camera in self.recipe.cameras:
            # Reading in file order keeps the page cache busy in one direction.
            picked = self.dataset.store.frames[camera][frames[order]][back]
            views.append(torch.from_numpy(picked).to(self._device))
        return views[0], views[1], views[2]

    def _targets(self, batch: Draw) -> Targets:
        episodes = self.dataset.frame_episode[batch.frames]
        arrays = (self._xy[episodes], self._arms[episodes], self._factor[episodes], batch.fine_grained)
        return Targets(*(torch.from_numpy(array).to(self._device) for array in arrays))


def build_policy(recipe: TabletopRecipe, vocabulary: int, factors: int, spec: PolicySpec) -> TabletopPolicy:
    """Return the network of a recipe with fresh weights (FV-TRN-008 for an unknown framework)."""
    if recipe.framework not in POLICIES:
        raise unknown_name("FV-TRN-008", "framework", recipe.framework, POLICIES)
    return POLICIES[recipe.framework](
        TabletopConfig(
            vocabulary=vocabulary,
            max_tokens=recipe.max_tokens,
            chunk_rows=recipe.chunk_rows,
            width=recipe.width,
            heads=recipe.heads,
            blocks=recipe.blocks,
            text_blocks=recipe.text_blocks,
            head_px=spec.cameras[0].height,
            wrist_px=spec.cameras[1].height,
            factors=factors,
        )
    )
