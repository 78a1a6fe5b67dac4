"""How every verb reads its options, so that help and mistakes look the same everywhere."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import TypeVar

from finevla_runtime.cli.verbs import RunVerb, did_you_mean

Options = TypeVar("Options")
EXIT_USAGE = 2


def parse(options: type[Options], argv: Sequence[str], prog: str) -> Options:
    """Read ``argv`` into a frozen dataclass; field docstrings are the help texts.

    Args:
        options: dataclass of the verb; its docstring is the description.
        argv: what follows the verb on the command line.
        prog: how the command was called, for the usage line.

    Raises:
        SystemExit: 0 after `--help`, 2 after a bad option.
    """
    import tyro

    return tyro.cli(options, prog=prog, args=list(argv), description=inspect.getdoc(options))


def dispatch(prog: str, subverbs: Mapping[str, RunVerb], argv: Sequence[str]) -> int:
    """Run the sub-verb that ``argv`` names first; list them for `--help` or nothing; 2 for an unknown one."""
    name = argv[0] if argv else "--help"
    if name in subverbs:
        return subverbs[name](argv[1:])
    lines = {known: _first_line(run) for known, run in subverbs.items()}
    if name in ("-h", "--help"):
        sys.stdout.write(listing(f"usage: {prog} SUBVERB [options]", lines))
        return 0 if argv else EXIT_USAGE
    known = ", ".join(subverbs)
    sys.stderr.write(f"{prog}: unknown sub-verb '{name}'.{did_you_mean(name, subverbs)} Known: {known}.\n")
    return EXIT_USAGE


def listing(usage: str, lines: Mapping[str, str]) -> str:
    """Usage line and one line for each name."""
    width = max((len(name) for name in lines), default=0)
    rows = "".join(f"  {name:<{width}}  {text}\n" for name, text in lines.items())
    return f"{usage}\n\n{rows}\nAdd --help after a name for its options.\n"


def _first_line(run: RunVerb) -> str:
    return (inspect.getdoc(run) or "").partition("\n")[0]
