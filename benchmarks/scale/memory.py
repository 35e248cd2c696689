"""The memory of all processes of a run, over a small input and a large one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.corpus import write_lines
from benchmarks.results import table
from benchmarks.scale.runs import Run, finish, peak_mb, start, watch

BAR = 1.10
ONCE = 1_000


def measure(
    folder: Path,
    *,
    sizes: list[float],
    workers: list[int],
    backend: str,
    kept: dict[str, Any] | None,
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Sum of the peaks of all processes, in MB; shared pages count once for each process.

    An input of more than `ONCE` MB is run once, with the most workers. Runs in `kept` are not made again.
    """
    found: list[dict[str, Any]] = list(kept["runs"]) if kept is not None and kept["backend"] == backend else []
    measured = {(run["megabytes"], run["workers"]) for run in found}
    for megabytes in sizes:
        counts = [max(workers)] if megabytes > ONCE else workers
        missing = [count for count in counts if (megabytes, count) not in measured]
        if not missing:
            continue
        data = folder / "memory.jsonl"
        rows = write_lines(data, megabytes)
        for count in missing:
            out = folder / "memory"
            run = Run(data=str(data), out=f"{out}/", workers=count, backend=backend)
            process = start(run)
            peaks: dict[int, float] = {}
            for processes in watch(process):
                for pid in processes:
                    peaks[pid] = max(peaks.get(pid, 0.0), peak_mb(pid) or 0.0)
            done = finish(process)
            found.append(
                {
                    "megabytes": megabytes,
                    "rows": rows,
                    "workers": count,
                    "processes": len(peaks),
                    "peak": sum(peaks.values()),
                    "seconds": done.seconds,
                }
            )
            shutil.rmtree(out)
            print(found[-1], flush=True)
            keep({"backend": backend, "runs": found})
        data.unlink()
    return {"backend": backend, "runs": found}


def show(found: dict[str, Any]) -> str:
    """The table."""
    head = ("input", "rows", "workers", "processes", "peak of all, MB", "of the first input")
    first = {run["workers"]: run["peak"] for run in reversed(found["runs"])}
    rows = [
        (
            f"{run['megabytes']:,.0f} MB",
            f"{run['rows']:,}",
            run["workers"],
            run["processes"],
            f"{run['peak']:,.0f}",
            f"{run['peak'] / first[run['workers']]:.2f}",
        )
        for run in found["runs"]
    ]
    return table(head, rows)


def met(found: dict[str, Any]) -> bool:
    """True if no input takes more than the bar beyond the first."""
    first = {run["workers"]: run["peak"] for run in reversed(found["runs"])}
    return all(run["peak"] <= BAR * first[run["workers"]] for run in found["runs"])
