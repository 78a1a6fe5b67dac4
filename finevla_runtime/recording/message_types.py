"""Definitions of ROS 2 messages, so that a recording can be decoded where their packages are not installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from finevla_runtime.contracts.errors import SetupError

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

# Returns the text of a ``.msg`` file by the name of its type, or None where it is not known.
FindDefinition = Callable[[str], "str | None"]


def no_definition(type_name: str) -> str | None:
    """Know no type but those that rosbags brings: the ones of ROS 2's own packages."""
    del type_name
    return None


class MessageTypes:
    """Types that can be recorded: ROS 2's own ones, and others as their definitions are found."""

    def __init__(self, find: FindDefinition = no_definition) -> None:
        """Begin with the types of ROS 2 Jazzy; ``find`` answers for all others."""
        from rosbags.typesys import Stores, get_typestore

        self.store: Typestore = get_typestore(Stores.ROS2_JAZZY)
        self._find = find

    def learn(self, type_name: str) -> None:
        """Make ``type_name`` (for example ``sensor_msgs/msg/Image``) and every type within it known.

        Raises:
            SetupError: FV-REC-033 when a definition is missing or cannot be read.
        """
        from rosbags.typesys import TypesysError, get_types_from_msg

        if type_name in self.store.fielddefs:
            return
        text = self._find(type_name)
        if text is None:
            raise SetupError("FV-REC-033", f"no definition of {type_name}; install the package that it comes from.")
        try:
            types = get_types_from_msg(text, type_name)
        except TypesysError as error:
            raise SetupError("FV-REC-033", f"the definition of {type_name} cannot be read: {error}") from error
        for _constants, fields in types.values():
            for _name, field in fields:
                for part in named_types(field):
                    self.learn(part)
        self.store.register(types)


def named_types(field: object) -> Iterator[str]:
    """Yield the message types that a field's description holds: itself, or what its array or sequence is of.

    Args:
        field: rosbags' description, ``(kind, of what)``, where an array is of another description.
    """
    from rosbags.interfaces import Nodetype

    if not isinstance(field, tuple):
        return
    kind, content = field
    if kind == Nodetype.NAME:
        yield content
    elif kind in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        yield from named_types(content[0])
