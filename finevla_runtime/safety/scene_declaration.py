"""What stands before the robot and what it may do there, as people declare it: read from ``hw_configs/scenes``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.errors import unknown_name
from finevla_runtime.contracts.strict_yaml import Node, load_yaml
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.safety.lexicon import APPROACH, COLOR, MATERIAL, SHAPE, Lexicon, find_lexicon

ARMS = ("left", "right")
SCENES = HW_CONFIGS / "scenes"
_PROPERTY_KEYS = {"colours": COLOR, "materials": MATERIAL, "shapes": SHAPE}


@dataclass(frozen=True)
class DeclaredObject:
    """One object of a scene.

    Attributes:
        name: unique in the scene.
        words: what an instruction may call it; its own name is one of them only when it is listed.
        properties: for a slot the values that are true of it; a slot that is not here is not checked.
        approach: directions it may be grasped from; empty: any.
    """

    name: str
    words: tuple[str, ...]
    properties: Mapping[str, tuple[str, ...]]
    approach: tuple[str, ...] = ()


@dataclass(frozen=True)
class SceneDeclaration:
    """One scene.

    Attributes:
        name: file stem in ``hw_configs/scenes``.
        lexicon: words of its language and the names of its objects.
        arms: arms that may be used.
        objects: everything that instructions may name.
        forbidden: words that no instruction may ask for.
        strict: refuse a text with words that say nothing to the lexicon, rather than pass them with a note.
    """

    name: str
    lexicon: Lexicon
    arms: tuple[str, ...]
    objects: tuple[DeclaredObject, ...]
    forbidden: tuple[str, ...] = ()
    strict: bool = False


def find_scene_declaration(name: str, folder: Path = SCENES) -> SceneDeclaration:
    """Load a scene by its name (SetupError FV-FEA-013 for an unknown one, else see ``load_scene_declaration``)."""
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise unknown_name("FV-FEA-013", "scene", name, known, str(folder.name))
    return load_scene_declaration(folder / f"{name}.yaml")


def load_scene_declaration(path: Path) -> SceneDeclaration:
    """Read one ``hw_configs/scenes/*.yaml``.

    Raises:
        SetupError: FV-CFG-* for unknown, missing or mistyped keys and for values the lexicon does not have, FV-FEA-010
            for an unknown lexicon, FV-FEA-012 for a name that appears twice or a list that must not be empty.
    """
    keys = load_yaml(path).mapping(["scene", "lexicon", "arms", "objects"], ["forbidden", "strict"])
    lexicon = find_lexicon(keys["lexicon"].text())
    arms = keys["arms"].map(lambda node: node.one_of(ARMS))
    _require_distinct(keys["arms"], arms)
    objects = keys["objects"].map(lambda node: _read_object(node, lexicon))
    _require_distinct(keys["objects"], tuple(item.name for item in objects))
    return SceneDeclaration(
        name=keys["scene"].one_of([path.stem]),
        lexicon=lexicon.with_objects(word for item in objects for word in item.words),
        arms=arms,
        objects=objects,
        forbidden=keys["forbidden"].map(lambda node: node.text().lower()) if "forbidden" in keys else (),
        strict=keys["strict"].flag() if "strict" in keys else False,
    )


def _read_object(node: Node, lexicon: Lexicon) -> DeclaredObject:
    keys = node.mapping(["name", "words"], [*_PROPERTY_KEYS, "approach"])
    words = keys["words"].map(lambda word: word.text().lower())
    _require_distinct(keys["words"], words)
    return DeclaredObject(
        name=keys["name"].text(),
        words=words,
        properties={slot: _values(keys[key], lexicon, slot) for key, slot in _PROPERTY_KEYS.items() if key in keys},
        approach=_values(keys["approach"], lexicon, APPROACH) if "approach" in keys else (),
    )


def _values(node: Node, lexicon: Lexicon, slot: str) -> tuple[str, ...]:
    values = node.map(lambda value: value.one_of(lexicon.values(slot)))
    _require_distinct(node, values)
    return values


def _require_distinct(node: Node, names: tuple[str, ...]) -> None:
    if not names or len(set(names)) != len(names) or not all(name.strip() for name in names):
        raise node.fail("FV-FEA-012", f"got {', '.join(names) or 'nothing'}; wanted one or more different names.")
