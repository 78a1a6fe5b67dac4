"""Files of a bundle: written, hashed and checked piece by piece, because weights may be larger than memory."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from finevla_runtime.contracts.errors import SetupError

PIECE_BYTES = 4 << 20
Content = bytes | Path


def sha256_of(content: Content) -> str:
    """Return the sha256 of bytes or of a file (OSError when it cannot be read)."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    piece = bytearray(PIECE_BYTES)
    with content.open("rb", buffering=0) as source:
        while count := source.readinto(piece):
            digest.update(memoryview(piece)[:count])
    return digest.hexdigest()


def write_folder(path: Path, files: Mapping[str, Content], kept: Collection[str]) -> None:
    """Put a folder with ``files`` in the place of ``path``, so that a reader sees the old one or the new one.

    Args:
        path: the folder.
        files: name inside the folder -> its bytes, or a file. Files are linked where the file system allows it, so
            that weights need no second place on the disk: whoever made them deletes them afterwards and never
            writes to them again (``onnx.load`` refuses weights that have a second name).
        kept: names of files of the old folder that stay.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        for name, content in files.items():
            target = staged / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, bytes):
                target.write_bytes(content)
            else:
                _link_or_copy(content, target)
        for name in kept:
            shutil.copy2(path / name, staged / name)
        staged.chmod(0o755)
        _swap(staged, path)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def verify_file(path: Path, name: str, digest: str) -> Path:
    """Return the path of one listed file after checking that it lies inside the folder and is unchanged.

    Raises:
        SetupError: FV-BUN-002 (points outside), FV-BUN-003 (missing), FV-BUN-004 (sha256 differs).
    """
    target = inside(path, name)
    try:
        got = sha256_of(target)
    except OSError as error:
        raise _missing(target, error) from error
    _compare(target, got, digest)
    return target


def verified_bytes(path: Path, name: str, digest: str) -> bytes:
    """Return the content of a small listed file; the bytes returned are the bytes that were checked.

    Raises:
        SetupError: FV-BUN-002, FV-BUN-003, FV-BUN-004.
    """
    target = inside(path, name)
    try:
        data = target.read_bytes()
    except OSError as error:
        raise _missing(target, error) from error
    _compare(target, sha256_of(data), digest)
    return data


def inside(path: Path, name: str) -> Path:
    """Return ``path / name`` (SetupError FV-BUN-002 when that points outside of the folder)."""
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise SetupError("FV-BUN-002", f"{path} lists {name!r}, which points outside the bundle.")
    return path / name


def _compare(target: Path, got: str, digest: str) -> None:
    if got != digest:
        raise SetupError(
            "FV-BUN-004",
            f"{target} is corrupted: sha256 {got[:12]}…, wanted {digest[:12]}…. Copy the bundle again.",
        )


def _missing(target: Path, error: OSError) -> SetupError:
    return SetupError("FV-BUN-003", f"{target} is missing ({error.strerror}); copy the whole bundle.")


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _swap(staged: Path, path: Path) -> None:
    """Put ``staged`` in the place of ``path``; the old folder disappears only after the new one stands."""
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.replace(path, old)
    os.replace(staged, path)
    shutil.rmtree(old, ignore_errors=True)
