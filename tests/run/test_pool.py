"""Several processes: the same results in order, workers that die, few tasks ahead, Ctrl-C."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from benchmarks.checksum import canonical_checksum
from policy_engine.chat.tokens import locator
from policy_engine.core.errors import DataError, RowError
from policy_engine.core.interrupt import interruptible
from policy_engine.run.processes import pool, worker
from policy_engine.run.processes.pool import AHEAD, in_order
from tests.run.support import apply_dataset, chat, masker, write_lines
from tests.run.test_shards import ROWS, run

ROOT = Path(__file__).parents[2]
LINUX = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the memory of a process in /proc")


def double(task):
    time.sleep(0.02 * (task % 3))
    return 2 * task


def threshold(_):
    return gc.get_threshold()[0]


def dies_once(task):
    """Kills its process for task 3, the first time."""
    number, marker = task
    if number == 3 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def dies_always(task):
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def fails(task):
    if task == 2:
        raise RowError("no good", help="mend it")
    return task


class DiesWhenLoaded:
    """Work that ends its worker while it is loaded, with more to load than a pipe holds."""

    def __init__(self, marker=None):
        self.marker = marker

    def __reduce__(self):
        return _die_loading, (self.marker, bytes(1 << 20))

    def __call__(self, task):
        return task


def _die_loading(marker, more):
    if marker is None or not marker.exists():
        if marker is not None:
            marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return DiesWhenLoaded(marker)


def dies_while_it_answers(task):
    """Sends half of its answer for task 3, the first time."""
    number, marker = task
    if number == 3 and not marker.exists():
        marker.touch()
        worker.send = _send_half
    return number


def _send_half(stream, data):
    stream.write((1 << 20).to_bytes(8, "big") + data)
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def test_order_is_kept_and_few_tasks_are_ahead():
    taken = []

    def tasks():
        for n in range(20):
            taken.append(n)
            yield n

    for done, (task, result) in enumerate(in_order(double, tasks(), workers=2)):
        assert (done, 2 * done) == (task, result)
        assert len(taken) <= done + 1 + 2 * AHEAD


def test_workers_look_for_garbage_rarely():
    assert [200_000] * 2 == [found for _, found in in_order(threshold, iter([1, 2]), workers=2)]


def test_a_worker_that_dies_is_replaced_and_its_task_done_again(tmp_path):
    tasks = ((n, tmp_path / "died") for n in range(12))
    assert list(range(12)) == [result for _, result in in_order(dies_once, tasks, workers=2)]
    assert (tmp_path / "died").exists()


def test_a_task_that_ends_two_workers_is_reported():
    results = in_order(dies_always, iter(range(12)), workers=2, describe=lambda task: f"number {task}")
    assert [0, 1, 2] == [next(results)[1] for _ in range(3)]
    with pytest.raises(DataError, match="died twice on number 3"):
        next(results)


def test_a_worker_that_dies_while_it_starts_is_replaced(tmp_path):
    work = DiesWhenLoaded(tmp_path / "died")
    assert list(range(6)) == [result for _, result in in_order(work, iter(range(6)), workers=2)]


def test_workers_that_never_start_are_an_error():
    with pytest.raises(DataError, match="does not start: it was ended by SIGKILL"):
        list(in_order(DiesWhenLoaded(), iter(range(6)), workers=2))


def test_a_worker_that_dies_while_it_answers_is_replaced(tmp_path):
    tasks = ((n, tmp_path / "died") for n in range(6))
    assert list(range(6)) == [result for _, result in in_order(dies_while_it_answers, tasks, workers=2)]


def test_where_tasks_break_off_the_results_before_come_first():
    def tasks():
        yield from range(3)
        raise DataError("the file breaks off")

    results = in_order(double, tasks(), workers=2)
    assert [0, 2, 4] == [next(results)[1] for _ in range(3)]
    with pytest.raises(DataError, match="breaks off"):
        next(results)


def test_errors_cross_processes():
    with pytest.raises(RowError, match="no good") as caught:
        list(in_order(fails, iter(range(5)), workers=2))
    assert "mend it" == caught.value.help


def test_two_processes_write_what_one_writes(tmp_path):
    data = write_lines(tmp_path / "in.jsonl", ROWS)
    one = run(data, tmp_path / "one")
    two = run(data, tmp_path / "two", workers=2)
    assert {**one.to_json(), "output": ""} == {**two.to_json(), "output": ""}
    for path in (tmp_path / "one").glob("part-*"):
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()
    assert canonical_checksum(tmp_path / "one") == canonical_checksum(tmp_path / "two")
    a = apply_dataset(data, masker(), tmp_path / "one.parquet", batch_size=5)
    b = apply_dataset(data, masker(), tmp_path / "two.parquet", batch_size=5, workers=2)
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert {**a.to_json(), "output": ""} == {**b.to_json(), "output": ""}


SCRIPT = """
import functools, signal, sys
from pathlib import Path
from policy_engine.run import folder
from tests.run.test_shards import run
folder.inline_spans = functools.partial(folder.inline_spans, size=60)
if __name__ == "__main__":
    # A job in the background has SIGINT ignored, and its children inherit that; at a terminal they do not.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run("-", Path(sys.argv[1]), workers=2, progress=lambda p: print("step", flush=True))
    except KeyboardInterrupt as stop:
        print("stop:", stop)
        sys.exit(130)
