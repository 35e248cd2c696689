"""Checks the prose of the house; `make lint` runs it.

    python -m scripts.prose                  counts per folder
    python -m scripts.prose FOLDER-or-FILE…  every finding below these, with its line
    python -m scripts.prose --lower          writes the counts into prose_left.txt where they went down

It finds first lines of docstrings that are longer than 90 characters, first lines, also of strings below an attribute,
that open with What, Whether, Where or How, and the words of `WORDS` in docstrings, comments, messages and pages.
It exits with 1 if a folder has more findings than `prose_left.txt` allows it.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from scripts.source_texts import texts_of

ROOT: Final = Path(__file__).parents[1]
LEFT: Final = Path(__file__).with_name("prose_left.txt")
LOOKED_AT: Final = (
    "policy_engine",
    "scripts",
    "benchmarks",
    "examples",
    "docs",
    "policies",
    "README.md",
    "CONTRIBUTING.md",
)
LONGEST: Final = 90
"""Characters of a docstring's first line."""
OPENERS: Final = re.compile(r"(What|Whether|Where|How)\b")
WORDS: Final = {
    r"\bnone\b(?! of\b)": "say `no …`, or name what is missing",
    r"\b(?:stands?|stood|standing)\b(?!\s(?:for|in\sfor|alone)\b)": "say `is`, `are` or the verb that is meant",
    r"\btold\b(?! apart\b)": "say `reported`, `known` or `named`",
    r"\bthat is one's\b": "say whose it is",
    r"\banew\b": "say `again`",
    r"\b(?:held|holds?|holding)\b(?: \S+){0,5}? against\b": "say `compared with` or `checked against`",
    r"\bmend(?:s|ed|ing)?\b": "say `fix`",
    r"\bunless said\b": "say `by default`",
    r"\b(?:is|are) said\b(?! to\b)": "say `described`, `reported` or `set`",
}
"""Words that a plainer one replaces, and what to write instead.

`stands for`, `told apart` and `none of` are plain.
"""
Kind = Literal["long", "opener", "word"]
KINDS: Final[tuple[Kind, ...]] = ("long", "opener", "word")
_NOT_PROSE: Final = re.compile(r"```.*?```|`[^`\n]*`|'none'|:\x20none\b|\"none\"", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One place to rewrite."""

    path: Path
    line: int
    kind: Kind
    text: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line}: {self.text}"


def findings_in(path: Path) -> Iterator[Finding]:
    """The findings of a Python file, a page or a policy; nothing for other files."""
    if path.suffix not in (".py", ".md", ".policy"):
        return
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        for prose in texts_of(source):
            first = prose.text.strip().split("\n")[0]
            if prose.kind == "docstring" and len(first) > LONGEST:
                yield Finding(
                    path=path, line=prose.line, kind="long", text=f"first line of {len(first)} characters: {first}"
                )
            if prose.kind in ("docstring", "note") and OPENERS.match(first):
                yield Finding(path=path, line=prose.line, kind="opener", text=f"opens with a question word: {first}")
            yield from _words(path, prose.line, prose.text)
    elif path.suffix == ".md":
        yield from _words(path, 1, source)
    else:
        yield from _words(path, 1, re.sub(r"^[^#\n]*", "", source, flags=re.MULTILINE))


def _words(path: Path, line: int, text: str) -> Iterator[Finding]:
    # What is code keeps its length, so that the lines stay right.
    prose = _NOT_PROSE.sub(lambda match: re.sub(r"\S", "·", match[0]), text)
    for word, instead in WORDS.items():
        for match in re.finditer(word, prose):
            at = line + prose.count("\n", 0, match.start())
            around = " ".join(text[max(0, match.start() - 30) : match.end() + 30].split())
            yield Finding(path=path, line=at, kind="word", text=f"`{match[0]}` in “{around}”: {instead}")


def files_below(places: Iterable[Path]) -> Iterator[Path]:
    """All files below folders, and the files that are named themselves."""
    for place in places:
        yield from sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else (place,)


def folder_of(path: Path) -> str:
    """The folder that a file is counted in: `policy_engine/chat/trace`, `docs`."""
    parts = path.relative_to(ROOT).parts[:-1]
    return "/".join(parts if parts[:1] == ("policy_engine",) else parts[:1]) or "."


def counts(found: Iterable[Finding]) -> dict[str, Counter[Kind]]:
    """Findings by folder and kind."""
    by_folder: dict[str, Counter[Kind]] = {}
    for finding in found:
        by_folder.setdefault(folder_of(finding.path), Counter())[finding.kind] += 1
    return by_folder


def read_left(text: str) -> dict[str, Counter[Kind]]:
    """Findings that `prose_left.txt` allows: a line `folder long opener word` for each folder."""
    rows = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return {folder: Counter(dict(zip(KINDS, map(int, numbers)))) for folder, *numbers in rows}


def written(left: dict[str, Counter[Kind]]) -> str:
    """The text of `prose_left.txt`."""
    rows = [f"{folder} {' '.join(str(by_kind[kind]) for kind in KINDS)}" for folder, by_kind in sorted(left.items())]
    return "\n".join(
        [
            "# Findings that scripts/prose.py still allows. They may only go down: --lower.",
            "# folder long opener word",
            *rows,
            "",
        ]
    )


def main(arguments: list[str]) -> int:
    """The command."""
    places = [Path(a).resolve() for a in arguments if a != "--lower"]
    found = [f for path in files_below(places or [ROOT / name for name in LOOKED_AT]) for f in findings_in(path)]
    if places:
        print("\n".join(map(str, found)) or "nothing to rewrite")
        return int(bool(found))
    now, left = counts(found), read_left(LEFT.read_text(encoding="utf-8"))
    worse = [
        (folder, kind)
        for folder, by_kind in now.items()
        for kind in KINDS
        if by_kind[kind] > left.get(folder, Counter())[kind]
    ]
    for folder, kind in worse:
        allowed = left.get(folder, Counter())[kind]
        print(f"{folder}: {now[folder][kind]} `{kind}`, {allowed} allowed; list them: python -m scripts.prose {folder}")
    total = sum(now.values(), Counter[Kind]())
    print(
        f"prose: {total['long']} long first lines, {total['opener']} question words, {total['word']} words to replace"
    )
    if "--lower" in arguments:
        lower = {folder: left[folder] & now.get(folder, Counter()) for folder in left}
        LEFT.write_text(written({folder: by_kind for folder, by_kind in lower.items() if by_kind}), encoding="utf-8")
    return int(bool(worse))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
