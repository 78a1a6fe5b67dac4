"""Installs the nodes as an ament_python package."""

from glob import glob

from setuptools import find_packages, setup

NAME = "finevla_cobot"
NODES = ("arm_commander", "policy_client", "recorder", "session", "sim_arm")
VERBS = ("up", "run", "change", "stop", "reset", "approach", "doctor", "activate")

setup(
    name=NAME,
    version="0.2.0",
    packages=find_packages(include=[f"{NAME}*"]),
    package_data={NAME: ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        (f"share/{NAME}/launch", sorted(glob("launch/*.launch.py"))),
        (f"share/{NAME}/config", sorted(glob("config/*.yaml"))),
    ],
    zip_safe=True,
    maintainer="FineVLA Runtime maintainers",
    maintainer_email="maintainers@finevla-runtime.org",
    description="ROS 2 nodes that let a served policy drive a pair of arms, guarded, recorded and judged.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [f"{node} = {NAME}.{node}:main" for node in NODES],
        # What `finevla robot` finds when this package is there.
        "finevla.robot_verbs": [f"{verb} = {NAME}.cli:{verb}" for verb in VERBS],
    },
)
