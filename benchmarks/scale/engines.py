"""One process, two, Ray, and a run that was killed: equal rows, and the speed of Ray."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

from benchmarks.checksum import canonical_checksum
from benchmarks.corpus import write_lines
from benchmarks.results import table
from benchmarks.scale.runs import Run, finish, go, start

BAR = 0.85
_SPAN = 1 << 20


def checksums(folder: Path, *, megabytes: float, backend: str) -> dict[str, Any]:
    """The canonical checksum of each kind of run over one input."""
    data = folder / "input.jsonl"
    rows = write_lines(data, megabytes)
    found: dict[str, str] = {}
    kinds = {
        "1 process": Run(data=str(data), out="", span_bytes=_SPAN),
        "2 processes": Run(data=str(data), out="", span_bytes=_SPAN, workers=2),
        f"2 processes, backend {backend}": Run(data=str(data), out="", span_bytes=_SPAN, workers=2, backend=backend),
        "Ray, 2 actors": Run(data=str(data), out="", span_bytes=_SPAN, workers=2, engine="ray"),
        "killed and resumed": Run(data=str(data), out="", span_bytes=_SPAN, workers=2),
    }
    for name, run in kinds.items():
        out = folder / "out"
        run = Run(**{**vars(run), "out": f"{out}/"})
        if name == "killed and resumed":
            process = start(run)
            while process.poll() is None and len(list(out.glob("part-*"))) < 3:
                pass
            process.send_signal(signal.SIGKILL)
            process.communicate()
        go(run)
        found[name] = canonical_checksum(out)
        shutil.rmtree(out)
    return {"megabytes": megabytes, "rows": rows, "checksums": found}


def show_checksums(found: dict[str, Any]) -> str:
    """The table."""
    rows = [(name, f"`{value[:16]}…`") for name, value in found["checksums"].items()]
    return f"{found['rows']:,} rows.\n\n{table(('run', 'canonical checksum'), rows)}"


def met_checksums(found: dict[str, Any]) -> bool:
    """True if all are the same."""
    return len(set(found["checksums"].values())) == 1


def ray(folder: Path, *, megabytes: float, workers: int) -> dict[str, Any]:
    """Rows per second of so many processes and of as many Ray actors, first to last shard."""
    data = folder / "input.jsonl"
    rows = write_lines(data, megabytes)
    found: dict[str, Any] = {}
    for engine in ("local", "ray"):
        out = folder / engine
        done = finish(start(Run(data=str(data), out=f"{out}/", workers=workers, engine=engine)))
        found[engine] = {
            "rows per second": done.rows_per_second,
            "first to last": done.steps[-1][0] - done.steps[0][0],
            "start-up": done.steps[0][0],
            "seconds": done.seconds,
        }
        shutil.rmtree(out)
        print(engine, found[engine], flush=True)
    share = found["ray"]["rows per second"] / found["local"]["rows per second"]
    return {"megabytes": megabytes, "rows": rows, "workers": workers, "engines": found, "share": share}


def show_ray(found: dict[str, Any]) -> str:
    """The table."""
    rows = [
        (
            f"{found['workers']} processes" if engine == "local" else f"Ray, {found['workers']} actors",
            f"{values['rows per second']:,.0f}",
            f"{values['first to last']:.0f}",
            f"{values['start-up']:.1f}",
        )
        for engine, values in found["engines"].items()
    ]
    head = ("engine", "rows a second", "seconds from the first shard to the last", "seconds to the first shard")
    return f"{found['rows']:,} rows; Ray at {found['share']:.2f} of own processes.\n\n{table(head, rows)}"


def met_ray(found: dict[str, Any]) -> bool:
    """True if Ray is fast enough beside own processes."""
    return bool(found["share"] >= BAR)
