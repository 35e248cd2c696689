"""Runs over files, a step each:

    python -m benchmarks.scale workers     # two processes against one, beside the tokenizer's own gain
    python -m benchmarks.scale memory      # memory of all processes, over 50 MB and 500 MB; --size 5000 for more
    python -m benchmarks.scale kills       # 60 runs ended at random moments, resumed and compared
    python -m benchmarks.scale checksum    # one process, two, Ray, resumed: the same rows
    python -m benchmarks.scale ray         # Ray beside own processes at the same number of CPUs

`workers`, `memory` and `kills` go on where an earlier call stopped. Each prints a table and keeps what it found as JSON
in `--results`. Exit code 1 if rows, checksums or memory are not as they should be; times only say whether they are
within their bar. `ray`, `kills` and `checksum` need the ray extra.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.scale import engines, kills, memory, workers


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=["workers", "memory", "kills", "checksum", "ray"])
    parser.add_argument("--size", type=float, action="append", help="input in MB (memory takes several)")
    parser.add_argument("--count", type=int, help="kills, or repeats")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--backend", action="append", help="a backend (workers takes several; all three if not given)")
    parser.add_argument("--target", action="append", choices=kills.TARGETS, help="what to kill; all if not given")
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    parser.add_argument("--name", help="name of the JSON file, the step's if not given")
    options = parser.parse_args()
    name = options.name or options.step
    size = (options.size or [None])[0]
    backend = (options.backend or ["kitoken"])[0]
    opening = results.start()

    def keep(found: dict[str, Any]) -> None:
        results.save(options.results, name, {**opening, **found})

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.step == "workers":
            backends = options.backend or ["reference", "kitoken", "gigatoken"]
            kept = results.load(options.results, name)
            found = workers.measure(
                folder, megabytes=size or 40, repeats=options.count or 3, backends=backends, kept=kept, keep=keep
            )
            text, good, timed = workers.show(found), workers.met(found), True
        elif options.step == "memory":
            sizes = [50.0, *(options.size or [500.0])]
            kept = results.load(options.results, name)
            found = memory.measure(
                folder, sizes=sizes, workers=[1, options.workers], backend=backend, kept=kept, keep=keep
            )
            text, good, timed = memory.show(found), memory.met(found), False
        elif options.step == "kills":
            kept = results.load(options.results, name)
            targets = options.target or list(kills.TARGETS)
            found = kills.measure(folder, count=options.count or 60, targets=targets, kept=kept, keep=keep)
            text, good, timed = kills.show(found), kills.met(found), False
        elif options.step == "checksum":
            found = engines.checksums(folder, megabytes=size or 20, backend=backend)
            text, good, timed = engines.show_checksums(found), engines.met_checksums(found), False
        else:
            found = engines.ray(folder, megabytes=size or 1_000, workers=options.workers)
            text, good, timed = engines.show_ray(found), engines.met_ray(found), True
    keep(found)
    print(f"{text}\n\n{'within' if good else 'OUT OF'} its bar. {results.description({**opening, **found})}")
    return 0 if good or timed else 1


if __name__ == "__main__":
    sys.exit(main())
