"""Uses the software Vulkan driver that `scripts/vulkan.sh` unpacked where there was no root.

The dynamic loader reads LD_LIBRARY_PATH only when a process starts, so the command starts itself once more.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from finevla_runtime.cli.extras import CHECKOUT

DRIVER_FOLDER = CHECKOUT / ".cache" / "vulkan"
_RESTARTED = "FINEVLA_PRIVATE_DRIVER"


def driver_variables(environ: Mapping[str, str], folder: Path = DRIVER_FOLDER) -> dict[str, str]:
    """Variables that make the Vulkan loader find the unpacked driver; empty when there is none or it is set up.

    Args:
        environ: the environment of this process.
        folder: where the driver was unpacked.
    """
    icd, libraries = folder / "lvp_icd.json", next(folder.glob("root/usr/lib/*/libvulkan_lvp.so"), None)
    if not icd.is_file() or libraries is None or environ.get(_RESTARTED) or environ.get("VK_ICD_FILENAMES"):
        return {}
    paths = [str(libraries.parent), environ.get("LD_LIBRARY_PATH", "")]
    return {
        "VK_ICD_FILENAMES": str(icd),
        "LD_LIBRARY_PATH": os.pathsep.join(path for path in paths if path),
        _RESTARTED: "1",
    }


def restart_with_driver() -> None:
    """Start this command again with the driver's variables, once, when such a driver was unpacked."""
    variables = driver_variables(os.environ)
    if variables:
        os.environ.update(variables)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - replaces itself.
