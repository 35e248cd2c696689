"""Tasks on several processes: results in order, few tasks under way, a worker that dies is replaced."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from policy_engine.core.errors import DataError

Task = TypeVar("Task")
Result = TypeVar("Result")
AHEAD: Final = 2
"""Tasks under way per worker, those whose results wait for their turn included."""

_work: Callable[[Any], Any] | None = None
"""In a worker process: what it does with a task."""


@dataclass(eq=False)
class _Pending(Generic[Task]):
    task: Task
    future: Future[Any] | None
    """None where the task was under way when a worker died."""


def in_order(
    work: Callable[[Task], Result],
    tasks: Iterator[Task],
    *,
    workers: int = 1,
    describe: Callable[[Task], str] = str,
) -> Generator[tuple[Task, Result], None, None]:
    """Each task with its result, in the order of the tasks, by so many processes (1: this one).

    `work` pickles; a worker gets it once. Tasks are taken as results are, at most `AHEAD` per worker ahead. When a
    worker dies, the tasks that were under way run once more, one by one; one that ends its worker again is reported. If
    the consumer stops early, or Ctrl-C is pressed, the workers are killed.

    Raises:
        DataError: a task ended two workers; `describe` names it.
    """
    if workers == 1:
        for task in tasks:
            yield task, work(task)
        return
    pool = _Pool(pickle.dumps(work, protocol=pickle.HIGHEST_PROTOCOL), workers, describe)
    try:
        yield from pool.run(tasks)
    finally:
        pool.kill()


class _Pool(Generic[Task]):
    def __init__(self, work: bytes, workers: int, describe: Callable[[Task], str]) -> None:
        self._work = work
        self._workers = workers
        self._describe = describe
        self._pending: deque[_Pending[Task]] = deque()
        self._executor: ProcessPoolExecutor | None = None
        self._alone = False

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Any]]:
        more = True
        while True:
            while more and not self._alone and len(self._pending) < AHEAD * self._workers:
                task = next(tasks, None)
                more = task is not None
                if task is not None:
                    self._pending.append(_Pending(task, self._submit(task)))
            if not self._pending:
                if not more:
                    return
                continue
            head = self._pending[0]
            result = self._result(head)
            self._pending.popleft()
            yield head.task, result
            if self._alone and all(p.future is not None for p in self._pending):
                self._alone = False
                self.kill()

    def _result(self, head: _Pending[Task]) -> Any:
        if head.future is not None:
            try:
                return head.future.result()
            except BrokenProcessPool:
                self._stop_trusting()
        if head.future is not None:
            return head.future.result()
        if not self._alone:
            self._stop_trusting()
            self._alone = True
        future = self._submit(head.task)
        try:
            if future is None:
                raise BrokenProcessPool
            return future.result()
        except BrokenProcessPool:
            raise DataError(
                f"a worker process died twice on {self._describe(head.task)}: killed for memory, or the data crash it",
                help="run with fewer workers, or with one, to see the crash itself; a script that starts workers has "
                'to guard its own start with `if __name__ == "__main__":`',
            ) from None

    def _stop_trusting(self) -> None:
        """After a worker died: every task without a result runs again, alone."""
        self.kill()
        for pending in self._pending:
            done = pending.future
            if done is None or not done.done() or done.cancelled() or isinstance(done.exception(), BrokenProcessPool):
                pending.future = None

    def _submit(self, task: Task) -> Future[Any] | None:
        """None if a worker died meanwhile."""
        if self._executor is None:
            workers = 1 if self._alone else self._workers
            self._executor = ProcessPoolExecutor(
                workers,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(self._work, max(1, (os.cpu_count() or 1) // self._workers)),
            )
        try:
            # Processes start here; Ctrl-C is for this process, which ends them.
            with _interrupt_held():
                return self._executor.submit(_run, task)
        except BrokenProcessPool:
            return None

    def kill(self) -> None:
        """Ends the processes at once, whatever they are doing."""
        executor, self._executor = self._executor, None
        if executor is None:
            return
        processes = list((getattr(executor, "_processes", None) or {}).values())
        for process in processes:
            process.kill()
        executor.shutdown(wait=True, cancel_futures=True)


def _begin(work: bytes, threads: int) -> None:
    """In a new worker process."""
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        # A worker waits for tasks on a pipe that it holds open itself, so it would outlive a parent that was killed.
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))
    _work = pickle.loads(work)


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


def _run(task: Any) -> Any:
    assert _work is not None
    return _work(task)


@contextlib.contextmanager
def _interrupt_held() -> Iterator[None]:
    """Ctrl-C comes after the block; processes started in it never get it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
