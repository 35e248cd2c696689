"""Why a segment or a token got the decision it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from policy_engine.chat.segments import MediaTokens, RenderedChat, Segment, TokenizedChat
from policy_engine.core.vocabulary import MEDIA
from policy_engine.core.wording import field_path
from policy_engine.mask.apply_program import DRIFT, STRADDLE, STRUCTURAL, apply_program
from policy_engine.mask.token_mask import REASONS, TokenMask
from policy_engine.rules.conditions.comparison import excerpt, shown
from policy_engine.rules.conditions.conditions import ConditionValue
from policy_engine.rules.decisions import PieceTable
from policy_engine.rules.program import Program
from policy_engine.rules.traces import RuleTrace, trace_rules


@dataclass(frozen=True, kw_only=True)
class ExplainedPiece:
    """Characters `[start, end)` of one segment, their decision and the rules that select them.

    `rule` decided (None: no rule matches, masked by default) and `scaled_by` multiplied its weight; `lost` matched too
    but a later rule decided; `rejected` would have matched, but their condition is false. `source` says where the
    characters come from: a field of the message with the offset there, or a line of the template. `sampled` is True if
    a model sampled them, None if the policy does not ask.
    """

    start: int
    end: int
    text: str
    segment: int
    turn: int | None
    role: str | None
    part: str
    source: str
    weight: float
    rule: RuleTrace | None
    scaled_by: tuple[RuleTrace, ...]
    lost: tuple[RuleTrace, ...]
    rejected: tuple[RuleTrace, ...]
    sampled: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """The decision about a segment or a token, with its reason.

    `token` and `token_id` are None for a segment. `weight` is the token's (None for a segment whose pieces differ);
    `why` is the reason in a sentence; `pieces` are what the token touches or the segment consists of. `medium` is the
    image, sound or video that it belongs to, in words. `str` gives the text form.
    """

    token: int | None
    token_id: int | None
    text: str
    weight: float | None
    reason: str
    why: str
    pieces: tuple[ExplainedPiece, ...]
    medium: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """The same as plain objects, lists and scalars, for JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """The same for people, over several lines.

        >>> from policy_engine.mask.masker import Masker
        >>> from policy_engine.rules.compile import compile_text
        >>> masker = Masker(compile_text("train assistant"), "builtin")
        >>> chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
        >>> print(masker(chat).explain(token=9).as_text())
        token 9 (id 965) 'Yes': trained, weight 1
          reason: rule: <string>:1:1 `train assistant` is the last rule that matches it
          [52:56] text of message 1 (assistant), from content, from character 0: weight 1
            decided by: <string>:1:1 `train assistant`
        """
        return "\n".join(self.as_lines())

    def as_lines(self) -> list[str]:
        """The lines of `as_text`; a name in the data may hold line breaks of its own."""
        return list(_lines(self))

    def __str__(self) -> str:
        return self.as_text()


def explain_segment(
    program: Program, chat: RenderedChat, index: int, *, media: Sequence[MediaTokens] = ()
) -> Explanation:
    """Explains why the characters of a segment are decided as they are.

    `media` are those of the row. Raises IndexError for no such segment, and what `Program.decide` raises.
    """
    if not 0 <= index < len(chat.segments):
        raise IndexError(f"no segment {index}: there are {len(chat.segments)}")
    table = program.table(chat)
    # A segment has several pieces where spans or a regex decide parts of it, and no piece if it is empty.
    pieces = _explain(program, chat, table, [p for p, segment in enumerate(table.segments) if segment == index])
    weights = {piece.weight for piece in pieces}
    # By the rule's index: a trace holds values of the data, which may be lists and objects.
    same = len({(piece.weight, None if piece.rule is None else piece.rule.index) for piece in pieces}) == 1
    own = chat.segments[index]
    # A segment of a medium holds its placeholders; message and content part say which medium.
    held = (m for m in media if own.part in MEDIA and (m.turn, m.item) == (own.turn, own.item))
    return Explanation(
        token=None,
        token_id=None,
        text=chat.segment_text(own),
        medium=next((medium.in_words for medium in held), None),
        weight=weights.pop() if len(weights) == 1 else None,
        reason="default" if all(piece.rule is None for piece in pieces) else "rule",
        why=_by_rule(pieces[0].rule) if same else "rules decide its characters apart",
        pieces=pieces,
    )


def explain_token(
    program: Program, tokenized: TokenizedChat, token: int, *, mask: TokenMask | None = None
) -> Explanation:
    """Why a token is decided as it is. `mask` saves working it out again.

    Raises IndexError for no such token, and what `apply_program` raises.
    """
    if not 0 <= token < len(tokenized.input_ids):
        raise IndexError(f"no token {token}: there are {len(tokenized.input_ids)}")
    chat = tokenized.chat
    table = program.table(chat)
    # A row's own mask may be truncated, or limited to some turns; working it out would lose that.
    mask = apply_program(program, tokenized) if mask is None else mask
    start, end = int(tokenized.starts_T[token]), int(tokenized.ends_T[token])
    # A token without characters is decided by the character at its place.
    stop = max(end, start + 1)
    touched = [p for p in range(len(table.ends)) if table.starts[p] < stop and start < table.ends[p]]
    pieces = _explain(program, chat, table, touched)
    reason = int(mask.reasons_T[token])
    media = tokenized.media or ()
    return Explanation(
        token=token,
        token_id=tokenized.input_ids[token],
        medium=next((m.in_words for m in media if m.first <= token < m.first + m.count), None),
        text=chat.text[start:end],
        weight=float(mask.weights_T[token]),
        reason=REASONS[reason],
        why=_why(token, reason, float(mask.weights_T[token]), pieces),
        pieces=pieces,
    )


