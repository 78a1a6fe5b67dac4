"""One recorded episode in memory, before it is encoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from finevla_runtime.contracts.arrays import ByteArray, FloatArray, frozen_float32
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.dataset_format import DatasetFormat
from finevla_runtime.recording.json_lines import JsonObject, texts, value


@dataclass(frozen=True)
class DemonstrationNote:
    """What is known about a simulated demonstration besides its rows: one line of ``meta/finevla_trials.jsonl``.

    Attributes:
        family, variant: task family and control level shown.
        scene_seed: scene; paired variants share it.
        noise: standard deviation of the joint noise that was executed, rad (the recorded actions are clean).
        target_xy: metres in the world frame, the object acted on first.
        acting_arm: ``left`` or ``right``, the arm that acts first.
        success: the judge's verdict.
        habitual: whether a demonstrator who was only told the goal would have done this; raw instructions are
            paired with habitual demonstrations.
        decision_steps: control steps before the first contact, where what to do is still open.
        raw_texts, fine_grained_texts: training paraphrases of both instruction kinds.
    """

    family: str
    variant: str
    scene_seed: int
    noise: float
    target_xy: tuple[float, float]
    acting_arm: str
    success: bool
    habitual: bool
    decision_steps: int
    raw_texts: tuple[str, ...]
    fine_grained_texts: tuple[str, ...]

    def to_json(self, episode_index: int) -> JsonObject:
        """Return the line of ``meta/finevla_trials.jsonl``."""
        return {
            "episode_index": episode_index,
            "family": self.family,
            "variant": self.variant,
            "scene_seed": self.scene_seed,
            "noise": self.noise,
            "target_xy": list(self.target_xy),
            "acting_arm": self.acting_arm,
            "success": self.success,
            "habitual": self.habitual,
            "decision_steps": self.decision_steps,
            "texts": {"raw": list(self.raw_texts), "fine_grained": list(self.fine_grained_texts)},
        }

    @staticmethod
    def from_json(entry: JsonObject, where: str) -> DemonstrationNote:
        """Read one line (FV-REC-002 naming ``where`` and the key that is wrong)."""
        target = value(entry, "target_xy", list, where)
        if len(target) != 2 or not all(isinstance(number, (int, float)) for number in target):
            raise SetupError("FV-REC-002", f"{where}: key 'target_xy' is {target!r}, wanted two numbers.")
        paraphrases = value(entry, "texts", dict, where)
        return DemonstrationNote(
            family=value(entry, "family", str, where),
            variant=value(entry, "variant", str, where),
            scene_seed=value(entry, "scene_seed", int, where),
            noise=value(entry, "noise", float, where),
            target_xy=(float(target[0]), float(target[1])),
            acting_arm=value(entry, "acting_arm", str, where),
            success=value(entry, "success", bool, where),
            habitual=value(entry, "habitual", bool, where),
            decision_steps=value(entry, "decision_steps", int, where),
            raw_texts=texts(paraphrases, "raw", where),
            fine_grained_texts=texts(paraphrases, "fine_grained", where),
        )


@dataclass(frozen=True, eq=False)
class Episode:
    """One episode.

    Attributes:
        task: raw, goal-level text.
        fine_grained: the fine-grained instruction as sentences; FineVLA's training joins them with a blank.
        state: float32[T, joints], measured.
        action: float32[T, joints], target of the same control step.
        frames: camera name -> uint8[T, height, width, 3] RGB.
        note: what else is known, None for episodes that are no simulated demonstrations.
    """

    task: str
    fine_grained: tuple[str, ...]
    state: FloatArray
    action: FloatArray
    frames: Mapping[str, ByteArray]
    note: DemonstrationNote | None = None

    @property
    def length(self) -> int:
        """Return the number of control steps."""
        return int(self.state.shape[0])

    def check(self, wanted: DatasetFormat) -> None:
        """Refuse an episode that does not fit the dataset.

        Raises:
            SetupError: FV-REC-010 naming the column, what it is and what was wanted.
        """
        rows, joints = self.length, len(wanted.joints)
        if rows == 0:
            raise SetupError("FV-REC-010", "the episode has no rows; record at least one control step.")
        if not self.task.strip():
            raise SetupError("FV-REC-010", "the episode has no task text; training needs one.")
        frozen_float32(self.state, (rows, joints), "observation.state", "FV-REC-010", SetupError)
        frozen_float32(self.action, (rows, joints), "action", "FV-REC-010", SetupError)
        names = [camera.name for camera in wanted.cameras]
        if sorted(self.frames) != sorted(names):
            got = ", ".join(sorted(self.frames)) or "none"
            raise SetupError("FV-REC-010", f"the episode has cameras {got}; the dataset wants {', '.join(names)}.")
        for camera in wanted.cameras:
            frames, shape = self.frames[camera.name], (rows, camera.height, camera.width, 3)
            if frames.dtype != np.uint8 or frames.shape != shape:
                got = f"{frames.dtype}{list(frames.shape)}"
                raise SetupError("FV-REC-010", f"{camera.feature} is {got}, wanted uint8{list(shape)}.")
