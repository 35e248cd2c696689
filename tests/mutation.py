"""Do the tests notice? Samples mutants of the packages that decide, and runs the tests that cover each.

    python -m tests.mutation --seed 1 --count 240 --kept .nightly/mutation-1

Mutants are Cosmic Ray's: one operator, number, constant or decorator changed. Places are sampled, then one change at
each, so that a place with ten possible changes counts once. Left out: annotations, which nothing evaluates, and `is`
for `==` and the like, which depends on how the interpreter shares constants. A mutant is given to the tests
that reach its line, and killed by one that fails, by a process that dies, or by taking three times as long and more.

Everything happens in `--kept`, a folder with a copy of the checkout, which is what gets mutated, and a database that
the same command goes on from. `--quick 8` gives each mutant the quickest of its tests, of 8 processor seconds in all.
`--survivors` copies the tests again and runs all that the package has against those that survived without a reason.
Survivors that mean the same as the original stand in `tests/mutation_equivalent.yaml`, each with the reason. Prints a
table and writes `result.json`. Exit code 1 if less than `--least` of the mutants that mean something else were killed.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import functools
import json
import math
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Generator
from importlib import import_module, invalidate_caches
from pathlib import Path
from typing import Any

import coverage
import pytest
import yaml
from cosmic_ray.commands import init
from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult

ROOT = Path(__file__).parent.parent
EQUIVALENT = Path(__file__).parent / "mutation_equivalent.yaml"
CPU = 20
"""Processor seconds a mutant may take, beside three times what its tests take without it."""
WALL = 3600
"""Seconds by the clock, for a mutant that waits for ever."""
MEMORY = 8 << 30
"""Address space: a mutant that collects for ever ends itself, and not the machine."""
OPTIONS = ("-q", "-x", "-n0", "-p", "no:cacheprovider")
LIBRARIES = ("hypothesis", "jinja2", "lark", "numpy", "pyarrow", "re2", "rich", "tokenizers", "transformers", "typer")

_HOUSE = "tests/test_house.py"
_AGREEMENT = (
    "tests/test_oracle.py",
    "tests/properties/test_agreement.py::test_any_policy_on_any_layout",
    "tests/properties/test_agreement.py::test_numbered_cases[0]",
)
TESTS = {
    "lang": (
        *("tests/lang", "tests/core/test_codes.py", "tests/rules", "tests/properties/test_language.py"),
        *("tests/cli/verbs/test_check.py", "tests/cli/verbs/test_fmt.py", _HOUSE),
        # What is deep or long takes seconds, and mutants of limits are killed by it alone.
        "--deselect=tests/lang/test_errors.py::test_deep_and_long_texts_end_with_a_place",
        "--deselect=tests/lang/test_library.py::test_long_chains_of_names_are_refused",
    ),
    "rules": (
        *("tests/rules", _HOUSE, *(f"tests/mask/test_{name}.py" for name in ("explain", "unrendered", "masker"))),
        *_AGREEMENT,
    ),
    "mask": (
        *("tests/mask", "--ignore=tests/mask/test_end_to_end.py"),
        "--deselect=tests/mask/test_datasets.py::test_the_hash_is_the_same_in_every_process",
        # Preferences that are cut, and rows whose data has control tokens, come about in runs alone.
        *("tests/run/test_preferences.py", "tests/chat/test_miswritten.py"),
        *(f"tests/cli/verbs/test_{name}.py" for name in ("test", "explain_fixtures", "diff_data")),
        *("tests/test_reprs.py", "tests/properties/test_labels.py", _HOUSE, *_AGREEMENT),
    ),
    "proof": ("tests/proof", "tests/cli/verbs/test_prove.py", _HOUSE),
}  # fmt: skip
"""For each package the tests that cover it."""


def sample(modules: list[Path], seed: int, count: int) -> list[WorkItem]:
    """`count` mutants of these modules, one a place; the same for the same sources, seed and Cosmic Ray."""
    places: dict[tuple[str, tuple[int, int]], list[MutationSpec]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder, use_db(Path(folder) / "all.sqlite") as everything:
        init(modules, everything, {})
        for item in everything.work_items:
            (mutation,) = item.mutations
            if not _about_identity(mutation.operator_name):
                places[str(mutation.module_path), mutation.start_pos].append(mutation)
    for module in modules:
        for place in _annotated(module):
            for key in [key for key in places if key[0] == str(module) and place[0] <= key[1] < place[1]]:
                del places[key]
    rng = random.Random(seed)
    chosen = rng.sample(sorted(places), min(count, len(places)))
    mutants = [rng.choice(sorted(places[place], key=lambda m: (m.operator_name, m.occurrence))) for place in chosen]
    return [WorkItem.single(f"{n:04d}:{m.module_path}:{m.start_pos[0]}", m) for n, m in enumerate(mutants)]


def _about_identity(operator: str) -> bool:
    """Whether an operator puts `is` in place of another comparison, or another in its place."""
    kind, old, new = operator.rsplit("_", 2) if operator.count("_") >= 2 else ("", "", "")
    return kind.endswith("ComparisonOperator") and (old in ("Is", "IsNot")) != (new in ("Is", "IsNot"))


def _annotated(module: Path) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Begin and end of each annotation of a module: line from 1, column from 0."""
    found = []
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        for name in ("annotation", "returns"):
            hint = getattr(node, name, None)
            if isinstance(hint, ast.expr):
                found.append(((hint.lineno, hint.col_offset), (hint.end_lineno or 0, hint.end_col_offset or 0)))
    return found


