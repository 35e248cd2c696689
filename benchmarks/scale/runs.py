"""One run over a file, in a process of its own that can be measured and killed.

Processes are looked up in /proc, so these benchmarks need Linux.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run to make.

    `threads` are those of the tokenizer in each process; `engine` is `local` or `ray`.
    """

    data: str
    out: str
    workers: int = 1
    engine: str = "local"
    backend: str = "reference"
    tokenizer: str = "qwen"
    span_bytes: int = 2 << 20
    threads: int = 1


@dataclass(frozen=True, kw_only=True)
class Done:
    """The course of a run.

    `steps` are seconds since its first line of code, and rows read until then, per shard.
    """

    rows: int
    begin: float
    """When the masker was made and reading began, on the same clock."""
    end: float
    steps: list[tuple[float, int]]

    @property
    def seconds(self) -> float:
        """From the beginning of reading to the end, start of workers included."""
        return self.end - self.begin

    @property
    def rows_per_second(self) -> float:
        """From the first shard to the last, so that starting up is apart."""
        (first, before), (last, after) = self.steps[0], self.steps[-1]
        return (after - before) / (last - first)


def tokenizer_threads(count: int) -> dict[str, str]:
    """The environment in which tokenizers use so many threads.

    One is a pool of one: without a pool, tokenizers 0.23 takes a quarter longer on the same core (memory of the calling
    thread is in pieces), and a second thread would seem to gain more than there is.
    """
    return {"RAYON_NUM_THREADS": str(count), "TOKENIZERS_PARALLELISM": "true"}


def start(run: Run) -> subprocess.Popen[str]:
    """A process with that run."""
    env = {**os.environ, **tokenizer_threads(run.threads)}
    command = [sys.executable, "-m", "benchmarks.scale.runs", json.dumps(asdict(run))]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def finish(process: subprocess.Popen[str]) -> Done:
    """The output of a run. Raises RuntimeError if it failed."""
    output, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the run ended with {process.returncode}: {errors[-2000:]}")
    data = json.loads(output.splitlines()[-1])
    return Done(**{**data, "steps": [(seconds, rows) for seconds, rows in data["steps"]]})


def go(run: Run) -> Done:
    """Runs it to the end."""
    return finish(start(run))


def descendants(pid: int) -> dict[int, str]:
    """A process and all that came of it, each with its command line."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents.setdefault(int(path.read_text().rsplit(")", 1)[1].split()[1]), []).append(int(path.parent.name))
        except OSError:
            continue
    found: dict[int, str] = {}
    todo = [pid]
    while todo:
        one = todo.pop()
        try:
            found[one] = Path(f"/proc/{one}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        todo += parents.get(one, ())
    return found


def peak_mb(pid: int) -> float | None:
    """The most memory a process had resident (its high-water mark), None if it is gone."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return None


def watch(process: subprocess.Popen[str], every: float = 0.1) -> Iterator[dict[int, str]]:
    """The processes of a run, again and again while it runs."""
    while process.poll() is None:
        yield descendants(process.pid)
        time.sleep(every)


def main(argument: str) -> None:
    """In the process of its own: prints a `Done` as JSON."""
    from benchmarks.corpus import CHATML, POLICY
    from policy_engine.chat.tokenizer import ChatTokenizer
    from policy_engine.cli.run import terminable
    from policy_engine.mask.masker import Masker
    from policy_engine.rules.compile import compile_text
    from policy_engine.run.apply import apply_dataset
    from policy_engine.run.ray import ray_engine
    from policy_engine.run.run_options import RunOptions
    from tests.support.tokenizers import load

    run = Run(**json.loads(argument))
    origin = time.perf_counter()
    loaded: Any = (
        "builtin" if run.tokenizer == "builtin" else ChatTokenizer.from_transformers(load(run.tokenizer), CHATML)
    )
    masker = Masker(compile_text(POLICY), loaded)
    steps: list[tuple[float, int]] = []

    def note(progress: Any) -> None:
        steps.append((time.perf_counter() - origin, progress.rows))

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background has ignored
    begin = time.perf_counter()
    options = RunOptions(resume=True, workers=run.workers, span_bytes=run.span_bytes, backend=run.backend)  # type: ignore[arg-type]
    engine = ray_engine(run.workers) if run.engine == "ray" else None
    with terminable():
        summary = apply_dataset(run.data, masker, run.out, options, engine=engine, progress=note)
    end = time.perf_counter()
    print(json.dumps({"rows": summary.rows_out, "begin": begin - origin, "end": end - origin, "steps": steps}))


if __name__ == "__main__":
    main(sys.argv[1])
