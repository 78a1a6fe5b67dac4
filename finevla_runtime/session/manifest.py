"""The frozen plan of a run: family x variant x scene x instruction x policy, content-hashed.

A manifest is written once, before the first trial. The journal of the run names its hash, so that figures can
never be mixed with trials of another plan.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.trial import Trial
from finevla_runtime.session.record_codec import trial_from_json, trial_to_json
from finevla_runtime.session.strict_json import Json, JsonNode, canonical, parse_json, sha256_hex

MANIFEST_FILE = "manifest.json"
"""Name of the file in a run folder."""

SCHEMA = 1
_KEYS = ("schema", "hash", "name", "suite", "created", "policies", "settings", "trials")
_SETTINGS_KEYS = ("embodiment", "control_hz", "execution_rows", "rubric_hash", "seed", "watchdog_s")


@dataclass(frozen=True)
class RolloutSettings:
    """How every trial of a manifest is run.

    Attributes:
        embodiment: name of the body, for example ``cobot_magic_sim``.
        control_hz: rate of the action rows.
        execution_rows: rows executed before the next query (execution horizon).
        rubric_hash: sha256 of the rubric file that judged the trials; time limits live in the rubric.
        seed: root seed of everything random besides the scene.
        watchdog_s: seconds after which a trial that shows no progress is stopped and becomes void; 0 = no watchdog.
    """

    embodiment: str
    control_hz: float
    execution_rows: int
    rubric_hash: str = ""
    seed: int = 0
    watchdog_s: float = 0.0


@dataclass(frozen=True)
class Manifest:
    """All trials of a run, in the order in which they are started.

    Attributes:
        name: name of the run.
        suite: name of the suite the trials were drawn from.
        created: ISO-8601 UTC text, for people; not part of the hash.
        policies: label -> digest of the bundle (or another identity of a policy).
        settings: how every trial is run.
        trials: the planned trials.
    """

    name: str
    suite: str
    created: str
    policies: Mapping[str, str]
    settings: RolloutSettings
    trials: tuple[Trial, ...]

    def __post_init__(self) -> None:
        """Refuse repeated trial ids and unknown policies (FV-MAN-004)."""
        seen: set[str] = set()
        for trial in self.trials:
            if trial.trial_id in seen:
                raise SetupError("FV-MAN-004", f"trial id {trial.trial_id!r} appears twice in {self.name!r}.")
            if trial.policy not in self.policies:
                raise SetupError(
                    "FV-MAN-004",
                    f"trial {trial.trial_id!r} names policy {trial.policy!r}; the manifest lists "
                    f"{', '.join(self.policies) or 'none'}.",
                )
            seen.add(trial.trial_id)

    @property
    def hash(self) -> str:
        """Return the sha256 over everything that decides a trial (all fields but ``created``)."""
        return sha256_hex(canonical(_content(self)))


def _content(manifest: Manifest) -> dict[str, Json]:
    """Return the hashed part."""
    settings = manifest.settings
    return {
        "schema": SCHEMA,
        "name": manifest.name,
        "suite": manifest.suite,
        "policies": dict(manifest.policies),
        "settings": {
            "embodiment": settings.embodiment,
            "control_hz": float(settings.control_hz),
            "execution_rows": settings.execution_rows,
            "rubric_hash": settings.rubric_hash,
            "seed": settings.seed,
            "watchdog_s": float(settings.watchdog_s),
        },
        "trials": [trial_to_json(trial) for trial in manifest.trials],
    }


def manifest_text(manifest: Manifest) -> str:
    """Return the text of the manifest file: one trial per line, so that diffs and people can read it."""
    content: dict[str, Json] = {**_content(manifest), "hash": manifest.hash, "created": manifest.created}
    head = ",\n".join(f'"{key}":{canonical(content[key])}' for key in _KEYS if key != "trials")
    lines = ",\n".join(canonical(trial_to_json(trial)) for trial in manifest.trials)
    return "{\n" + head + ',\n"trials":[\n' + lines + "\n]}\n"


def save_manifest(manifest: Manifest, path: Path) -> None:
    """Write the manifest atomically and durably.

    Raises:
        SetupError: FV-MAN-005 when the file already holds another manifest; a plan is frozen.
    """
    if path.exists():
        existing = load_manifest(path)
        if existing.hash == manifest.hash:
            return
        raise SetupError(
            "FV-MAN-005",
            f"{path} already holds manifest {existing.hash[:12]}, not {manifest.hash[:12]}; a plan is frozen. "
            "Resume the run as it was planned, or choose another folder.",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, manifest_text(manifest).encode("utf-8"))


def load_manifest(path: Path) -> Manifest:
    """Read a manifest and verify its hash.

    Raises:
        SetupError: FV-MAN-001 (unreadable), FV-MAN-002 (not a manifest), FV-MAN-003 (changed since it was written),
            FV-MAN-004 (contradicts itself).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError("FV-MAN-001", f"cannot read the manifest {path}: {error}.") from error
    fields = parse_json(text, str(path), "FV-MAN-002").mapping(_KEYS)
    if fields["schema"].integer() != SCHEMA:
        raise fields["schema"].fail(f"this version reads schema {SCHEMA}; use the version that wrote it.")
    manifest = Manifest(
        name=fields["name"].text(),
        suite=fields["suite"].text(),
        created=fields["created"].text(),
        policies=fields["policies"].map_values(JsonNode.text),
        settings=_settings(fields["settings"]),
        trials=tuple(trial_from_json(item) for item in fields["trials"].elements()),
    )
    stored = fields["hash"].text()
    if manifest.hash != stored:
        raise SetupError(
            "FV-MAN-003",
            f"{path} was changed after it was written: its content hashes to {manifest.hash[:12]}, it says "
            f"{stored[:12]}. Restore the file, or start a new run folder with the new plan.",
        )
    return manifest


def _settings(node: JsonNode) -> RolloutSettings:
    """Read the rollout settings."""
    fields = node.mapping(_SETTINGS_KEYS)
    return RolloutSettings(
        embodiment=fields["embodiment"].text(),
        control_hz=fields["control_hz"].number(),
        execution_rows=fields["execution_rows"].integer(),
        rubric_hash=fields["rubric_hash"].text(),
        seed=fields["seed"].integer(),
        watchdog_s=fields["watchdog_s"].number(),
    )


def write_durably(path: Path, data: bytes) -> None:
    """Replace ``path`` in one step that survives a crash: temporary file, fsync, rename, fsync of the folder."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make a new name in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
