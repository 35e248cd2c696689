"""From a verb's work to an exit code, however the work ends, in the format asked for."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import typer

from policy_engine.cli.outcome import Exit, Outcome, failed
from policy_engine.cli.reporters import write
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import DataError, PolicyEngineError, PolicyWarning, Terminated, notes_of

CLOSED_PIPE = 141
"""As shells report a process that SIGPIPE ended."""


def command_of(verb: str, work: Callable[..., Outcome]) -> Callable[..., None]:
    """A verb as typer calls it: its work is done and reported.

    Raises `typer.Exit` with the exit code.
    """

    @functools.wraps(work)
    def run(**given: Any) -> None:
        try:
            with terminable():
                outcome = answer(lambda: work(**given))
            write(verb, outcome, given["format"])
        except BrokenPipeError:
            # Whoever read our output has what it wanted (`| head`). Python would complain once more while it exits.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(CLOSED_PIPE) from None
        raise typer.Exit(int(outcome.exit))

    # Python 3.14 copies what makes annotations, and `spread` has replaced them.
    run.__annotations__ = work.__annotations__
    return run


def answer(work: Callable[[], Outcome]) -> Outcome:
    """The outcome of the work, whatever happens in it.

    Warnings about policies that it loads come first.
    """
    with _policy_warnings() as found:
        outcome = _answer(work)
    # The work may report a warning itself; then it is not said twice.
    told = {_key(d) for d in outcome.diagnostics}
    more = {_key(d): d for d in found if _key(d) not in told}  # a policy may be loaded more than once
    return replace(outcome, diagnostics=(*more.values(), *outcome.diagnostics))


@contextmanager
def _policy_warnings() -> Iterator[list[Diagnostic]]:
    """Collects the findings of `PolicyWarning`s; other warnings go their way."""
    found: list[Diagnostic] = []
    with warnings.catch_warnings():
        # Python shows a warning once for each place in the code; each policy is its own reason.
        warnings.simplefilter("always", PolicyWarning)

        def keep(message: Warning | str, *place: Any, **_: Any) -> None:
            if isinstance(message, PolicyWarning) and message.diagnostic is not None:
                found.append(message.diagnostic)
            else:
                _warn(message, *place)

        warnings.showwarning = keep
        yield found


def _warn(message: Warning | str, category: type[Warning], filename: str, line: int, *_: Any) -> None:
    text = warnings.formatwarning(message, category, filename, line).rstrip("\n")
    _print_block(text)


def _print_block(text: str) -> None:
    # Imported here: pages of help print nothing this way, and need no rich.
    from rich.text import Text

    from policy_engine.cli.reporters.console import Block, print_all

    print_all([Block(Text(text))], stderr=True)


def _key(diagnostic: Diagnostic) -> tuple[str, str, str]:
    return diagnostic.code, str(diagnostic.span), diagnostic.message


def _answer(work: Callable[[], Outcome]) -> Outcome:
    try:
        return work()
    except PolicyEngineError as error:
        return failed(error)
    except KeyboardInterrupt as stop:
        return interrupted(stop)
    # An OSError, but about our own output: `command_of` ends quietly.
    except BrokenPipeError:
        raise
    except OSError as error:
        return failed(_from_os(error))
    except Exception as error:
        # A defect of ours. The traceback is what a report of it needs; the document stays valid for machines.
        _print_block(traceback.format_exc().rstrip("\n"))
        finding = Diagnostic(
            code="PE000",
            message="; ".join(
                ["policy-engine failed on this input; that is a defect of policy-engine", *notes_of(error)]
            ),
            help="report it with the traceback above and, if you can, the input",
        )
        return Outcome(exit=Exit.NO_ANSWER, diagnostics=(finding,))


def interrupted(stop: KeyboardInterrupt) -> Outcome:
    """The outcome of work that Ctrl-C or SIGTERM ended; `stop` says what is left of it.

    >>> interrupted(KeyboardInterrupt()).diagnostics[0].message
    'interrupted; nothing was written'
    """
    by_signal = isinstance(stop, Terminated)
    what = "terminated" if by_signal else "interrupted"
    finding = Diagnostic(code="PE504", message=f"{what}; {str(stop) or 'nothing was written'}")
    return Outcome(exit=Exit.TERMINATED if by_signal else Exit.INTERRUPTED, diagnostics=(finding,))


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM ends the work as Ctrl-C does, so that what is finished is kept."""
    # Handlers can be set in the main thread alone; tests run verbs in others.
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(number: int, frame: object) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        # None: a handler that was not set from Python.
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)


def _from_os(error: OSError) -> DataError:
    place = f"`{error.filename}`: " if error.filename is not None else ""
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    return DataError(f"{place}{reason}", help="check that the path exists, is readable or writable, and has room")
