"""The journal of a run: append-only JSON lines, fsync per record, a sha256 chain and one writer.

Line 0 names the manifest; every further line holds one trial record. Each line carries the sha256 over the chain
value of the line before and its own entry, so a lost, changed or reordered line is found. A line that a crash cut
off is set aside in a ``.torn`` file and its trial is run again; a correction is a new record, the last one counts.
"""

from __future__ import annotations

import fcntl
import logging
import os
import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.trial import Trial, TrialRecord
from finevla_runtime.session.manifest import Manifest, sync_folder
from finevla_runtime.session.record_codec import record_from_json, record_to_json
from finevla_runtime.session.strict_json import Json, JsonNode, canonical, parse_json, sha256_hex

JOURNAL_FILE = "journal.jsonl"
"""Name of the file in a run folder."""

SCHEMA = 1
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Content:
    """What the bytes of a journal hold.

    Attributes:
        manifest_hash: from line 0; empty when even line 0 is missing or cut off.
        records: the records of all complete lines.
        chain: chain value of the last complete line.
        complete: bytes up to and including the last complete line.
        sealed: whether the last complete line ends with its newline.
        torn: the bytes behind it.
    """

    manifest_hash: str
    records: tuple[TrialRecord, ...]
    chain: str
    complete: int
    sealed: bool
    torn: bytes


def _line(chain: str, entry: Json) -> tuple[str, bytes]:
    """Return the next chain value and the bytes of one line."""
    body = canonical(entry)
    value = sha256_hex(chain + body)
    return value, f'{{"chain":"{value}","entry":{body}}}\n'.encode("ascii")


def _entry(text: str, chain: str, where: str) -> tuple[str, JsonNode]:
    """Check one line against the chain and return its chain value and entry."""
    fields = parse_json(text, where, "FV-JRN-004").mapping(("chain", "entry"))
    value = sha256_hex(chain + canonical(fields["entry"].value))  # type: ignore[arg-type]
    if fields["chain"].text() != value:
        raise fields["chain"].fail("the chain is broken: a line before this one was changed, lost or moved.")
    return value, fields["entry"]


def _parse(data: bytes, where: str) -> _Content:
    """Read all complete lines; only a last line without newline may be unreadable (FV-JRN-004 otherwise)."""
    manifest_hash, chain, complete, sealed = "", "", 0, True
    records: list[TrialRecord] = []
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1:] = [lines[-1][:-1]] if lines[-1] != b"\n" else []
    for number, line in enumerate(lines):
        sealed_line = line.endswith(b"\n")
        try:
            value, node = _entry(_ascii(line, f"{where}:{number + 1}"), chain, f"{where}:{number + 1}")
            if number == 0:
                head = node.mapping(("journal", "manifest"))
                if head["journal"].integer() != SCHEMA:
                    raise head["journal"].fail(f"this version reads journal schema {SCHEMA}.")
                manifest_hash = head["manifest"].text()
            else:
                records.append(record_from_json(node))
        except SetupError as error:
            if number == len(lines) - 1 and not sealed_line:
                break
            raise SetupError(
                "FV-JRN-004",
                f"{error.message} Nothing was changed. Restore the file from a copy, or keep it and start a new "
                "run folder.",
            ) from error
        chain, complete, sealed = value, complete + len(line), sealed_line
    return _Content(manifest_hash, tuple(records), chain, complete, sealed, data[complete:])


def _ascii(line: bytes, where: str) -> str:
    """Decode one line; the journal is ASCII by construction."""
    try:
        return line.decode("ascii")
    except UnicodeDecodeError as error:
        raise SetupError("FV-JRN-004", f"{where} holds bytes that no journal has.") from error


