"""Runs ended at random moments, resumed, and compared row by row.

The whole run is killed, a worker, a worker while it starts or a Ray actor; or the run gets SIGTERM or SIGINT.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from benchmarks.checksum import canonical_checksum
from benchmarks.corpus import write_lines
from benchmarks.results import table
from benchmarks.scale.runs import Run, descendants, finish, go, start

TARGETS: Final = ("process", "worker", "starting worker", "SIGTERM", "SIGINT", "Ray actor")
_SIGNALS: Final = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
_HANGS_AFTER: Final = 300
"""Seconds that a run may take after it was struck; it takes a few."""
_MEGABYTES = 6
_SPAN = 200_000


def measure(
    folder: Path, *, count: int, targets: list[str], kept: dict[str, Any] | None, keep: Callable[[dict[str, Any]], None]
) -> dict[str, Any]:
    """Makes `count` kills, the targets in turn.

    Kills that were made before (`kept`) are not made again; `keep` gets every state.
    """
    data = folder / "killed.jsonl"
    write_lines(data, _MEGABYTES)
    state: dict[str, Any] = kept or {"kills": {}}
    expected: tuple[Any, str, int] | None = None
    for number in range(count):
        target = TARGETS[number % len(TARGETS)]
        if target not in targets or str(number) in state["kills"]:
            continue
        rng = random.Random(f"kill {number}")
        alone = target in ("process", *_SIGNALS) and rng.random() < 0.5
        run = Run(
            data=str(data), out="", span_bytes=_SPAN, tokenizer="builtin", workers=1 if alone else 2,
            engine="ray" if target == "Ray actor" else "local",
        )  # fmt: skip
        if expected is None:
            whole = folder / "unbroken"
            go(_into(run, whole))
            expected = (_rows(whole), canonical_checksum(whole), len(list(whole.glob("part-*"))))
        out = folder / f"killed-{number}"
        found = _kill(_into(run, out), target, rng, expected[2])
        while not found["while running"]:  # it was over before: another moment
            shutil.rmtree(out)
            found = _kill(_into(run, out), target, rng, expected[2])
        rows = _rows(out)
        found["lost"] = sum((expected[0] - rows).values())
        found["twice or wrong"] = sum((rows - expected[0]).values())
        found["checksum"] = canonical_checksum(out) == expected[1]
        found["left"] = sorted(path.name for path in out.glob(".*"))
        state["kills"][str(number)] = found
        keep(state)
        print(f"kill {number}: {found}", flush=True)
        shutil.rmtree(out)
    return state


def _into(run: Run, out: Path) -> Run:
    return Run(**{**vars(run), "out": f"{out}/"})


def _kill(run: Run, target: str, rng: random.Random, shards_whole: int) -> dict[str, Any]:
    """Kills once, at a random moment, and lets the run end, by itself or resumed."""
    process = start(run)
    # Moments are counted in shards and not in seconds, which other work on the machine would stretch.
    moment = 0 if target == "starting worker" else rng.randrange(shards_whole)
    while process.poll() is None and len(list(Path(run.out).glob("part-*"))) < moment:
        time.sleep(0.001)
    if target != "starting worker":
        time.sleep(rng.uniform(0.0, 0.2 if moment else 4.0))
    victim = None
    # A worker that is not there yet, or no more, is waited for a little.
    while victim is None and process.poll() is None:
        whole = target == "process" or target in _SIGNALS
        victim = process.pid if whole else _worker(process, target, rng)
        time.sleep(0.005 if victim is None else 0)
    if target == "starting worker":
        time.sleep(rng.uniform(0.0, 1.0))
    family = descendants(process.pid)
    shards = len(list(Path(run.out).glob("part-*")))
    if victim is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, _SIGNALS.get(target, signal.SIGKILL))
    try:
        process.communicate(timeout=_HANGS_AFTER)
        hung = False
    except subprocess.TimeoutExpired:
        hung = True
        process.kill()
        process.communicate()
    _end(family)
    resumed = process.returncode != 0
    if resumed:
        finish(start(run))
    return {
        "target": target,
        "after shards": moment,
        "shards when killed": shards,
        "while running": victim is not None,
        "resumed": resumed,
        "hung": hung,
    }


def _worker(process: subprocess.Popen[str], target: str, rng: random.Random) -> int | None:
    """A process of the run that masks."""
    sign = "_ShardActor" if target == "Ray actor" else "policy_engine.run.processes.worker"
    found = [pid for pid, command in descendants(process.pid).items() if sign in command and pid != process.pid]
    return rng.choice(sorted(found)) if found else None


def _end(family: dict[int, str]) -> None:
    """Ends what a killed run left behind: all of it came of a process that was started here."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and _alive(family):
        time.sleep(0.1)
    for pid in _alive(family):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _alive(family: dict[int, str]) -> list[int]:
    alive = []
    for pid, command in family.items():
        with contextlib.suppress(OSError):
            now = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            # A number may have been given to another process meanwhile.
            if now and now == command:
                alive.append(pid)
    return alive


def _rows(folder: Path) -> Counter[tuple[Any, ...]]:
    """Every row of a folder with what it holds: its number, ids, labels, and attention."""
    rows: Counter[tuple[Any, ...]] = Counter()
    for path in folder.glob("part-*.parquet"):
        table_ = pq.read_table(path)
        columns = [table_[name].to_pylist() for name in table_.column_names]
        rows.update((row[0], *(hash(tuple(values)) for values in row[1:])) for row in zip(*columns))
    return rows


def show(found: dict[str, Any]) -> str:
    """The table."""
    rows = []
    for target in TARGETS:
        kills = [kill for kill in found["kills"].values() if kill["target"] == target]
        if kills:
            rows.append(
                (
                    target,
                    len(kills),
                    sum(kill["while running"] for kill in kills),
                    sum(kill["resumed"] for kill in kills),
                    sum(kill["hung"] for kill in kills),
                    sum(kill["lost"] for kill in kills),
                    sum(kill["twice or wrong"] for kill in kills),
                    sum(kill["checksum"] for kill in kills),
                )
            )
    head = (
        "killed",
        "runs",
        "killed while running",
        "started again",
        "hung",
        "rows lost",
        "rows twice or wrong",
        "same checksum",
    )
    return table(head, rows)


def met(found: dict[str, Any]) -> bool:
    """True if every run ended with the rows of an unbroken one, and nothing else."""
    return all(
        kill["lost"] == kill["twice or wrong"] == 0
        and kill["checksum"]
        and not (kill["left"] or kill["hung"])
        and kill["while running"]
        for kill in found["kills"].values()
    )
