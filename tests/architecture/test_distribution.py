"""What pyproject.toml promises is what the installation holds."""

from __future__ import annotations

import importlib
import re
from importlib import metadata
from pathlib import Path

import pytest

import finevla_runtime
from finevla_runtime.cli.verbs import Verb, installed_verbs
from finevla_runtime.robot.simulated_body import RegisteredBody, registered_bodies

ROOT = Path(__file__).resolve().parents[2]
PINNED = re.compile(r"^[A-Za-z0-9._-]+==[^=\s+]+$")
REGISTERED = {verb.name: verb for verb in installed_verbs()}
BODIES = {body.name: body for body in registered_bodies()}


def pins(name: str) -> list[str]:
    return [line for line in (ROOT / name).read_text().splitlines() if line and not line.startswith("#")]


def versions(name: str) -> dict[str, str]:
    return dict(line.lower().split("==") for line in pins(name))


def test_the_package_and_the_distribution_say_the_same_version() -> None:
    assert finevla_runtime.__version__ == metadata.version("finevla-runtime")


def test_the_changelog_names_the_current_version() -> None:
    assert f"## {finevla_runtime.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_constraint_is_one_exact_pin_without_a_local_build_tag() -> None:
    for name in ("constraints.txt", "constraints-core310.txt", "constraints-ros.txt"):
        assert [line for line in pins(name) if not PINNED.match(line)] == []


def test_the_graph_is_tested_with_the_versions_of_everything_else() -> None:
    main, ros = versions("constraints.txt"), versions("constraints-ros.txt")
    shared = ros.keys() & main.keys()
    assert {name: ros[name] for name in shared} == {name: main[name] for name in shared}
    assert shared >= {"numpy", "sapien", "grpcio"}


def test_packages_of_the_workspace_have_the_version_of_the_runtime() -> None:
    for package in ("finevla_interfaces", "finevla_cobot"):
        manifest = (ROOT / "ros2_ws/src" / package / "package.xml").read_text()
        assert f"<version>{finevla_runtime.__version__}</version>" in manifest
    assert f'version="{finevla_runtime.__version__}"' in (ROOT / "ros2_ws/src/finevla_cobot/setup.py").read_text()


@pytest.mark.parametrize("verb", REGISTERED.values(), ids=REGISTERED.keys())
def test_every_registered_verb_loads_and_has_a_help_line(verb: Verb) -> None:
    assert callable(verb.load())
    assert verb.summary().endswith(".")


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
def test_every_registered_simulated_body_can_be_loaded(body: RegisteredBody) -> None:
    module, _, factory = body.entry.partition(":")
    assert callable(getattr(importlib.import_module(module), factory))


def test_the_bodies_of_the_project_are_registered() -> None:
    assert {"kinematic", "tabletop"} <= set(BODIES)
