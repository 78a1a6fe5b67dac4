"""The core runs where nothing heavy is installed, and knows nothing of what stands on it."""

from __future__ import annotations

import pkgutil
import subprocess
import sys

import finevla_runtime

# numpy, pyyaml, grpcio and protobuf are what the core may need when it is imported; tyro and rich come with verbs.
BLOCKED = (
    "PIL,accelerate,av,coal,cv2,grpc_health,grpc_reflection,grpc_status,grpc_tools,hypothesis,jinja2,"
    "matplotlib,onnx,onnxruntime,onnxscript,pandas,pinocchio,playwright,policy_server,prometheus_client,"
    "pyarrow,pytest,ray,rclpy,rich,rosbags,ruckig,safetensors,sapien,scipy,sim_eval,statsmodels,tokenizers,"
    "torch,training,transformers,tslearn,tyro"
)

IMPORT_ALL = """
import importlib, importlib.abc, sys
blocked, modules = sys.argv[1].split(","), sys.argv[2].split(",")
class Block(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in blocked:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)
sys.meta_path.insert(0, Block())
for module in modules:
    importlib.import_module(module)
print(len(modules))
"""


def core_modules() -> list[str]:
    found = pkgutil.walk_packages(finevla_runtime.__path__, "finevla_runtime.")
    return sorted(module.name for module in found if not module.name.endswith("__main__"))


def import_in_fresh_process(blocked: str, modules: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", IMPORT_ALL, blocked, ",".join(modules)]
    return subprocess.run(command, capture_output=True, text=True)


def test_every_core_module_imports_with_every_optional_library_blocked() -> None:
    modules = core_modules()
    done = import_in_fresh_process(BLOCKED, modules)
    assert done.stdout.strip() == str(len(modules)), done.stderr


def test_the_block_itself_bites() -> None:
    done = import_in_fresh_process("numpy", ["finevla_runtime.contracts.arrays"])
    assert done.returncode != 0
    assert "blocked: numpy" in done.stderr
