"""Tasks on several processes, with results in order and few tasks under way.

A worker that dies is replaced. One thread feeds each worker and waits for its answers, over pipes that no other process
holds: a worker that dies, at whatever moment, is noticed at once by the end of its pipe.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import IO, Any, Final, Generic, Protocol, TypeVar

from policy_engine.core.errors import DataError
from policy_engine.core.memory import is_memory_bounded
from policy_engine.run.processes.worker import Answer, Gone, Main, receive, send

Task = TypeVar("Task")
Result = TypeVar("Result")
AHEAD: Final = 2
"""Tasks under way per worker, those whose results wait for their turn included."""
_STARTS: Final = 3
"""Times in a row that workers may die while they start."""
_COMMAND: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv.pop()); "
    "from policy_engine.run.processes.worker import serve; serve()"
)  # fmt: skip


class Division(Protocol[Task, Result]):
    """Divides a task into smaller ones, so that one that ends its worker is found among them."""

    def pieces(self, task: Task, /) -> Sequence[Task]:
        """Tasks that together are this one; the task alone if it cannot be divided."""

    def joined(self, results: Sequence[Result], /) -> Result:
        """The result of a task, from those of all its pieces."""


def in_order(
    work: Callable[[Task], Result],
    tasks: Iterator[Task],
    *,
    workers: int = 1,
    describe: Callable[[Task], str] = str,
    division: Division[Task, Result] | None = None,
) -> Generator[tuple[Task, Result], None, None]:
    """Each task with its result, in the order of the tasks, done by `workers` processes.

    1 is this process. Where its memory is bounded it is one worker, so that this process can report a task that went
    beyond. `work` pickles; a worker gets it once. Tasks are taken as results are, at most `AHEAD` per worker ahead. The
    task of a worker that dies runs once more, alone. If it ends that worker too, it runs piece by piece (`division`),
    and the piece that ends a third worker is reported. If `tasks` raises, the results of the tasks before come first.
    If the consumer stops early, or Ctrl-C is pressed, the workers are killed.

    Raises:
        DataError: a task ended its workers, `describe` names it or its piece; or workers do not start.

    >>> list(in_order(len, iter(["ab", "c"])))
    [('ab', 2), ('c', 1)]
    """
    if workers == 1 and not is_memory_bounded():
        # No processes at all: errors have their own traceback, and a debugger steps into the work.
        for task in tasks:
            yield task, work(task)
        return
    # Pickled once, for all workers: the work has the compiled policy and the tokenizer.
    pool: _Pool[Task] = _Pool(pickle.dumps(work, protocol=pickle.HIGHEST_PROTOCOL), workers, describe, division)
    try:
        yield from pool.run(tasks)
    finally:
        pool.kill()


class _Pending(Generic[Task]):
    def __init__(self, task: Task) -> None:
        self.task = task
        self.answer: Answer | None = None
        self.has_ended_a_worker = False


class _Pool(Generic[Task]):
    def __init__(
        self, work: bytes, workers: int, describe: Callable[[Task], str], division: Division[Task, Any] | None
    ) -> None:
        self._work = work
        self._size = workers
        self._describe = describe
        self._division = division
        self._changed = threading.Condition()
        """Held for all that follows; notified when any of it changes."""
        self._waiting: deque[_Pending[Task]] = deque()
        self._suspects: deque[_Pending[Task]] = deque()
        """Tasks whose worker died: each runs when nothing else does, in case they were too much together."""
        self._busy = 0
        self._alone = False
        self._failed_starts = 0
        self._threads: list[threading.Thread] = []
        self._workers: list[_Worker] = []
        self._closed = False

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Any]]:
        pending: deque[_Pending[Task]] = deque()
        more, broken = True, None
        while True:
            # Bounded, so that a fast reader does not fill the memory with rows that wait.
            while more and len(pending) < AHEAD * self._size:
                try:
                    pending.append(_Pending(next(tasks)))
                except StopIteration:
                    more = False
                except Exception as error:
                    more, broken = False, error
                else:
                    self._add(pending[-1])
            if not pending:
                if broken is not None:
                    raise broken
                return
            # In order: a result that is ready early waits here until those before it are taken.
            head = pending.popleft()
            yield head.task, self._result(head)

    def kill(self) -> None:
        """Ends the processes at once, whatever they are doing."""
        with self._changed:
            self._closed = True
            for worker in self._workers:
                worker.kill()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _add(self, pending: _Pending[Task]) -> None:
        with self._changed:
            self._waiting.append(pending)
            self._changed.notify_all()
            # Workers start as tasks come: a small input does not pay for processes that would do nothing.
            if len(self._threads) < self._size and len(self._waiting) + self._busy > len(self._threads):
                thread = threading.Thread(target=self._feed, daemon=True)
                thread.start()
                # Only now: `kill` waits for these, and one that cannot start (no memory for it) never ends.
                self._threads.append(thread)

    def _result(self, pending: _Pending[Task]) -> Any:
        with self._changed:
            while pending.answer is None:
                self._changed.wait(1.0)  # with an end, since Windows hears Ctrl-C only between waits
        answer = pending.answer
        if answer.error is not None:
            if answer.traceback:
                raise answer.error from RuntimeError(f"in a worker process\n{answer.traceback}")
            raise answer.error
        return answer.result

    def _feed(self) -> None:
        """In a thread: gives tasks to one worker after the other, each until it dies."""
        if hasattr(signal, "pthread_sigmask"):
            # Processes that this thread starts inherit the mask: Ctrl-C is for this process, which ends them.
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        worker: _Worker | None = None
        while (pending := self._take()) is not None:
            try:
                worker = worker or self._start()
            except Exception as error:
                known = error if isinstance(error, _NoStart) else _NoStart(f"{error!r}", is_certain=True)
                self._give_back(pending, known)
                continue
            try:
                answer = worker.ask(pickle.dumps(pending.task, protocol=pickle.HIGHEST_PROTOCOL))
            except Gone:
                how = worker.end()
                worker = None
                if pending.has_ended_a_worker:
                    self._finish(pending, self._piece_by_piece(pending.task, how))
                else:
                    self._died(pending)
            except Exception as error:  # the task does not pickle
                self._finish(pending, Answer(error=error))
            else:
                self._finish(pending, answer)
        if worker is not None:
            worker.end()

    def _take(self) -> _Pending[Task] | None:
        """The next task that may run now; None when the pool is closed."""
        with self._changed:
            while not self._closed:
                if self._suspects and not self._busy:
                    self._busy, self._alone = 1, True
                    return self._suspects.popleft()
                if self._waiting and not self._suspects and not self._alone:
                    self._busy += 1
                    return self._waiting.popleft()
                self._changed.wait()
        return None

    def _finish(self, pending: _Pending[Task], answer: Answer) -> None:
        with self._changed:
            pending.answer = answer
            self._let_go()

    def _died(self, pending: _Pending[Task]) -> None:
        """After a task ended its worker: it runs again, alone."""
        with self._changed:
            pending.has_ended_a_worker = True
            self._suspects.append(pending)
            self._let_go()

    def _piece_by_piece(self, task: Task, how: str) -> Answer:
        """The answer to a task that ended two workers, `how` the second.

        It is that of all its pieces, or the error that names the piece that ends a worker.
        """
        pieces = self._division.pieces(task) if self._division else (task,)
        if self._division is None or len(pieces) == 1:
            return Answer(error=_deadly(self._describe(task), how))
        results = []
        try:
            worker = self._start()
            for piece in pieces:
                try:
                    answer = worker.ask(pickle.dumps(piece, protocol=pickle.HIGHEST_PROTOCOL))
                except Gone:
                    return Answer(error=_deadly(self._describe(piece), worker.end()))
                if answer.error is not None:
                    worker.end()
                    return answer
                results.append(answer.result)
            worker.end()
            return Answer(result=self._division.joined(results))
        except _NoStart as error:
            return _not_started(error)
        except Exception as error:  # what a thread raises would be lost
            return Answer(error=error)

    def _give_back(self, pending: _Pending[Task], error: _NoStart) -> None:
        """After a worker did not start: its task goes to another, unless that is in vain."""
        with self._changed:
            # A certain failure (a module that does not import) is not tried again; a worker that was killed may have
            # met a shortage of memory that has passed.
            self._failed_starts += 1
            if error.is_certain or self._failed_starts >= _STARTS:
                pending.answer = _not_started(error)
            elif pending.has_ended_a_worker:
                self._suspects.appendleft(pending)
            else:
                self._waiting.appendleft(pending)
            self._let_go()

    def _let_go(self) -> None:
        self._busy -= 1
        self._alone = False
        self._changed.notify_all()

    def _start(self) -> _Worker:
        # The tokenizers package has threads of its own in each process: together they take the CPUs once.
        worker = _Worker(max(1, (os.cpu_count() or 1) // self._size))
        with self._changed:
            self._workers = [w for w in self._workers if not w.has_ended()]
            self._workers.append(worker)
            # Closed while the process was starting: `kill` did not see it.
            if self._closed:
                worker.kill()
        worker.begin(self._work)
        with self._changed:
            self._failed_starts = 0
        return worker


def _deadly(task: str, how: str) -> DataError:
    """The error for a task that ends each worker that takes it."""
    bound = "the bound of its memory (`ulimit -v`)" if is_memory_bounded() else "killed for memory"
    return DataError(
        f"a worker process died twice on {task} ({how}): {bound}, or the data crash it",
        help="give more memory or fewer workers, or take what is so large out of the data",
    )


def _not_started(error: _NoStart) -> Answer:
    reason = DataError(
        f"a worker process does not start: {error}",
        help="run with one worker, or with more memory; the traceback of the worker, if it left one, is above",
    )
    return Answer(error=reason, traceback=error.traceback)


class _NoStart(Exception):
    """A worker did not start. `is_certain` where the next one would not either."""

    def __init__(self, reason: str, *, is_certain: bool, traceback: str = "") -> None:
        super().__init__(reason)
        self.is_certain = is_certain
        self.traceback = traceback


class _Worker:
    """A process that runs `worker.serve`."""

    def __init__(self, threads: int) -> None:
        path = json.dumps([str(entry) for entry in sys.path])
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _COMMAND, path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # The user's own setting of the variable wins.
                env={"RAYON_NUM_THREADS": str(threads), **os.environ},
                # On Windows Ctrl-C goes to all processes of a group.
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )
        except (OSError, ValueError) as error:
            # BlockingIOError is "too many processes just now"; anything else comes again.
            raise _NoStart(f"{error}", is_certain=not isinstance(error, BlockingIOError)) from None

    def has_ended(self) -> bool:
        """True if the process is gone."""
        return self._process.poll() is not None

    def begin(self, work: bytes) -> None:
        """Loads the work. Raises _NoStart."""
        # The name is in a pickle only where a class or function of the user's script is.
        main = Main.here() if b"__main__" in work else None
        try:
            send(self._stdin, pickle.dumps(main))
            loaded = self.ask(work)
        except Gone:
            raise _NoStart(self.end(), is_certain=False) from None
        if loaded.error is not None:
            self.end()
            raise _NoStart(str(loaded.error), is_certain=True, traceback=loaded.traceback)

    def ask(self, task: bytes) -> Answer:
        """The answer to the pickled work or a task. Raises Gone if the worker dies before."""
        send(self._stdin, task)
        answer = pickle.loads(receive(self._stdout))
        assert isinstance(answer, Answer)
        return answer

    def kill(self) -> None:
        """Ends the process at once."""
        with contextlib.suppress(OSError):
            self._process.kill()

    def end(self) -> str:
        """Ends the process if it runs; says how it ended."""
        self.kill()
        # Reaped here, so that no dead process is left behind.
        code = self._process.wait()
        for stream in (self._stdin, self._stdout):
            with contextlib.suppress(OSError):  # what was not sent cannot be any more
                stream.close()
        if code >= 0:
            return f"it ended with exit code {code}"
        with contextlib.suppress(ValueError):
            return f"it was ended by {signal.Signals(-code).name}"
        return f"it was ended by signal {-code}"

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _stdout(self) -> IO[bytes]:
        assert self._process.stdout is not None
        return self._process.stdout
