"""Whole processes, as a user waits for them:

    python -m benchmarks.whole verbs     # --help, check, fmt, show, explain; beside `python -c pass`
    python -m benchmarks.whole script    # apply of 300 and 3,000 rows, over the script that people write instead
    python -m benchmarks.whole memory    # the peaks of apply by backend, of first runs, and of transformers alone

CPU time of a process and its children, in interleaved pairs: median [quartiles], and the peak memory of the largest
process. Rows are real text (descriptions of installed packages and the standard library), 11 messages each; the
vocabulary is Qwen's, 150,000 tokens. Packages are compiled before and the parser's tables saved, as an installation
does. With `--before TREE`, another tree of this project runs beside it: its `show` for `verbs`, and for `script` its
`apply` by the tokenizer itself, whose further rows are compared with those of each backend.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.corpus import CHATML, POLICY, real_conversations, word_conversations
from benchmarks.pairs import Ratio

ROWS = (50, 300, 900)
SCRIPT_ROWS = (300, 3_000)
"""So far apart that what a further row costs is more than chance: with 300 and 900 it was mostly chance."""
MEMORY_BAR = 300
"""MB that one process may take."""
TREE = Path(__file__).parents[1]
START = "from policy_engine.cli import main as m; getattr(m, 'script', m.main)()"
"""The work of the installed script, in older trees too."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """The CPU seconds of a process, and the peak of its memory in MB."""

    seconds: float
    megabytes: float


class Files:
    """A folder with data, a policy and a tokenizer, and the caches of what runs there."""

    def __init__(self, folder: Path, rows: tuple[int, ...], text: str = "real") -> None:
        self.folder = folder
        # In a process of its own: the peak of a child's memory begins with the size of the process that starts it.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as helper:
            helper.submit(write_files, folder, rows, text).result()
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"},
            "PYTHONPYCACHEPREFIX": str(folder / "compiled"),
            "POLICY_ENGINE_CACHE": str(folder / "kept"),
            "HF_HOME": str(folder / "hf"),
            "RAYON_NUM_THREADS": "1",
        }

    def measure(self, command: list[str], tree: Path = TREE) -> Spent:
        """The costs of a command with the package of a tree. Raises CalledProcessError if it fails."""
        environment = {**self.environment, "PYTHONPATH": str(tree)}
        with tempfile.TemporaryFile() as out:
            process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=out, stderr=out)
            # Of this process and those that it waited for, and of no other.
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                out.seek(0)
                raise subprocess.CalledProcessError(process.returncode, command, out.read())
        return Spent(seconds=usage.ru_utime + usage.ru_stime, megabytes=usage.ru_maxrss / 1024)

    def ours(self, arguments: str, tree: Path = TREE) -> Spent:
        """The costs of a command of policy-engine."""
        return self.measure([sys.executable, "-c", START, *arguments.split()], tree)

    def unknown(self, arguments: str) -> Spent:
        """The same with a tokenizer that is not in the cache yet."""
        self.environment["POLICY_ENGINE_CACHE"] = str(self.folder / "empty")
        try:
            return self.ours(arguments)
        finally:
            self.environment["POLICY_ENGINE_CACHE"] = str(self.folder / "kept")
            shutil.rmtree(self.folder / "empty", ignore_errors=True)


TEXTS = {"real": real_conversations, "words": word_conversations}


def write_files(folder: Path, rows: tuple[int, ...], text: str = "real") -> None:
    """Writes files of so many rows, a policy, a tokenizer, and the parser's tables."""
    from policy_engine.lang.library import tables_path
    from policy_engine.lang.tables import save_tables
    from tests.support.tokenizers import load

    save_tables(tables_path())
    tokenizer = load("qwen")
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(folder / "tokenizer")
    lines = [f"{json.dumps(row)}\n" for row in TEXTS[text](max(rows))]
    for count in rows:
        (folder / f"{count}.jsonl").write_text("".join(lines[:count]), encoding="utf-8")
    (folder / "my.policy").write_text(POLICY.replace("; ", "\n").replace(",", ", ") + "\n", encoding="utf-8")


