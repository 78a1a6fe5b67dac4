"""Processor: an Observation to the model's tensors, and the model's rows to joint targets."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.action import GRIPPER_INDICES, from_layout, to_layout
from finevla_runtime.contracts.arrays import FloatArray, frozen_float32
from finevla_runtime.contracts.errors import PolicyError, SetupError, nearest
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.policy import PolicySpec
from finevla_runtime.processing.images import resize
from finevla_runtime.processing.normalise import MAX_MODEL_VALUE, check_normalisation, denormalise, normalise
from finevla_runtime.processing.prompt import Prompt, load_tokenizer

ModelInputs = dict[str, npt.NDArray[np.generic]]

# The framework whose head carries noise to actions.
FLOW_FRAMEWORK = "gr00t"


def chunk_noise(shape: tuple[int, int], episode_seed: int, control_step: int) -> FloatArray:
    """Return float32[rows, dof], standard normal: what a flow-matching policy starts from at one control step.

    Drawn in float64 from ``numpy.random.default_rng([episode_seed, control_step])`` and rounded once, so that a
    repeated request, a replay and every engine see the same numbers. Both integers are zero or more.
    """
    rng = np.random.default_rng([episode_seed, control_step])
    return rng.standard_normal(shape).astype(np.float32)


class Processor:
    """The processing of one policy, driven by its PolicySpec alone."""

    def __init__(self, spec: PolicySpec, tokenizer_json: str) -> None:
        """Check the statistics and parse the tokenizer once.

        Raises:
            SetupError: FV-NRM-* for bad statistics, FV-TOK-* for a bad tokenizer or a prompt and spec that disagree
                about the state.
        """
        check_normalisation(spec.normalisation, spec.action.size)
        self.spec = spec
        self.prompt = Prompt(spec.prompt, load_tokenizer(tokenizer_json))
        reads_text = spec.state and spec.framework != FLOW_FRAMEWORK
        if self.prompt.reads_state != reads_text:
            raise SetupError(
                "FV-TOK-006",
                f"policy {spec.name}: framework {spec.framework!r} with state {spec.state} "
                f"{'needs' if reads_text else 'has no use for'} {{state}} in its prompt template; export it again.",
            )

    def inputs(self, observation: Observation, episode_seed: int = 0) -> ModelInputs:
        """Return the model's inputs without batch axis.

        Keys: ``image.<camera>`` uint8[height, width, 3] for every camera of the spec and ``tokens``
        int64[max_tokens]; for framework ``gr00t`` also ``noise`` float32[chunk_rows, dof] and, when the policy reads
        proprioception, ``state`` float32[dof] in model units. OFT reads the state as text.

        Args:
            observation: what the robot saw.
            episode_seed: decides, with the control step, the noise of a flow-matching policy.

        Raises:
            PolicyError: FV-OBS-003 for a missing camera, FV-IMG-001, FV-TOK-003, FV-TOK-004.
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
        state = self.model_rows(observation.joint_position) if self.spec.state else None
        inputs["tokens"] = self.prompt.tokens(observation.instruction.text, state)
        if self.spec.framework == FLOW_FRAMEWORK:
            inputs["noise"] = chunk_noise(
                (self.spec.chunk_rows, self.spec.action.size), episode_seed, observation.control_step
            )
            if state is not None:
                inputs["state"] = state
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
