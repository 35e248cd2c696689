"""One system, setting and template, compared with a policy of ours, token by token."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.peers.chats import Row, quotes
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import PolicyEngineError
from policy_engine.data.conversation import Conversation
from policy_engine.mask.masker import Masker
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.token_mask import REASONS
from policy_engine.rules.compile import compile_file, compile_text

Masked = tuple[list[int], list[bool]]
"""Ids, and per token whether it is trained."""
Theirs = Callable[[Sequence[Row]], list["Masked | Exception"]]
"""Rows to what a system makes of them; the error it raised on a row takes its place."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """`policy` names a shipped policy, or is the text of one."""

    system: str
    setting: str
    case: str
    policy: str
    tokenizer: ChatTokenizer
    rows: Sequence[Row]
    theirs: Theirs
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the template beside the row, as the system gives them."""
    mine: Callable[[Row], Row] | None = None
    """Changes that the system makes to a row's text before it renders it."""

    def masker(self) -> Masker:
        """Ours."""
        named = self.policy.isidentifier()
        return Masker(compile_file(self.policy) if named else compile_text(self.policy), self.tokenizer)

    def conversation(self, row: Row) -> Conversation:
        """A row as our side reads it."""
        row = row if self.mine is None else self.mine(row)
        tools = row.get("tools")
        return Conversation(
            messages=tuple(row["messages"]),
            tools=None if tools is None else tuple(tools),
            sample=row,
            template_kwargs=dict(self.kwargs),
        )


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Tokens of one row that only one side trains, of one part and role.

    `quoted`: the row quotes control tokens in what people say. `blank`: the turn's own text is blank. `straddle`: our
    token mixes two decisions. `after`: the part of the token before.
    """

    only: str
    part: str
    role: str | None
    last: bool
    quoted: bool
    blank: bool
    straddle: bool
    kind: str
    text: str

    @property
    def description(self) -> str:
        """The difference, in words that many rows share."""
        where = f"{self.part} of {self.role}" if self.role else self.part
        turn = "last turn" if self.last else "earlier turn"
        facts = [turn, *(n for n in ("quoted", "blank", "straddle") if getattr(self, n))]
        return f"only {self.only} train {where} ({', '.join(facts)})"


@dataclass(kw_only=True)
class Compared:
    """The results of a trial's rows. `seeds` has the first row of each kind."""

    rows: int = 0
    equal: int = 0
    differ: int = 0
    they_refuse: Counter[str] = field(default_factory=Counter)
    we_refuse: Counter[str] = field(default_factory=Counter)
    other_ids: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    seeds: dict[str, int] = field(default_factory=dict)


Explain = Callable[[Trial, Difference], str | None]
"""The key of what explains a difference; None if nothing does."""


def compare(trial: Trial, explain: Explain) -> Compared:
    """Runs both sides on the trial's rows.

    A kind is the key of its explanation or, without one, the difference.
    """
    masker = trial.masker()
    found = Compared(rows=len(trial.rows))
    ours = masker.mask_batch([trial.conversation(row) for row in trial.rows])
    for seed, (row, made, mine) in enumerate(zip(trial.rows, trial.theirs(trial.rows), ours, strict=True)):

        def note(counter: Counter[str], key: str, seed: int = seed) -> None:
            counter[key] += 1
            found.seeds.setdefault(key, seed)

        if isinstance(made, Exception):
            note(found.they_refuse, f"{type(made).__name__}: {str(made).splitlines()[0][:80] if str(made) else ''}")
        elif isinstance(mine, PolicyEngineError):
            note(found.we_refuse, f"{mine.code}")
        elif not _same_ids(made[0], mine):
            note(found.other_ids, _other_ids(trial, made[0], mine))
        else:
            trained = [*made[1], *[False] * (len(mine.input_ids) - len(made[1]))]
            kinds = {explain(trial, d) or d.description for d in differences(mine, trained, row)}
            found.differ += bool(kinds)
            found.equal += not kinds
            for kind in sorted(kinds):
                note(found.kinds, kind)
    return found


def _same_ids(ids: list[int], ours: MaskedRow) -> bool:
    """True if the ids are the template's, but for the separator after the last turn.

    Some do not write it.
    """
    rest = [ours.chat.segments[i].part for i in ours.mask.segments_T[len(ids) :].tolist()]
    return ids == ours.input_ids[: len(ids)] and all(part == "separator" for part in rest)


def _other_ids(trial: Trial, ids: list[int], ours: MaskedRow) -> str:
    tokenizer = trial.tokenizer.tokenizer
    theirs = tokenizer.decode(ids, skip_special_tokens=False)
    text = tokenizer.decode(ours.input_ids, skip_special_tokens=False)
    if theirs.rstrip() == text.rstrip():
        return "same text, other tokens"
    at = next((i for i, (a, b) in enumerate(zip(ids, ours.input_ids)) if a != b), min(len(ids), len(ours.input_ids)))
    if at >= len(ours.input_ids):
        return "other text, after the template's end"
    segment = ours.chat.segments[int(ours.mask.segments_T[at])]
    return f"other text, from {segment.part} of {ours.chat.role(segment)}"


def differences(ours: MaskedRow, trained: Sequence[bool], row: Row) -> set[Difference]:
    """The tokens that the two sides decide differently.

    The first token is left out: it is never a target.
    """
    chat = ours.chat
    found = set()
    quoted = quotes(row)
    for at, (weight, theirs) in enumerate(zip(ours.mask.weights_T.tolist(), trained, strict=True)):
        if at and bool(weight) != bool(theirs):
            segment = chat.segments[int(ours.mask.segments_T[at])]
            message = {} if segment.turn is None else chat.messages[segment.turn]
            start, end = int(ours.tokenized.starts_T[at]), int(ours.tokenized.ends_T[at])
            found.add(
                Difference(
                    only="we" if weight else "they",
                    part=segment.part,
                    role=chat.role(segment),
                    last=segment.turn == len(chat.messages) - 1,
                    quoted=quoted,
                    blank=not str(message.get("content") or "").strip(),
                    straddle=REASONS[int(ours.mask.reasons_T[at])] == "straddle",
                    kind=row.get("kind", ""),
                    text=chat.text[start:end],
                )
            )
    return found


def each(one: Callable[[Row], Masked]) -> Theirs:
    """A system that takes one row at a time."""

    def run(rows: Sequence[Row]) -> list[Masked | Exception]:
        made: list[Masked | Exception] = []
        for row in rows:
            try:
                made.append(one(row))
            except Exception as error:  # whatever the other system raises is its refusal
                made.append(error)
        return made

    return run


def trained_by(labels: Sequence[int]) -> list[bool]:
    """Which tokens labels train."""
    return [label != -100 for label in labels]