def explain_pieces(program: Program, chat: RenderedChat) -> tuple[ExplainedPiece, ...]:
    """Every piece of a chat's text, in order, with the rules that had a say.

    Raises what `Program.decide` raises.
    """
    table = program.table(chat)
    return _explain(program, chat, table, list(range(len(table.ends))))


def rule_lines(piece: ExplainedPiece) -> Iterator[tuple[int, str]]:
    """The rules that had a say about a piece, for people: (depth of indentation, line).

    >>> from policy_engine.mask.masker import Masker
    >>> from policy_engine.rules.compile import compile_text
    >>> masker = Masker(compile_text("train assistant where turn.index > 0"), "builtin")
    >>> chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
    >>> [line for piece in explain_pieces(masker.program, masker(chat).chat) for _, line in rule_lines(piece)][:2]
    ['decided by: <string>:1:1 `train assistant where turn.index > 0`', '`turn.index > 0` is true: `turn.index` is 1']
    """
    sections = (
        ("decided by", () if piece.rule is None else (piece.rule,)),
        ("scaled by", piece.scaled_by),
        ("matched too, but a later rule decided", piece.lost),
        ("did not hold", piece.rejected),
    )
    for title, rules in sections:
        for rule in rules:
            yield 0, f"{title}: {rule.place} `{rule.text}`"
            for test in rule.conditions:
                value = "is not there" if test.missing else f"is {_shown(test)}"
                yield 1, f"`{test.test}` is {'true' if test.holds else 'false'}: `{test.field}` {value}"


def _shown(test: ConditionValue) -> str:
    return " and ".join(map(shown, test.value)) if test.several else shown(test.value)


def _explain(program: Program, chat: RenderedChat, table: PieceTable, pieces: list[int]) -> tuple[ExplainedPiece, ...]:
    # The first character speaks for the piece: a piece is what one decision covers.
    traces = trace_rules(program, chat, [(table.segments[p], table.starts[p]) for p in pieces])
    found = []
    for piece, rules in zip(pieces, traces):
        segment = chat.segments[table.segments[piece]]
        decided = next((r for r in rules if r.index == table.rules[piece]), None)
        # With no deciding rule, none of the rules above can have lost to it.
        above = -1 if decided is None else decided.index
        # A factor on masked text changes nothing, so it had no say.
        trained = decided is not None and decided.effect == "train"
        found.append(
            ExplainedPiece(
                start=table.starts[piece],
                end=table.ends[piece],
                text=chat.text[table.starts[piece] : table.ends[piece]],
                segment=table.segments[piece],
                turn=segment.turn,
                role=chat.role(segment),
                part=segment.part,
                source=_source(segment),
                weight=table.weights[piece],
                rule=decided,
                scaled_by=tuple(r for r in rules if trained and r.holds and r.effect == "scale" and r.index > above),
                lost=tuple(r for r in rules if r.holds and r.index < above),
                rejected=tuple(r for r in rules if not r.holds),
                sampled=None if program.needs_sampled is None else _is_sampled(chat, table.starts[piece]),
            )
        )
    return tuple(found)


def _is_sampled(chat: RenderedChat, character: int) -> bool:
    return any(start <= character < end for start, end in chat.sampled or ())


def _source(segment: Segment) -> str:
    if segment.field is not None:
        path = field_path(segment.field)
        return f"{path}, from character {segment.field_start}" if segment.field_exact else path
    if segment.unknown:
        return "computed by the template"
    return "template" if segment.line is None else f"template line {segment.line}"


def _by_rule(rule: RuleTrace | None) -> str:
    return "no rule matches it" if rule is None else f"{rule.place} `{rule.text}` is the last rule that matches it"


def _why(token: int, reason: int, weight: float, pieces: tuple[ExplainedPiece, ...]) -> str:
    if reason == STRUCTURAL:
        if token == 0:
            return "nothing predicts the first token of a row, so it is never a target"
        return "it belongs to a generation prompt, which is never a target"
    if reason == DRIFT:
        return "the given ids spell something else than the messages here, and `on drift mask` masks that"
    if reason == STRADDLE:
        sides = ", ".join(f"{p.part} of message {p.turn}" if p.turn is not None else p.part for p in pieces)
        return f"it straddles {sides}, and `on straddle` makes it {'trained' if weight else 'masked'}"
    if not pieces:
        return "no character decides it"
    return _by_rule(pieces[0].rule)


def _lines(explanation: Explanation) -> Iterator[str]:
    weight = explanation.weight
    verdict = "mixed" if weight is None else f"trained, weight {weight:g}" if weight else "masked"
    name = "segment" if explanation.token is None else f"token {explanation.token} (id {explanation.token_id})"
    # A picture's text is thousands of placeholders; its description says more.
    whole = explanation.token is None and explanation.medium is not None
    yield f"{name} {explanation.medium if whole else excerpt(explanation.text)}: {verdict}"
    if explanation.medium is not None and not whole:
        yield f"  medium: {explanation.medium}"
    yield f"  reason: {explanation.reason}: {explanation.why}"
    for piece in explanation.pieces:
        owner = "text no message owns" if piece.turn is None else f"message {piece.turn} ({piece.role})"
        verdict = f"weight {piece.weight:g}" if piece.weight else "masked"
        marked = "" if piece.sampled is None else ", sampled" if piece.sampled else ", not sampled"
        yield f"  [{piece.start}:{piece.end}] {piece.part} of {owner}, from {piece.source}{marked}: {verdict}"
        for depth, line in rule_lines(piece):
            yield f"    {'  ' * depth}{line}"
