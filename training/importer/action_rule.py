"""Joint order and normalisation of an imported policy: from its data configuration or from options, never guessed."""

from __future__ import annotations

from dataclasses import dataclass

from finevla_runtime.contracts.action import DOF, GRIPPER_INDICES, LAYOUTS
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.policy import Normalisation
from finevla_runtime.processing.normalise import BINARY_THRESHOLD
from training.importer.data_config import MIXTURES, DataConfig, DataMixture, layout_of_keys, layout_option
from training.importer.decision import Decision
from training.importer.revision import FINEVLA
from training.importer.run_config import RunConfig
from training.importer.statistics import ForeignStatistics, check_mask, to_normalisation

JOINT_MODES = ("q99", "min_max", "mean_std")
GRIPPER_MODES = ("binary", *JOINT_MODES)


@dataclass(frozen=True, slots=True)
class ActionOptions:
    """What the command line says about the action rows; None leaves it to the run.

    Attributes:
        layout: joint order of the run's rows, spelled as on the command line.
        joints: normalisation mode of the joints.
        grippers: normalisation mode of the grippers.
    """

    layout: str | None = None
    joints: str | None = None
    grippers: str | None = None


@dataclass(frozen=True, slots=True)
class ActionRule:
    """How rows of the model are to be read.

    Attributes:
        layout: key of ``contracts.action.LAYOUTS``.
        modes: normalisation mode per dimension as the run trained with it, in the order of the model's rows.
        normalisation: statistics in the order of the model's rows.
        state: the same for the state; None when the run's file has no statistics of the state.
    """

    layout: str
    modes: tuple[str, ...]
    normalisation: Normalisation
    state: Normalisation | None


def find_mixture(config: RunConfig) -> tuple[str, DataMixture | None]:
    """Return the name of the run's mixture, and what is known of it."""
    name = config.text("datasets.vla_data.data_mix") or "(none)"
    return name, MIXTURES.get(name)


def find_action_rule(
    config: RunConfig, statistics: ForeignStatistics, revision: str, options: ActionOptions
) -> tuple[ActionRule, tuple[Decision, ...]]:
    """Return layout and normalisation.

    Raises:
        SetupError: FV-IMP-012 (layout unknown), FV-IMP-013 (layout or mask contradict), FV-IMP-014 (modes unknown
            or contradictory), FV-IMP-015 (statistics).
    """
    name, mixture = find_mixture(config)
    data = mixture.config if mixture else None
    layout, decided_layout = _layout(config, name, data, options.layout)
    modes, decided_modes = _modes(name, data, layout, options)
    check_mask(statistics.mask, modes, f"the layout {layout}")
    clip = revision == FINEVLA
    decided_clip = Decision(
        "clip",
        "[-1, 1]" if clip else "none",
        "clients of this revision clip model rows before the inverse"
        if clip
        else "since 7 May 2026 the server un-normalises without clipping; training clamps q99 targets to ±2.2",
    )
    tag = Decision("statistics", statistics.tag, "embodiment tag in dataset_statistics.json; order of the action keys")
    rule = ActionRule(
        layout,
        modes,
        to_normalisation(statistics.action, modes, clip),
        to_normalisation(statistics.state, modes, clip=False) if statistics.state else None,
    )
    return rule, (decided_layout, decided_modes, decided_clip, tag, *_threshold(data))


def _layout(config: RunConfig, name: str, data: DataConfig | None, asked: str | None) -> tuple[str, Decision]:
    chosen = layout_option(asked) if asked is not None else None
    node = config.find("datasets.vla_data.action_keys")
    keys: tuple[str, ...] = ()
    if node is not None:
        keys, source = tuple(item.text().removeprefix("action.") for item in node.elements()), "action_keys of the run"
    elif data is not None:
        keys, source = tuple(key.name for key in data.keys), f"data configuration {data.name} of the mixture {name}"
    if chosen is None and not keys:
        raise SetupError(
            "FV-IMP-012",
            f"the mixture {name} is not known, so the order of the 14 dimensions is not either; say it by --layout: "
            "project (left arm, left gripper, right arm, right gripper; FineVLA) or starvla-robotwin (left arm, "
            "right arm, left gripper, right gripper). A wrong order moves the wrong joints.",
        )
    if not keys:
        return str(chosen), Decision("layout", str(chosen), f"--layout; the mixture {name} is not known")
    try:
        spelled = layout_of_keys(keys, source)
    except SetupError:
        if chosen is None:
            raise
        return chosen, Decision("layout", chosen, f"--layout; {source} does not name every joint")
    if chosen is not None and chosen != spelled:
        raise SetupError("FV-IMP-013", f"--layout {asked} contradicts the {source}, which is {spelled}.")
    return spelled, Decision("layout", spelled, f"{source}: {', '.join(keys)}")


def _modes(name: str, data: DataConfig | None, layout: str, options: ActionOptions) -> tuple[tuple[str, ...], Decision]:
    for option, value, known in (
        ("--joints", options.joints, JOINT_MODES),
        ("--grippers", options.grippers, GRIPPER_MODES),
    ):
        if value is not None and value not in known:
            raise unknown_name("FV-IMP-014", "normalisation mode", value, known, option)
    grippers = {position for position, place in enumerate(LAYOUTS[layout]) if place in GRIPPER_INDICES}
    if data is None:
        if options.joints is None or options.grippers is None:
            raise SetupError(
                "FV-IMP-014",
                f"the mixture {name} is not known, so its normalisation is not either; say it by --joints "
                f"({', '.join(JOINT_MODES)}) and --grippers ({', '.join(GRIPPER_MODES)}).",
            )
        modes = tuple(options.grippers if index in grippers else options.joints for index in range(DOF))
        return modes, Decision(
            "normalisation", f"{options.joints}, grippers {options.grippers}", "--joints, --grippers"
        )
    for index, mode in enumerate(data.modes):
        asked = options.grippers if index in grippers else options.joints
        if asked is not None and asked != mode:
            raise SetupError(
                "FV-IMP-014",
                f"--joints and --grippers ask for {asked} in dimension {index}, the data configuration {data.name} "
                f"of the mixture {name} has {mode}.",
            )
    used = ", ".join(f"{key.name} {key.mode}" for key in data.keys)
    return data.modes, Decision("normalisation", used, f"data configuration {data.name} of the mixture {name}")


def _threshold(data: DataConfig | None) -> tuple[Decision, ...]:
    if data is None or data.gripper_threshold == BINARY_THRESHOLD:
        return ()
    why = f"the run thresholds grippers at {data.gripper_threshold}, ours at {BINARY_THRESHOLD}; outputs differ between"
    return (Decision("gripper_threshold", str(BINARY_THRESHOLD), why),)
