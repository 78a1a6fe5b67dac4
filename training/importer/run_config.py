"""The settings of a foreign run, read from its YAML files with their place in every message."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.session.strict_json import JsonNode

CODE = "FV-IMP-002"


@dataclass(frozen=True, slots=True)
class RunConfig:
    """Settings of one run.

    Attributes:
        layers: parsed files, the one that wins first. ``config.yaml`` wins over ``config.full.yaml``, because
            it holds the values after the run had aligned them with the backbone; it lacks what was never read.
    """

    layers: tuple[JsonNode, ...]

    def find(self, path: str) -> JsonNode | None:
        """Return the setting at a dotted path from the first file that has it; None when no file has it."""
        for layer in self.layers:
            node: JsonNode | None = layer
            for key in path.split("."):
                children = node.free_mapping() if node is not None and isinstance(node.value, dict) else {}
                node = children.get(key)
            if node is not None and node.value is not None:
                return node
        return None

    def need(self, path: str) -> JsonNode:
        """Return the setting at a dotted path (FV-IMP-002 when no file has it)."""
        node = self.find(path)
        if node is None:
            files = " and ".join(layer.where for layer in self.layers)
            raise SetupError(CODE, f"{files}: no {path}; is this the config of a StarVLA run?")
        return node

    def integer(self, path: str) -> int | None:
        """Return a whole number, or None when the run does not set it."""
        node = self.find(path)
        return None if node is None else node.integer()

    def text(self, path: str) -> str | None:
        """Return a text, or None when the run does not set it."""
        node = self.find(path)
        return None if node is None else node.text()

    def flag(self, path: str) -> bool | None:
        """Return true or false, or None when the run does not set it.

        The texts ``True`` and ``False`` count too, because upstream's command line writes them.
        """
        node = self.find(path)
        if node is None or isinstance(node.value, bool):
            return None if node is None else bool(node.value)
        return node.one_of(("True", "False")) == "True"


def read_run_config(files: Sequence[Path]) -> RunConfig:
    """Parse the config files of a run.

    Raises:
        SetupError: FV-IMP-002 when a file is not YAML or is no mapping.
    """
    layers = []
    for file in files:
        try:
            value = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise SetupError(CODE, f"{file} is not YAML: {error}") from error
        node = JsonNode(file.name, "", value, CODE)
        node.free_mapping()
        layers.append(node)
    return RunConfig(tuple(layers))
