"""One row explained."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.text import Text

from policy_engine.chat.segments import Segment
from policy_engine.cli.outcome import Exit, Outcome, diagnostics_of
from policy_engine.cli.records import ExplainOptions
from policy_engine.cli.work.inputs import MaskerInputs
from policy_engine.cli.work.masked_rows import masked_rows
from policy_engine.core.errors import ConfigError
from policy_engine.mask.explain import Explanation
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.unrendered import lost_json, lost_piece
from policy_engine.report.styles import DOUBT, GOOD


def explain_row(data: str, inputs: MaskerInputs, about: ExplainOptions, *, machine: bool = True) -> Outcome:
    """The segments of a row, or what else of it is asked for.

    Without `machine` the outcome's `data` has no explanations.

    Raises RowError if there is no such row, ConfigError for a token, text or turn that the row does not have.
    """
    said: list[str] = []
    numbers = () if about.row is None else (about.row,)
    rows = masked_rows(data, inputs, limit=1, numbers=numbers, say=said.append)
    # A pair gives two rows, the chosen one first. A row that failed has no side, and is the answer whichever was asked
    # for.
    row = next(row for row in rows if about.side is None or row.side in ("", about.side))
    if not isinstance(row.result, MaskedRow):
        return Outcome(
            exit=Exit.FAILS,
            diagnostics=diagnostics_of(row.result, place=row.place),
            data={"row": row.number, "read_as": said, "explanations": []},
            head=tuple(Text(line, style="dim") for line in said),
        )
    found = _explanations(row.result, tuple(about.token or ()), about.at, about.turn)
    pieces = ", ".join(map(lost_piece, row.result.chat.unrendered))
    lost = [Text(f"never reached the text: {pieces}", style=DOUBT)] if pieces else []
    head = tuple(Text(line, style="dim") for line in said)
    return Outcome(
        data={
            "row": row.number,
            "read_as": said,
            "unrendered": lost_json(row.result.chat),
            "explanations": [e.as_dict() for e in found] if machine else [],
        },
        head=head,
        body=(Text(row.name, style="bold"), *(line for e in found for line in _lines(e)), *lost),
    )


def _explanations(row: MaskedRow, tokens: tuple[int, ...], at: str | None, turn: int | None) -> list[Explanation]:
    total, messages = len(row.input_ids), len(row.chat.messages)
    if turn is not None and tokens:
        raise ConfigError(
            "a number of --token is that of a token in the row, so --turn means nothing beside it",
            help="leave out --turn, or name the tokens of the message by their text: --at TEXT --turn N",
        )
    if turn is not None and turn >= messages:
        raise ConfigError(f"there is no message {turn}: the row has {messages}", help="messages count from 0")
    for token in tokens:
        if token >= total:
            raise ConfigError(f"there is no token {token}: the row has {total}", help="tokens count from 0")
    if at is not None:
        tokens += _tokens_at(row, at, turn)
    if tokens:
        return [row.explain(token=token) for token in tokens]
    segments = row.chat.segments
    return [row.explain(segment=i) for i, s in enumerate(segments) if s.start < s.end and turn in (None, s.turn)]


def _tokens_at(row: MaskedRow, text: str, turn: int | None) -> tuple[int, ...]:
    """The tokens where a text first occurs: in the row, or in one of its messages."""
    own = [s for s in row.chat.segments if s.start < s.end and turn in (None, s.turn)]
    start = -1
    # Text of another message may be inside: some templates write the system prompt into the first user's turn.
    for stretch in _stretches(own):
        start = row.chat.text.find(text, *stretch) if text else -1
        if start >= 0:
            break
    else:
        where = "the rendered row" if turn is None else f"message {turn}, as it is rendered,"
        raise ConfigError(
            f"{where} does not contain `{text}`", help="`policy-engine show` prints the text as it is rendered"
        )
    starts, ends = row.tokenized.starts_T.tolist(), row.tokenized.ends_T.tolist()
    # Tokens that overlap the text: the first and the last one may reach beyond it.
    return tuple(i for i, (a, b) in enumerate(zip(starts, ends, strict=True)) if a < start + len(text) and start < b)


def _stretches(segments: Iterable[Segment]) -> Iterator[tuple[int, int]]:
    """The characters that segments cover without a gap."""
    start = end = 0
    for segment in segments:
        if segment.start != end:
            yield start, end
            start = segment.start
        end = segment.end
    yield start, end


def _lines(explanation: Explanation) -> Iterator[Text]:
    """The plain form, its first line in the colour of the decision."""
    style = f"bold {DOUBT}" if explanation.weight is None else f"bold {GOOD}" if explanation.weight else "bold"
    for line in explanation.as_lines():
        yield Text(line, style=style)
        style = ""