"""


def _script(tmp_path, text, *arguments):
    script = tmp_path / "script.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, str(script), *map(str, arguments)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=100,
    )  # fmt: skip


def test_a_script_needs_no_guard_around_its_start(tmp_path):
    data = write_lines(tmp_path / "in.jsonl", ROWS)
    text = (
        "import sys\nfrom tests.run.test_shards import run\nprint(run(sys.argv[1], sys.argv[2], workers=2).rows_out)\n"
    )
    done = _script(tmp_path, text, data, tmp_path / "out")
    assert (0, f"{run(data, tmp_path / 'one').rows_out}\n") == (done.returncode, done.stdout), done.stderr


OWN_CLASS = """
import sys
from policy_engine.core.errors import DataError
from policy_engine.run.processes.pool import in_order
class Own:
    def __call__(self, task):
        print("noise")
        return -task
if sys.argv[1] == "fails" and __name__ != "__main__":
    raise ValueError("no second time")
if __name__ == "__main__":
    try:
        print([result for _, result in in_order(Own(), iter([1, 2]), workers=2)])
    except DataError as error:
        print(error)
"""


def test_work_of_a_class_of_the_script_itself(tmp_path):
    assert "[-1, -2]\n" == _script(tmp_path, OWN_CLASS, "works").stdout
    told = _script(tmp_path, OWN_CLASS, "fails").stdout
    assert "a worker process does not start: ValueError: no second time" in told


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_ctrl_c_ends_workers_and_leaves_whole_files(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "out")], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    line = json.dumps(ROWS[0]) + "\n"
    process.stdin.write(line * 260)
    process.stdin.flush()
    assert "step\n" == process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert 130 == process.returncode, err
    assert "whole shards" in out
    assert "Traceback" not in err
    assert {".parquet", ".jsonl"} == {path.suffix for path in (tmp_path / "out").iterdir()}
    deadline = time.monotonic() + 20
    while _alive(process.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [] == _alive(process.pid)


def _alive(group):
    """Processes of a group that are not only waiting to be reaped."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = path.read_text().rsplit(")", 1)[1].split()[:3]
        except OSError:
            continue
        if int(its_group) == group and state != "Z":
            found.append(path.parent.name)
    return found


class Sums:
    """Sums lists of numbers; a 3 ends its worker, and so does a list of more than four numbers."""

    def __call__(self, task):
        if 3 in task or len(task) > 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return sum(task)

    def pieces(self, task):
        return [[number] for number in task]

    def joined(self, results):
        return sum(results)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_task_that_ends_two_workers_is_done_piece_by_piece(monkeypatch, workers):
    monkeypatch.setattr(pool, "is_memory_bounded", lambda: True)
    work = Sums()
    tasks = [[1, 2], [5, 5, 5, 5, 5], [2, 3, 4], [7]]
    results = in_order(work, iter(tasks), workers=workers, describe=str, division=work)
    assert [3, 25] == [next(results)[1] for _ in range(2)]
    with pytest.raises(DataError, match=r"died twice on \[3\] \(it was ended by SIGKILL\): the bound of its memory"):
        next(results)


def _bound_memory():
    """Leaves this process 64 MB more than it has."""
    import resource  # not on Windows

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    bound = used + (64 << 20)
    resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


class BoundForLongTexts:
    """Where this is loaded, a tokenizer's call for a long text has little memory."""

    def __reduce__(self):
        return _bound_for_long_texts, ()


def _bound_for_long_texts():
    def bounded(call, texts):
        def bound_call(given):
            if sum(map(len, given)) > 1 << 20:
                _bound_memory()
            return call(given)

        return interruptible(bound_call, texts)

    locator.interruptible = bounded
    return BoundForLongTexts()


@LINUX
def test_with_bounded_memory_a_run_of_one_process_says_which_row_ends_it(tmp_path, monkeypatch):
    """The allocation of a tokenizer that fails ends its process; the run goes on to say so."""
    # One allocation for 6 million characters is of 16 bytes each, 96 MB, whatever else is free.
    lines = [{"messages": chat(f"q{n}", "x" * (6_000_000 if n == 5 else 5))} for n in range(8)]
    data = write_lines(tmp_path / "chats.jsonl", lines)
    monkeypatch.setattr(pool, "is_memory_bounded", lambda: True)
    # Threads of Rust take memory of their own when they start.
    monkeypatch.setenv("RAYON_NUM_THREADS", "1")
    bound = masker()
    bound.of_workers = BoundForLongTexts()
    with pytest.raises(DataError, match=r"died twice on row 6 \(it was ended by SIGABRT\): the bound of its memory"):
        apply_dataset(data, bound, tmp_path / "out.jsonl", batch_size=4)
    assert ["chats.jsonl", "out.partial.jsonl"] == sorted(path.name for path in tmp_path.iterdir())
    assert 4 == len((tmp_path / "out.partial.jsonl").read_text().splitlines())


class Bounded:
    """Work that bounds the memory of its worker."""

    def __reduce__(self):
        return _bounded, ()

    def __call__(self, task):
        if task == "fill":
            bytearray(128 << 20)
        return len(task)


def _bounded():
    _bound_memory()
    return Bounded()


@LINUX
@pytest.mark.parametrize("task", [bytes(128 << 20), "fill"], ids=["received", "done"])
def test_a_task_beyond_the_memory_of_a_worker_is_reported(monkeypatch, task):
    monkeypatch.setattr(pool, "is_memory_bounded", lambda: True)
    results = in_order(Bounded(), iter([b"a", task]), describe=lambda task: f"{len(task):,} bytes")
    with _at_most(60):  # a pool that waits for ever ends no test run
        assert 1 == next(results)[1]
        with pytest.raises(DataError, match=rf"died twice on {len(task):,} bytes \(it ended with exit code 1\)"):
            next(results)


@contextlib.contextmanager
def _at_most(seconds):
    def stop(number, frame):
        raise TimeoutError(f"not done after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_threads_that_cannot_start_leave_their_own_error(monkeypatch):
    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        next(in_order(double, iter([1]), workers=2))
