"""Ctrl-C while a tokenizer reads a huge text.

    >>> interruptible(len, ["a", "bc"])
    2

A tokenizer is one call of compiled code, and Python hears a signal only between calls: a row of 100 MB would keep
Ctrl-C waiting for a minute. The main thread therefore waits for such a call in another thread, and leaves it behind.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

Result = TypeVar("Result")
LONG: Final = 2 << 20
"""Characters of all texts together from which on the call has a thread of its own; about a second's work."""
_LOOKS: Final = 0.2
"""Seconds between two looks at the signals."""


def interruptible(call: Callable[[list[str]], Result], texts: Sequence[str]) -> Result:
    """`call(texts)`, which Ctrl-C ends at once for the caller, if the caller is the main thread.

    The call itself goes on in its thread until it is done or the process ends. Raises what the call raises.
    """
    given = list(texts)
    # Only the main thread hears signals; a thread for a short call would cost more than the call.
    if sum(map(len, given)) < LONG or threading.current_thread() is not threading.main_thread():
        return call(given)
    results: list[Result] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call(given))
        except BaseException as error:  # what Rust's panics are
            errors.append(error)

    # A daemon: a call that nobody waits for does not keep the process alive.
    thread = threading.Thread(target=work, name="tokenizer", daemon=True)
    thread.start()
    # A join without a limit would not be interrupted on Windows.
    while thread.is_alive():
        thread.join(_LOOKS)
    if errors:
        raise errors[0]
    return results[0]
