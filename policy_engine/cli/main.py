"""Entry point of the `policy-engine` script.

It sets up the process before anything of the command line is imported.
"""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import Final, NoReturn

from policy_engine.cli.frozen import compile_less
from policy_engine.core.memory import collect_rarely

_UNUSED: Final = frozenset({"regex", "interegular"})
"""Packages that Lark imports where they are installed, for what the grammar of policies does not have."""


def script() -> NoReturn:
    """Runs `main` for the script `policy-engine` and `python -m policy_engine`.

    Nothing of theirs comes after it. So the process ends at once, when all that Python does at the end was done but
    one thing: taking apart what is left, piece by piece. A program that goes on after a command calls `main`.
    """
    ended: list[int] = []
    # First, so that it is done last; not where somebody else comes after it. Python has no public count of them.
    if getattr(atexit, "_ncallbacks", lambda: 1)() == 0:
        atexit.register(_end, ended)
    try:
        main()
    except SystemExit as end:
        # Another kind of code is a message, which Python prints.
        if isinstance(end.code, int):
            ended.append(end.code)
        raise


def main() -> NoReturn:
    """Runs the command of this process's arguments, and raises SystemExit with its exit code."""
    collect_rarely()
    compile_less()
    _replace_closed()
    # In this process alone, which is the command line's: elsewhere other code may use Lark with them.
    sys.meta_path.insert(0, _WithoutUnused())
    from policy_engine.cli.app import run

    code = run(sys.argv[1:])
    # What is left is given back with the process: looking through it for garbage takes a tenth of a second.
    gc.freeze()
    sys.exit(code)


def _end(ended: list[int]) -> None:
    """Ends the process at once with the exit code in `ended`; where it is empty, Python ends it."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except Exception:
        return  # Python has its own words and exit code for that
    if ended:
        os._exit(ended[0])


class _WithoutUnused:
    """Hides packages of `_UNUSED` while Lark is imported; others import them as always."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        """See `importlib.abc.MetaPathFinder`."""
        lark = sys.modules.get("lark")
        # The package sets its version after its own imports.
        if name in _UNUSED and lark is not None and not hasattr(lark, "__version__"):
            raise ModuleNotFoundError(f"{name} is not needed", name=name)


def _replace_closed() -> None:
    """Puts the null device in the place of standard streams that are closed.

    A service may start a process without them. Else the first file that is opened gets their number, and what any
    library prints goes into it. `sys.stdin` stays None, so that reading from it is an error.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
