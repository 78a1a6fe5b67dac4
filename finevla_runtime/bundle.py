"""A policy bundle on disk: everything the server needs, nothing it has to trust.

Layout: ``policy.json`` (spec, provenance, sha256 of every other file), ``graphs/*.onnx``, ``tokenizer.json``,
``statistics.json`` and ``parity.npz`` (golden inputs and outputs). No pickle anywhere.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.policy import PolicySpec
from finevla_runtime.contracts.policy_json import spec_from_json, spec_to_json

FORMAT = "finevla-bundle/1"


@dataclass(frozen=True, eq=False)
class Parity:
    """Golden batch: every engine must reproduce it before it serves.

    Attributes:
        inputs: graph input name -> array with batch axis.
        outputs: graph output name -> array with batch axis.
        atol: largest absolute difference allowed, in model units.
    """

    inputs: Mapping[str, npt.NDArray[np.generic]]
    outputs: Mapping[str, npt.NDArray[np.generic]]
    atol: float


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle.

    Attributes:
        path: its folder.
        spec: the policy's contract.
        tokenizer_json: text of ``tokenizer.json``.
        graphs: graph name (file stem) -> verified file.
        parity: golden batch.
        provenance: recipe, seed, data hash and the like, as text.
        digest: sha256 over ``policy.json``, which itself lists the digest of every file.
    """

    path: Path
    spec: PolicySpec
    tokenizer_json: str
    graphs: Mapping[str, Path]
    parity: Parity
    provenance: Mapping[str, str]
    digest: str


def write_bundle(
    path: Path,
    spec: PolicySpec,
    graphs: Mapping[str, bytes],
    tokenizer_json: str,
    parity: Parity,
    provenance: Mapping[str, str],
) -> Bundle:
    """Write a bundle so that a reader sees the old one or the new one, never half of one.

    Raises:
        SetupError: FV-BUN-006 when ``path`` holds something that is not a bundle.
    """
    files: dict[str, bytes] = {f"graphs/{name}.onnx": data for name, data in graphs.items()}
    files["tokenizer.json"] = tokenizer_json.encode()
    files["statistics.json"] = json.dumps(asdict(spec.normalisation), indent=1).encode()
    files["parity.npz"] = _parity_bytes(parity)
    policy = {
        "format": FORMAT,
        "spec": json.loads(spec_to_json(spec)),
        "provenance": dict(sorted(provenance.items())),
        "sha256": {name: _sha256(data) for name, data in sorted(files.items())},
    }
    files["policy.json"] = (json.dumps(policy, indent=1, sort_keys=True) + "\n").encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = _extra_files(path, files)
    staged = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    for name, data in files.items():
        target = staged / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    for extra in kept:
        shutil.copy2(path / extra, staged / extra)
    staged.chmod(0o755)
    _swap(staged, path)
    return load_bundle(path)


def load_bundle(path: Path) -> Bundle:
    """Read a bundle and verify the sha256 of every file before anything is parsed.

    Raises:
        SetupError: FV-BUN-001 (no bundle there), FV-BUN-002 (policy.json unreadable or of another format),
            FV-BUN-003 (file missing), FV-BUN-004 (sha256 differs), FV-BUN-005 (parity batch unreadable),
            FV-SPC-* for a bad spec.
    """
    head = path / "policy.json"
    if not head.is_file():
        raise SetupError("FV-BUN-001", f"{path} is no policy bundle: it has no policy.json.")
    text = head.read_bytes()
    try:
        policy = json.loads(text)
        found, digests = policy["format"], dict(policy["sha256"])
        provenance = {str(k): str(v) for k, v in dict(policy["provenance"]).items()}
        spec_json = json.dumps(policy["spec"])
    except (ValueError, KeyError, TypeError) as error:
        raise SetupError("FV-BUN-002", f"{head} cannot be read ({error}); export the bundle again.") from error
    if found != FORMAT:
        raise SetupError("FV-BUN-002", f"{head} has format {found!r}, this version reads {FORMAT!r}.")
    files = {name: _verified(path, name, str(digest)) for name, digest in digests.items()}
    for name in ("tokenizer.json", "parity.npz"):
        if name not in files:
            raise SetupError("FV-BUN-003", f"{path} lists no {name}; export the bundle again.")
    graphs = {Path(n).stem: path / n for n in files if n.startswith("graphs/")}
    if not graphs:
        raise SetupError("FV-BUN-003", f"{path} lists no graph under graphs/; export the bundle again.")
    return Bundle(
        path=path,
        spec=spec_from_json(spec_json),
        tokenizer_json=files["tokenizer.json"].decode(),
        graphs=graphs,
        parity=_read_parity(files["parity.npz"], path),
        provenance=provenance,
        digest=_sha256(text),
    )


def _verified(path: Path, name: str, digest: str) -> bytes:
    """Return the bytes of one listed file after checking that it lies inside the bundle and is unchanged."""
    target = path / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise SetupError("FV-BUN-002", f"{path} lists {name!r}, which points outside the bundle.")
    try:
        data = target.read_bytes()
    except OSError as error:
        raise SetupError("FV-BUN-003", f"{target} is missing ({error.strerror}); copy the whole bundle.") from error
    got = _sha256(data)
    if got != digest:
        raise SetupError(
            "FV-BUN-004",
            f"{target} is corrupted: sha256 {got[:12]}…, wanted {digest[:12]}…. Copy the bundle again.",
        )
    return data


def _extra_files(path: Path, files: Mapping[str, bytes]) -> list[str]:
    """Return files a person added to the bundle (its card); refuse to replace a folder that is no bundle."""
    if not path.exists():
        return []
    if any(path.iterdir()) and not (path / "policy.json").is_file():
        raise SetupError("FV-BUN-006", f"{path} exists and is no bundle; choose another folder.")
    return [item.name for item in path.iterdir() if item.is_file() and item.name not in files]


def _swap(staged: Path, path: Path) -> None:
    """Put ``staged`` in the place of ``path``; the old folder disappears only after the new one stands."""
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.replace(path, old)
    os.replace(staged, path)
    shutil.rmtree(old, ignore_errors=True)


def _parity_bytes(parity: Parity) -> bytes:
    arrays: dict[str, npt.NDArray[np.generic]] = {"atol": np.asarray(parity.atol)}
    arrays.update({f"input/{name}": value for name, value in parity.inputs.items()})
    arrays.update({f"output/{name}": value for name, value in parity.outputs.items()})
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _read_parity(data: bytes, path: Path) -> Parity:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: np.asarray(archive[name]) for name in archive.files}
        atol = float(arrays.pop("atol"))
    except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
        raise SetupError("FV-BUN-005", f"parity.npz of {path} cannot be read: {error}") from error
    return Parity(
        inputs={n.split("/", 1)[1]: a for n, a in arrays.items() if n.startswith("input/")},
        outputs={n.split("/", 1)[1]: a for n, a in arrays.items() if n.startswith("output/")},
        atol=atol,
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
