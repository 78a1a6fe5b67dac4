"""The `finevla` command: finds the verb, runs it, and turns errors into messages and exit codes.

A verb is an entry point of the group ``finevla.verbs``: ``name = "module:function [extra]"``. The function is
``def function(argv: Sequence[str]) -> int``: it gets what follows the verb, reads it with
``finevla_runtime.cli.options.parse`` (or hands it on with ``dispatch`` where there are sub-verbs) and returns the exit
code. The first line of its docstring is its line in `finevla --help`. The core imports no verb before it is asked for.

Exit codes: 0 done; 1 a coded error, a missing library, or the verb's own verdict; 2 bad usage; 130 Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

import finevla_runtime
from finevla_runtime.cli import private_driver
from finevla_runtime.cli.extras import extra_for, install_command
from finevla_runtime.cli.options import EXIT_USAGE, listing
from finevla_runtime.cli.verbs import Verb, did_you_mean, installed_verbs
from finevla_runtime.contracts.errors import FineVLAError

EXIT_ERROR = 1
EXIT_INTERRUPTED = 130
_OURS = ("finevla_runtime", "policy_server", "sim_eval", "training")


def main(argv: Sequence[str] | None = None) -> int:
    """Run `finevla`; return its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbs = {verb.name: verb for verb in installed_verbs()}
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(_help(verbs))
        return 0 if arguments else EXIT_USAGE
    if arguments[0] in ("-V", "--version"):
        sys.stdout.write(f"finevla-runtime {finevla_runtime.__version__}\n")
        return 0
    name, *rest = arguments
    if name not in verbs:
        return _fail(f"unknown verb '{name}'.{did_you_mean(name, verbs)} Known: {', '.join(verbs)}.", EXIT_USAGE)
    if argv is None:
        private_driver.restart_with_driver()
    return run_verb(verbs[name], rest)


def run_verb(verb: Verb, argv: Sequence[str]) -> int:
    """Run one verb; every error a user can cause becomes one message on stderr."""
    try:
        return verb.load()(argv)
    except KeyboardInterrupt:
        return _fail("stopped by Ctrl-C", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # The reader of a pipe went away (`finevla report | head`); writing more would only fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_ERROR
    except FineVLAError as error:
        if _wants_traceback():
            raise
        return _fail(str(error), EXIT_ERROR, prefix="")
    except OSError as error:
        # A full disk, a folder that is a file, a place where nothing may be written: only the system knows before.
        if _wants_traceback() or error.filename is None:
            raise
        return _fail(f"{error.filename}: {error.strerror}. Choose another path, or mend this one.", EXIT_ERROR)
    except ModuleNotFoundError as error:
        if _wants_traceback() or not error.name:
            raise
        return _fail(_missing(verb, error.name), EXIT_ERROR)


def _missing(verb: Verb, module: str) -> str:
    if module.partition(".")[0] in _OURS:
        return f"'{verb.name}' is not part of this installation (no module {module}); reinstall finevla-runtime."
    extra = extra_for(module, verb.extra)
    brought = f" It comes with 'finevla-runtime[{extra}]'." if extra else ""
    return f"'{verb.name}' needs the library {module}.{brought} Run: {install_command(extra)}"


def _help(verbs: Mapping[str, Verb]) -> str:
    usage = f"finevla-runtime {finevla_runtime.__version__}\nusage: finevla VERB [options]"
    return listing(usage, {name: verb.summary() for name, verb in verbs.items()})


def _fail(message: str, code: int, prefix: str = "finevla: ") -> int:
    sys.stderr.write(f"{prefix}{message}\n")
    return code


def _wants_traceback() -> bool:
    return os.environ.get("FINEVLA_TRACEBACK", "") not in ("", "0")


if __name__ == "__main__":
    raise SystemExit(main())
