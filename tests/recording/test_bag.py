"""A bag reads back what was written, and keeps what it has when the disk or the process ends."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from finevla_runtime.contracts.errors import BodyError, SetupError
from finevla_runtime.recording.bag import BagTopic, free_bytes_on_disk
from finevla_runtime.recording.unfinished_bag import close_unfinished, is_finished
from tests.recording.bags import EPISODE, JOINTS, MEBI, ROOT, STATUS, interface, joint_state, stamps, writer


def test_messages_read_back_byte_for_byte(tmp_path: Path) -> None:
    with writer(tmp_path / "bag") as bag:
        bag.add_topic(JOINTS)
        for number in range(20):
            bag.write(JOINTS.name, number, joint_state(number))
    with Reader(tmp_path / "bag") as reader:
        assert [message for _, _, message in reader.messages()] == [joint_state(number) for number in range(20)]
        [connection] = reader.connections
        assert (connection.topic, connection.msgtype) == (JOINTS.name, JOINTS.type_name)
        [offered] = connection.ext.offered_qos_profiles
        assert (offered.reliability.name, offered.durability.name, offered.depth) == ("BEST_EFFORT", "VOLATILE", 5)
    assert is_finished(tmp_path / "bag")


def test_a_reader_without_our_package_decodes_our_messages(tmp_path: Path) -> None:
    known = get_typestore(Stores.ROS2_JAZZY)
    known.register(get_types_from_msg(str(interface(EPISODE.type_name)), EPISODE.type_name))
    message = known.types[EPISODE.type_name](
        state=1,
        episode_id="e7",
        epoch=2,
        instruction="stack",
        kind="raw",
        trial_id="",
        variant_id="",
        seed=9,
        origin_ns=5,
    )
    with writer(tmp_path / "bag") as bag:
        bag.add_topic(EPISODE)
        bag.write(EPISODE.name, 1, bytes(known.serialize_cdr(message, EPISODE.type_name)))
    with AnyReader([tmp_path / "bag"]) as reader:
        [(connection, _, raw)] = reader.messages()
        decoded = reader.deserialize(raw, connection.msgtype)
        assert (decoded.instruction, decoded.epoch, decoded.RUN) == ("stack", 2, 1)


def test_a_topic_may_be_added_while_recording(tmp_path: Path) -> None:
    with writer(tmp_path / "bag") as bag:
        bag.add_topic(JOINTS)
        bag.write(JOINTS.name, 1, joint_state(1))
        bag.flush()
        bag.add_topic(STATUS)
    with Reader(tmp_path / "bag") as reader:
        assert {connection.topic for connection in reader.connections} == {JOINTS.name, STATUS.name}


def test_a_disk_below_the_minimum_refuses_the_recording_and_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"FV-REC-031.*1 MiB must stay free"):
        writer(tmp_path / "bag", free=lambda _: MEBI - 1)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_ends_the_recording_with_everything_so_far(tmp_path: Path) -> None:
    free = [MEBI]
    bag = writer(tmp_path / "bag", free=lambda _: free[0])
    bag.add_topic(JOINTS)
    bag.write(JOINTS.name, 1, joint_state(1))
    bag.check_room()
    free[0] -= 1
    with pytest.raises(BodyError, match="FV-REC-032"):
        bag.check_room()
    assert not bag.is_open
    assert stamps(tmp_path / "bag") == [1]
    assert is_finished(tmp_path / "bag")


def test_the_disk_is_asked_while_large_messages_come(tmp_path: Path) -> None:
    free = [10 * MEBI]
    bag = writer(tmp_path / "bag", free=lambda _: free[0])
    bag.add_topic(JOINTS)
    free[0] = 0
    for number in range(3):
        bag.write(JOINTS.name, number, bytes(MEBI))
    with pytest.raises(BodyError, match="FV-REC-032"):
        bag.write(JOINTS.name, 3, bytes(MEBI))
    assert stamps(tmp_path / "bag") == [0, 1, 2]


FILLS_ITS_DISK = """
import sys
from pathlib import Path
from tests.recording.bags import JOINTS, joint_state, writer
from finevla_runtime.contracts.errors import BodyError
bag = writer(Path(sys.argv[1]))
bag.add_topic(JOINTS)
try:
    for number in range(100_000):
        bag.write(JOINTS.name, number, joint_state(number))
