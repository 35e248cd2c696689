"""Writes the option tables of `docs/cli.md` from the command line itself. `--check` only says whether they are current.

    python scripts/cli_reference.py [--check]

In the page, the lines between `<!-- options: VERB -->` and `<!-- end -->` are replaced; the rest is written by hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import typer

from policy_engine.cli.main import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
_BLOCK = re.compile(r"(<!-- options: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables(page: str) -> str:
    """The page with its option tables made anew. Raises SystemExit for a verb that the page leaves out."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    missing = set(commands) - {match[2] for match in _BLOCK.finditer(page)}
    if missing:
        raise SystemExit(f"docs/cli.md has no table for {', '.join(sorted(missing))}")
    return _BLOCK.sub(lambda match: match[1] + _table(commands[match[2]]) + match[3], page)


def _table(command: Any) -> str:
    rows = ["| argument or option | meaning |", "|---|---|"]
    for parameter in command.params:
        if parameter.name == "help":
            continue
        rows.append(f"| {_name(parameter)} | {_escape(parameter.help or '')}{_default(parameter)} |")
    return "\n".join(rows) + "\n"


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{_escape(parameter.metavar or parameter.name.upper())}`"
    names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    if parameter.is_flag:
        return names
    choices = getattr(parameter.type, "choices", None)
    value = " or ".join(str(getattr(c, "value", c)) for c in choices) if choices else parameter.metavar
    return f"{names} {_escape(value or parameter.type.name.upper())}"


def _default(parameter: Any) -> str:
    value = parameter.default
    if parameter.required or value is None or value is False or value == [] or callable(value):
        return ""
    return f" Default: `{getattr(value, 'value', value)}`."


def _escape(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """The command."""
    old = PAGE.read_text(encoding="utf-8")
    new = tables(old)
    if arguments == ["--check"]:
        return int(old != new)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
