"""`template TEMPLATE`: property-test a chat template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from policy_engine.cli.options import FormatOption, Loading, TokenizerOption
from policy_engine.cli.outcome import Exit, Outcome
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import ConfigError
from policy_engine.core.wording import counted
from policy_engine.report.styles import BAD, DOUBT, GOOD

if TYPE_CHECKING:
    from policy_engine.chat.template import ChatTemplate
    from policy_engine.chat.tokenizer import ChatTokenizer
    from policy_engine.testing.conformance import ConformanceReport, PropertyResult

_STYLES = {"holds": GOOD, "fails": BAD, "fact": DOUBT, "does not apply": "dim"}
_TEMPLATES = (".jinja", ".j2", ".jinja2", ".txt")


def template(
    *,
    template: Annotated[
        str,
        typer.Argument(
            metavar="TEMPLATE", help="A chat template file (.jinja), or a tokenizer that has one: folder or name."
        ),
    ],
    tokenizer: TokenizerOption = None,
    examples: Annotated[
        int, typer.Option("--examples", min=0, metavar="N", help="How many generated conversations to try.")
    ] = 200,
    loading: Loading,
    format: FormatOption = "text",
) -> Outcome:
    """Property-test a chat template, with a smallest conversation for what does not hold."""
    # Imported here: it brings transformers and Hypothesis.
    from policy_engine.run.backends import backend_verdict
    from policy_engine.testing.conformance import check_template

    compiled, tokens = _load(template, tokenizer)
    report = check_template(compiled, tokenizer=tokens, examples=examples)
    backend = None if tokens is None else backend_verdict(tokens)
    return Outcome(
        exit=Exit.HOLDS if report.holds else Exit.FAILS,
        diagnostics=tuple(_finding(template, p) for p in report.properties if p.verdict == "fails"),
        data=report.to_json() | {"template": template, "backend": backend},
        body=(*_lines(template, report), *(() if backend is None else (Text(f"  {backend}"),))),
    )


def _load(name: str, tokenizer: str | None) -> tuple[ChatTemplate, ChatTokenizer | None]:
    """The template to test, and its tokenizer; a template file by itself has no tokenizer."""
    from policy_engine.chat.loading import load_tokenizer
    from policy_engine.chat.template import ChatTemplate
    from policy_engine.chat.tokens.load import read_template

    path = Path(name)
    # By name, not by looking: a folder may be called anything, and a file that is missing has to be reported as a
    # template.
    if path.suffix in _TEMPLATES or path.name == "chat_template.json":
        if tokenizer is None:
            return ChatTemplate(read_template(path), name=name), None
        loaded = load_tokenizer(tokenizer, template=path, cache=True)
    elif tokenizer is not None:
        raise ConfigError(
            f"`{name}` is no template file, so it is taken for a tokenizer, and another one is given with -t",
            help="name a .jinja file, or leave -t out",
        )
    else:
        loaded = load_tokenizer(name, cache=True)
    return loaded.template, loaded


def _finding(name: str, found: PropertyResult) -> Diagnostic:
    shown = found.counterexample
    messages = "" if shown is None else json.dumps([dict(m) for m in shown.messages], ensure_ascii=False, default=str)
    return Diagnostic(
        code="PE407",
        message=f"{name}: {found.name} does not hold: {found.sentence}",
        help=f"a conversation that shows it: {messages}",
    )


def _lines(name: str, report: ConformanceReport) -> Iterator[RenderableType]:
    verdict = ("holds", GOOD) if report.holds else ("does not hold", BAD)
    yield Text.assemble(
        (name, "bold"), ": ", verdict, f", {counted(report.examples, 'conversation')}, {report.seconds:.1f} s"
    )
    for found in report.properties:
        label = "yes" if found.verdict == "fact" and found.yes else "no" if found.verdict == "fact" else found.verdict
        yield Text.assemble("  ", (f"{label:<15}", _STYLES[found.verdict]), f"{found.name}: {found.sentence}")
        if found.counterexample is not None:
            for message in found.counterexample.messages:
                yield Text(
                    "                   " + json.dumps(dict(message), ensure_ascii=False, default=str), style="dim"
                )
