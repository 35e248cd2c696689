"""Outcomes made by hand, of every kind a reporter has to tell."""

from __future__ import annotations

from dataclasses import replace

from policy_engine.cli.outcome import Exit, Outcome
from policy_engine.core.diagnostics import Diagnostic, Related
from policy_engine.core.source import Place, Source, Span

TEXT = "train asistant\nnever train user,\n  tool\n"
SOURCE = Source(name="a dir/my.policy", text=TEXT)


def span(words: str) -> Span:
    start = TEXT.index(words)
    return Span(source=SOURCE, start=start, end=start + len(words))


TYPO = Diagnostic(
    code="PE201",
    severity="warning",
    message="nothing declares the role `asistant`: 100%",
    help="did you mean `assistant`?",
    span=span("asistant"),
)
GUARD = Diagnostic(
    code="PE301",
    severity="error",
    message="the guard does not hold",
    span=span("never train user,\n  tool"),
    related=(Related(message="this rule trains it", span=span("train asistant")),),
)
PLACELESS = Diagnostic(code="PE502", severity="error", message="there is no file `x`", help="check\nthe path")
ROW = Diagnostic(
    code="PE501", severity="error", message="messages[0] has no role", place=Place(file="a dir/x.jsonl", number=7)
)
ROW_WITHOUT_LINES = replace(ROW, place=Place(file="x.parquet", number=7))
ROW_OF_A_PIPE = replace(ROW, place=Place(file=None, number=7))
NOTE = Diagnostic(code="PE900", severity="info", message="a note")

OUTCOMES = [
    Outcome(),
    Outcome(exit=Exit.HOLDS, diagnostics=(TYPO, NOTE), data={"files": []}),
    Outcome(exit=Exit.FAILS, diagnostics=(TYPO, GUARD, GUARD)),
    Outcome(exit=Exit.FAILS, diagnostics=(ROW, ROW_WITHOUT_LINES, ROW_OF_A_PIPE)),
    Outcome(exit=Exit.FAILS),
    Outcome(exit=Exit.NO_ANSWER, diagnostics=(PLACELESS,)),
    Outcome(exit=Exit.UNDECIDED),
    Outcome(exit=Exit.INTERRUPTED, diagnostics=(PLACELESS,)),
]
