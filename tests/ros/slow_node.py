"""A node for the tests of `spin`: it comes to its end only in a hurry, or its first callback raises."""

from __future__ import annotations

import sys

from rclpy.node import Node

from finevla_cobot.spin import STEADY, run
from finevla_runtime.contracts.errors import SetupError


class SlowNode(Node):
    """Prints what it is asked to do."""

    def __init__(self) -> None:
        super().__init__("slow")
        self._asked = False
        self.create_timer(0.05, self._tick, clock=STEADY)
        print("running", flush=True)

    def stopping(self, hurry: bool) -> bool:
        if hurry or not self._asked:
            print("hurrying" if hurry else "stopping", flush=True)
        self._asked = True
        return hurry

    def _tick(self) -> None:
        if sys.argv[1] == "refuse":
            raise SetupError("FV-ROS-999", "no.")
        if sys.argv[1] == "crash":
            raise ZeroDivisionError


if __name__ == "__main__":
    sys.exit(run(SlowNode))
