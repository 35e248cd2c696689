"""`fmt FILE…`: the canonical layout, comments kept."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from policy_engine.cli.files import write_text_file
from policy_engine.cli.options import FormatOption
from policy_engine.cli.outcome import Exit, Outcome, diagnostics_of
from policy_engine.cli.work.inputs import STDIN, policy_files, read_source
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import DataError, PolicyEngineError
from policy_engine.core.source import Source
from policy_engine.lang.format import format_policy
from policy_engine.lang.library import read_policy, shipped
from policy_engine.lang.parse import parse


def fmt(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Policy files, folders of them, or - for standard input."),
    ],
    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if a file would change.")] = False,
    diff: Annotated[bool, typer.Option("--diff", help="Write nothing; print what would change, and exit 1.")] = False,
    format: FormatOption = "text",
) -> Outcome:
    """Lay policies out in the canonical form, in place. Comments are kept, and the meaning is."""
    write = not (check or diff)
    diagnostics: list[Diagnostic] = []
    facts, body, raw = [], [], ""
    changed = 0
    for name in policy_files(files):
        try:
            source = _source(name)
            text = format_policy(parse(source.text, name=source.name))
            differs = text != source.text
            if write and name != STDIN and differs:
                write_text_file(Path(name), text, overwrite=True)
        except PolicyEngineError as error:
            diagnostics += diagnostics_of(error)
            facts.append({"file": name, "valid": False, "changed": None})
            continue
        changed += differs
        facts.append({"file": name, "valid": True, "changed": differs})
        # Standard input has no place to write to: the text goes to standard output.
        if write and name == STDIN:
            raw += text
        elif differs:
            body += [Text(line) for line in _diff(source, text)] if diff else []
            done = "laid out" if write else "would be laid out again"
            body += [] if diff else [Text.assemble((name, "bold"), f": {done}")]
    code = Exit.NO_ANSWER if diagnostics else Exit.FAILS if changed and not write else Exit.HOLDS
    if not body and not raw and code is Exit.HOLDS:
        body = [Text("nothing to change", style="dim")]
    return Outcome(
        exit=code,
        diagnostics=tuple(diagnostics),
        data={"files": facts, **({"text": raw} if raw else {})},
        body=tuple(body),
        raw=raw or None,
    )


def _source(name: str) -> Source:
    # Elsewhere a shipped name goes first; here it would be a file inside the package that is changed.
    if name in shipped() and not Path(name).exists():
        raise DataError(f"`{name}` is a shipped policy, which `fmt` does not change", help="give the path of a file")
    return read_source(name) if name == STDIN else read_policy(Path(name))


def _diff(source: Source, text: str) -> list[str]:
    old, new = source.text.splitlines(), text.splitlines()
    return list(difflib.unified_diff(old, new, source.name, f"{source.name} (laid out)", lineterm=""))
