"""Bags whose writer did not come to its end: how to tell them, and how to make them readable.

The layout of MCAP files is https://mcap.dev/spec: a magic, records of one byte (kind), eight bytes (length) and their
content, the last one a footer, and the magic again.
"""

from __future__ import annotations

import struct
from pathlib import Path

MAGIC = b"\x89MCAP0\r\n"
RECORD = struct.Struct("<BQ")
DATA_END, FOOTER = 0x0F, 0x02
# No checksum of the data; no summary, so that readers go through the records themselves.
TAIL = RECORD.pack(DATA_END, 4) + bytes(4) + RECORD.pack(FOOTER, 20) + bytes(20) + MAGIC


def is_finished(bag: Path) -> bool:
    """Say whether the writer of the folder ``bag`` came to its end; it writes ``metadata.yaml`` last."""
    return (bag / "metadata.yaml").exists()


def close_unfinished(bag: Path) -> Path | None:
    """Cut what was written in part and end the file properly, so that readers of MCAP open it.

    The folder stays recognisable as unfinished: it gets no ``metadata.yaml``. Calling it again changes nothing.

    Returns:
        The readable file; None where nothing readable was written.

    Raises:
        OSError: the file cannot be read or there is no room for its last 49 bytes.
    """
    files = sorted(bag.glob("*.mcap"))
    if not files:
        return None
    path = files[0]
    with path.open("r+b") as file:
        if file.read(len(MAGIC)) != MAGIC:
            return None
        size, end = path.stat().st_size, len(MAGIC)
        while head := file.read(RECORD.size):
            kind, length = RECORD.unpack(head) if len(head) == RECORD.size else (DATA_END, 0)
            following = end + RECORD.size + length
            if kind in (DATA_END, FOOTER) or following > size:
                break
            end = file.seek(following)
        file.truncate(end)
        file.seek(end)
        file.write(TAIL)
    return path
