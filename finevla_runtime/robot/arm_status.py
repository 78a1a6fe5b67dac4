"""What an arm says about itself, in the vendor's codes, told in words: either all is well, or why not.

A code that is not in the table counts as a fault: a firmware that learns a new one must not move by accident. Nothing
here resets an arm. The vendor's reset cuts the power of the motors, and the arm falls.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.errors import BodyError, unknown_name
from finevla_runtime.contracts.strict_yaml import Node, load_yaml
from finevla_runtime.paths import HW_CONFIGS

ARM_STATUS = HW_CONFIGS / "arm_status"
ADVICE = (
    "Hold the arm, take its cause away and start again; do not reset the arm from a program, it loses power and falls."
)


@dataclass(frozen=True)
class Meaning:
    """What one code means, and whether the robot may move with it."""

    ok: bool
    text: str


@dataclass(frozen=True)
class ArmStatus:
    """What one status message says; ``problems`` is empty when all is well."""

    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Tell whether the arm may move."""
        return not self.problems

    @property
    def fault(self) -> str:
        """Return the problems in one line, empty when there are none."""
        return "; ".join(self.problems)

    def require_ok(self, arm: str) -> None:
        """Refuse to move an arm that is not well (BodyError FV-ROB-002)."""
        if not self.ok:
            raise BodyError("FV-ROB-002", f"the {arm} arm reports: {self.fault}. {ADVICE}")


@dataclass(frozen=True)
class ArmStatusTable:
    """The codes of one vendor.

    Attributes:
        name: file stem in ``hw_configs/arm_status``.
        codes: for each field of the message, the meaning of its codes.
        flags: for each field that is false when all is well, what it says when it is true.
    """

    name: str
    codes: Mapping[str, Mapping[int, Meaning]]
    flags: Mapping[str, str]

    def read(self, message: Mapping[str, int | bool]) -> ArmStatus:
        """Judge one message, given as its fields and their values.

        A code that is not in the table, and a field that is not in the message, are problems.
        """
        problems = []
        for field, meanings in self.codes.items():
            if field not in message:
                problems.append(f"the status has no field {field}")
                continue
            code = int(message[field])
            meaning = meanings.get(code)
            if meaning is None:
                problems.append(f"{field} {code} is not in the table {self.name}")
            elif not meaning.ok:
                problems.append(f"{field} {code}: {meaning.text}")
        for field, text in self.flags.items():
            if field not in message:
                problems.append(f"the status has no field {field}")
            elif message[field]:
                problems.append(f"{field}: {text}")
        return ArmStatus(tuple(problems))


def find_status_table(name: str, folder: Path = ARM_STATUS) -> ArmStatusTable:
    """Load a table by its name (SetupError FV-ROB-003 for an unknown one, FV-CFG-* for a bad file)."""
    known = sorted(path.stem for path in folder.glob("*.yaml"))
    if name not in known:
        raise unknown_name("FV-ROB-003", "arm status table", name, known, str(folder.name))
    return load_status_table(folder / f"{name}.yaml")


def load_status_table(path: Path) -> ArmStatusTable:
    """Read one ``hw_configs/arm_status/*.yaml``.

    Raises:
        SetupError: FV-CFG-* for unknown, missing or mistyped keys, FV-ROB-004 for a code that is no number.
    """
    keys = load_yaml(path).mapping(["arm_status", "codes", "flags"])
    return ArmStatusTable(
        name=keys["arm_status"].one_of([path.stem]),
        codes={field: _read_codes(node) for field, node in keys["codes"].items()},
        flags={field: node.text() for field, node in keys["flags"].items()},
    )


def _read_codes(node: Node) -> dict[int, Meaning]:
    meanings = {}
    for code, child in node.items():
        if not code.isdecimal():
            raise child.fail("FV-ROB-004", f"code {code!r} is no number.")
        keys = child.mapping(["ok", "text"])
        meanings[int(code)] = Meaning(keys["ok"].flag(), keys["text"].text())
    return meanings
