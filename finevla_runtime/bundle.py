"""A policy bundle on disk: everything the server needs, nothing it has to trust.

Layout: ``policy.json`` (spec, plan, provenance, sha256 of every other file), ``graphs/*.onnx`` with the weights they
share beside them, ``programs/*.pt2``, ``tokenizer.json``, ``statistics.json`` and ``parity.npz`` (golden inputs and
outputs). No pickle anywhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath

from finevla_runtime.bundle_files import inside, sha256_of, verified_bytes, verify_file, write_folder
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.graph_plan import GraphPlan, plan_from_json
from finevla_runtime.contracts.policy import PolicySpec
from finevla_runtime.contracts.policy_json import spec_from_json, spec_to_json
from finevla_runtime.golden_batch import Parity as Parity
from finevla_runtime.golden_batch import parity_bytes, read_parity

FORMAT = "finevla-bundle/1"
EXTRA_FOLDERS = ("graphs", "weights", "programs")
SINGLE = GraphPlan()


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified bundle.

    Attributes:
        path: its folder.
        spec: the policy's contract.
        tokenizer_json: text of ``tokenizer.json``.
        graphs: graph name (file stem) -> verified ONNX file.
        parity: golden batch.
        provenance: recipe, seed, data hash and the like, as text.
        digest: sha256 over ``policy.json``, which itself lists the digest of every file.
        plan: how the graphs together make one answer.
        programs: program name (file stem) -> verified torch.export archive.
        files: name inside the folder -> verified file, for everything but ``policy.json``.
    """

    path: Path
    spec: PolicySpec
    tokenizer_json: str
    graphs: Mapping[str, Path]
    parity: Parity
    provenance: Mapping[str, str]
    digest: str
    plan: GraphPlan = SINGLE
    programs: Mapping[str, Path] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)


def write_bundle(
    path: Path,
    spec: PolicySpec,
    graphs: Mapping[str, bytes | Path],
    tokenizer_json: str,
    parity: Parity,
    provenance: Mapping[str, str],
    plan: GraphPlan = SINGLE,
    extra_files: Mapping[str, Path] | None = None,
) -> Bundle:
    """Write a bundle so that a reader sees the old one or the new one, never half of one.

    Args:
        path: folder; an older bundle there is replaced.
        spec: the policy's contract.
        graphs: graph name -> ONNX bytes, or an ONNX file; files are linked or copied, not read.
        tokenizer_json: text of ``tokenizer.json``.
        parity: golden batch.
        provenance: recipe, seed, data hash and the like.
        plan: how the graphs together make one answer.
        extra_files: name below ``graphs/`` (weights that ONNX files name), ``weights/`` or ``programs/`` -> file.
            ONNX allows external weights beside or below the graph only, never above it.

    Raises:
        SetupError: FV-BUN-006 when ``path`` holds something that is not a bundle, FV-BUN-011 for an impossible plan,
            FV-BUN-012 for an extra file that has no place in a bundle.
    """
    files: dict[str, bytes | Path] = {f"graphs/{name}.onnx": data for name, data in graphs.items()}
    for name, source in (extra_files or {}).items():
        files[_extra_name(name, source, files)] = source
    files["tokenizer.json"] = tokenizer_json.encode()
    files["statistics.json"] = json.dumps(asdict(spec.normalisation), indent=1).encode()
    files["parity.npz"] = parity_bytes(parity)
    policy = {
        "format": FORMAT,
        "spec": json.loads(spec_to_json(spec)),
        "provenance": dict(sorted(provenance.items())),
        "sha256": {name: sha256_of(content) for name, content in sorted(files.items())},
    }
    if plan != SINGLE:
        entry = json.loads(json.dumps(asdict(plan)))
        plan_from_json(entry, spec.prompt.max_tokens)
        policy["plan"] = entry
    files["policy.json"] = (json.dumps(policy, indent=1, sort_keys=True) + "\n").encode()
    write_folder(path, files, _kept_files(path, files))
    return load_bundle(path)


