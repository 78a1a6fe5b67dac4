from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = ("policy_pb2.py", "policy_pb2.pyi", "policy_pb2_grpc.py")


def test_the_committed_wire_code_is_what_the_proto_generates(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHON": sys.executable}
    subprocess.run([ROOT / "scripts/proto.sh", tmp_path], check=True, env=environment)
    for name in FILES:
        fresh = tmp_path / "finevla_runtime/transport" / name
        assert fresh.read_text() == (ROOT / "finevla_runtime/transport" / name).read_text(), (
            f"run scripts/proto.sh: {name}"
        )