SHOW = "show 50.jsonl -p my.policy -t tokenizer --limit 50"


def verbs(files: Files, pairs: int, before: Path | None) -> dict[str, Any]:
    """The costs of each verb, and of Python alone."""
    works: dict[str, Callable[[], Spent]] = {
        "`python -c pass`": lambda: files.measure([sys.executable, "-c", "pass"]),
        "`--help`": lambda: files.ours("--help"),
        "`check`": lambda: files.ours("check my.policy"),
        "`fmt --check`": lambda: files.ours("fmt my.policy --check"),
        "`explain --row 3`": lambda: files.ours("explain 50.jsonl -p my.policy -t tokenizer --row 3"),
        "`show --limit 50`, unknown tokenizer": lambda: files.unknown(SHOW),
        "`show --limit 50`": lambda: files.ours(SHOW),
        "`show --limit 50`, backend checked before": lambda: files.ours(SHOW),
    }
    found: dict[str, list[Spent]] = {name: [] for name in works}
    over: dict[str, list[float]] = {name: [] for name in ("control", *list(works)[-3:])}
    rounds = [list(works)[:-1], list(works)[-1:]]
    for names in rounds:
        # Whatever was loaded before is compiled, and in the cache.
        works[names[-1]]()
        for _ in range(pairs):
            for name in names:
                if name in over and before is not None:
                    base = files.ours(SHOW, before).seconds
                    spent = works[name]()
                    over[name].append(spent.seconds / base)
                    over["control"].append(files.ours(SHOW, before).seconds / base)
                else:
                    spent = works[name]()
                found[name].append(spent)
        # A full check of a backend, as `apply` of much data makes it: `show` takes its ids from then on.
        files.measure([sys.executable, "-c", FULL_CHECK])
    return {
        "pairs": pairs,
        "seconds": {name: _quartiles([spent.seconds for spent in values]) for name, values in found.items()},
        "megabytes": {name: max(spent.megabytes for spent in values) for name, values in found.items()},
        "over": {name: _quartiles(values) for name, values in over.items() if values},
    }


FULL_CHECK = (
    "from policy_engine.chat.loading import load_tokenizer; from policy_engine.chat.tokens import qualify; "
    # A verdict that comes with the package, or is in the cache, would take the place of the check.
    "qualify._shipped = qualify.find = lambda *given, **named: None; "
    "print(load_tokenizer('tokenizer', cache=True).qualify_fast((), ('kitoken',), full=True))"
)


BEFORE = "TREE, reference"


def script(files: Files, pairs: int, rows: tuple[int, int], before: Path | None) -> dict[str, Any]:
    """`apply` over the script, by rows and backend, and by further row."""
    path = str(Path(__file__).with_name("script_hf.py"))
    few, many = rows
    for name in ("kitoken", "gigatoken"):
        files.measure([sys.executable, "-c", FULL_CHECK.replace("kitoken", name)])

    def base(count: int) -> Spent:
        shutil.rmtree(files.folder / "script.parquet.cache", ignore_errors=True)
        return files.measure([sys.executable, path, f"{count}.jsonl", "tokenizer", "script.parquet"])

    def apply(count: int, more: str = "", tree: Path = TREE) -> Spent:
        return files.ours(f"apply {count}.jsonl -p my.policy -t tokenizer -o ours.parquet --overwrite {more}", tree)

    works: dict[str, Callable[[int], Spent]] = {
        "reference": apply,
        "reference, no cache": lambda count: apply(count, "--no-cache"),
        "kitoken, checked before": lambda count: apply(count, "--backend kitoken"),
        "gigatoken, checked before": lambda count: apply(count, "--backend gigatoken"),
    }
    if before is not None:
        works[BEFORE] = functools.partial(apply, tree=before)
    # Last: the script runs before and after all others.
    works["control"] = base
    for work in works.values():
        work(few)  # whatever it imports is compiled, and in the cache
    ratios: dict[str, dict[str, list[float]]] = {name: {"few": [], "further": []} for name in works}
    megabytes = dict.fromkeys(works, 0.0)
    scripts: list[float] = []
    further: list[float] = []
    for _ in range(pairs):
        theirs, theirs_more = base(few), base(many)
        scripts.append(theirs.seconds)
        further.append((theirs_more.seconds - theirs.seconds) / (many - few))
        for name, work in works.items():
            ours, more = work(few), work(many)
            ratios[name]["few"].append(ours.seconds / theirs.seconds)
            ratios[name]["further"].append((more.seconds - ours.seconds) / (many - few) / further[-1])
            megabytes[name] = max(megabytes[name], ours.megabytes, more.megabytes)
    old = ratios[BEFORE]["further"] if before is not None else []
    for name in ratios if old else ():
        # How many times as many rows in the same time.
        ratios[name]["rows"] = [was / now for was, now in zip(old, ratios[name]["further"])]
    return {
        "pairs": pairs,
        "rows": [few, many],
        "script": statistics.median(scripts),
        "script, a further row": statistics.median(further),
        "ratios": {name: {k: _quartiles(v) for k, v in own.items()} for name, own in ratios.items()},
        "megabytes": megabytes,
    }


