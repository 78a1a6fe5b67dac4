"""Configurations and launch files say only what nodes know; a stack comes up in order and goes down in order."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from lifecycle_msgs.msg import State

from finevla_cobot.bring_up import BringUp, lifecycle_state
from finevla_cobot.operator_desk import OperatorDesk
from finevla_cobot.stack import CONFIG, KINDS, find_config, load_stack
from finevla_interfaces.msg import ControllerStatus
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.paths import HW_CONFIGS
from tests.ros.cli_process import CliProcess
from tests.ros.conftest import StartNode
from tests.ros.node_process import ROOT
from tests.ros.peer import Peer

SOURCE = ROOT / "ros2_ws/src/finevla_cobot"
LAUNCH = sorted((SOURCE / "launch").glob("*.launch.py"))
SHIPPED = sorted((SOURCE / "config").glob("*.yaml"))
# A pair of arms without physics and without cameras worth the time.
SMALL = """
/**/sim_arm:
  ros__parameters: {topic_profile: cobot_magic_sim, camera_hz: 1.0}
/**/recorder:
  ros__parameters: {folder: BAGS, topics: [finevla/status], least_free_mib: 1}
/**/arm_commander:
  ros__parameters: {topic_profile: cobot_magic_sim, embodiment: cobot_magic_sim, space: none, control_hz: 50.0}
/**/session:
  ros__parameters: {scene: ""}
"""


def small(tmp_path: Path, old: str = "", new: str = "") -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(
        SMALL.replace("BAGS", str(tmp_path / "bags")).replace(old, new)
        if old
        else SMALL.replace("BAGS", str(tmp_path / "bags"))
    )
    return path


def calls(path: Path, *names: str) -> Iterator[dict[str, ast.expr]]:
    """Yield the keyword arguments of every call of one of ``names``, the first positional one under its own name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            yield {str(word.arg): word.value for word in node.keywords} | {"": node.args[0] if node.args else node}


def text(node: ast.expr) -> str:
    assert isinstance(node, ast.Constant)
    return str(node.value)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_load_and_name_files_that_exist(path: Path) -> None:
    stack = load_stack(path)
    folders = {"topic_profile": "topics", "embodiment": "", "space": "spaces", "scene": "scenes"}
    for node, values in stack.parameters.items():
        for parameter in folders.keys() & values.keys():
            name = values[parameter]
            if name and (node, parameter) != ("sim_arm", "scene"):
                assert (HW_CONFIGS / folders[parameter] / f"{name}.yaml").is_file(), (node, parameter, name)


def test_configurations_are_installed() -> None:
    assert [path.name for path in sorted(CONFIG.glob("*.yaml"))] == [path.name for path in SHIPPED]
    assert find_config("sim").is_file()
    with pytest.raises(SetupError, match="Did you mean 'tabletop'"):
        find_config("tabletops")


@pytest.mark.parametrize("path", LAUNCH, ids=lambda path: path.name)
def test_launch_files_start_programs_that_exist_with_parameters_they_know(path: Path) -> None:
    known = {kind.name: set(kind.settings.__dataclass_fields__) for kind in KINDS}
    lifecycle = {kind.name for kind in KINDS if kind.has_lifecycle}
    tree = ast.parse(path.read_text())
    given = {
        target.id: {text(key) for key in node.value.keys if key}
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    started = []
    for kind in ("Node", "LifecycleNode"):
        for call in calls(path, kind):
            name = text(call["executable"])
            started.append(name)
            assert text(call["name"]) == name, "the parameter file knows a node by this name"
            assert (name in lifecycle) == (kind == "LifecycleNode")
            assert isinstance(call["parameters"], ast.List)
            for item in call["parameters"].elts:
                assert isinstance(item, ast.Name)
                assert item.id == "config" or given[item.id] <= known[name]
    assert set(started) <= set(known)
    assert len(started) == len(set(started))


@pytest.mark.parametrize(("launch", "config"), [("cobot", "cobot_magic"), ("sim", "sim")])
def test_a_launch_file_says_what_its_configuration_says(launch: str, config: str) -> None:
    path, stack = SOURCE / f"launch/{launch}.launch.py", load_stack(SOURCE / f"config/{config}.yaml")
    defaults = {
        text(call[""]): call["default_value"].value
        for call in calls(path, "DeclareLaunchArgument")
        if isinstance(call["default_value"], ast.Constant)
    }
    assert defaults == {
        "namespace": "",
        "topic_profile": stack.value("arm_commander", "topic_profile"),
        "server": stack.value("policy_client", "server"),
    }
    assert f'"{config}.yaml"' in path.read_text()
    started = {text(call["executable"]) for call in calls(path, "Node", "LifecycleNode")}
    assert started == set(stack.parameters)


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        ("/**/session", "/**/sesion", "FV-STK-002", "Did you mean '/\\*\\*/session'"),
        ("/**/session", "session", "FV-STK-002", "session"),
        ("ros__parameters: {scene", "parameters: {scene", "FV-CFG-003", "ros__parameters"),
        ("{scene: ", "{scenes: ", "FV-ROS-001", "Did you mean 'scene'"),
        ("control_hz: 50.0", "control_hz: fast", "FV-ROS-003", "a number"),
        ("camera_hz: 1.0", "embodiment: cobot_magic", "FV-STK-004", "embodiment must be the same"),
    ],
)
def test_a_configuration_is_read_strictly(tmp_path: Path, old: str, new: str, code: str, words: str) -> None:
    with pytest.raises(SetupError, match=words) as error:
        load_stack(small(tmp_path, old, new))
    assert error.value.code == code


