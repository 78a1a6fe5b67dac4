"""Checks a torch.export archive (``.pt2``) before torch opens it.

``torch.export.load`` of torch 2.13 trusts its file: it unpickles sample inputs and constants without ``weights_only``,
evaluates symbolic sizes with ``sympy.sympify``, writes names of nodes into Python source and calls any function below
``torch`` that a node names. So the core
reads the zip and its JSON first and accepts only what an exported policy needs: tensors, aten operators and arithmetic
on sizes. It imports no torch.
"""

from __future__ import annotations

import ast
import json
import keyword
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import cast

from finevla_runtime.contracts.errors import SetupError

# Below the one folder of the archive. Sample inputs are a pickle, so theirs must be empty.
ENTRIES = re.compile(
    r"data/weights/weight_\d+|data/weights/model_weights_config\.json|data/constants/tensor_\d+"
    r"|data/constants/model_constants_config\.json|models/model\.json|data/sample_inputs/model\.pt"
    r"|archive_format|archive_version|\.data/version|\.data/serialization_id|byteorder"
)
MODEL, SAMPLES = "models/model.json", "data/sample_inputs/model.pt"
CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
PAYLOAD = re.compile(r"(weight|tensor)_\d+")
TARGET = re.compile(
    r"torch\.ops\.aten\.[a-z0-9_]+\.[A-Za-z0-9_]+"
    r"|_operator\.(getitem|add|sub|mul|floordiv|truediv|mod|neg|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|torch\.(sym_max|sym_min|sym_not|sym_int|sym_float|sym_ite|sym_sum)"
)
# What sympy prints for sizes; a keyword can only be an assumption of a symbol.
FUNCTIONS = {
    "Symbol", "Integer", "Rational", "Float", "Add", "Mul", "Pow", "Max", "Min", "Mod", "PythonMod", "FloorDiv",
    "CleanDiv", "CeilDiv", "Eq", "Ne", "Lt", "Le", "Gt", "Ge", "And", "Or", "Not", "Equality", "Unequality",
    "StrictLessThan", "LessThan", "StrictGreaterThan", "GreaterThan", "IntTrueDiv", "FloatTrueDiv", "ToFloat",
    "TruncToInt", "CeilToInt", "FloorToInt", "PowByNatural", "Identity", "ModularIndexing", "Where",
}  # fmt: skip
# Letters that cannot end a name and begin code; einsum equations and modes need a few more.
PLAIN = re.compile(r"[A-Za-z0-9_.+-]*")
EQUATION = re.compile(r"[A-Za-z0-9_.+, >-]*")
FORBIDDEN = {
    "as_custom_obj",
    "as_graph",
    "as_operator",
    "stack_trace",
    "nn_module_stack",
    "torch_fn",
    "from_node",
    "custom",
}
CONSTANTS = {"true", "false", "True", "False"}
SYMBOL = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
SYNTAX = (
    ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Compare,
    ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.USub, ast.Eq, ast.NotEq, ast.Lt, ast.LtE,
    ast.Gt, ast.GtE, ast.Tuple,
)  # fmt: skip
MOST_EXPRESSION = 2000
CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict")