ALONE = "from transformers import AutoTokenizer; AutoTokenizer.from_pretrained('tokenizer')"
PACKAGES = (
    "import os; os.environ['OPENBLAS_NUM_THREADS'] = '1'; import typer, rich.console, jinja2.sandbox, lark, numpy"
)
MERGES = (
    "; import glob; from tokenizers import models; at = glob.glob('kept/tokenizers/*/merges.txt')[0]; "
    "models.BPE.from_file(at.replace('merges.txt', 'vocab.json'), at)"
)
WHOLE_FILE = "; from tokenizers import Tokenizer; Tokenizer.from_file('tokenizer/tokenizer.json')"


def memory(files: Files, pairs: int) -> dict[str, Any]:
    """Peaks and CPU seconds: `apply` by backend, first runs, and what others take alone."""
    few, many = ROWS[1:]

    def apply(backend: str, count: int = few) -> str:
        return f"apply {count}.jsonl -p my.policy -t tokenizer -o ours.parquet --overwrite --backend {backend}"

    def fully(name: str) -> Spent:
        return files.measure([sys.executable, "-c", FULL_CHECK.replace("kitoken", name)])

    works: dict[str, Callable[[], Spent]] = {
        "transformers' `AutoTokenizer`, alone": lambda: files.measure([sys.executable, "-c", ALONE]),
        "`show`, unknown tokenizer": lambda: files.unknown(SHOW),
        "`apply`, unknown tokenizer": lambda: files.unknown(apply("reference")),
        "`apply`, tokenizer read for the first time": lambda: files.ours(apply("reference")),
        "`apply`, tokenizer's own ids": lambda: files.ours(apply("reference")),
        f"the same, {many} rows": lambda: files.ours(apply("reference", many)),
    }
    for name, more in (
        ("packages that `show` imports, alone", ""),
        ("the same, and pyarrow", ", pyarrow.parquet"),
        ("the same, and `Tokenizer.from_file`", WHOLE_FILE),
        ("the same, and `BPE.from_file` of vocabulary and merges", MERGES),
    ):
        works[name] = functools.partial(files.measure, [sys.executable, "-c", PACKAGES + more])
    for name in ("kitoken", "gigatoken"):
        works[f"`apply`, {name}, never checked"] = functools.partial(files.ours, apply(name))
        works[f"a full check of {name}"] = functools.partial(fully, name)
        works[f"`apply`, {name}, checked before"] = functools.partial(files.ours, apply(name))
        works[f"the same with {name}, {many} rows"] = functools.partial(files.ours, apply(name, many))
    found: dict[str, list[Spent]] = {name: [] for name in works}
    for first in ("transformers' `AutoTokenizer`, alone", "`apply`, unknown tokenizer"):
        works[first]()  # whatever they import is compiled
    for _ in range(pairs):
        # All of them begin again with what nobody loaded or checked before.
        shutil.rmtree(files.folder / "kept", ignore_errors=True)
        for name, work in works.items():
            if name == "`apply`, tokenizer read for the first time":
                files.ours(SHOW)  # the run that puts it into the cache
            found[name].append(work())
    return {
        "pairs": pairs,
        "rows": [few, many],
        "megabytes": {name: max(spent.megabytes for spent in values) for name, values in found.items()},
        "seconds": {name: statistics.median(spent.seconds for spent in values) for name, values in found.items()},
    }


