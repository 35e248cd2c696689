"""Whole processes, as a user waits for them:

    python -m benchmarks.whole verbs     # --help, check, fmt, show, explain; beside `python -c pass`
    python -m benchmarks.whole script    # apply of 50 and 300 rows, over the script that people write instead

CPU time of a process and its children, in interleaved pairs: median [quartiles]. Rows are real text (descriptions of
installed packages and the standard library), 11 messages each; the vocabulary is Qwen's, 150,000 tokens. Packages are
compiled before, as an installation compiles them.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.corpus import CHATML, POLICY, real_conversations
from benchmarks.pairs import Ratio

ROWS = (50, 300)
START = "from policy_engine.cli.main import main; main()"


class Files:
    """A folder with data, a policy and a tokenizer, and the caches of what runs there."""

    def __init__(self, folder: Path) -> None:
        from tests.support.tokenizers import load

        self.folder = folder
        tokenizer = load("qwen")
        tokenizer.chat_template = CHATML
        tokenizer.save_pretrained(folder / "tokenizer")
        for count in ROWS:
            rows = map(json.dumps, real_conversations(count))
            (folder / f"{count}.jsonl").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
        (folder / "my.policy").write_text(POLICY.replace("; ", "\n").replace(",", ", ") + "\n", encoding="utf-8")
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
            "POLICY_ENGINE_CACHE": str(folder / "kept"),
            "HF_HOME": str(folder / "hf"),
            "RAYON_NUM_THREADS": "1",
        }

    def seconds(self, command: list[str]) -> float:
        """CPU time of a command. Raises CalledProcessError if it fails."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, cwd=self.folder, env=self.environment, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    def ours(self, arguments: str) -> float:
        """CPU time of a command of policy-engine."""
        return self.seconds([sys.executable, "-c", START, *arguments.split()])

    def forget(self) -> None:
        """Removes the cache of tokenizers."""
        shutil.rmtree(self.folder / "kept", ignore_errors=True)


def verbs(files: Files, pairs: int) -> dict[str, Any]:
    """Seconds of each verb, and of Python alone."""
    rows = "50.jsonl -p my.policy -t tokenizer"
    works: dict[str, Callable[[], float]] = {
        "`python -c pass`": lambda: files.seconds([sys.executable, "-c", "pass"]),
        "`--help`": lambda: files.ours("--help"),
        "`check`": lambda: files.ours("check my.policy"),
        "`fmt --check`": lambda: files.ours("fmt my.policy --check"),
        "`explain --row 3`": lambda: files.ours(f"explain {rows} --row 3"),
        "`show --limit 50`": lambda: files.ours(f"show {rows} --limit 50"),
        "`show --limit 50 --no-cache`": lambda: files.ours(f"show {rows} --limit 50 --no-cache"),
    }
    found: dict[str, list[float]] = {name: [] for name in works}
    for at in range(pairs + 1):
        for name, work in works.items():
            seconds = work()
            if at:  # the first round compiles, and fills the cache
                found[name].append(seconds)
        if not at:
            # A full check of a backend, as `apply` of much data makes it: `show` takes its ids from then on.
            files.seconds([sys.executable, "-c", FULL_CHECK])
            works["`show --limit 50`, backend checked before"] = works["`show --limit 50`"]
            found["`show --limit 50`, backend checked before"] = []
            del works["`show --limit 50`"], found["`show --limit 50`"]
    return {"pairs": pairs, "seconds": {name: _quartiles(values) for name, values in found.items()}}


FULL_CHECK = (
    "from policy_engine.chat.loading import load_tokenizer; "
    "print(load_tokenizer('tokenizer', cache=True).qualify_fast((), ('kitoken',), full=True))"
)


def script(files: Files, pairs: int) -> dict[str, Any]:
    """`apply` over the script, by rows and backend."""
    path = str(Path(__file__).with_name("script_hf.py"))
    found: dict[str, Any] = {"pairs": pairs, "cases": {}}

    def base(count: int) -> float:
        shutil.rmtree(files.folder / "script.parquet.cache", ignore_errors=True)
        return files.seconds([sys.executable, path, f"{count}.jsonl", "tokenizer", "script.parquet"])

    for count in ROWS:
        options = f"apply {count}.jsonl -p my.policy -t tokenizer -o ours.parquet --overwrite"
        works: dict[str, Callable[[], float]] = {
            "control": lambda count=count: base(count),  # type: ignore[misc]
            "reference": lambda options=options: files.ours(options),  # type: ignore[misc]
            "reference, no cache": lambda options=options: files.ours(f"{options} --no-cache"),  # type: ignore[misc]
            "auto": lambda options=options: files.ours(f"{options} --backend auto"),  # type: ignore[misc]
        }
        for work in works.values():
            work()
        ratios: dict[str, list[float]] = {name: [] for name in works}
        seconds: list[float] = []
        for _ in range(pairs):
            for name, work in works.items():
                seconds.append(base(count))
                ratios[name].append(work() / seconds[-1])
        found["cases"][str(count)] = {
            "script": statistics.median(seconds),
            "ratios": {name: _quartiles(values) for name, values in ratios.items()},
        }
    return found


def _quartiles(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return {"median": median, "low": low, "high": high}


def show_verbs(found: dict[str, Any]) -> str:
    """The table of verbs."""
    rows = [[name, Ratio(**seconds)] for name, seconds in found["seconds"].items()]
    return results.table(("command", "CPU seconds"), rows)


def show_script(found: dict[str, Any]) -> str:
    """The table of `apply` and the script."""
    names = list(next(iter(found["cases"].values()))["ratios"])
    rows = [
        [count, f"{case['script']:.2f}", *(Ratio(**case["ratios"][name]) for name in names)]
        for count, case in found["cases"].items()
    ]
    return results.table(("rows", "script, CPU seconds", *names), rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.whole", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=["verbs", "script"])
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args()
    opening = results.start()
    with tempfile.TemporaryDirectory() as folder:
        files = Files(Path(folder))
        found = {**opening, **(verbs if options.step == "verbs" else script)(files, options.pairs)}
    results.save(options.results, f"whole-{options.step}", found)
    print(f"\n{(show_verbs if options.step == 'verbs' else show_script)(found)}\n\n{results.description(found)}")


if __name__ == "__main__":
    sys.exit(main())
