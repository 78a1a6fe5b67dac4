"""What `finevla doctor` looks at: one function for each thing, each with the remedy when it is missing."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime import paths
from finevla_runtime.cli.extras import install_command, is_installed, requirements
from finevla_runtime.cli.private_driver import driver_variables
from finevla_runtime.contracts.errors import FineVLAError

RENDER_TIMEOUT_S = 60.0
LEAST_FREE_GB = 2.0
# What `finevla demo` needs; the other extras are for training, data work and development.
DEMO_EXTRAS = ("server", "sim", "report")


@dataclass(frozen=True, slots=True)
class Check:
    """The answer of one check.

    Attributes:
        name: what was looked at.
        ok: whether it works.
        needed: whether `finevla demo` needs it; a missing optional thing is no failure.
        detail: what was found.
        remedy: command that brings what is missing; empty when nothing is.
    """

    name: str
    ok: bool
    needed: bool
    detail: str
    remedy: str = ""


def run_checks(render_timeout_s: float = RENDER_TIMEOUT_S) -> tuple[Check, ...]:
    """Run every check, in the order in which an installation needs them."""
    single: tuple[Callable[[], Check], ...] = (bundle, disk, cores, loopback)
    return (python(), *extras(), rendering(render_timeout_s), *(check() for check in single))


def python() -> Check:
    """Python 3.10 runs the core; serving, simulation and training want 3.11."""
    version = ".".join(str(part) for part in sys.version_info[:3])
    ok = sys.version_info >= (3, 11)
    detail = version if ok else f"{version}: the core works, serving and simulation need 3.11"
    return Check("python", ok, True, detail, "" if ok else "make setup PYTHON=python3.11")


def extras() -> Iterator[Check]:
    """Yield one check per extra: are all its distributions installed?"""
    wanted = requirements()
    for extra in sorted(wanted):
        absent = [name for name in wanted[extra] if not is_installed(name)]
        label = f"extra {extra}" if extra else "core libraries"
        detail = f"missing: {', '.join(absent)}" if absent else f"{len(wanted[extra])} libraries"
        needed = extra in ("", *DEMO_EXTRAS)
        yield Check(label, not absent, needed, detail, install_command(extra) if absent else "")


def rendering(timeout_s: float) -> Check:
    """Render one picture in a process of its own, because a broken driver may hang or abort."""
    remedy = "scripts/vulkan.sh   (physics works without it)"
    command = [sys.executable, "-W", "ignore", "-m", "sim_eval.render_probe"]
    environment = {**os.environ, **driver_variables(os.environ)}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        return Check("rendering", False, True, f"the Vulkan driver hung for {timeout_s:g} s", remedy)
    ok, detail = _probe_answer(done)
    return Check("rendering", ok, True, detail, "" if ok else remedy)


def bundle() -> Check:
    """Load every shipped policy bundle, which compares the sha256 of all its files."""
    from finevla_runtime.bundle import load_bundle

    folders = sorted(path.parent for path in paths.CHECKPOINTS.glob("*/policy.json"))
    if not folders:
        return Check("policy bundle", False, True, "none in checkpoints/", "finevla train tabletop-oft --help")
    try:
        for folder in folders:
            load_bundle(folder)
    except FineVLAError as error:
        return Check("policy bundle", False, True, str(error), "restore checkpoints/ from the release")
    names = ", ".join(folder.name for folder in folders)
    return Check("policy bundle", True, True, f"{names}: sha256 of every file as recorded")


def disk() -> Check:
    """Rollouts and reports want some room in the current folder."""
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    ok = free_gb >= LEAST_FREE_GB
    remedy = "" if ok else f"free {LEAST_FREE_GB - free_gb:.1f} GB, or run in another folder"
    return Check("disk space", ok, True, f"{free_gb:.1f} GB free in the current folder", remedy)


def cores() -> Check:
    """How many rollout workers make sense."""
    count = len(os.sched_getaffinity(0))
    return Check("cores", True, True, f"{count}: use --workers {count}")


def loopback() -> Check:
    """The demo's policy server listens on a loopback port."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
            client.connect(listener.getsockname())
    except OSError as error:
        return Check("loopback port", False, True, str(error), "allow connections to 127.0.0.1")
    return Check("loopback port", True, True, "a client reaches a server on 127.0.0.1")


def _probe_answer(done: subprocess.CompletedProcess[str]) -> tuple[bool, str]:
    """Read the probe's JSON line; a crash leaves none."""
    line = done.stdout.strip().rpartition("\n")[2]
    try:
        report = json.loads(line)
        return bool(report["ok"]), str(report["detail"])
    except (ValueError, KeyError, TypeError):
        last = done.stderr.strip().rpartition("\n")[2] or "no output"
        return False, f"the probe ended with code {done.returncode}: {last}"
