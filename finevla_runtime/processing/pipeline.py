"""Processor: an Observation to the model's tensors, and the model's rows to joint targets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.action import GRIPPER_INDICES, from_layout, to_layout
from finevla_runtime.contracts.arrays import FloatArray, frozen_float32
from finevla_runtime.contracts.errors import PolicyError, nearest
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.policy import PolicySpec
from finevla_runtime.processing.images import resize
from finevla_runtime.processing.normalise import check_normalisation, denormalise, normalise
from finevla_runtime.processing.prompt import Prompt, load_tokenizer

ModelInputs = dict[str, npt.NDArray[np.generic]]

# Model rows this far outside the normalised range are a broken model or broken statistics, not a motion.
MAX_MODEL_VALUE = 100.0


class Processor:
    """The processing of one policy, driven by its PolicySpec alone."""

    def __init__(self, spec: PolicySpec, tokenizer_json: str) -> None:
        """Check the statistics and parse the tokenizer once.

        Raises:
            SetupError: FV-NRM-* for bad statistics, FV-TOK-* for a bad tokenizer.
        """
        check_normalisation(spec.normalisation, spec.action.size)
        self.spec = spec
        self.prompt = Prompt(spec.prompt, load_tokenizer(tokenizer_json))

    def inputs(self, observation: Observation) -> ModelInputs:
        """Return the model's inputs without batch axis.

        Keys: ``image.<camera>`` uint8[height, width, 3] for every camera of the spec, ``tokens``
        int64[max_tokens], and ``state`` float32[dof] in model units when the policy reads proprioception.

        Raises:
            PolicyError: FV-OBS-003 for a missing camera, FV-IMG-001, FV-TOK-003.
        """
        inputs: ModelInputs = {}
        for camera in self.spec.cameras:
            image = observation.images.get(camera.name)
            if image is None:
                got = ", ".join(sorted(observation.images)) or "none"
                guess = nearest(camera.name, observation.images)
                hint = f" (is {guess!r} the same camera under another name?)" if guess else ""
                raise PolicyError("FV-OBS-003", f"the observation lacks camera {camera.name!r}; got {got}{hint}.")
            inputs[f"image.{camera.name}"] = resize(image, camera)
        inputs["tokens"] = self.prompt.tokens(observation.instruction.text)
        if self.spec.state:
            inputs["state"] = self.model_rows(observation.joint_position)
        return inputs

    def model_rows(self, positions: FloatArray) -> FloatArray:
        """Return joint targets float32[..., 14] (project layout, robot units) as model rows."""
        return normalise(to_layout(np.asarray(positions), self.spec.layout), self.spec.normalisation)

    def positions(self, model_rows: npt.ArrayLike) -> FloatArray:
        """Return model rows float32[rows, 14] as joint targets in the project's layout.

        Grippers are clipped to 0..1 (their full physical range); joints are not, because limits are the
        guard's and the body's business and must be seen there.

        Raises:
            PolicyError: FV-ACT-004 for a wrong shape, a non-finite value or one far outside the range.
        """
        rows = frozen_float32(model_rows, (None, self.spec.action.size), "model output", "FV-ACT-004")
        if np.abs(rows).max(initial=0.0) > MAX_MODEL_VALUE:
            raise PolicyError(
                "FV-ACT-004",
                f"model output reaches {np.abs(rows).max():.3g} in normalised units; check the statistics.",
            )
        positions = from_layout(denormalise(rows, self.spec.normalisation), self.spec.layout)
        grippers = list(GRIPPER_INDICES)
        positions[..., grippers] = np.clip(positions[..., grippers], 0.0, 1.0)
        return positions
