"""`policies [NAME]`: the shipped library."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from policy_engine.cli.options import FormatWithoutFindingsOption
from policy_engine.cli.outcome import Outcome
from policy_engine.core.source import Source
from policy_engine.lang.library import read_shipped, shipped
from policy_engine.report.plain_table import PlainTable


def policies(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Print this policy.")] = None,
    format: FormatWithoutFindingsOption = "text",
) -> Outcome:
    """List the shipped policies, or print one."""
    return _list() if name is None else _one(name)


def _list() -> Outcome:
    sources = [(name, read_shipped(name)) for name in shipped()]
    table = PlainTable()
    table.add_column("name", no_wrap=True)
    table.add_column("what")
    for name, source in sources:
        table.add_row(Text(name, style="bold"), Text(_summary(source)))
    data = [{"name": name, "summary": _summary(source), "text": source.text} for name, source in sources]
    return Outcome(data={"policies": data}, body=(table,))


def _one(name: str) -> Outcome:
    source = read_shipped(name)
    data = {"name": name, "summary": _summary(source), "text": source.text}
    return Outcome(data={"policies": [data]}, raw=source.text)


def _summary(source: Source) -> str:
    """The first paragraph of the comment that opens the policy.

    >>> _summary(Source(name="a", text="# Trains answers.\\n#\\n# Behaves like: axolotl.\\ntrain assistant"))
    'Trains answers.'
    """
    lines: list[str] = []
    for line in source.text.splitlines():
        words = line.removeprefix("#").strip()
        if not line.startswith("#") or (lines and not words):
            break
        lines += [words] if words else []
    return " ".join(lines)
