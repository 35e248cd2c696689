"""Entry point of the `policy-engine` script.

It sets up the process before anything of the command line is imported.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import Final

from policy_engine.cli.frozen import compile_less
from policy_engine.cli.garbage import collect_rarely

_UNUSED: Final = frozenset({"regex", "interegular"})
"""Packages that Lark imports where they are installed, for what the grammar of policies does not have."""


def main() -> None:
    """Runs the command of this process's arguments, and ends the process with its exit code."""
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
