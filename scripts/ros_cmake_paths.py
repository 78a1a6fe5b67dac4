"""Corrects the CMake exports of the ROS wheels: they name the Python and numpy of the machine that built the wheels.

Run by the interpreter of the environment that holds the wheels.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy

BUILDER_PYTHON = re.compile(r'/opt/python/cp\d+-cp\d+/include/python[\d.]+(?=[;"])')
BUILDER_NUMPY = re.compile(r"/opt/python/[^;\"]*/numpy/(?:_core|core)/include")


def main() -> None:
    """Rewrite every export that names a folder of the builder."""
    corrected = 0
    for path in Path(sys.prefix, "share").glob("*/cmake/*Export.cmake"):
        text = path.read_text()
        fixed = BUILDER_NUMPY.sub(numpy.get_include(), text)
        fixed = BUILDER_PYTHON.sub(sysconfig.get_path("include"), fixed)
        if fixed != text:
            path.write_text(fixed)
            corrected += 1
    print(f"{corrected} CMake exports corrected")


if __name__ == "__main__":
    main()
