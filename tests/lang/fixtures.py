"""Reads `tests/fixtures/errors/*.txt`: broken policies, each with the diagnostics it gets.

A case is

    === what it is about
    the policy
    --- FILE other.policy          (a file beside it, for `use`; any number)
    --- SCHEMA {"message.train": "boolean"}      (fields a dataset file declares; JSON)
    --- EXPECT
    1:7 PE201 what is said
      help: what to write instead

`w` before a code marks a warning, `other.policy:` before a line the file. `python -m tests.lang.fixtures` writes what
is said now into the files; read the difference before you keep it.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import PolicyError
from policy_engine.core.schema import Schema
from policy_engine.lang.check import check_text

FOLDER = Path(__file__).parents[1] / "fixtures" / "errors"


@dataclass(frozen=True, kw_only=True)
class Case:
    """One policy and what is expected of it."""

    name: str
    text: str
    files: dict[str, str]
    schema: Schema | None
    expected: str
    written: str
    """The case as it is written, without its expectation."""


def read(path: Path) -> Iterator[Case]:
    """The cases of a fixture file."""
    for block in re.split(r"^=== ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        name, body = block.split("\n", 1)
        input_, expected = body.split("--- EXPECT\n", 1)
        text, *sections = re.split(r"^--- ", input_, flags=re.MULTILINE)
        files, schema = {}, None
        for section in sections:
            head, content = section.split("\n", 1)
            kind, value = head.split(" ", 1)
            if kind == "FILE":
                files[value] = content.removesuffix("\n")
            else:
                schema = Schema(fields=json.loads(value))
        written = f"=== {name}\n{input_}--- EXPECT\n"
        text = text.removesuffix("\n")
        yield Case(name=name, text=text, files=files, schema=schema, expected=expected.strip("\n"), written=written)


def found(case: Case, folder: Path) -> str:
    """What is said about the policy of a case, in the form of an expectation. `folder` is empty."""
    for name, content in case.files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8")
    name = "<string>"
    if case.files:
        name = str(folder / "main.policy")
        Path(name).write_text(case.text, encoding="utf-8")
    try:
        diagnostics = check_text(case.text, name=name, schema=case.schema).warnings
    except PolicyError as error:
        diagnostics = error.diagnostics
    return "\n".join(_line(d, name, folder) for d in diagnostics)


def _line(diagnostic: Diagnostic, main: str, folder: Path) -> str:
    span = diagnostic.span
    assert span is not None
    file = "" if span.source.name == main else Path(span.source.name).name + ":"
    message = diagnostic.message.replace(f"{folder}/", "").replace(str(folder), "FOLDER")
    head = f"{file}{span.line}:{span.column} {'' if diagnostic.is_error else 'w'}{diagnostic.code} {message}"
    return f"{head}\n  help: {diagnostic.help}" if diagnostic.help else head


def accept() -> None:
    """Write what is said now into the fixture files."""
    for path in sorted(FOLDER.glob("*.txt")):
        blocks = []
        for case in read(path):
            with tempfile.TemporaryDirectory() as folder:
                blocks.append(f"{case.written}{found(case, Path(folder))}\n\n")
        path.write_text("".join(blocks), encoding="utf-8")


if __name__ == "__main__":
    accept()
