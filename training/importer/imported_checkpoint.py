"""An imported policy on disk: everything that export and training need, nothing of the foreign format left.

Layout: ``policy.json`` (format, spec, plan, provenance, sha256 of every other file), ``weights.safetensors`` (the
state dict of the ``VLAPolicy`` that the plan builds), ``tokenizer.json``, ``dataset_statistics.json`` as the run wrote
it, and ``backbone/`` (configuration, tokenizer and image rule of the backbone, without its weights).
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.policy import PolicySpec
from finevla_runtime.contracts.policy_json import spec_from_json, spec_to_json
from finevla_runtime.session.strict_json import JsonNode, parse_json
from training.importer.run_folder import refuse_lfs_pointer, sha256_of

FORMAT = "finevla-imported/1"
HEAD_FILE = "policy.json"
WEIGHTS = "weights.safetensors"
TOKENIZER = "tokenizer.json"
BACKBONE = "backbone"
CODE = "FV-IMP-024"
# Small files of a backbone folder that say how it is built and fed; weights are never among them.
BACKBONE_FILES = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
)


@dataclass(frozen=True, slots=True)
class ImportedCheckpoint:
    """A verified imported policy.

    Attributes:
        path: its folder.
        spec: the policy's contract.
        plan_json: JSON text of the policy plan; its backbone is ``path / "backbone"``.
        tokenizer_json: text of ``tokenizer.json``.
        provenance: where it came from and what was decided, as text.
    """

    path: Path
    spec: PolicySpec
    plan_json: str
    tokenizer_json: str
    provenance: Mapping[str, str]

    @property
    def backbone(self) -> Path:
        """Return the folder that describes the backbone, without its weights."""
        return self.path / BACKBONE

    def weights(self) -> dict[str, Tensor]:
        """Return the state dict of the policy (FV-IMP-024 when the file cannot be read)."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            tensors: dict[str, Tensor] = load_file(self.path / WEIGHTS)
        except (SafetensorError, OSError) as error:
            raise SetupError(CODE, f"{self.path / WEIGHTS} cannot be read: {error}; import the run again.") from error
        return tensors


def save_imported(
    path: Path,
    spec: PolicySpec,
    plan_json: str,
    tensors: Mapping[str, Tensor],
    backbone: Path,
    statistics: Path,
    provenance: Mapping[str, str],
) -> ImportedCheckpoint:
    """Write an imported policy so that a reader sees the old folder or the new one, never half of one.

    Args:
        path: folder to write; an older imported policy there is replaced.
        spec: the policy's contract.
        plan_json: JSON object of the policy plan.
        tensors: state dict of the policy.
        backbone: folder whose small files are copied.
        statistics: the run's ``dataset_statistics.json``, kept for audits.
        provenance: texts to store with it.

    Raises:
        SetupError: FV-IMP-023 when ``path`` holds something else.
    """
    from safetensors.torch import save_file

    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not (path / HEAD_FILE).is_file())):
        raise SetupError("FV-IMP-023", f"{path} exists and is no imported policy; choose another --out.")
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        save_file(_apart(tensors), staged / WEIGHTS, metadata={"format": "pt"})
        _copy_small_files(staged, backbone, statistics)
        digests = {
            str(file.relative_to(staged)): sha256_of(file) for file in sorted(staged.rglob("*")) if file.is_file()
        }
        head = {
            "format": FORMAT,
            "spec": json.loads(spec_to_json(spec)),
            "plan": json.loads(plan_json),
            "provenance": dict(sorted(provenance.items())),
            "sha256": digests,
        }
        (staged / HEAD_FILE).write_text(json.dumps(head, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        staged.chmod(0o755)
        _swap(staged, path)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return load_imported(path)


def is_imported(path: Path) -> bool:
    """Tell whether ``path`` is an imported policy, so that commands can accept every kind of checkpoint."""
    try:
        return f'"{FORMAT}"' in (path / HEAD_FILE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def load_imported(path: Path) -> ImportedCheckpoint:
    """Read an imported policy and verify the sha256 of every file.

    Raises:
        SetupError: FV-IMP-024 when it is missing, of another format, incomplete or changed; FV-SPC-* for its spec.
    """
    head = path / HEAD_FILE
    if not head.is_file():
        raise SetupError(CODE, f"{path} is no imported policy: it has no {HEAD_FILE}.")
    root = parse_json(head.read_text(encoding="utf-8"), str(head), CODE)
    keys = root.mapping(("format", "spec", "plan", "provenance", "sha256"))
    keys["format"].one_of((FORMAT,))
    for name, digest in keys["sha256"].map_values(JsonNode.text).items():
        target = path / name
        if ".." in Path(name).parts or not target.is_file():
            raise SetupError(CODE, f"{path} lacks {name}; copy the whole folder.")
        if sha256_of(target) != digest:
            raise SetupError(CODE, f"{target} was changed since the import; import the run again.")
    return ImportedCheckpoint(
        path,
        spec_from_json(json.dumps(keys["spec"].value)),
        json.dumps(keys["plan"].value),
        (path / TOKENIZER).read_text(encoding="utf-8"),
        keys["provenance"].map_values(JsonNode.text),
    )


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors of which no two share memory, as safetensors wants; tied tables are stored twice."""
    places: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        place = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if place in places else tensor.contiguous()
        places.add(place)
    return apart


def _copy_small_files(staged: Path, backbone: Path, statistics: Path) -> None:
    (staged / BACKBONE).mkdir()
    for name in BACKBONE_FILES:
        if (backbone / name).is_file():
            refuse_lfs_pointer(backbone / name)
            shutil.copyfile(backbone / name, staged / BACKBONE / name)
    shutil.copyfile(backbone / TOKENIZER, staged / TOKENIZER)
    shutil.copyfile(statistics, staged / statistics.name)


def _swap(staged: Path, path: Path) -> None:
    """Put ``staged`` in the place of ``path``; the old folder disappears only after the new one stands."""
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        os.replace(path, old)
    os.replace(staged, path)
    shutil.rmtree(old, ignore_errors=True)