class Chosen:
    """A pytest plugin: the tests of these names only (all: None), the quickest first."""

    def __init__(self, seconds: dict[str, float], names: set[str] | None) -> None:
        self._seconds = seconds
        self._names = names

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        kept = [item for item in items if self._names is None or item.nodeid in self._names]
        items[:] = sorted(kept, key=lambda item: self._seconds.get(item.nodeid, 0.0))


class Reached:
    """A pytest plugin: which tests reach which lines, and how long each takes."""

    def __init__(self, package: str) -> None:
        self._coverage = coverage.Coverage(source=[f"policy_engine/{package}"], data_file=None, config_file=False)
        self.seconds: dict[str, float] = {}

    def pytest_configure(self) -> None:
        self._coverage.start()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._coverage.switch_context(item.nodeid)
        began = time.process_time()
        result = yield
        self.seconds[item.nodeid] = time.process_time() - began
        self._coverage.switch_context("")
        return result

    def lines(self) -> dict[str, dict[int, list[str]]]:
        """For each file and line the tests that reach it; `""` is among them if importing does."""
        self._coverage.stop()
        data = self._coverage.get_data()
        return {str(Path(f).relative_to(Path.cwd())): data.contexts_by_lineno(f) for f in data.measured_files()}


def forked(run: Callable[[], int], said: Path) -> int:
    """Runs tests of the copy as it stands in a forked process; returns the exit code, and writes what pytest says.

    Libraries are imported before, and the package never is, so a mutant costs its tests and no start of an interpreter.
    """
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        with said.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.alarm(WALL)
        for name in [name for name in sys.modules if name.split(".")[0] in ("tests", "policy_engine")]:
            del sys.modules[name]
        invalidate_caches()
        os._exit(run())
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def look(kept: Path, package: str) -> None:
    """Runs a package's tests without any mutant, and writes which lines each of them reaches."""

    def run() -> int:
        reached = Reached(package)
        code = pytest.main([*OPTIONS, *TESTS[package]], plugins=[reached])
        lines = reached.lines()
        (kept / f"{package}.json").write_text(json.dumps({"seconds": reached.seconds, "lines": lines}), "utf-8")
        return int(code)

    if forked(run, kept / "said.txt"):
        sys.exit(f"{(kept / 'said.txt').read_text('utf-8')}\nthe tests of {package} fail without any mutant")