def check_program(path: Path) -> None:
    """Accept an archive that holds nothing but tensors and aten operators.

    Raises:
        SetupError: FV-BUN-013 naming what is not allowed, or that the file is no such archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for reason in _offences(archive):
                raise _refused(path, reason)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, zipfile.BadZipFile) as error:
        raise _refused(path, f"it cannot be read ({error})") from error


def _offences(archive: zipfile.ZipFile) -> Iterator[str]:
    """Yield what must not be there."""
    names: dict[str, str] = {}
    roots = set()
    for info in archive.infolist():
        root, _, name = info.filename.partition("/")
        roots.add(root)
        # Two readers could take different ones of two entries with one name; two stored names never differ in content.
        if name in names or not ENTRIES.fullmatch(name) or info.compress_type != zipfile.ZIP_STORED:
            yield f"entry {info.filename!r}"
        names[name] = info.filename
    if len(roots) != 1:
        yield f"folders {sorted(roots)}"
    if SAMPLES in names and archive.getinfo(names[SAMPLES]).file_size:
        yield "pickled sample inputs (export again with example_inputs = None)"
    for name in CONFIGS:
        config = json.loads(archive.read(names[name]))["config"]
        for tensor, payload in config.items():
            if payload["use_pickle"] is not False or not PAYLOAD.fullmatch(payload["path_name"]):
                yield f"pickled tensor {tensor!r}"
    model = json.loads(archive.read(names[MODEL]))
    if model["graph_module"]["treespec_namedtuple_fields"]:
        yield "named tuples"
    yield from _walk(model)


def _walk(value: object, key: str = "") -> Iterator[str]:
    """Yield the forbidden values anywhere in the model's JSON; ``key`` is the field that holds ``value``."""
    if isinstance(value, list):
        for item in value:
            yield from _walk(item, key)
    elif isinstance(value, dict):
        for name, item in value.items():
            if not PLAIN.fullmatch(name) or name in FORBIDDEN:
                yield f"a field {name!r}"
            # Guards are Python, but nobody compiles them: the engine asks for the module without its guards.
            if name != "guards_code":
                yield from _walk(item, name)
    elif isinstance(value, str):
        yield from _text(key, value)


def _text(key: str, text: str) -> Iterator[str]:
    """Yield what is wrong with one string; torch writes names into Python source, so every string counts."""
    if key == "expr_str":
        if not _is_arithmetic(text):
            yield f"expression {text!r}"
    elif key in ("in_spec", "out_spec"):
        yield from _containers(json.loads(text)[1])
    elif key == "target":
        if not TARGET.fullmatch(text):
            yield f"operator {text!r}"
    elif key == "name":
        if not text.isidentifier() or keyword.iskeyword(text):
            yield f"name {text!r}"
    elif not (EQUATION if key == "as_string" else PLAIN).fullmatch(text):
        yield f"{key} {text!r}"


def _containers(spec: Mapping[str, object]) -> Iterator[str]:
    """Yield containers of inputs or outputs that are neither tuple, list nor dictionary with plain keys."""
    context = json.loads(str(spec["context"])) if spec["context"] is not None else None
    keys = context if isinstance(context, list) else [] if context is None else [context]
    if spec["type"] not in CONTAINERS or not all(isinstance(name, str) and PLAIN.fullmatch(name) for name in keys):
        yield f"container {spec['type']!r} of {context!r}"
    for child in cast("list[Mapping[str, object]]", spec["children_spec"]):
        yield from _containers(child)


def _is_arithmetic(text: object) -> bool:
    """Return whether a symbolic size is arithmetic on named symbols and nothing else."""
    if not isinstance(text, str) or len(text) > MOST_EXPRESSION:
        return False
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return False
    called = set()
    for node in ast.walk(tree):
        if not isinstance(node, SYNTAX):
            return False
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.func.id not in FUNCTIONS:
                return False
            called.add(node.func)
            # Only Symbol takes text, and then a plain name: other functions of sympy would evaluate it.
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            if texts and (node.func.id not in ("Symbol", "Float") or not all(map(_is_plain, texts))):
                return False
        if isinstance(node, ast.keyword) and not isinstance(node.value, ast.Constant):
            return False
    free = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node not in called}
    return all(name in CONSTANTS or re.fullmatch(r"[su]\d+", name) for name in free)


def _is_plain(text: str) -> bool:
    return SYMBOL.fullmatch(text) is not None or re.fullmatch(r"[0-9.e+-]+", text) is not None


def _refused(path: Path, reason: str) -> SetupError:
    return SetupError(
        "FV-BUN-013",
        f"{path.name} is not loaded, because it holds {reason}; only tensors and aten operators are allowed.",
    )