def load_bundle(path: Path) -> Bundle:
    """Read a bundle and verify the sha256 of every file before anything is parsed.

    Raises:
        SetupError: FV-BUN-001 (no bundle there), FV-BUN-002 (policy.json unreadable or of another format),
            FV-BUN-003 (file missing), FV-BUN-004 (sha256 differs), FV-BUN-005 (parity batch unreadable),
            FV-BUN-011 (impossible plan), FV-SPC-* for a bad spec.
    """
    head = path / "policy.json"
    if not head.is_file():
        raise SetupError("FV-BUN-001", f"{path} is no policy bundle: it has no policy.json.")
    text = head.read_bytes()
    try:
        policy = json.loads(text)
        found, digests = policy["format"], {str(k): str(v) for k, v in dict(policy["sha256"]).items()}
        provenance = {str(k): str(v) for k, v in dict(policy["provenance"]).items()}
        spec_json, plan_json = json.dumps(policy["spec"]), policy.get("plan")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SetupError("FV-BUN-002", f"{head} cannot be read ({error}); export the bundle again.") from error
    if found != FORMAT:
        raise SetupError("FV-BUN-002", f"{head} has format {found!r}, this version reads {FORMAT!r}.")
    for name in digests:
        inside(path, name)
    for name in ("tokenizer.json", "parity.npz"):
        if name not in digests:
            raise SetupError("FV-BUN-003", f"{path} lists no {name}; export the bundle again.")
    small = {name: verified_bytes(path, name, digests.pop(name)) for name in ("tokenizer.json", "parity.npz")}
    files = {name: verify_file(path, name, digest) for name, digest in digests.items()}
    graphs = _by_stem(files, "graphs", ".onnx")
    if not graphs:
        raise SetupError("FV-BUN-003", f"{path} lists no graph under graphs/; export the bundle again.")
    spec = spec_from_json(spec_json)
    return Bundle(
        path=path,
        spec=spec,
        tokenizer_json=small["tokenizer.json"].decode(),
        graphs=graphs,
        parity=read_parity(small["parity.npz"], path),
        provenance=provenance,
        digest=sha256_of(text),
        plan=SINGLE if plan_json is None else plan_from_json(plan_json, spec.prompt.max_tokens),
        programs=_by_stem(files, "programs", ".pt2"),
        files=files | {name: path / name for name in small},
    )


def _by_stem(files: Mapping[str, Path], folder: str, suffix: str) -> dict[str, Path]:
    """Return file stem -> path of the files of one kind."""
    names = {name: PurePosixPath(name) for name in files}
    return {name.stem: files[key] for key, name in names.items() if name.parts[0] == folder and name.suffix == suffix}


def _extra_name(name: str, source: Path, files: Mapping[str, bytes | Path]) -> str:
    """Return the name of an extra file (SetupError FV-BUN-012 when it is misplaced, taken or not there)."""
    parts = PurePosixPath(name).parts
    if len(parts) < 2 or parts[0] not in EXTRA_FOLDERS or ".." in parts or name in files:
        places = ", ".join(f"{folder}/" for folder in EXTRA_FOLDERS)
        raise SetupError("FV-BUN-012", f"extra file {name!r} must be a new name below one of {places}.")
    if not source.is_file():
        raise SetupError("FV-BUN-012", f"extra file {name!r}: {source} is no file.")
    return name


def check_place(path: Path) -> None:
    """Refuse a place where no bundle may be written: a file, or a folder that holds something else (FV-BUN-006)."""
    if path.exists() and not path.is_dir():
        raise SetupError("FV-BUN-006", f"{path} is a file; choose a folder for the bundle.")
    if path.exists() and any(path.iterdir()) and not (path / "policy.json").is_file():
        raise SetupError("FV-BUN-006", f"{path} exists and is no bundle; choose another folder.")


def _kept_files(path: Path, files: Mapping[str, bytes | Path]) -> list[str]:
    """Return files a person added to the bundle (its card); refuse to replace what is no bundle."""
    check_place(path)
    if not path.exists():
        return []
    return [item.name for item in path.iterdir() if item.is_file() and item.name not in files]