def show_memory(found: dict[str, Any]) -> str:
    """The table of peaks."""
    rows = [
        [name, f"{peak:.0f}{'' if peak <= MEMORY_BAR else f', OVER {MEMORY_BAR}'}", f"{found['seconds'][name]:.2f}"]
        for name, peak in found["megabytes"].items()
    ]
    return results.table([f"process, {found['rows'][0]} rows", "peak, MB", "CPU seconds"], rows)


def _quartiles(values: list[float]) -> dict[str, float]:
    low, median, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
    return {"median": median, "low": low, "high": high}


def show_verbs(found: dict[str, Any]) -> str:
    """The table of verbs."""
    over = {name: Ratio(**ratio) for name, ratio in found["over"].items()}
    peaks = found.get("megabytes", {})
    head = ["command", "CPU seconds", *(["peak, MB"] if peaks else []), *(["over `show` of TREE"] if over else [])]
    rows = [
        [
            name,
            Ratio(**seconds),
            *([f"{peaks[name]:.0f}"] if peaks else []),
            *([over.get(name, "")] if over else []),
        ]
        for name, seconds in found["seconds"].items()
    ]
    if over:
        rows.append(["TREE over itself (control)", *[""] * (len(head) - 2), over["control"]])
    return results.table(head, rows)


def show_script(found: dict[str, Any]) -> str:
    """The table of `apply` and the script."""
    few, many = found["rows"]
    beside = "rows" in found["ratios"]["control"]
    rows = [
        [
            name,
            Ratio(**own["few"]),
            Ratio(**own["further"]),
            *([Ratio(**own["rows"])] if beside else []),
            f"{found['megabytes'][name]:.0f}",
        ]
        for name, own in found["ratios"].items()
    ]
    times = ["times the rows of TREE"] if beside else []
    head = ["", f"{few} rows", f"each further row, up to {many:,}", *times, "peak, MB"]
    row = found.get("script, a further row")
    more = "" if row is None else f", and {1000 * row:.2f} ms for each further one"
    return f"The script takes {found['script']:.2f} CPU seconds for {few} rows{more}.\n\n{results.table(head, rows)}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.whole", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=["verbs", "script", "memory"])
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--before", type=Path, metavar="TREE", help="another tree of this project")
    parser.add_argument(
        "--rows", type=int, nargs=2, default=SCRIPT_ROWS, metavar=("FEW", "MANY"), help="rows of `script`"
    )
    parser.add_argument("--text", choices=[*TEXTS], default="real", help="the text of `script`'s rows")
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args()
    if options.step != "script" and options.text != "real":
        parser.error("--text is for `script`")
    if options.step == "memory" and options.before is not None:
        parser.error("--before is for `verbs` and `script`")
    opening = results.start()
    with tempfile.TemporaryDirectory() as folder:
        rows = tuple(options.rows)
        files = Files(Path(folder), rows, options.text) if options.step == "script" else Files(Path(folder), ROWS)
        steps = {
            "verbs": lambda: verbs(files, options.pairs, options.before),
            "script": lambda: script(files, options.pairs, rows, options.before),
            "memory": lambda: memory(files, options.pairs),
        }
        found = {**opening, **steps[options.step]()}
    name = options.step if options.text == "real" else f"{options.step}-{options.text}"
    results.save(options.results, f"whole-{name}", found)
    shown = {"verbs": show_verbs, "script": show_script, "memory": show_memory}[options.step](found)
    print(f"\n{shown}\n\n{results.description(found)}")


if __name__ == "__main__":
    sys.exit(main())
