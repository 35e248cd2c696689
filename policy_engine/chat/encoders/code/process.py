"""The process that runs a model's Python file, ended when it takes too long."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from policy_engine.core.errors import TemplateError, TemplateLimitError, TokenizerError

_CHILD: Final = Path(__file__).with_name("child.py")
# Four GiB of addresses: Python's libraries map a lot that they never touch.
_MEMORY: Final = 4 << 30
# One process answers for a whole run; single questions have the clock.
_CPU_SECONDS: Final = 24 * 3600
SECONDS: Final = 20.0
"""Seconds that one question may take, as the clock on the wall has it."""
_MOST: Final = 1 << 28
"""Most bytes of an answer."""


class EncoderProcess:
    """A file's `encode_messages` in a process of its own. Threads take turns."""

    def __init__(self, file: Path, *, seconds: float = SECONDS) -> None:
        self.file = file
        self._seconds = seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._hello: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # A pickle has no process: each worker starts its own when first asked.
        return EncoderProcess, (self.file,), {"_seconds": self._seconds}

    @property
    def parameters(self) -> dict[str, bool]:
        """The function's parameters behind the messages: True for one that may be left out.

        Raises TokenizerError if the file cannot be run.
        """
        with self._lock:
            self._started()
        return {str(name): bool(optional) for name, optional in self._hello["parameters"]}

    def texts(self, calls: Sequence[Mapping[str, Any]]) -> list[str | TemplateError]:
        """The text of each conversation, or the error that its code raised.

        Raises TemplateLimitError if they take too long or the process dies; the next call starts another.
        """
        with self._lock:
            process = self._started()
            results = self._ask(process, {"calls": list(calls)})["results"]
        return [
            found["text"] if "text" in found else TemplateError(str(found["error"]), help="change the conversation")
            for found in results
        ]

    def _started(self) -> subprocess.Popen[bytes]:
        process = self._process
        if process is not None and process.poll() is None:
            return process
        # Nothing of the environment: keys of other services are none of a model's business.
        process = self._process = subprocess.Popen(
            [sys.executable, "-I", "-B", str(_CHILD), str(self.file), str(_MEMORY), str(_CPU_SECONDS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"PATH": os.defpath, "PYTHONHASHSEED": "0"},
            cwd="/",
            start_new_session=True,
        )
        # Ends the process with the object, also where the interpreter exits.
        weakref.finalize(self, _end, process)
        try:
            self._hello = self._ask(process, None)
        except TemplateLimitError as error:
            raise TokenizerError(f"`{self.file}` does not start: {error.message}", help=error.help) from error
        if "error" in self._hello:
            _end(process)
            raise TokenizerError(
                f"`{self.file}` cannot be run: {self._hello['error']}",
                help="it needs a function `encode_messages(messages, …)`, and may not write, connect or start programs",
            )
        return process

    def _ask(self, process: subprocess.Popen[bytes], question: Any) -> dict[str, Any]:
        assert process.stdin is not None
        assert process.stdout is not None
        # Not the wall clock, which may be set while a row is waited for.
        until = time.monotonic() + self._seconds
        try:
            data = b"" if question is None else json.dumps(question).encode("ascii") + b"\n"
            line = _exchange(process.stdin.fileno(), process.stdout.fileno(), data, until)
            answer: dict[str, Any] = json.loads(line)
        except (OSError, ValueError, _TooLong) as error:
            _end(process)
            why = f"took longer than {self._seconds:g} s" if isinstance(error, _TooLong) else "ended without an answer"
            raise TemplateLimitError(
                f"`{self.file.name}` {why}", help="drop the row, or report it to those who made the encoder"
            ) from None
        return answer


class _TooLong(Exception):
    """An answer did not come in time, or is too large."""


def _exchange(into: int, out: int, data: bytes, until: float) -> bytes:
    """Writes a question and reads an answer of one line, both at once."""
    # A question of megabytes fills the pipe while the process writes its answer: both would wait for each other.
    os.set_blocking(into, False)
    got: list[bytes] = []
    size = 0
    while not got or not got[-1].endswith(b"\n"):
        left = until - time.monotonic()
        if left <= 0 or size > _MOST:
            raise _TooLong
        readable, writable, _ = select.select([out], [into] if data else [], [], left)
        if writable:
            # As much as the pipe takes; the rest in the next turn.
            data = data[os.write(into, data[: 1 << 16]) :]
        if readable:
            piece = os.read(out, 1 << 20)
            if not piece:
                raise OSError("the process ended")
            got.append(piece)
            size += len(piece)
    return b"".join(got)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
