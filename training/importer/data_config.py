"""What the data configurations of both repositories say: order of the action keys, normalisation, views.

A run's config names only its mixture (``datasets.vla_data.data_mix``); the order of its dimensions lives in the code
it was trained with. The facts below were read from that code (FineVLA-Policy of June 2026, StarVLA of August 2026).
A mixture that is not listed is never guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from finevla_runtime.contracts.action import DOF, LAYOUTS
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.instruction import InstructionKind

# Where each action key stands in the project's layout. A key that spans a whole arm (seven joint positions) is
# absent: its name does not say which of the seven is the gripper.
PROJECT_PLACES: dict[str, tuple[int, ...]] = {
    "left_joint": tuple(range(6)),
    "left_joints": tuple(range(6)),
    "left_gripper": (6,),
    "right_joint": tuple(range(7, 13)),
    "right_joints": tuple(range(7, 13)),
    "right_gripper": (13,),
}


@dataclass(frozen=True, slots=True)
class ActionKey:
    """One named block of an action row.

    Attributes:
        name: key without the ``action.`` prefix.
        size: dimensions it spans.
        mode: normalisation mode of all of them.
    """

    name: str
    size: int
    mode: str


@dataclass(frozen=True, slots=True)
class DataConfig:
    """One data configuration.

    Attributes:
        name: robot type it is registered under.
        views: video keys without prefix, in the order of the configuration.
        keys: action keys in order; dimensions and statistics follow it.
        gripper_threshold: value above which a binary gripper counts as open.
    """

    name: str
    views: tuple[str, ...]
    keys: tuple[ActionKey, ...]
    gripper_threshold: float = 0.5

    @property
    def modes(self) -> tuple[str, ...]:
        """Return the normalisation mode of every dimension, in the run's order."""
        return tuple(key.mode for key in self.keys for _ in range(key.size))


@dataclass(frozen=True, slots=True)
class DataMixture:
    """One named mixture.

    Attributes:
        config: data configuration of all its datasets.
        revision: repository that registers this name; None when both do, with the same configuration.
        fine_grained: weight of fine-grained entries against raw entries of weight 1; None for fine-grained only.
    """

    config: DataConfig
    revision: str | None
    fine_grained: float | None = 0.0

    @property
    def fg_share(self) -> float:
        """Return the nominal share of fine-grained samples; the run never measured the true one."""
        return 1.0 if self.fine_grained is None else self.fine_grained / (1.0 + self.fine_grained)


_CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
# RoboTwin in StarVLA and in FineVLA's inherited example: both arms first, then both grippers.
ROBOTWIN = DataConfig(
    "robotwin",
    _CAMERAS,
    (
        ActionKey("left_joints", 6, "min_max"),
        ActionKey("right_joints", 6, "min_max"),
        ActionKey("left_gripper", 1, "binary"),
        ActionKey("right_gripper", 1, "binary"),
    ),
)
ROBOTWIN_50 = replace(ROBOTWIN, name="robotwin50", gripper_threshold=0.49)
ARX_X5 = replace(ROBOTWIN, name="arx_x5")
# RoboTwin in FineVLA: the project's layout.
ROBOTWIN_V21 = DataConfig(
    "lerobot_v21_robotwin",
    _CAMERAS,
    (
        ActionKey("left_joints", 6, "q99"),
        ActionKey("left_gripper", 1, "binary"),
        ActionKey("right_joints", 6, "q99"),
        ActionKey("right_gripper", 1, "binary"),
    ),
)
# All seven ALOHA groups of FineVLA (RDT, RoboCOIN, RoboMIND) agree in keys, modes and views.
ALOHA = DataConfig(
    "lerobot_v21_aloha",
    ("image_0", "image_1", "image_2"),
    (
        ActionKey("left_joint", 6, "q99"),
        ActionKey("left_gripper", 1, "binary"),
        ActionKey("right_joint", 6, "q99"),
        ActionKey("right_gripper", 1, "binary"),
    ),
)
MERGED_ALOHA = DataConfig(
    "lerobot_data_v21_merged_aloha",
    ("front", "left", "right"),
    (ActionKey("left_joint_pos", 7, "min_max"), ActionKey("right_joint_pos", 7, "min_max")),
)

MIXTURES: dict[str, DataMixture] = {
    "robotwin": DataMixture(ROBOTWIN, None),
    "robotwin_all": DataMixture(ROBOTWIN, "starvla"),
    "robotwin_task1": DataMixture(ROBOTWIN, "starvla"),
    "robotwin_task2": DataMixture(ROBOTWIN, "starvla"),
    "robotwin_all_50": DataMixture(ROBOTWIN_50, "starvla"),
    "arx_x5": DataMixture(ARX_X5, None),
    "robotwin_clean": DataMixture(ROBOTWIN_V21, "finevla"),
    "robotwin_mix": DataMixture(ROBOTWIN_V21, "finevla"),
    "rdt_yhq": DataMixture(ALOHA, "finevla"),
    "aloha_multi_mix": DataMixture(ALOHA, "finevla"),
    "aloha_multi_test": DataMixture(ALOHA, "finevla"),
    "aloha_multi_FG1_1_test": DataMixture(ALOHA, "finevla", 1.0),
    "lerobot_data_v21_merged_single": DataMixture(MERGED_ALOHA, "finevla"),
    **{f"{stem}_FGOnly": DataMixture(ALOHA, "finevla", None) for stem in ("rdt_yhq", "aloha_multi")},
    **{
        f"{stem}_FG{weight}_1": DataMixture(ALOHA, "finevla", float(weight))
        for stem in ("rdt_yhq", "aloha_multi")
        for weight in (1, 2, 4)
    },
}


def kinds_of_share(fg_share: float) -> tuple[InstructionKind, ...]:
    """Return the instruction kinds that a share of fine-grained samples implies."""
    kinds = ((InstructionKind.RAW, fg_share < 1), (InstructionKind.FINE_GRAINED, fg_share > 0))
    return tuple(kind for kind, seen in kinds if seen)


def layout_of_keys(keys: tuple[str, ...], where: str) -> str:
    """Return the name of the joint layout that a sequence of action keys spells.

    Args:
        keys: action keys in order, without prefix.
        where: names the source in messages.

    Raises:
        SetupError: FV-IMP-012 for keys whose place is not known, or an order that is no known layout.
    """
    for key in keys:
        if key not in PROJECT_PLACES:
            raise SetupError(
                "FV-IMP-012",
                f"{where}: the action key {key!r} does not say which joints it holds and in which order; "
                f"say it by --layout. Known layouts: {', '.join(option_names())}.",
            )
    order = tuple(place for key in keys for place in PROJECT_PLACES[key])
    if sorted(order) != list(range(DOF)):
        raise SetupError(
            "FV-IMP-012",
            f"{where}: the action keys {', '.join(keys)} are not each of the {DOF} joints once; only dual-arm "
            "policies with six joints and one gripper per arm can be imported.",
        )
    for name, places in LAYOUTS.items():
        if places == order:
            return name
    raise SetupError("FV-IMP-012", f"{where}: the order {', '.join(keys)} is none of the layouts {', '.join(LAYOUTS)}.")


def option_names() -> tuple[str, ...]:
    """Return the layouts as they are typed on the command line."""
    return tuple(name.replace("_", "-") for name in LAYOUTS)


def layout_option(text: str) -> str:
    """Return the layout that ``--layout`` names (FV-IMP-012 for an unknown one)."""
    name = text.replace("-", "_")
    if name not in LAYOUTS:
        raise SetupError("FV-IMP-012", f"--layout {text!r} is unknown. Known: {', '.join(option_names())}.")
    return name
