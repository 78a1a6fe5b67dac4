"""`finevla infer`: one observation from files to one action chunk."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from finevla_runtime.cli.options import parse
from finevla_runtime.contracts.action import DOF, JOINT_NAMES, ActionChunk
from finevla_runtime.contracts.arrays import ByteArray, FloatArray
from finevla_runtime.contracts.clock import Clock, SteadyClock, elapsed_s
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.policy import PolicySpec
from finevla_runtime.transport.client import RemotePolicy
from finevla_runtime.transport.credentials import ClientCredentials, read_secret, read_token

POLL_S = 0.05
_RUN_COMMAND = "import sys; from finevla_runtime.cli.main import main; sys.exit(main())"


@dataclass(frozen=True)
class InferOptions:
    """Ask a policy for one action chunk for one observation from files."""

    target: str
    """Folder of a bundle (a server is started for this one request) or address of a running server."""
    instruction: str
    """What the robot shall do."""
    images: tuple[str, ...] = ()
    """One CAMERA=FILE for each camera of the policy; PNG, JPEG or .npy."""
    state: Path | None = None
    """JSON file with the joint positions: a list in joint order or an object by joint name; zeros when left out."""
    kind: InstructionKind = InstructionKind.FINE_GRAINED
    """Whether the instruction is raw or fine-grained."""
    model: str = ""
    """Served model; the server's default when left out."""
    timeout_s: float = 30.0
    """How long to wait for the server and for the answer."""
    ca_file: Path | None = None
    """PEM authority of the server's certificate; needed beyond this machine."""
    token_file: Path | None = None
    """File with the server's token."""
    json: bool = False
    """Print one JSON document instead of a table."""


def infer(argv: Sequence[str]) -> int:
    """Ask a policy for one action chunk for one observation from files."""
    options = parse(InferOptions, argv, prog="finevla infer")
    clock = SteadyClock()
    credentials = ClientCredentials(
        ca=b"" if options.ca_file is None else read_secret(options.ca_file),
        token="" if options.token_file is None else read_token(options.token_file),
    )
    with (
        _address(options.target, options.timeout_s, clock) as address,
        RemotePolicy.connect(
            address,
            model=options.model,
            label="finevla infer",
            timeout_s=options.timeout_s,
            connect_timeout_s=options.timeout_s,
            credentials=credentials,
        ) as policy,
    ):
        chunk = policy.infer(read_observation(options, policy.spec))
    sys.stdout.write(_document(chunk) if options.json else _table(chunk))
    return 0


def read_observation(options: InferOptions, spec: PolicySpec) -> Observation:
    """Read the files the options name.

    Raises:
        SetupError: FV-INF-001 (bad CAMERA=FILE), FV-INF-002 (unreadable image), FV-INF-003 (bad state file),
            FV-INF-004 (unknown camera or joint), FV-INS-001.
    """
    images: dict[str, ByteArray] = {}
    cameras = [camera.name for camera in spec.cameras]
    for item in options.images:
        name, equals, file = item.partition("=")
        if not equals or not file:
            raise SetupError("FV-INF-001", f"--images takes CAMERA=FILE, got {item!r}.")
        if name not in cameras:
            raise unknown_name("FV-INF-004", "camera", name, cameras, "--images")
        images[name] = read_image(Path(file))
    state = np.zeros(DOF, np.float32) if options.state is None else read_state(options.state)
    return Observation(images, state, Instruction(options.instruction, options.kind), 0, 0)


def read_image(path: Path) -> ByteArray:
    """Return uint8[height, width, 3] from a PNG, a JPEG or a .npy file (SetupError FV-INF-002)."""
    try:
        if path.suffix == ".npy":
            pixels = np.load(path, allow_pickle=False)
        else:
            from PIL import Image

            with Image.open(path) as image:
                pixels = np.asarray(image.convert("RGB"))
    except ImportError as error:
        raise SetupError("FV-INF-002", f"reading {path} needs pillow: pip install pillow, or give a .npy.") from error
    except (OSError, ValueError) as error:
        raise SetupError("FV-INF-002", f"cannot read image {path}: {error}") from error
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise SetupError("FV-INF-002", f"{path} holds {pixels.dtype}{list(pixels.shape)}, wanted uint8[h, w, 3].")
    found: ByteArray = pixels
    return found


def read_state(path: Path) -> FloatArray:
    """Return float32[14] joint positions from JSON (SetupError FV-INF-003, FV-INF-004)."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SetupError("FV-INF-003", f"cannot read state {path}: {error}") from error
    if isinstance(raw, dict):
        for name in raw:
            if name not in JOINT_NAMES:
                raise unknown_name("FV-INF-004", "joint", name, JOINT_NAMES, str(path))
        missing = [name for name in JOINT_NAMES if name not in raw]
        if missing:
            raise SetupError("FV-INF-003", f"{path} lacks {', '.join(missing)}.")
        raw = [raw[name] for name in JOINT_NAMES]
    numbers = isinstance(raw, list) and all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in raw)
    if not numbers or len(raw) != DOF:
        raise SetupError("FV-INF-003", f"{path} must hold {DOF} numbers in joint order or an object by joint name.")
    return np.asarray(raw, dtype=np.float32)


@contextmanager
def _address(target: str, timeout_s: float, clock: Clock) -> Iterator[str]:
    """Yield the address; for a bundle, run a server of our own meanwhile (work that crosses flows runs commands)."""
    if not Path(target).is_dir():
        yield target
        return
    with tempfile.TemporaryDirectory(prefix="finevla-infer-") as folder:
        ready = Path(folder) / "ready"
        log = Path(folder) / "log"
        command = [sys.executable, "-c", _RUN_COMMAND, "serve", target]
        with log.open("wb") as errors:
            server = subprocess.Popen(
                [*command, "--socket", str(Path(folder) / "socket"), "--ready-file", str(ready)],
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        try:
            yield _wait_ready(server, ready, log, timeout_s, clock)
        finally:
            server.terminate()
            server.wait()


def _wait_ready(server: subprocess.Popen[bytes], ready: Path, log: Path, timeout_s: float, clock: Clock) -> str:
    start_ns = clock.now_ns()
    while not ready.exists():
        if server.poll() is not None:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["no message"]
            code, _, text = lines[-1].partition(": ")
            if code.startswith("FV-"):
                raise SetupError(code, text)
            raise SetupError("FV-INF-005", f"the server ended with {server.returncode}: {lines[-1]}")
        if elapsed_s(clock, start_ns) > timeout_s:
            raise SetupError("FV-INF-005", f"the server was not ready within {timeout_s:g} s; raise --timeout-s.")
        clock.sleep_s(POLL_S)
    return ready.read_text(encoding="utf-8").strip()


def _table(chunk: ActionChunk) -> str:
    head = "row  " + " ".join(f"{name:>13}" for name in JOINT_NAMES)
    rows = [f"{i:>3}  " + " ".join(f"{value:>13.4f}" for value in row) for i, row in enumerate(chunk.positions)]
    tail = f"{chunk.model_name} {chunk.model_version}: {chunk.rows} rows {chunk.step_s:g} s apart"
    return "\n".join([head, *rows, tail]) + "\n"


def _document(chunk: ActionChunk) -> str:
    document = {
        "model_name": chunk.model_name,
        "model_version": chunk.model_version,
        "step_s": chunk.step_s,
        "joints": list(JOINT_NAMES),
        "positions": [[float(value) for value in row] for row in chunk.positions],
    }
    return json.dumps(document) + "\n"
