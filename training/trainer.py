"""The training loop: draws batches, steps the optimiser, keeps the average, watches the choice, saves its state."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.clock import Clock, elapsed_s
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.policy import PolicySpec
from finevla_runtime.processing.normalise import normalise
from finevla_runtime.processing.prompt import Prompt, load_tokenizer
from training.checkpoint import Checkpoint, Progress, load_weights, restore, save_checkpoint
from training.choice import ChoiceCheck, FamilyCheck
from training.data.mixture import Draw, Mixture, token_rows
from training.data.tabletop_dataset import IntArray, TabletopDataset, acting_arms, choice_frames
from training.losses import Losses, Targets, losses, merged
from training.policies.tabletop_backbone import TabletopConfig
from training.policies.tabletop_gr00t import TabletopGR00T
from training.policies.tabletop_oft import TabletopOFT
from training.policies.tabletop_policy import TabletopPolicy
from training.recipes import Recipe
from training.tokenizer import vocabulary_size

CHECKPOINT = "checkpoint.safetensors"
LOG = "training.jsonl"
POLICIES: dict[str, type[TabletopPolicy]] = {"oft": TabletopOFT, "gr00t": TabletopGR00T}
Report = Callable[[str], None]


@dataclass(frozen=True)
class Cadence:
    """Steps or seconds between side jobs.

    Attributes:
        log_steps: steps per line of the log.
        check_steps: steps between choice checks.
        save_s: seconds between checkpoints.
    """

    log_steps: int = 100
    check_steps: int = 500
    save_s: float = 120.0


class Trainer:
    """One training run in one folder."""

    def __init__(
        self,
        recipe: Recipe,
        dataset: TabletopDataset,
        spec: PolicySpec,
        tokenizer_json: str,
        out: Path,
        clock: Clock,
        report: Report,
        device: torch.device,
        cadence: Cadence | None = None,
        shards: int = 1,
    ) -> None:
        self._shards = shards if device.type == "cpu" else 1
        self._pool = ThreadPoolExecutor(self._shards, initializer=torch.set_num_threads, initargs=(1,))
        self.recipe, self.dataset, self.spec = recipe, dataset, spec
        self.out, self._clock, self._report, self._device = out, clock, report, device
        self._cadence = cadence or Cadence()
        self._tokenizer_json = tokenizer_json
        prompt = Prompt(spec.prompt, load_tokenizer(tokenizer_json))
        self._labels = normalise(dataset.store.action, spec.normalisation)
        choice = choice_frames(dataset, self._labels, recipe.chunk_rows)
        self.mixture = Mixture(dataset, prompt, choice, recipe.mixture, recipe.seed)
        tokens = token_rows(dataset.texts(), prompt)
        self._check = ChoiceCheck(dataset, self._labels, choice, tokens, recipe.chunk_rows, recipe.seed)
        self._arms = acting_arms(dataset.episodes)
        self._xy = np.array([e.note.target_xy for e in dataset.episodes], dtype=np.float32)
        kinds = {factor: index for index, factor in enumerate(dataset.factors)}
        self._factor = np.array([kinds[e.note.family, e.note.variant] for e in dataset.episodes], dtype=np.int64)
        torch.manual_seed(recipe.seed)
        self.model = build_policy(recipe, vocabulary_size(tokenizer_json), len(dataset.factors), spec)
        self.model.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: t.detach().clone() for name, t in self.model.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.progress = Progress()
        self._stopping = False
        report(
            f"{self.model.parameter_count() / 1e6:.2f} M parameters, {len(dataset.episodes)} episodes, "
            f"{len(dataset.frame_step)} frames of which {choice.mean():.1%} ask for a choice, on {device}"
        )

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on where a checkpoint of the same run stopped; only the budget may have changed since.

        Raises:
            SetupError: FV-TRN-012 when recipe or data changed since, FV-TRN-010 when the network did.
        """
        mine = self.meta()
        same = {
            "recipe": _without_budget(checkpoint.meta["recipe"]) == _without_budget(mine["recipe"]),
            "data": checkpoint.meta["data"] == mine["data"],
        }
        for key, equal in same.items():
            if not equal:
                raise SetupError(
                    "FV-TRN-012",
                    f"{self.out} was begun with another {key}; choose another --out, or start from its weights "
                    f"with --init {self.out / CHECKPOINT}.",
                )
        restore(checkpoint, self.model, self.average, self.optimizer)
        self.progress = checkpoint.progress

    def warm_start(self, checkpoint: Checkpoint) -> None:
        """Begin from the averaged weights of another run with the same network and words.

        Raises:
            SetupError: FV-TRN-010 when network, words or statistics differ.
        """
        for key in ("tokenizer", "normalisation"):
            if checkpoint.meta.get(key) != self.meta()[key]:
                raise SetupError(
                    "FV-TRN-010", f"the checkpoint has another {key}; its weights would mean something else."
                )
        load_weights(checkpoint, "ema", self.model)
        self.average = {name: t.detach().clone() for name, t in self.model.state_dict().items()}

    def meta(self) -> dict[str, str]:
        """Return the texts that travel with a checkpoint."""
        from finevla_runtime.contracts.policy_json import spec_to_json

        return {
            "recipe": json.dumps(asdict(self.recipe), sort_keys=True),
            "data": self.dataset.store.key,
            "dataset_digest": self.dataset.source.digest,
            "episodes": str(len(self.dataset.episodes)),
            "tokenizer": self._tokenizer_json,
            "normalisation": json.dumps(asdict(self.spec.normalisation)),
            "factors": json.dumps(self.dataset.factors),
            "spec": spec_to_json(replace(self.spec, fg_share=round(self.progress.fg_share, 4))),
        }

    def run(self) -> tuple[FamilyCheck, ...]:
        """Train until the budget is used, save, and return the final choice check.

        Raises:
            SetupError: FV-TRN-013 naming episode and step when the loss is not finite.
            KeyboardInterrupt: after ``stop``, with the state saved.
        """
        started, begun_s = self._clock.now_ns(), self.progress.trained_s
        saved_s = begun_s
        window = _Window(self.dataset, self.recipe.framework)
        while self._share_done() < 1 and not self._stopping:
            draw = self.mixture.draw(self.progress.step)
            window.add(draw, self._train_step(draw))
            self._count(draw, begun_s + elapsed_s(self._clock, started))
            if self.progress.step % self._cadence.log_steps == 0:
                self._log({**window.summary(), "lr": self._learning_rate()})
                window = _Window(self.dataset, self.recipe.framework)
            if self.progress.step % self._cadence.check_steps == 0:
                self._log_check(self.check())
            if self.progress.trained_s - saved_s > self._cadence.save_s:
                self.save()
                saved_s = self.progress.trained_s
        self.save()
        if self._stopping:
            raise KeyboardInterrupt
        final = self.check()
        self._log_check(final)
        return final

    def stop(self) -> None:
        """Let ``run`` end after the step it is in; it saves and raises KeyboardInterrupt."""
        self._stopping = True

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(self.out / CHECKPOINT, self.model, self.average, self.optimizer, self.progress, self.meta())

    def check(self) -> tuple[FamilyCheck, ...]:
        """Run the choice check with the averaged weights."""
        kept = {name: t.detach().clone() for name, t in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        try:
            return self._check.run(self._act)
        finally:
            self.model.load_state_dict(kept)

    def _act(self, frames: IntArray, tokens: IntArray) -> FloatArray:
        with torch.inference_mode():
            noise = (n.to(self._device) for n in self.model.noise(len(frames), self.recipe.seed))
            rows = self.model.act(*self._views(frames), torch.from_numpy(tokens).to(self._device), *noise)
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

    def _train_step(self, draw: Draw) -> Losses:
        """Step the optimiser on one batch.

        Each core works on its own part of the batch with one thread, and the parts meet once per step. Threads
        inside every operation would meet a thousand times per step, which costs up to five times the time as soon
        as anything else runs on the machine.
        """
        rate = self._learning_rate()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        parts = list(self._pool.map(self._gradients, enumerate(draw.parts(self._shards))))
        found = merged([part[0] for part in parts])
        if not torch.isfinite(found.total):
            raise self._not_finite(draw, found)
        for index, parameter in enumerate(self.model.parameters()):
            # The fused optimiser walks memory and ignores strides, so a gradient must lie like its parameter.
            mean = torch.stack([part[1][index] for part in parts]).mean(dim=0)
            parameter.grad = torch.empty_like(parameter).copy_(mean)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self._average()
        return found

    def _gradients(self, part: tuple[int, Draw]) -> tuple[Losses, tuple[Tensor, ...]]:
        """Return the losses of a part of the batch and the gradient of every parameter."""
        number, draw = part
        tokens, gain = (torch.from_numpy(array).to(self._device) for array in (draw.tokens, draw.gain))
        rows = self._labels[self.dataset.chunk_rows(draw.frames, self.recipe.chunk_rows)]
        actions = torch.from_numpy(rows).to(self._device)
        seed = int(np.random.default_rng([self.recipe.seed, self.progress.step, number]).integers(2**62))
        said = self.model(self._views(draw.frames), tokens, gain, actions, seed)
        found = losses(said, self._targets(draw), self.recipe.loss)
        return found.detached(), torch.autograd.grad(found.total, tuple(self.model.parameters()))

    def _targets(self, draw: Draw) -> Targets:
        episodes = self.dataset.frame_episode[draw.frames]
        arrays = (self._xy[episodes], self._arms[episodes], self._factor[episodes], draw.fine_grained)
        return Targets(*(torch.from_numpy(array).to(self._device) for array in arrays))

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.recipe.ema, (1 + self.progress.step) / (10 + self.progress.step))
        state = self.model.state_dict()
        torch._foreach_lerp_(list(self.average.values()), [state[n] for n in self.average], 1 - decay)

    def _count(self, draw: Draw, trained_s: float) -> None:
        self.progress = Progress(
            self.progress.step + 1,
            self.progress.samples + len(draw.frames),
            self.progress.fine_grained + int(draw.fine_grained.sum()),
            trained_s,
        )

    def _share_done(self) -> float:
        if self.recipe.steps:
            return self.progress.step / self.recipe.steps
        return self.progress.trained_s / (60.0 * self.recipe.minutes)

    def _learning_rate(self) -> float:
        warm = min(1.0, (self.progress.step + 1) / max(1, self.recipe.warmup_steps))
        return self.recipe.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, self._share_done())))

    def _log(self, entry: Mapping[str, object]) -> None:
        p = self.progress
        whole = {"step": p.step, "samples": p.samples, "trained_s": round(p.trained_s, 1), "fg_share": p.fg_share}
        line = json.dumps({**whole, **entry})
        self.out.mkdir(parents=True, exist_ok=True)
        with (self.out / LOG).open("a", encoding="utf-8") as file:
            file.write(line + "\n")
        self._report(line)

    def _log_check(self, rows: tuple[FamilyCheck, ...]) -> None:
        self._log(
            {
                "choice": {r.family: round(r.choice, 3) for r in rows if r.questions},
                "held_out_l1": {r.family: round(r.l1, 4) for r in rows if math.isfinite(r.l1)},
            }
        )

    def _not_finite(self, draw: Draw, found: Losses) -> SetupError:
        bad = np.flatnonzero(~np.isfinite(found.per_sample.cpu().numpy()))
        frame = int(draw.frames[bad[0] if bad.size else 0])
        episode = self.dataset.episodes[int(self.dataset.frame_episode[frame])]
        return SetupError(
            "FV-TRN-013",
            f"the loss is not finite at step {self.progress.step}; first at episode {episode.index}, frame "
            f"{int(self.dataset.frame_step[frame])}. Lower --learning-rate and run the command again: it resumes "
            "from the last good checkpoint.",
        )


