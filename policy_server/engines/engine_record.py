"""``engine.json``: what a built engine was built from, with and for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from finevla_runtime.bundle import Bundle
from finevla_runtime.bundle_files import sha256_of, verify_file
from finevla_runtime.contracts.errors import SetupError
from policy_server.engines.engine import stored_precision
from policy_server.engines.tensorrt_library import PORTABLE

FORMAT = "finevla-engine/1"
FILE = "engine.json"


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """What ``finevla engine build`` wrote.

    Attributes:
        bundle: digest of the bundle.
        flavour, version: library that built it.
        gpu: name and compute capability of the GPU it was built on, or PORTABLE.
        precision: ``fp32``, ``fp16`` or ``bf16``.
        max_batch: largest batch of its profiles.
        sha256: plan file -> digest.
        format: layout of the folder.
    """

    bundle: str
    flavour: str
    version: str
    gpu: str
    precision: str
    max_batch: int
    sha256: Mapping[str, str]
    format: str = FORMAT

    def to_json(self) -> str:
        """Return the text of ``engine.json``."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


def rebuild_command(bundle: Bundle, folder: Path, precision: str, max_batch: int) -> str:
    """Return the command that builds an engine of these properties."""
    return f"finevla engine build {bundle.path} --out {folder} --precision {precision} --max-batch {max_batch}"


def default_precision(bundle: Bundle) -> str:
    """Return what to build a bundle in where nobody says: its own half precision, else ``bf16``."""
    stored = stored_precision(bundle)
    return "bf16" if stored == "fp32" else stored


def read_record(bundle: Bundle, folder: Path | None) -> EngineRecord:
    """Read ``engine.json`` (SetupError FV-ENG-010 when there is no engine, or none this version reads)."""
    if folder is None:
        command = rebuild_command(bundle, Path("ENGINE_DIR"), default_precision(bundle), 8)
        raise SetupError("FV-ENG-010", f"engine tensorrt needs a built engine: {command}, then add --engine-dir.")
    command = rebuild_command(bundle, folder, default_precision(bundle), 8)
    try:
        raw = json.loads((folder / FILE).read_text(encoding="utf-8"))
        record = EngineRecord(**raw)
    except (OSError, ValueError, TypeError) as error:
        raise SetupError("FV-ENG-010", f"{folder} holds no readable engine ({error}). Build it: {command}") from error
    if record.format != FORMAT:
        raise SetupError("FV-ENG-010", f"{folder} has format {record.format!r}, wanted {FORMAT!r}. Build it: {command}")
    return record


def check_record(record: EngineRecord, bundle: Bundle, folder: Path, flavour: str, version: str, gpu: str) -> None:
    """Refuse an engine that was not built from this bundle, with this library, for this GPU.

    Raises:
        SetupError: FV-ENG-011 (another bundle), FV-ENG-012 (another flavour or version), FV-ENG-013 (another GPU),
            each with the command that builds the right one.
    """
    command = rebuild_command(bundle, folder, record.precision, record.max_batch)

    def refuse(code: str, what: str, got: str, wanted: str) -> SetupError:
        return SetupError(code, f"{folder} was built {what} {got}, this is {wanted}. Build it again: {command}")

    if record.bundle != bundle.digest:
        raise refuse("FV-ENG-011", "from bundle", f"{record.bundle[:12]}…", f"{bundle.digest[:12]}…")
    if (record.flavour, record.version) != (flavour, version):
        raise refuse("FV-ENG-012", "with", f"{record.flavour} {record.version}", f"{flavour} {version}")
    if record.gpu not in (PORTABLE, gpu):
        raise refuse("FV-ENG-013", "for", record.gpu, gpu)


def verified_plans(record: EngineRecord, folder: Path) -> dict[str, Path]:
    """Return graph name -> plan file after comparing every sha256 (SetupError FV-ENG-014 when one differs)."""
    try:
        return {Path(name).stem: verify_file(folder, name, digest) for name, digest in record.sha256.items()}
    except SetupError as error:
        raise SetupError("FV-ENG-014", f"{error.message} Or build the engine again.") from error


def digests(folder: Path, names: list[str]) -> dict[str, str]:
    """Return plan file -> sha256."""
    return {name: sha256_of(folder / name) for name in names}