except BodyError as error:
    print(error.code, bag.is_open, bag.messages)
"""

STOPS_HALFWAY = """
import os, signal, sys
from pathlib import Path
from tests.recording.bags import JOINTS, joint_state, writer
bag = writer(Path(sys.argv[1]))
bag.add_topic(JOINTS)
for number in range(50):
    bag.write(JOINTS.name, number, joint_state(number))
bag.flush()
bag.write(JOINTS.name, 50, joint_state(50))
os.kill(os.getpid(), signal.SIGKILL)
"""


def run(program: str, *arguments: str, largest_file: int | None = None) -> subprocess.CompletedProcess[str]:
    """Run in a process of its own; ``largest_file`` makes the system refuse bytes beyond, as a full disk does."""

    def limit() -> None:
        if largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, preexec_fn=limit)


def test_a_disk_that_refuses_leaves_a_readable_bag_that_is_marked_unfinished(tmp_path: Path) -> None:
    done = run(FILLS_ITS_DISK, str(tmp_path / "bag"), largest_file=3 * MEBI + 500_000)
    assert done.stdout.split()[:2] == ["FV-REC-032", "False"], done.stderr
    assert not is_finished(tmp_path / "bag")
    read = stamps(tmp_path / "bag" / "bag.mcap")
    assert read == list(range(len(read)))
    assert len(read) > 5000


def test_a_killed_recorder_leaves_what_was_flushed(tmp_path: Path) -> None:
    done = run(STOPS_HALFWAY, str(tmp_path / "bag"))
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not is_finished(tmp_path / "bag")
    path = close_unfinished(tmp_path / "bag")
    assert path is not None
    assert stamps(path) == list(range(50))


@pytest.mark.parametrize("lost", [1, 8, 40, 400, 4000])
def test_a_file_cut_anywhere_reads_up_to_the_cut(tmp_path: Path, lost: int) -> None:
    with writer(tmp_path / "bag") as bag:
        bag.add_topic(JOINTS)
        for number in range(30):
            bag.write(JOINTS.name, number, joint_state(number))
            bag.flush()
    path = tmp_path / "bag" / "bag.mcap"
    os.truncate(path, path.stat().st_size - lost)
    assert close_unfinished(tmp_path / "bag") == path
    once = path.read_bytes()
    read = stamps(path)
    assert read == list(range(len(read)))
    assert len(read) >= 10
    close_unfinished(tmp_path / "bag")
    assert path.read_bytes() == once


def test_what_is_no_bag_is_left_alone(tmp_path: Path) -> None:
    assert close_unfinished(tmp_path) is None
    (tmp_path / "other.mcap").write_bytes(b"other")
    assert close_unfinished(tmp_path) is None
    assert (tmp_path / "other.mcap").read_bytes() == b"other"


def test_an_existing_folder_is_never_written_to(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="FV-REC-030"):
        writer(tmp_path)


def test_a_type_without_a_definition_is_refused_by_name(tmp_path: Path) -> None:
    with writer(tmp_path / "bag") as bag, pytest.raises(SetupError, match=r"FV-REC-033.*piper_msgs/msg/PiperStatusMsg"):
        bag.add_topic(BagTopic("/arm_status", "piper_msgs/msg/PiperStatusMsg"))


def test_a_topic_is_added_once_and_before_it_is_written(tmp_path: Path) -> None:
    with writer(tmp_path / "bag") as bag:
        bag.add_topic(JOINTS)
        with pytest.raises(SetupError, match="FV-REC-034"):
            bag.add_topic(JOINTS)
        with pytest.raises(SetupError, match=r"FV-REC-034.*Did you mean '/puppet/joint_left'"):
            bag.write("/puppet/joint_leftt", 1, b"")


def test_a_closed_bag_takes_no_more(tmp_path: Path) -> None:
    bag = writer(tmp_path / "bag")
    bag.add_topic(JOINTS)
    bag.close()
    bag.close()
    with pytest.raises(SetupError, match="FV-REC-035"):
        bag.write(JOINTS.name, 1, joint_state(1))


def test_free_bytes_are_those_of_the_disk_where_the_folder_would_be(tmp_path: Path) -> None:
    here = os.statvfs(tmp_path)
    assert 0 < free_bytes_on_disk(tmp_path / "not" / "made") <= here.f_frsize * here.f_blocks
