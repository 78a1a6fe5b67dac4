"""What the `finevla` command knows of its verbs: entry points, read without importing them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path

from finevla_runtime.contracts.errors import nearest

GROUP = "finevla.verbs"
RunVerb = Callable[[Sequence[str]], int]


@dataclass(frozen=True, slots=True)
class Verb:
    """One registered verb.

    Attributes:
        name: what is typed after `finevla`.
        module: dotted module that holds the function.
        function: name of the function ``(argv) -> exit code``.
        extra: extra of the distribution that brings its libraries; empty for the core.
    """

    name: str
    module: str
    function: str
    extra: str

    def load(self) -> RunVerb:
        """Import the verb.

        Raises:
            ModuleNotFoundError: the module, or a library that it needs at import, is not installed.
        """
        entry = metadata.EntryPoint(self.name, f"{self.module}:{self.function}", GROUP)
        run: RunVerb = entry.load()
        return run

    def summary(self) -> str:
        """First docstring line of the verb, read from its source so that listing verbs imports nothing heavy."""
        path = self._source()
        if path is None:
            return "(not in this installation)"
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name == self.function:
                return (ast.get_docstring(node) or "").partition("\n")[0]
        return ""

    def _source(self) -> Path | None:
        try:
            spec = util.find_spec(self.module)
        except ModuleNotFoundError:
            return None
        return Path(spec.origin) if spec is not None and spec.origin else None


def installed_verbs() -> tuple[Verb, ...]:
    """Every verb that an installed distribution registers, sorted by name."""
    found = {entry.name: entry for entry in metadata.entry_points(group=GROUP)}
    return tuple(_verb(found[name]) for name in sorted(found))


def _verb(entry: metadata.EntryPoint) -> Verb:
    return Verb(entry.name, entry.module, entry.attr, entry.extras[0] if entry.extras else "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the nearest known name, or an empty string."""
    match = nearest(name, known)
    return f" Did you mean '{match}'?" if match else ""
