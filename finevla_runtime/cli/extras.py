"""The extras of the distribution: what each asks for, what is installed, and the command that brings one."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

DISTRIBUTION = "finevla-runtime"
CHECKOUT = Path(__file__).resolve().parents[2]
# Distributions whose import name is another word.
_DISTRIBUTION_OF = {
    "cv2": "opencv-python",
    "grpc": "grpcio",
    "grpc_health": "grpcio-health-checking",
    "grpc_reflection": "grpcio-reflection",
    "grpc_status": "grpcio-status",
    "yaml": "pyyaml",
}


def requirements() -> dict[str, tuple[str, ...]]:
    """Distribution names that each extra asks for, the core under the empty name."""
    found: dict[str, list[str]] = {}
    for line in metadata.requires(DISTRIBUTION) or []:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", marker)
        name = re.match(r"[A-Za-z0-9._-]+", requirement.strip())
        if name is not None and name.group() != DISTRIBUTION:
            found.setdefault(extra.group(1) if extra else "", []).append(name.group())
    return {extra: tuple(names) for extra, names in found.items()}


def is_installed(name: str) -> bool:
    """Whether a distribution is installed, whatever its version."""
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def extra_for(module: str, preferred: str) -> str:
    """Name the extra that brings an import.

    Args:
        module: dotted name that could not be imported.
        preferred: the extra of the verb; it wins when it brings the module, and when no extra is known to.
    """
    root = module.partition(".")[0]
    wanted = _DISTRIBUTION_OF.get(root, root).replace("_", "-").lower()
    bringing = {extra: names for extra, names in requirements().items() if wanted in names}
    if preferred in bringing or not bringing:
        return preferred
    return min(bringing, key=lambda extra: len(bringing[extra]))


def install_command(extra: str) -> str:
    """Command that brings an extra: from the checkout with its pins where there is one, else from the index.

    Args:
        extra: name of the extra; empty for the core.
    """
    brackets = f"[{extra}]" if extra else ""
    if (CHECKOUT / "constraints.txt").is_file():
        return f"cd {CHECKOUT} && {sys.executable} -m pip install -c constraints.txt -e '.{brackets}'"
    return f"pip install 'finevla-runtime{brackets}'"
