from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from finevla_runtime.bundle import Bundle
from finevla_runtime.cli.infer import infer, read_image, read_state
from finevla_runtime.contracts.action import JOINT_NAMES
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.transport.client import RemotePolicy
from policy_server.cli import write_ready_file
from policy_server.server import PolicyServer
from tests.serving.test_service import wait_for
from tests.serving.tiny_bundle import ROWS, SIZES, observation

Serve = Callable[..., "subprocess.Popen[str]"]
COMMAND = (sys.executable, "-c", "import sys; from finevla_runtime.cli.main import main; sys.exit(main())", "serve")
TEXT = "put the red block into the bowl"


@pytest.fixture
def serve() -> Iterator[Serve]:
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str | Path) -> subprocess.Popen[str]:
        command = [*COMMAND, *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def image_options(tmp_path: Path) -> list[str]:
    for name, pixels in observation(4).images.items():
        np.save(tmp_path / f"{name}.npy", pixels)
    return ["--images", *(f"{name}={tmp_path / name}.npy" for name in SIZES)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serve_says_where_it_listens_and_a_signal_drains_it(
    serve: Serve, bundle: Bundle, tmp_path: Path, number: int
) -> None:
    ready = tmp_path / "ready"
    process = serve(bundle.path, "--port", "0", "--ready-file", ready)
    wait_for(lambda: ready.exists() or process.poll() is not None)
    with RemotePolicy.connect(ready.read_text().strip()) as policy:
        assert policy.infer(observation()).rows == ROWS
        process.send_signal(number)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "Traceback" not in errors


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--host", "0.0.0.0"], "FV-SEC-002"),
        (["--engine", "onnx"], "FV-ENG-003"),
        (["--token-file", "/nowhere"], "FV-SEC-004"),
    ],
)
def test_serve_refuses_bad_options_with_a_code_and_no_traceback(
    serve: Serve, bundle: Bundle, arguments: list[str], code: str
) -> None:
    process = serve(bundle.path, "--port", "0", *arguments)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors.splitlines()[-1].startswith(code)
    assert "Traceback" not in errors


def test_the_ready_file_is_whole_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    write_ready_file(tmp_path / "ready", "127.0.0.1:5")
    assert [file.name for file in tmp_path.iterdir()] == ["ready"]
    assert (tmp_path / "ready").read_text() == "127.0.0.1:5\n"


def test_infer_asks_a_running_server_and_prints_one_document(
    server: PolicyServer, image_options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--target", server.address, "--instruction", TEXT, "--json"]
    assert infer([*arguments, *image_options]) == 0
    document = json.loads(capsys.readouterr().out)
    with RemotePolicy.connect(server.address) as policy:
        wanted = policy.infer(observation(4)).positions
    np.testing.assert_allclose(document["positions"], wanted, atol=1e-6)
    assert document["joints"] == list(JOINT_NAMES)


def test_infer_starts_a_server_for_a_bundle_and_prints_a_table(
    bundle: Bundle, image_options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert infer(["--target", str(bundle.path), "--instruction", TEXT, *image_options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == ROWS + 2
    assert "left_gripper" in lines[0]


def test_infer_hands_on_the_code_with_which_its_server_refused_the_bundle(tmp_path: Path) -> None:
    with pytest.raises(SetupError) as caught:
        infer(["--target", str(tmp_path), "--instruction", TEXT])
    assert caught.value.code == "FV-BUN-001"


@pytest.mark.parametrize(
    ("options", "code"),
    [(["--images", "cam_high"], "FV-INF-001"), (["--images", "cam_hihg=x.npy"], "FV-INF-004"), ([], "FV-REQ-002")],
)
def test_infer_refuses_bad_cameras(server: PolicyServer, options: list[str], code: str) -> None:
    with pytest.raises(Exception, match=code):
        infer(["--target", server.address, "--instruction", TEXT, *options])


def test_images_that_are_none_are_coded_errors(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no image")
    np.save(tmp_path / "b.npy", np.zeros((4, 4), np.float32))
    np.save(tmp_path / "c.npy", np.array([object()]), allow_pickle=True)
    for name in ("a.png", "b.npy", "c.npy", "missing.npy"):
        with pytest.raises(SetupError, match="FV-INF-002"):
            read_image(tmp_path / name)


def test_state_files_are_read_by_order_or_by_joint_name(tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_text(json.dumps(list(range(14))))
    ordered = read_state(file)
    file.write_text(json.dumps({name: index for index, name in reversed(list(enumerate(JOINT_NAMES)))}))
    assert np.array_equal(read_state(file), ordered)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("[1, 2]", "FV-INF-003"),
        ("{", "FV-INF-003"),
        ('{"left_j1": 1}', "FV-INF-003"),
        ('{"left_j9": 1}', "FV-INF-004"),
        ('["a"]', "FV-INF-003"),
        ("7", "FV-INF-003"),
    ],
)
def test_bad_state_files_are_coded_errors(tmp_path: Path, text: str, code: str) -> None:
    file = tmp_path / "state.json"
    file.write_text(text)
    with pytest.raises(SetupError, match=code):
        read_state(file)


def test_the_servers_process_ends_with_the_command(bundle: Bundle, image_options: list[str]) -> None:
    before = _children()
    infer(["--target", str(bundle.path), "--instruction", TEXT, *image_options])
    assert _children() == before


def _children() -> set[str]:
    me = str(os.getpid())
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[1] == me:
                found.add(entry.name)
    return found
