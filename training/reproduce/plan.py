"""What the mixing experiment consists of: ratios, frameworks, budgets and the commands that carry it out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from finevla_runtime.contracts.errors import unknown_name

FRAMEWORKS = ("oft", "gr00t")


@dataclass(frozen=True, slots=True)
class Ratio:
    """One FG:Raw mixture of the paper (Tables 4 and 5).

    Attributes:
        name: as the paper writes it.
        slug: as folders write it.
        fg_share: probability that a training sample carries fine-grained text.
    """

    name: str
    slug: str
    fg_share: float


RATIOS = (
    Ratio("Raw-only", "raw", 0.0),
    Ratio("1:4", "1-4", 1 / 5),
    Ratio("1:2", "1-2", 1 / 3),
    Ratio("1:1", "1-1", 1 / 2),
    Ratio("2:1", "2-1", 2 / 3),
    Ratio("4:1", "4-1", 4 / 5),
    Ratio("FG-only", "fg", 1.0),
)


@dataclass(frozen=True, slots=True)
class Setting:
    """How much is spent on each policy of the experiment.

    Attributes:
        name: name of the setting.
        steps, batch: optimiser steps and samples per step of each policy.
        scenes, scenes_unpaired: demonstrations (see ``finevla sim demos``).
        trials: evaluation trials per variant and instruction kind.
        general_weight: sampling weight of the families without variants; the paired ones have 1.
        seed: seed of weights and samples, the same for every ratio.
    """

    name: str
    steps: int
    batch: int
    scenes: int
    scenes_unpaired: int
    trials: int
    general_weight: float = 0.5
    seed: int = 1


SETTINGS = {
    # Two CPU cores: about an hour for OFT. The budget is deliberately small: with ten times the samples every
    # mixture that contains fine-grained text reaches the suite's ceiling and nothing can be told apart.
    "cpu": Setting("cpu", steps=1500, batch=64, scenes=300, scenes_unpaired=450, trials=20),
    # One GPU renders and trains more in the same time: closer to the ceiling, narrower intervals.
    "gpu": Setting("gpu", steps=6000, batch=192, scenes=300, scenes_unpaired=450, trials=50),
    # Minutes: shows that every part works; its figures mean nothing.
    "smoke": Setting("smoke", steps=20, batch=16, scenes=3, scenes_unpaired=3, trials=1),
}
GENERAL_FAMILIES = ("clean_table", "stack_block", "left_to_right")


def find_setting(name: str) -> Setting:
    """Return a named setting (FV-TRN-031 with the nearest match for an unknown one)."""
    if name not in SETTINGS:
        raise unknown_name("FV-TRN-031", "setting", name, SETTINGS)
    return SETTINGS[name]


@dataclass(frozen=True, slots=True)
class Arm:
    """One policy of the experiment.

    Attributes:
        framework: ``oft`` or ``gr00t``.
        ratio: its mixture.
    """

    framework: str
    ratio: Ratio

    @property
    def label(self) -> str:
        """Return the name in reports, ``OFT 1:1``."""
        return f"{self.framework.upper()} {self.ratio.name}"

    @property
    def folder(self) -> str:
        """Return the name of its folder, ``oft-1-1``."""
        return f"{self.framework}-{self.ratio.slug}"


@dataclass(frozen=True, slots=True)
class Experiment:
    """The whole experiment in one folder.

    Attributes:
        out: its folder.
        setting: budgets.
        frameworks: which of the frameworks.
        demos: dataset; made below ``out`` when it is not there.
        workers: processes.
        device: ``auto``, ``cpu`` or ``cuda``.
    """

    out: Path
    setting: Setting
    frameworks: tuple[str, ...]
    demos: Path
    workers: int
    device: str

    def arms(self) -> Iterator[Arm]:
        """Yield every policy, one framework after the other."""
        for framework in self.frameworks:
            for ratio in RATIOS:
                yield Arm(framework, ratio)

    def run_folder(self, arm: Arm) -> Path:
        """Return where an arm trains."""
        return self.out / "train" / arm.folder

    def bundle(self, arm: Arm) -> Path:
        """Return the bundle of an arm."""
        return self.run_folder(arm) / "bundle"

    def evaluation(self, arm: Arm) -> Path:
        """Return the evaluation run of an arm."""
        return self.out / "eval" / arm.folder

    def demo_command(self) -> list[str]:
        """Return the arguments of ``finevla`` that make the demonstrations."""
        return [
            *("sim", "demos", "--out", str(self.demos), "--workers", str(self.workers)),
            *("--scenes", str(self.setting.scenes), "--scenes-unpaired", str(self.setting.scenes_unpaired)),
        ]

    def train_command(self, arm: Arm) -> list[str]:
        """Return the arguments of ``finevla`` that train and export an arm.

        Only ``--fg-share`` differs between the arms of a framework: ``--raw-from same`` draws one sequence of frames
        for all of them, so that nothing but the words can make a difference (paper section 3.2).
        """
        s = self.setting
        weights = [f"{family}={s.general_weight}" for family in GENERAL_FAMILIES]
        return [
            *("train", f"tabletop-{arm.framework}", "--dataset", str(self.demos), "--out", str(self.run_folder(arm))),
            *("--cache", str(self.out / "frames"), "--bundle", str(self.bundle(arm))),
            *("--steps", str(s.steps), "--batch", str(s.batch), "--seed", str(s.seed)),
            *("--fg-share", f"{arm.ratio.fg_share:.6f}", "--raw-from", "same", "--device", self.device),
            *("--threads", str(self.workers), "--family-weight", *weights),
        ]

    def eval_command(self, arm: Arm) -> list[str]:
        """Return the arguments of ``finevla`` that evaluate an arm on the frozen trials."""
        return [
            *("eval", "tabletop", "--bundle", str(self.bundle(arm)), "--out", str(self.evaluation(arm))),
            *("--trials", str(self.setting.trials), "--workers", str(self.workers), "--label", arm.label),
        ]

    def digest(self) -> str:
        """Return the sha256 of everything that decides the figures besides the code."""
        told = {"setting": asdict(self.setting), "ratios": [asdict(ratio) for ratio in RATIOS]}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