def _without_budget(recipe: str) -> dict[str, object]:
    settings: dict[str, object] = json.loads(recipe)
    return {key: value for key, value in settings.items() if key not in ("minutes", "steps")}


def build_policy(recipe: Recipe, vocabulary: int, factors: int, spec: PolicySpec) -> TabletopPolicy:
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


class _Window:
    """Means between two lines of the log."""

    def __init__(self, dataset: TabletopDataset, framework: str) -> None:
        self._dataset = dataset
        self._error = {"oft": "l1", "gr00t": "flow"}[framework]
        self._by_family: dict[str, list[float]] = defaultdict(list)
        self._terms: dict[str, list[float]] = defaultdict(list)

    def add(self, draw: Draw, found: Losses) -> None:
        values = found.per_sample.cpu().numpy()
        for frame, value in zip(draw.frames, values, strict=True):
            note = self._dataset.episodes[self._dataset.frame_episode[frame]].note
            self._by_family[note.family].append(float(value))
        self._terms[self._error].append(float(values.mean()))
        self._terms["total"].append(float(found.total.detach()))
        self._terms["target_cm"].append(100 * float(found.target_xy_m))
        self._terms["arm_right"].append(float(found.arm_right))
        self._terms["factor_right"].append(float(found.factor_right))

    def summary(self) -> dict[str, object]:
        families = {name: round(float(np.mean(values)), 4) for name, values in sorted(self._by_family.items())}
        terms = {name: round(float(np.mean(values)), 4) for name, values in self._terms.items()}
        return {**terms, f"{self._error}_by_family": families}