class Journal:
    """The one writer of a journal file.

    Attributes:
        path: the file.
        records: everything recorded so far, in order.
        torn: file with the bytes of a cut-off last line, None when nothing was cut off.
    """

    def __init__(self, path: Path, manifest_hash: str) -> None:
        """Open or begin the journal of one manifest and lock it.

        Raises:
            SetupError: FV-JRN-001 (cannot be opened), FV-JRN-002 (another process writes it), FV-JRN-003 (begun under
                another manifest), FV-JRN-004 (damaged before its last line). The file is unchanged in every case.
        """
        self.path = path
        self.torn: Path | None = None
        self._handle = _open_locked(path)
        try:
            self._recover(manifest_hash)
        except BaseException:
            self.close()
            raise
        _OPEN.add(self)

    def _recover(self, manifest_hash: str) -> None:
        """Read what is there, set a torn tail aside and write the missing head."""
        size = os.fstat(self._handle).st_size
        content = _parse(os.pread(self._handle, size, 0) if size else b"", str(self.path))
        if content.complete and content.manifest_hash != manifest_hash:
            raise SetupError(
                "FV-JRN-003",
                f"{self.path} was begun under manifest {content.manifest_hash[:12]}, this run has "
                f"{manifest_hash[:12]}: the manifest changed since the journal began. Restore the manifest to go on, "
                "or start a new run folder. Nothing was changed.",
            )
        if content.torn:
            self.torn = _set_aside(self.path, content.torn)
            os.ftruncate(self._handle, content.complete)
            os.fsync(self._handle)
            _LOG.warning(
                "%s: the last line was cut off; its %d bytes lie in %s and its trial is run again.",
                self.path,
                len(content.torn),
                self.torn,
            )
        self.records: list[TrialRecord] = list(content.records)
        self._chain, self._size = content.chain, content.complete
        if content.complete and not content.sealed:
            self._write(b"\n")
        if not content.complete:
            self._append({"journal": SCHEMA, "manifest": manifest_hash})
            sync_folder(self.path.parent)

    def append(self, record: TrialRecord) -> None:
        """Write one record; when this returns it survives a crash of the process and of the machine.

        Raises:
            SetupError: FV-JRN-005 when the disk refused it (the journal stays as it was and may be used again),
                FV-JRN-006 when the record cannot be written as JSON.
        """
        entry = record_to_json(record)
        try:
            text = canonical(entry)
        except (TypeError, ValueError) as error:
            raise SetupError(
                "FV-JRN-006", f"record of {record.trial.trial_id!r} cannot be written: {error}."
            ) from error
        # Reading the line back catches a record that the reader would refuse, while it can still be reported.
        record_from_json(parse_json(text, f"record of {record.trial.trial_id!r}", "FV-JRN-006"))
        self._append(entry)
        self.records.append(record)

    def _append(self, entry: Json) -> None:
        """Write one chained line."""
        chain, line = _line(self._chain, entry)
        self._write(line)
        self._chain = chain

    def _write(self, data: bytes) -> None:
        """Write bytes durably at the end, or leave the file as it was (FV-JRN-005)."""
        if self._handle < 0:
            raise SetupError("FV-JRN-005", f"{self.path} is closed; open the journal again.")
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(self._handle, data[written:], self._size + written)
            os.fsync(self._handle)
        except OSError as error:
            os.ftruncate(self._handle, self._size)
            raise SetupError(
                "FV-JRN-005",
                f"cannot write {self.path}: {error.strerror}. Nothing recorded before is lost; make room and resume.",
            ) from error
        self._size += len(data)

    def close(self) -> None:
        """Unlock and close; closing twice is fine."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


_OPEN: weakref.WeakSet[Journal] = weakref.WeakSet()


def _drop_in_child() -> None:
    """Close inherited handles: a forked worker that outlives its parent would otherwise keep the lock."""
    for journal in list(_OPEN):
        journal.close()


os.register_at_fork(after_in_child=_drop_in_child)


def _open_locked(path: Path) -> int:
    """Open for reading and writing and take the exclusive lock."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise SetupError("FV-JRN-001", f"cannot open the journal {path}: {error.strerror}.") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        raise SetupError(
            "FV-JRN-002",
            f"{path} is being written by another run. Wait until it ends, stop it, or choose another run folder.",
        ) from error
    return handle


def _set_aside(path: Path, data: bytes) -> Path:
    """Keep the bytes of a torn line in a new file beside the journal."""
    number = 0
    while True:
        target = path.with_name(f"{path.name}.{number}.torn" if number else f"{path.name}.torn")
        try:
            handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        except FileExistsError:
            number += 1
            continue
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)
        return target


def read_journal(path: Path, manifest_hash: str = "") -> list[TrialRecord]:
    """Return all complete records without locking or changing the file; a cut-off last line is left out.

    Args:
        path: the journal.
        manifest_hash: when given, the journal must have been begun under it.

    Raises:
        SetupError: FV-JRN-001 (unreadable), FV-JRN-003 (foreign manifest), FV-JRN-004 (damaged).
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SetupError("FV-JRN-001", f"cannot read the journal {path}: {error.strerror}.") from error
    content = _parse(data, str(path))
    if manifest_hash and content.complete and content.manifest_hash != manifest_hash:
        raise SetupError(
            "FV-JRN-003",
            f"{path} was begun under manifest {content.manifest_hash[:12]}, not {manifest_hash[:12]}; use the "
            "manifest of its own run folder.",
        )
    return list(content.records)


def counting_records(manifest: Manifest, records: Iterable[TrialRecord]) -> dict[str, TrialRecord]:
    """Return trial id -> the record that counts: the last one of a trial, unless that one is void.

    Raises:
        SetupError: FV-JRN-007 when a record belongs to no trial of the manifest.
    """
    planned = {trial.trial_id: trial for trial in manifest.trials}
    found: dict[str, TrialRecord] = {}
    for record in records:
        if planned.get(record.trial.trial_id) != record.trial:
            raise SetupError(
                "FV-JRN-007",
                f"the journal holds trial {record.trial.trial_id!r}, which manifest {manifest.hash[:12]} does not "
                "plan that way; use the manifest of its own run folder.",
            )
        found[record.trial.trial_id] = record
    return {name: record for name, record in found.items() if record.status == "scored"}


def missing_trials(manifest: Manifest, records: Iterable[TrialRecord]) -> tuple[Trial, ...]:
    """Return the planned trials without a scored record, in manifest order: what a resumed run still has to do."""
    done = counting_records(manifest, records)
    return tuple(trial for trial in manifest.trials if trial.trial_id not in done)
