"""Workers, memory, and runs that are killed: `python -m benchmarks.scale [--mb N] [--big N] [--kills N] [--json FILE]`.

Memory is the peak of the process itself (`ru_maxrss`) while it masks a JSON Lines file into a folder. A kill is SIGKILL
to the process at a random moment; what a resumed run leaves is compared file by file with an unbroken run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.pipeline import POLICY, conversation


def write_corpus(path: Path, megabytes: float) -> int:
    """A JSON Lines file of about that size; returns its rows."""
    rng = random.Random(3)
    rows = 0
    with path.open("w") as file:
        while file.tell() < megabytes * 1e6:
            file.write(json.dumps(conversation(rng, turns=5, words=85)) + "\n")
            rows += 1
    return rows


def child(data: str, out: str, workers: int, span_bytes: int) -> None:
    """One run; prints seconds of masking and the peak of memory in MB."""
    import resource

    from policy_engine.chat.tokenize import load_tokenizer
    from policy_engine.data.run import apply_dataset
    from policy_engine.mask.masker import Masker
    from policy_engine.rules.load import policy_from_text

    masker = Masker(policy_from_text(POLICY), load_tokenizer("builtin"))
    started: list[float] = []

    def step(progress: Any) -> None:
        started.append(time.perf_counter())

    begin = time.perf_counter()
    summary = apply_dataset(
        data, masker, out, resume=True, workers=workers, span_bytes=span_bytes, progress=step
    )  # fmt: skip
    end = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    # From the first shard on, so that the start of workers is apart.
    first = started[0] if started else begin
    print(json.dumps({"seconds": end - begin, "after_first": end - first, "peak_mb": peak, "rows": summary.rows_out}))


def start(data: Path, out: Path, workers: int, span_bytes: int) -> subprocess.Popen[str]:
    """A child process with that run. Tokenizer threads are one per process, so that workers are compared alone."""
    command = [sys.executable, "-m", "benchmarks.scale", "--child", str(data), f"{out}/", str(workers), str(span_bytes)]
    threads = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, **threads}
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a run printed. Raises RuntimeError if it failed."""
    output, _ = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the run ended with {process.returncode}")
    return dict(json.loads(output.splitlines()[-1]))


def shards(folder: Path) -> dict[str, bytes]:
    """Contents of the shards, by name."""
    return {path.name: path.read_bytes() for path in folder.glob("part-*.parquet")}


def kills(data: Path, folder: Path, count: int, span_bytes: int) -> dict[str, Any]:
    """Runs killed at random moments, each in a folder of its own, and resumed."""
    whole = folder / "unbroken"
    seconds = time.perf_counter()
    finish(start(data, whole, 1, span_bytes))
    seconds = time.perf_counter() - seconds
    expected = shards(whole)
    rng = random.Random(11)
    same = before = 0
    for n in range(count):
        out = folder / f"killed{n}"
        process = start(data, out, 1 + n % 2, span_bytes)
        time.sleep(rng.uniform(0.1, 1.0) * seconds)
        before += process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
        finish(start(data, out, 1 + n % 2, span_bytes))
        same += shards(out) == expected and not list(out.glob(".*"))
    return {"kills": count, "while running": before, "same files after resume": same, "seconds unbroken": seconds}


def run(megabytes: float, big: float, count: int) -> dict[str, Any]:
    """All measurements, printed on the way."""
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "load": os.getloadavg(),
    }
    print(found["machine"], "load", found["load"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large = folder / "small.jsonl", folder / "large.jsonl"
        rows = write_corpus(small, megabytes)
        write_corpus(large, big)
        for workers in (1, 2):
            found[f"workers {workers}"] = finish(start(small, folder / f"w{workers}", workers, 2 << 20))
            print(f"{rows} rows, {megabytes:g} MB, {workers} worker(s): {found[f'workers {workers}']}")
        for size, path in ((megabytes, small), (big, large)):
            found[f"memory {size:g} MB"] = finish(start(path, folder / f"m{size:g}", 1, 8 << 20))
            print(f"memory over {size:g} MB: {found[f'memory {size:g} MB']['peak_mb']:.0f} MB")
        little = folder / "little.jsonl"
        write_corpus(little, min(megabytes, 4))
        found["kills"] = kills(little, folder, count, 200_000)
        print(found["kills"])
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=float, default=50)
    parser.add_argument("--big", type=float, default=500)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--json")
    parser.add_argument("--child", nargs=4)
    options = parser.parse_args()
    if options.child:
        data, out, workers, span_bytes = options.child
        child(data, out, int(workers), int(span_bytes))
        return
    found = run(options.mb, options.big, options.kills)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
