"""The PolicySpec of a recipe on a dataset: what training assumed is what serving will check."""

from __future__ import annotations

from finevla_runtime.contracts.action import DOF, GRIPPER_INDICES
from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.embodiment import Embodiment
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.policy import CameraSpec, Normalisation, PolicySpec, PromptSpec
from finevla_runtime.contracts.policy_json import spec_from_json, spec_to_json
from finevla_runtime.processing.normalise import fit_normalisation
from finevla_runtime.recording.dataset_format import DatasetFormat
from training.recipes.tabletop import TabletopRecipe
from training.recipes.vla import VLARecipe
from training.tokenizer import PAD_ID

VERSION = "1.0"


def fit_policy_spec(
    recipe: TabletopRecipe, source: DatasetFormat, embodiment: Embodiment, targets: FloatArray
) -> PolicySpec:
    """Build the contract of a policy before it is trained.

    Joints are scaled by their 1st and 99th percentile without clipping, so that rare reaches stay reachable;
    grippers by their range.

    Args:
        recipe: what is trained.
        source: format of the dataset.
        embodiment: body the demonstrations come from.
        targets: float32[T, 14], all joint targets of the dataset.

    Raises:
        SetupError: FV-TRN-001 for a missing camera, FV-TRN-011 when the dataset's rate is not the body's.
    """
    if source.fps != embodiment.control_hz:
        raise SetupError(
            "FV-TRN-011",
            f"the dataset has {source.fps} rows per second, {embodiment.name} runs at {embodiment.control_hz:g} Hz.",
        )
    sizes = {camera.name: camera for camera in source.cameras}
    missing = [name for name in recipe.cameras if name not in sizes]
    if missing:
        raise SetupError("FV-TRN-001", f"the dataset has no camera {missing[0]!r}; it has {', '.join(sizes)}.")
    modes = ["min_max" if i in GRIPPER_INDICES else "q99" for i in range(DOF)]
    return _readable(
        PolicySpec(
            name=recipe.name,
            version=VERSION,
            embodiment=embodiment.name,
            framework=recipe.framework,
            cameras=tuple(CameraSpec(n, sizes[n].height, sizes[n].width) for n in recipe.cameras),
            action=embodiment.action_space,
            layout="project",
            state=False,
            normalisation=fit_normalisation(targets, modes, clip=False),
            prompt=PromptSpec("{instruction}", recipe.max_tokens, PAD_ID, lowercase=True),
            chunk_rows=recipe.chunk_rows,
            execution_rows=recipe.execution_rows,
            control_hz=embodiment.control_hz,
            trained_kinds=_kinds(recipe.mixture.fg_share),
            fg_share=recipe.mixture.fg_share,
        )
    )


def vla_policy_spec(
    recipe: VLARecipe,
    fg_share: float,
    embodiment: Embodiment,
    control_hz: float,
    normalisation: Normalisation,
    prompt: PromptSpec,
) -> PolicySpec:
    """Build the contract of a policy on a vision-language backbone before it is trained.

    Args:
        recipe: what is trained.
        fg_share: probability that a sample carries fine-grained text.
        embodiment: body that the policy will drive.
        control_hz: rows per second of the data.
        normalisation: pooled statistics of the mixture.
        prompt: prompt rule of the policy.
    """
    return _readable(
        PolicySpec(
            name=recipe.name,
            version=VERSION,
            embodiment=embodiment.name,
            framework=recipe.framework,
            cameras=recipe.camera_specs(),
            action=embodiment.action_space,
            layout=recipe.layout,
            state=recipe.state,
            normalisation=normalisation,
            prompt=prompt,
            chunk_rows=recipe.chunk_rows,
            execution_rows=recipe.execution_rows,
            control_hz=control_hz,
            trained_kinds=_kinds(fg_share),
            fg_share=fg_share,
        )
    )


def camera_names(spec: PolicySpec) -> str:
    """Return the views in model order as text; a policy knows them by their place alone."""
    return ", ".join(camera.name for camera in spec.cameras)


def _readable(spec: PolicySpec) -> PolicySpec:
    """Return the spec if it can be read back (FV-SPC-*): what no server would take is not worth training."""
    spec_from_json(spec_to_json(spec))
    return spec


def _kinds(fg_share: float) -> tuple[InstructionKind, ...]:
    kinds = []
    if fg_share < 1:
        kinds.append(InstructionKind.RAW)
    if fg_share > 0:
        kinds.append(InstructionKind.FINE_GRAINED)
    return tuple(kinds)
