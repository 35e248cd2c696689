"""A worker process of `pool`.

Tasks come on its standard input, results go to its standard output.

    parent → worker    Main or None, then the work (both pickled), then one task after the other
    parent ← worker    an Answer once the work is loaded, then one for each task

It is a plain Python process that runs nothing of the script that started it, so that a script needs no guard around its
own start. Only where the work pickles as a class of `__main__`, that script is run once more, as `__mp_main__`.
"""

from __future__ import annotations

import os
import pickle
import queue
import runpy
import signal
import struct
import sys
import threading
import traceback
from dataclasses import dataclass
from types import ModuleType
from typing import IO, Any, Final

from policy_engine.core.memory import collect_rarely

_SIZE: Final = struct.Struct(">Q")
_MAIN: Final = "__mp_main__"
"""Name under which `__main__` is run in a worker, as multiprocessing calls it."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The result of a task, or the error that it raised, with its traceback in words.

    The first answer is about loading the work: it has no result, and after an error the process ends.
    """

    result: Any = None
    error: Exception | None = None
    traceback: str = ""


class Gone(Exception):
    """The process at the other end of a pipe has ended."""


def send(stream: IO[bytes], data: bytes) -> None:
    """Writes one message. Raises Gone if nobody can read it.

    >>> import io
    >>> pipe = io.BytesIO()
    >>> send(pipe, b"task")
    >>> pipe.getvalue()
    b'\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x04task'
    """
    try:
        stream.write(_SIZE.pack(len(data)))
        stream.write(data)
        stream.flush()
    except (OSError, ValueError):  # ValueError: closed by another thread
        raise Gone from None


def receive(stream: IO[bytes]) -> bytes:
    """Reads one message. Raises Gone if it does not come, or not whole.

    >>> import io
    >>> receive(io.BytesIO(b"\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x04task"))
    b'task'
    """
    try:
        head = stream.read(_SIZE.size)
        if len(head) < _SIZE.size:
            raise Gone
        (size,) = _SIZE.unpack(head)
        data = stream.read(size)
    except (OSError, ValueError):
        raise Gone from None
    if len(data) < size:
        raise Gone
    return data


@dataclass(frozen=True, kw_only=True)
class Main:
    """The `__main__` of the parent, for a worker to run: a module's name, else a path.

    Neither for an interactive parent.
    """

    module: str | None
    path: str | None
    arguments: tuple[str, ...]

    @staticmethod
    def here() -> Main:
        """That of this process."""
        main = sys.modules["__main__"]
        spec, path = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        return Main(
            module=None if spec is None else spec.name,
            path=None if path is None else os.path.abspath(path),
            arguments=tuple(sys.argv),
        )

    def run(self) -> None:
        """Runs it under a name that is not `__main__`.

        `if __name__ == "__main__":` tells the two apart.
        """
        if self.module is None and self.path is None:
            return
        # The script may read its arguments while it defines what the work needs.
        sys.argv[:] = self.arguments
        found = (
            runpy.run_module(self.module, run_name=_MAIN)
            if self.module is not None
            else runpy.run_path(str(self.path), run_name=_MAIN)
        )
        made = ModuleType(_MAIN)
        made.__dict__.update(found)
        # Under both names: pickles of the parent say `__main__`, classes made here say `__mp_main__`.
        sys.modules["__main__"] = sys.modules[_MAIN] = made


def serve() -> None:
    """In a new process: loads the work and does tasks until its standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    # Before any code of the user runs: a `print` there would break the protocol.
    tasks, results = _own_streams()
    collect_rarely()
    try:
        main, work = pickle.loads(receive(tasks)), receive(tasks)
    except Gone:
        os._exit(1)
    try:
        if main is not None:
            main.run()
        do = pickle.loads(work)
    except BaseException as error:  # SystemExit too: the script of the user may raise anything
        _answer(results, Answer(error=RuntimeError(_in_words(error)), traceback=traceback.format_exc()))
        os._exit(1)
    _answer(results, Answer())
    for task in _listen(tasks):
        try:
            answer = Answer(result=do(pickle.loads(task)))
        except MemoryError:
            os._exit(1)  # as where compiled code runs out of memory: the parent looks for the piece that is too large
        except Exception as error:
            answer = Answer(error=error, traceback=traceback.format_exc())
        _answer(results, answer)


def _own_streams() -> tuple[IO[bytes], IO[bytes]]:
    """The two pipes, moved away from standard input and output.

    There neither the work nor a process that it starts reads or prints by accident.
    """
    tasks, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    try:
        os.dup2(2, 1)
    except OSError:  # standard error is closed
        os.dup2(nothing, 1)
    return tasks, results


def _listen(tasks: IO[bytes]) -> Any:
    """The tasks as they come.

    A thread waits for them, so that a worker ends with its parent even while it works. It also ends where a task does
    not fit into its memory.
    """
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def listen() -> None:
        try:
            while True:
                inbox.put(receive(tasks))
        except (Gone, MemoryError):  # without this thread the worker and its parent would wait for each other
            os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
    return iter(inbox.get, None)


def _answer(results: IO[bytes], answer: Answer) -> None:
    try:
        data = pickle.dumps(answer, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:
        # A result, or an error with odd arguments, that does not pickle: its words still do.
        given = error if answer.error is None else answer.error
        told = RuntimeError(_in_words(given))
        data = pickle.dumps(Answer(error=told, traceback=traceback.format_exc()), protocol=pickle.HIGHEST_PROTOCOL)
    try:
        send(results, data)
    except Gone:
        os._exit(1)


def _in_words(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
