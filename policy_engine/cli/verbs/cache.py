"""`cache`: the tokenizers that were kept, so that verbs start at once."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.text import Text

from policy_engine.cli.options import FormatWithoutFindingsOption
from policy_engine.cli.outcome import Outcome
from policy_engine.report.plain_table import PlainTable


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove all entries.")] = False,
    format: FormatWithoutFindingsOption = "text",
) -> Outcome:
    """Show the cache of loaded tokenizers: its folder, size and entries; or clear it."""
    return _clear() if clear else _list()


def _list() -> Outcome:
    from policy_engine.chat.tokens.cache import FOLDER_VARIABLE, MOST_ENTRIES, cache_folder, entries

    folder = cache_folder()
    if folder is None:
        return Outcome(
            data={"folder": None, "bytes": 0, "most": MOST_ENTRIES, "entries": []},
            body=(f"the cache is off: {FOLDER_VARIABLE} says so, or no home folder is known",),
        )
    found: list[dict[str, Any]] = [
        {"of": entry.of, "kind": entry.kind, "used": entry.used, "bytes": entry.size, "key": entry.folder.name}
        for entry in entries()
    ]
    size = sum(entry["bytes"] for entry in found)
    table = PlainTable()
    for name in ("of", "kind", "last used", "size"):
        table.add_column(name, justify="right" if name == "size" else "left")
    for entry in found:
        table.add_row(Text(entry["of"], style="bold"), entry["kind"], entry["used"], _megabytes(entry["bytes"]))
    total = Text(f"{folder}: {len(found)} of at most {MOST_ENTRIES} entries, {_megabytes(size)}")
    return Outcome(
        data={"folder": str(folder), "bytes": size, "most": MOST_ENTRIES, "entries": found},
        body=(total, *((table,) if found else ())),
    )


def _clear() -> Outcome:
    from policy_engine.chat.tokens.cache import cache_folder, clear

    folder = cache_folder()
    number = clear()
    return Outcome(
        data={"folder": None if folder is None else str(folder), "removed": number},
        body=(f"entries removed: {number}" + ("" if folder is None else f", from {folder}"),),
    )


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