def test_overrides_are_as_strict_and_reach_the_command_line(tmp_path: Path) -> None:
    stack = load_stack(small(tmp_path), ["session.scene=tabletop_arm", "arm_commander.control_hz=100"])
    assert stack.value("session", "scene") == "tabletop_arm"
    assert stack.value("session", "still_s") == 0.0
    assert stack.arguments("session", "/cell")[-4:] == ["-p", 'scene:="tabletop_arm"', "-r", "__ns:=/cell"]
    for text_, code in (
        ("session.scenes=x", "FV-ROS-001"),
        ("policy_client.server=x", "FV-STK-002"),
        ("session", "FV-STK-003"),
        ("arm_commander.control_hz=fast", "FV-ROS-003"),
    ):
        with pytest.raises(SetupError) as error:
            load_stack(small(tmp_path), [text_])
        assert error.value.code == code


def test_a_stack_comes_up_and_goes_down_in_order(domain: int, tmp_path: Path) -> None:
    told: list[tuple[str, str]] = []
    with OperatorDesk("/cell") as desk:
        bring_up = BringUp(load_stack(small(tmp_path)), desk, tmp_path / "logs", "/cell")
        bring_up.up(lambda *line: told.append(line))
        assert told == [
            ("sim_arm", "running"),
            ("recorder", "running"),
            ("arm_commander", "active"),
            ("session", "running"),
        ]
        assert lifecycle_state(desk, "arm_commander") == State.PRIMARY_STATE_ACTIVE
        statuses = desk.heard(ControllerStatus, "finevla/status", most=1)
        assert desk.wait(lambda: statuses and statuses[-1].state == "waiting", 10.0)
        told.clear()
        bring_up.down(lambda *line: told.append(line))
    ended = [(name, "ended (0)") for name in ("session", "arm_commander", "recorder", "sim_arm")]
    assert told == ended, [bring_up.log(name).read_text() for name, _ in ended]


def test_a_node_that_refuses_a_step_is_told_with_its_own_words(domain: int, tmp_path: Path) -> None:
    with OperatorDesk() as desk:
        bring_up = BringUp(load_stack(small(tmp_path, "space: none", "space: nowhere")), desk, tmp_path / "logs")
        try:
            with pytest.raises(SetupError, match=r"arm_commander does not configure: FV-.*nowhere") as error:
                bring_up.up(lambda *line: None)
        finally:
            bring_up.down(lambda *line: None)
    assert error.value.code == "FV-STK-006"


def test_a_node_that_ends_at_once_is_told_with_its_last_words(domain: int, tmp_path: Path) -> None:
    with OperatorDesk() as desk:
        bring_up = BringUp(load_stack(small(tmp_path, 'scene: ""', "scene: nowhere")), desk, tmp_path / "logs")
        try:
            with pytest.raises(SetupError, match=r"session ended with 1.*FV-FEA-013") as error:
                bring_up.up(lambda *line: None)
        finally:
            bring_up.down(lambda *line: None)
    assert error.value.code == "FV-STK-005"


def test_up_shows_a_line_per_node_and_ctrl_c_takes_all_down(peer: Peer, tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = CliProcess(
        tmp_path / "up.log",
        "up",
        "--config",
        str(small(tmp_path)),
        "--logs",
        str(tmp_path / "logs"),
        "--ready-file",
        str(ready),
    )
    try:
        peer.until(lambda: ready.exists() or process.ended(), "a stack that is up")
        assert "arm_commander  active" in process.output(), process.output()
        process.interrupt()
        peer.until(process.ended, "the end")
        assert process.process.returncode == 0, process.output()
        ends = [line.split()[0] for line in process.output().splitlines() if "ended (0)" in line]
        assert ends == ["session", "arm_commander", "recorder", "sim_arm"]
    finally:
        process.stop()


def test_the_doctor_finds_what_is_wrong_and_says_what_to_do(peer: Peer, start_node: StartNode, tmp_path: Path) -> None:
    from sensor_msgs.msg import JointState

    start_node("sim_arm", parameters={"topic_profile": "cobot_magic_sim", "feedback_hz": 50.0})
    peer.until(lambda: peer.node.count_publishers("right/joint_states"), "the simulated pair")
    leader = peer.node.create_publisher(JointState, "left/joint_commands", 1)
    options = ("--config", str(small(tmp_path)), "--seconds", "2")
    process = CliProcess(tmp_path / "doctor.log", "doctor", *options)
    try:
        peer.until(process.ended, "the doctor's answer", each=lambda: leader.publish(JointState()))
        shown = process.output()
        assert process.process.returncode == 1
        assert "WRONG  arm_commander: not in the graph" in shown
        assert "ok     sim_arm: running" in shown
        assert "/peer also commands the arm on /left/joint_commands" in shown
        assert "note   right commands: nobody commands on /right/joint_commands yet" in shown
        assert "expected 200" in shown
        assert "ok     cam_high: /cam_high/color/image_raw from /sim_arm at" in shown
        assert "WRONG  policy server: no address" in shown
        assert "ok     recordings" in shown
    finally:
        process.stop()
