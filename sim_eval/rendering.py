"""Asks for a Vulkan driver before any work is begun."""

from __future__ import annotations

import json
import subprocess
import sys

from finevla_runtime.contracts.errors import SetupError

_REMEDY = (
    "Run `bash scripts/vulkan.sh` (software driver, no root needed) and look at `finevla doctor`; "
    "a GPU with a Vulkan driver works without it."
)


def require_rendering(timeout_s: float = 60.0) -> str:
    """Return the name of the device that renders.

    The probe runs in a process of its own, because a broken driver may hang or abort the process that asks it.

    Raises:
        SetupError: FV-SIM-020 when no device can render, with the remedy.
    """
    try:
        answer = subprocess.run(
            [sys.executable, "-m", "sim_eval.render_probe"], capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise SetupError(
            "FV-SIM-020", f"the Vulkan driver did not answer within {timeout_s:.0f} s. {_REMEDY}"
        ) from error
    lines = answer.stdout.decode(errors="replace").splitlines()
    try:
        report = json.loads(lines[-1]) if lines else {}
    except json.JSONDecodeError:
        report = {}
    if answer.returncode != 0 or not report.get("ok"):
        detail = report.get("detail") or f"the probe ended with status {answer.returncode}"
        raise SetupError("FV-SIM-020", f"the simulator cannot render: {detail}. {_REMEDY}")
    return str(report["detail"])