@functools.cache
def _reached(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def reaching(known: dict[str, Any], mutation: MutationSpec, quick: float) -> set[str]:
    """The tests that reach a mutant; the quickest of them, as many as take `quick` processor seconds in all."""
    lines: dict[str, list[str]] = known["lines"].get(str(mutation.module_path), {})
    seconds: dict[str, float] = known["seconds"]
    names: set[str] = set()
    for line in range(mutation.start_pos[0], mutation.end_pos[0] + 1):
        names.update(lines.get(str(line), ()))
    if "" in names:
        # Importing reaches the line. Those who use the file notice first; where nobody runs a line of it, all may.
        users = {name for found in lines.values() for name in found if name}
        names = users if users and quick < math.inf else set(seconds)
    total, chosen = 0.0, set()
    for name in sorted(names, key=lambda name: seconds.get(name, 0.0)):
        total += seconds.get(name, 0.0)
        if chosen and total > quick:
            break
        chosen.add(name)
    return chosen


def tested(kept: Path, mutation: MutationSpec, quick: float | None) -> tuple[int, str]:
    """Runs the tests that reach a mutant, or all of its package's if `quick` is None: exit code and the last words."""
    package = Path(mutation.module_path).parts[1]
    known = _reached(kept / f"{package}.json")
    seconds = known["seconds"]
    some = None if quick is None else reaching(known, mutation, quick)
    if some is not None and not some:
        return 0, "no test reaches it"

    def run() -> int:
        limit = CPU + 3 * int(sum(seconds.values() if some is None else (seconds.get(name, 0.0) for name in some)))
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        # Only the files that hold a chosen test are read.
        files = TESTS[package] if some is None else sorted({name.split("::")[0] for name in some})
        return int(pytest.main([*OPTIONS, *files], plugins=[Chosen(seconds, some)]))

    if missing := [name for name in TESTS[package] if name[0] != "-" and not Path(name.split("::")[0]).exists()]:
        sys.exit(f"the copy has no {', '.join(missing)}: `--survivors` brings it, or begin in another folder")
    code = forked(run, kept / "said.txt")
    said = (kept / "said.txt").read_text("utf-8", "replace").strip()
    return code, (said.splitlines() or ["nothing said"])[-1]


def prepare(kept: Path, seed: int, count: int, packages: list[str]) -> None:
    """The copy, what is sampled, and a run of each package's tests on what is not mutated."""
    copy_checkout(kept / "copy")
    shutil.copytree(kept / "copy" / "policy_engine", kept / "original")
    os.chdir(kept / "copy")
    with use_db(kept / "mutants.sqlite.new") as db:
        for at, package in enumerate(packages):
            wanted = count // len(packages) + (at < count % len(packages))
            modules = sorted(p for p in Path("policy_engine", package).rglob("*.py") if p.name != "__init__.py")
            db.add_work_items(
                WorkItem(f"{package}:{item.job_id}", item.mutations) for item in sample(modules, seed, wanted)
            )
            print(f"{package}: {wanted} mutants of {len(modules)} files", flush=True)
            look(kept, package)
    (kept / "mutants.sqlite.new").rename(kept / "mutants.sqlite")


def copy_checkout(to: Path) -> None:
    """A copy of what git knows or would take; folders of environments and results stay behind."""
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split("\0"):
        if name and (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to / name)


def run(kept: Path, db: WorkDB, again: bool, quick: float) -> None:
    """Every mutant that has no result, in order, or every one that survived without a reason."""
    reasons = known_reasons()
    survived = {i.job_id for i, result in db.completed_work_items if not (result.is_killed or why(i, result, reasons))}
    todo = [item for item in db.work_items if item.job_id in survived] if again else list(db.pending_work_items)
    for at, item in enumerate(sorted(todo, key=lambda item: item.job_id), 1):
        (mutation,) = item.mutations
        operator = get_operator(mutation.operator_name)(**mutation.operator_args)
        with use_mutation(mutation.module_path, operator, mutation.occurrence) as (old, new):
            code, said = tested(kept, mutation, None if again else quick)
        alive = code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED)
        outcome = TestOutcome.SURVIVED if alive else TestOutcome.KILLED
        diff = "\n".join(difflib.unified_diff(old.splitlines(), new.splitlines(), lineterm="", n=0))
        db.set_result(item.job_id, WorkResult(WorkerOutcome.NORMAL, said, outcome, diff))
        print(f"{at}/{len(todo)} {item.job_id} {_name(item)}: {outcome.value}, {said}", flush=True)


def _name(item: WorkItem) -> str:
    return item.mutations[0].operator_name.removeprefix("core/")


def changed_lines(result: WorkResult) -> tuple[str, str]:
    """What is in the lines before and after; `(removed)` for a decorator."""
    lines = (result.diff or "").splitlines()
    old = [line[1:].strip() for line in lines if line.startswith("-") and not line.startswith("---")]
    new = [line[1:].strip() for line in lines if line.startswith("+") and not line.startswith("+++")]
    return " ".join(filter(None, old)), " ".join(filter(None, new)) or "(removed)"


def known_reasons() -> dict[tuple[str, str, str], str]:
    """Why mutants mean what the original means, by file, line and changed line."""
    return {(e["file"], e["line"], e["mutant"]): e["why"] for e in yaml.safe_load(EQUIVALENT.read_text("utf-8"))}


