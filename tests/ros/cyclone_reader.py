"""Reads a topic with another vendor's DDS and no ROS: an independent witness of what is on the wire.

usage: python cyclone_reader.py TOPIC COUNT

Run by the main environment's interpreter, in the domain ROS_DOMAIN_ID. It prints ``ready``, then COUNT messages of
sensor_msgs/JointState as lines of JSON.
"""

# Annotations are values here, not text: the library reads the fields' types from them.
import json
import os
import sys
from dataclasses import dataclass

from cyclonedds.core import Policy, Qos
from cyclonedds.domain import Domain, DomainParticipant
from cyclonedds.idl import IdlStruct
from cyclonedds.idl.types import float64, int32, sequence, uint32
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from cyclonedds.util import duration

# The graph stays on this machine: no multicast, every participant is asked for by its address.
CONFIGURATION = """<CycloneDDS><Domain>
  <General><AllowMulticast>false</AllowMulticast>
    <Interfaces><NetworkInterface address="127.0.0.1"/></Interfaces></General>
  <Discovery><ParticipantIndex>auto</ParticipantIndex><Peers><Peer address="127.0.0.1"/></Peers></Discovery>
</Domain></CycloneDDS>"""


@dataclass
class Time(IdlStruct, typename="builtin_interfaces::msg::dds_::Time_"):
    sec: int32
    nanosec: uint32


@dataclass
class Header(IdlStruct, typename="std_msgs::msg::dds_::Header_"):
    stamp: Time
    frame_id: str


@dataclass
class JointState(IdlStruct, typename="sensor_msgs::msg::dds_::JointState_"):
    header: Header
    name: sequence[str]
    position: sequence[float64]
    velocity: sequence[float64]
    effort: sequence[float64]


def main() -> None:
    topic, count = sys.argv[1], int(sys.argv[2])
    number = int(os.environ["ROS_DOMAIN_ID"])
    domain = Domain(number, CONFIGURATION)
    participant = DomainParticipant(number)
    qos = Qos(
        Policy.Reliability.Reliable(duration(seconds=1)),
        Policy.History.KeepLast(count),
        Policy.DataRepresentation(use_cdrv0_representation=True),
    )
    # ROS 2 puts "rt" before the names of its topics.
    reader = DataReader(participant, Topic(participant, f"rt{topic}", JointState, qos=qos), qos=qos)
    print("ready", flush=True)
    for _, message in zip(range(count), reader.take_iter(timeout=duration(seconds=30)), strict=False):
        said = {
            "stamp": message.header.stamp.sec,
            "frame": message.header.frame_id,
            "name": list(message.name),
            "position": list(message.position),
            "velocity": list(message.velocity),
        }
        print(json.dumps(said), flush=True)
    del reader, participant, domain


if __name__ == "__main__":
    main()
