"""Writes the option tables of `docs/reference/cli.md`; `--check` says if they are current.

    python scripts/cli_reference.py [--check]

In the page, the lines between `<!-- options: VERB -->` and `<!-- end -->` are replaced; the rest is written by hand.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from policy_engine.cli.app import app_with
from policy_engine.cli.usage import choices_of

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"
_BLOCK = re.compile(r"(<!-- options: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def tables(page: str) -> str:
    """The page with its option tables made again.

    Raises SystemExit for a verb that the page leaves out.
    """
    verbs = {c.name or c.callback.__name__: c.callback for c in app_with().registered_commands if c.callback}
    missing = set(verbs) - {match[2] for match in _BLOCK.finditer(page)}
    if missing:
        raise SystemExit(f"docs/reference/cli.md has no table for {', '.join(sorted(missing))}")
    return _BLOCK.sub(lambda match: f"{match[1]}\n{_table(verbs[match[2]])}\n{match[3]}", page)


def _table(verb: Callable[..., Any]) -> str:
    """The table, read from the verb's signature: typer's own objects differ by release."""
    hints = get_type_hints(verb, include_extras=True)
    rows = ["| argument or option | meaning |", "|---|---|"]
    for parameter in inspect.signature(verb).parameters.values():
        hint = hints[parameter.name]
        if get_origin(hint) is Union:  # Python 3.10 makes what has the default None optional, around Annotated
            hint = get_args(hint)[0]
        kind, info = get_args(hint)
        name = _name(parameter.name, kind, info)
        rows.append(f"| {name} | {_escape(info.help or '')}{_default(parameter.default)} |")
    return "\n".join(rows) + "\n"


def _name(name: str, kind: Any, info: Any) -> str:
    if type(info).__name__ == "ArgumentInfo":
        return f"`{_escape(info.metavar or name.upper())}`"
    # `default` holds the first name: `typer.Option("-p", "--policy")` takes a default there, outside of Annotated.
    declared = [info.default, *(info.param_decls or ())] if isinstance(info.default, str) else info.param_decls
    names = ", ".join(f"`{one}`" for one in declared or [f"--{name.replace('_', '-')}"])
    if choices := choices_of(kind):
        return f"{names} {' or '.join(f'`{choice}`' for choice in choices)}"
    types = [t for t in (get_args(kind) or (kind,)) if t is not type(None)]
    inner = next((get_args(t)[0] if get_args(t) else t for t in types), str)
    if inner is bool:
        return names
    return f"{names} `{_escape(info.metavar or ('N' if inner is int else inner.__name__.upper()))}`"


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty or value is None or value is False:
        return ""
    return f" Default: `{value}`."


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