def why(item: WorkItem, result: WorkResult, reasons: dict[tuple[str, str, str], str]) -> str | None:
    """Why a mutant means what the original means, if it is known to."""
    return reasons.get((str(item.mutations[0].module_path), *changed_lines(result)))


def report(db: WorkDB, seed: int) -> dict[str, Any]:
    """What became of the mutants, as JSON-able data; printed on the way."""
    reasons = known_reasons()
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    survivors, equivalent = [], []
    for item, result in sorted(db.completed_work_items, key=lambda pair: pair[0].job_id):
        file = str(item.mutations[0].module_path)
        old, new = changed_lines(result)
        reason = why(item, result, reasons)
        outcome = "killed" if result.is_killed else "equivalent" if reason else "survived"
        counts[item.job_id.split(":")[0]][outcome] += 1
        where = {"file": file, "row": item.mutations[0].start_pos[0], "line": old, "mutant": new}
        if outcome == "equivalent":
            equivalent.append({**where, "why": reason})
        elif outcome == "survived":
            survivors.append(where)
    print(f"\n{'package':8} {'mutants':>8} {'killed':>8} {'equivalent':>11} {'survived':>9}")
    total = sum(counts.values(), Counter())
    for name, found in [*counts.items(), ("all", total)]:
        print(f"{name:8} {found.total():8} {found['killed']:8} {found['equivalent']:11} {found['survived']:9}")
    for where in survivors:
        print(f"survived: {where['file']}:{where['row']}\n  - {where['line']}\n  + {where['mutant']}")
    score = total["killed"] / max(1, total.total() - total["equivalent"])
    return {
        "seed": seed, "counts": counts, "score": score, "survivors": survivors, "equivalent": equivalent,
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=240, help="mutants, the packages alike (default: 240)")
    parser.add_argument("--packages", default=",".join(TESTS))
    parser.add_argument("--kept", type=Path, required=True, metavar="FOLDER", help="where the copy and the results are")
    parser.add_argument("--quick", type=float, default=math.inf, metavar="SECONDS", help="of tests, for each mutant")
    parser.add_argument("--survivors", action="store_true", help="today's tests against those that survived")
    parser.add_argument("--least", type=float, default=0.9, help="share to be killed (default: 0.9)")
    options = parser.parse_args(arguments)
    kept = options.kept.resolve()
    # The children test the copy: its modules come first, and no byte code outlives a mutant.
    os.environ.update(HYPOTHESIS_PROFILE="mutation", PYTHONPATH=str(kept / "copy"))
    sys.path[:] = [str(kept / "copy"), *(p for p in sys.path if Path(p or ".").resolve() != ROOT)]
    sys.dont_write_bytecode = True
    for name in LIBRARIES:
        import_module(name)
    told = {"seed": options.seed, "count": options.count, "packages": options.packages}
    if not (kept / "mutants.sqlite").exists():
        shutil.rmtree(kept, ignore_errors=True)
        kept.mkdir(parents=True)
        (kept / "told.json").write_text(json.dumps(told), encoding="utf-8")
        prepare(kept, options.seed, options.count, options.packages.split(","))
    elif (before := json.loads((kept / "told.json").read_text("utf-8"))) != told:
        sys.exit(f"{kept} keeps a run of {before}, not of {told}: name another folder")
    elif options.survivors:
        shutil.rmtree(kept / "copy" / "tests")
        shutil.copytree(ROOT / "tests", kept / "copy" / "tests", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copytree(kept / "original", kept / "copy" / "policy_engine", dirs_exist_ok=True)
        os.chdir(kept / "copy")
        for package in options.packages.split(","):
            look(kept, package)  # tests of later sources fail here, and not at a mutant
    # A run that was killed may have left its mutant behind.
    shutil.copytree(kept / "original", kept / "copy" / "policy_engine", dirs_exist_ok=True)
    os.chdir(kept / "copy")
    with use_db(kept / "mutants.sqlite", WorkDB.Mode.open) as db:
        run(kept, db, options.survivors, options.quick)
        found = report(db, options.seed)
    (kept / "result.json").write_text(json.dumps(found, indent=1, ensure_ascii=False), encoding="utf-8")
    return 0 if found["score"] >= options.least else 1


if __name__ == "__main__":
    sys.exit(main())
