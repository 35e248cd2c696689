"""Figures of the house: sizes of its files, how much they explain, how much code there is.

python -m scripts.house            the figures
python -m scripts.house --list     the figures, and the places behind those that are over their bar
"""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.prose import KINDS, LOOKED_AT, ROOT, counts, files_below, findings_in
from scripts.source_texts import code_lines, comment_lines, docstrings_of

PACKAGE: Final = ROOT / "policy_engine"
ONE_FILE_EACH: Final = {"policy_engine/cli/verbs"}
"""Folders that have one file for each thing of a kind, however many there are."""
EXAMPLE: Final = re.compile(r">>> |→|[Ff]or example|such as `|(?:\n\n|:\n) {4,}\S")
"""An example in a docstring: a session, an indented block, or real strings in a row."""


KEPT_TWICE: Final = {
    "choices": "values of options, and choices of a generator; `testing.choices` is imported by users' tests",
    "compile": "the verb for what both do, to a template and to a policy",
    "shapes": "layouts of rows, and conversations of every shape; `testing.shapes` is imported by users' tests",
}
"""Base names that two files keep although a tab does not tell them apart, and why."""


def unclear_names(files: Iterable[str]) -> dict[str, list[str]]:
    """Base names that several files have, and that an editor's tab leaves unclear.

    Editors show the folder beside a name that two open files share. That is enough where the folder is the difference:
    for the two files of a verb and the one file of the room that it opens, for a trainer's adapter and importer, and
    for the reporter of a format.

    >>> unclear_names(["cli/verbs/apply.py", "cli/work/apply.py", "run/apply.py"])
    {}
    >>> unclear_names(["rules/compile.py", "chat/trace/compile.py"])
    {'compile': ['rules/compile.py', 'chat/trace/compile.py']}
    """
    stems: dict[str, list[str]] = {}
    for name in files:
        stem = name.rpartition("/")[2].removesuffix(".py")
        if stem not in ("__init__", "__main__") and not name.startswith("cli/reporters/"):
            stems.setdefault(stem, []).append(name)
    return {stem: names for stem, names in stems.items() if len(names) > 1 and not _told_apart(stem, names)}


def _told_apart(stem: str, names: Sequence[str]) -> bool:
    if set(names) == {f"adapters/{stem}.py", f"importers/{stem}.py"}:
        return True
    rooms = [name for name in names if not name.startswith(("cli/verbs/", "cli/work/"))]
    return f"cli/verbs/{stem}.py" in names and len(rooms) <= 1


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure, what is aimed at, and the places to look at."""

    name: str
    value: str
    bar: str
    places: tuple[str, ...] = ()


def figures() -> Iterator[Figure]:
    """All of them, measured over `policy_engine/`."""
    files = sorted(PACKAGE.rglob("*.py"))
    sources = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in files}
    lines = {name: text.count("\n") for name, text in sources.items()}
    total = sum(lines.values())

    folders: dict[str, int] = {}
    for name in sources:
        folder = name.rpartition("/")[0]
        folders[folder] = folders.get(folder, 0) + 1
    fullest = sorted(((n, f) for f, n in folders.items() if f not in ONE_FILE_EACH), reverse=True)
    yield Figure(
        name="files flat in one folder, but for one file a verb", value=str(fullest[0][0]), bar="at most 16",
        places=tuple(f"{folder}: {number}" for number, folder in fullest if number > 16),
    )  # fmt: skip
    yield Figure(
        name="largest file; median", bar="400; about 125",
        value=f"{max(lines.values())}; {statistics.median(lines.values()):g}",
        places=tuple(f"{name}: {number}" for name, number in lines.items() if number > 400),
    )  # fmt: skip

    unclear = unclear_names(path.relative_to(PACKAGE).as_posix() for path in files)
    yield Figure(
        name="base names used twice that a tab leaves unclear", value=str(len(unclear)), bar="at most 6",
        places=tuple(f"{', '.join(names)} ({KEPT_TWICE.get(stem, 'rename one')})" for stem, names in unclear.items()),
    )  # fmt: skip

    prose = counts(finding for path in files_below(ROOT / name for name in LOOKED_AT) for finding in findings_in(path))
    long, opener, word = (sum(by_kind[kind] for by_kind in prose.values()) for kind in KINDS)
    yield Figure(name="docstrings that open with What, Whether, Where or How", value=str(opener), bar="at most 20")
    yield Figure(name="docstrings whose first line is longer than 90 characters", value=str(long), bar="0")
    yield Figure(name="words that a plainer one replaces", value=str(word), bar="0")

    docstrings = [prose.text for text in sources.values() for _, prose in docstrings_of(text)]
    shown = sum(1 for text in docstrings if EXAMPLE.search(text))
    yield Figure(name="docstrings with an example", value=f"{shown / len(docstrings):.1%}", bar="at least 15 %")
    comments = sum(comment_lines(text) for text in sources.values())
    yield Figure(name="comments per 100 lines", value=f"{100 * comments / total:.1f}", bar="at least 4")

    for name, rule, setting in (
        ("functions with more than 7 parameters", "PLR0913", "lint.pylint.max-args=7"),
        ("functions of a cyclomatic complexity over 20", "C901", "lint.mccabe.max-complexity=20"),
    ):
        found = _ruff(rule, setting)
        yield Figure(name=name, value=str(len(found)), bar="at most 5", places=tuple(found))
    code = sum(code_lines(text) for text in sources.values())
    yield Figure(name="lines of code, without comments and docstrings", value=f"{code:,}", bar="fewer than before")


def _ruff(rule: str, setting: str) -> list[str]:
    """The places that a rule of ruff finds."""
    command = [
        sys.executable, "-m", "ruff", "check", "--exit-zero", "--isolated", "--ignore-noqa", "--output-format", "json",
        "--select", rule, "--config", setting, str(PACKAGE),
    ]  # fmt: skip
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [
        f"{Path(row['filename']).relative_to(ROOT)}:{row['location']['row']}: {row['message']}"
        for row in json.loads(out)
    ]


def main(arguments: list[str]) -> int:
    """The command."""
    measured = list(figures())
    widest = max(len(figure.name) for figure in measured)
    for figure in measured:
        print(f"{figure.name:{widest}}  {figure.value:>10}  {figure.bar}")
        if "--list" in arguments:
            print("".join(f"    {place}\n" for place in figure.places), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
