"""Labels that somebody else made: what they train, by role and part, and what is odd.

Rows are compared with the shipped policies, and with a policy if one is given.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from policy_engine.audit.ambiguity import Doubts
from policy_engine.audit.missing_fields import Untold
from policy_engine.audit.parted_rows import PreparedRow, prepared_rows
from policy_engine.audit.recover import Recoverer, source_of
from policy_engine.chat.segments import TokenizedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import or_none
from policy_engine.core.habits import FOLLOWS, HABITS, OF_COLUMNS, OF_ONE_ROW
from policy_engine.core.vocabulary import BODY, EOS, IGNORE_INDEX
from policy_engine.data.conversation import Conversation
from policy_engine.data.given import COLUMNS
from policy_engine.data.prepared import are_shifted, check_lengths, spans_of
from policy_engine.data.token_columns import marks_of
from policy_engine.lang.library import read_shipped, shipped
from policy_engine.mask.apply_program import apply_program
from policy_engine.mask.evidence.cut_answers import ends_inside_answer
from policy_engine.mask.evidence.rule_use import Evidence, RuleWatch
from policy_engine.mask.evidence.segment_kinds import is_thinking
from policy_engine.mask.evidence.tokens_in_data import ControlTokenRows, ControlTokens
from policy_engine.mask.evidence.written_calls import CallsInText
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.token_mask import TokenMask
from policy_engine.rules.compile import compile_text
from policy_engine.rules.program import Program

_SHARE: Final = 0.9
"""A smell is named when this share of the rows that could show it do."""


@dataclass(frozen=True, kw_only=True)
class Smell:
    """A habit of labels that is seldom meant; `rows` of `of` show it, `help` says what to do."""

    code: str
    message: str
    help: str
    rows: int
    of: int
    asked: bool = False
    """True if the policy asks for it: each row that shows it trains exactly what the policy trains."""


@dataclass(frozen=True, kw_only=True)
class Breach:
    """A row that trains or masks other tokens than the policy.

    `tokens` are the first of them: place, text, effect.
    """

    row: int
    differing: int
    tokens: tuple[tuple[int, str, str], ...]


@dataclass(kw_only=True)
class Audit:
    """The account of a prepared dataset."""

    rows: int = 0
    """Rows looked at; the documents of a packed row count as rows of their own, here and below."""
    recovered: int = 0
    """Rows whose conversation was found: their ids come out of the template and tokenizer as they are."""
    exact: int = 0
    """Of these, rows whose source conversation the data itself has."""
    trained: Counter[tuple[str, str]] = field(default_factory=Counter)
    masked: Counter[tuple[str, str]] = field(default_factory=Counter)
    breaches: list[Breach] = field(default_factory=list)
    smells: list[Smell] = field(default_factory=list)
    presets: list[tuple[str, float]] = field(default_factory=list)
    """Shipped policies by the share of recovered rows whose labels they give exactly, best first, and `default` first
    of equals. Those that ask for what some row does not tell are left out."""
    perhaps: list[str] = field(default_factory=list)
    """Shipped policies that give the labels of every recovered row exactly, if blanks before calls are the template's
    in rows whose ids do not tell it. `presets` is without them."""
    columns: Counter[str] = field(default_factory=Counter)
    untold: Counter[str] = field(default_factory=Counter)
    """Fields that the policy asks for and rows do not have (`message.training`), with the number of such rows."""
    markers: Counter[str] = field(default_factory=Counter)
    """Text that the policy decides otherwise if the template wrote it and not the data, by how many rows have it and
    do not tell which."""
    refused: int = 0
    """Recovered rows that the policy refuses, by a guard or an `on … error`."""
    compared: int = 0
    """Recovered rows that were compared with the policy."""
    rules: Counter[int] = field(default_factory=Counter)
    """Tokens of these rows by the index of the rule of the policy that decides them, -1 for no rule."""
    evidence: Evidence = field(default_factory=Counter)
    """Facts about the policy's rules and fields in these rows, and about calls in text: see `mask.evidence`."""
    control: ControlTokenRows = field(default_factory=ControlTokenRows)
    """Rows with control tokens in their data, of those whose source conversation the data itself has."""
    undecided: int = 0
    """Recovered rows that cannot be compared with the policy: it asks what they do not tell, or refuses them."""


class Auditor:
    """Audits rows one by one; `finish` names smells, and policies that explain the labels.

    Without a policy there is nothing to compare rows with: no breaches, and no row is undecided.
    """

    def __init__(
        self, tokenizer: ChatTokenizer, program: Program | None = None, *, presets: Iterable[str] | None = None
    ) -> None:
        self.audit = Audit()
        self._tokenizer = tokenizer
        self._program = program
        self._recoverer = Recoverer(tokenizer)
        self._pad: int | None = getattr(tokenizer.tokenizer, "pad_token_id", None)
        names = shipped() if presets is None else tuple(presets)
        self._presets = {name: compile_text(read_shipped(name).text, name=name) for name in names}
        self._untold = None if program is None else Untold(program)
        self._preset_untold = {name: Untold(preset) for name, preset in self._presets.items()}
        self._doubts = Doubts(tokenizer, self._recoverer)
        self._doubtful = frozenset() if program is None else self._doubts.of(program)
        self._watch = None if program is None else RuleWatch(program, tokenizer)
        self._control = ControlTokens(tokenizer)
        self._calls = CallsInText(tokenizer) if program is None else None
        self._preset_doubtful = {name: self._doubts.of(preset) for name, preset in self._presets.items()}
        self._agree: Counter[str] = Counter()
        self._unsure: set[str] = set()
        self._perhaps: Counter[str] = Counter()
        self._show: Counter[str] = Counter()
        self._could: Counter[str] = Counter()
        self._asked: Counter[str] = Counter()
        self._noted: dict[str, bool] = {}
        """Of the row that is looked at: which smells it could show, and whether it does."""

    def add(self, number: int, row: Mapping[str, Any]) -> None:
        """Takes one prepared row, packed or padded too.

        Labels that are shifted are put back first: all else is reported of the tokens they mean. Raises RowError if the
        row is not a prepared row.
        """
        for made in prepared_rows(row, number):
            self._add_documents(number, made)

    def _add_documents(self, number: int, made: PreparedRow) -> None:
        row, ids, labels, trained = made.beside, made.ids, made.labels, made.trained
        # Rows without a mask are not padded.
        attention = row.get("attention_mask") or [1] * len(ids)
        check_lengths({"attention_mask": attention}, ["attention_mask"], len(ids), f"row {number}")
        spans = spans_of(row, number, len(ids))
        for start, end in spans:
            kept = [at for at in range(start, end) if attention[at]]
            if kept:
                self.audit.rows += 1
                self.audit.columns[made.column] += 1
                self._noted = {}
                padding = [trained[at] for at in range(start, end) if not attention[at]]
                self._note("pad-trained", any(padding), bool(padding))
                # What a row says beside its ids is about one conversation.
                beside = {**row, "sampled": _of(marks_of(row, len(ids)), kept)} if len(spans) == 1 else {}
                self._add(
                    number, beside, [ids[at] for at in kept], [labels[at] for at in kept], [trained[at] for at in kept]
                )

    def _add(self, number: int, row: Mapping[str, Any], ids: list[int], labels: list[int], trained: list[bool]) -> None:
        """One document, without padding; `row` has the columns beside it."""
        shifted = are_shifted(ids, labels)
        # With three trained tokens or fewer, labels may look shifted by chance.
        self._note("shifted", shifted, sum(trained) > 3)
        if shifted:
            labels, trained = [IGNORE_INDEX, *labels[:-1]], [False, *trained[:-1]]
        size = len(self._tokenizer.prefix_ids)
        doubled = self._tokenizer.times_bos(ids[: 2 * size]) > 1
        self._note("double-bos", doubled, size > 0)
        if doubled:  # without the one that should not be there, the conversation is found
            ids, labels, trained = ids[size:], labels[size:], trained[size:]
        self._look_at_ids(ids, labels, trained)
        self._look_at_media(row, ids, trained)
        agrees = False
        exact = self.audit.exact
        chat = self._find(row, ids)
        if chat is not None:
            self.audit.recovered += 1
            source = self.audit.exact > exact
            # Ids alone do not tell a quoted token from the template's.
            quoted = self._look_at_turns(chat, trained)
            self.audit.control.add(number, quoted if source else ())
            # Messages that were found again from ids do not say who wrote a call.
            if self._calls is not None and source:
                self._calls.look(chat.chat.messages, self.audit.evidence, number=number)
            agrees = self._compare(number, row, chat, trained, source=source)
        self._count(agrees=agrees)

    def _find(self, row: Mapping[str, Any], ids: Sequence[int]) -> TokenizedChat | None:
        messages = source_of(row)
        if messages is not None:
            tools = row.get("tools")
            tools = tuple(tools) if isinstance(tools, list) else None
            source = Conversation(messages=tuple(messages), tools=tools, sample=row)
            # The data's own messages first: they are the truth, and tell what ids cannot (fields, who answers whom).
            chat = self._recoverer.exactly(source, ids, _sampled(row, len(ids)))
            if chat is not None:
                self.audit.exact += 1
                return chat
        if self._doubts.unreliable:
            return None
        chat = self._recoverer.recover(ids, row.get("media"))
        return None if chat is None or self._doubts.joins(self._doubts.markers(chat.chat)) else chat

    def _note(self, code: str, shows: bool, could: bool = True) -> None:
        if could:
            self._noted[code] = shows

    def _count(self, *, agrees: bool) -> None:
        """Counts what was noted of a row, without what follows from another fault.

        `agrees` says that the row trains exactly what the policy trains.
        """
        for code, shows in self._noted.items():
            if not self._noted.get(FOLLOWS.get(code, ""), False):
                self._could[code] += 1
                self._show[code] += shows
                self._asked[code] += shows and agrees and code not in OF_COLUMNS

    def _look_at_media(self, row: Mapping[str, Any], ids: list[int], trained: list[bool]) -> None:
        marks = self._tokenizer.media_ids
        if marks:
            flags = [flag for token, flag in zip(ids, trained) if token in marks]
            self._note("media-trained", any(flags), bool(flags))
            told = any(row.get(name) for name in ("media", *COLUMNS, "messages", "conversations", "pixel_values"))
            self._note("media-unknown", not told, bool(flags))

    def _look_at_ids(self, ids: Sequence[int], labels: Sequence[int], trained: Sequence[bool]) -> None:
        count = sum(trained)
        self._note("all-masked", count == 0)
        # All but the first token, which carries no loss in any convention.
        self._note("all-trained", count >= len(ids) - 1 > 0)
        self._note("first-token", bool(trained[0]))
        same = sum(labels[i] == ids[i] for i, flag in enumerate(trained) if flag)
        self._note("rewritten", same < count, count > 0)

    def _look_at_turns(self, chat: TokenizedChat, trained: Sequence[bool]) -> list[str]:
        """Notes what is trained of the turns; returns the control tokens in their data."""
        quoted: list[str] = []
        segments = chat.chat.segments
        by_turn: dict[int, Counter[tuple[str, bool]]] = {}
        markers: set[int] = set()
        for at, flag in enumerate(trained):
            # Segments are in order and cover the text.
            segment = segments[bisect_right(segments, int(chat.starts_T[at]), key=lambda s: s.start) - 1]
            role = "–" if segment.turn is None else str(chat.chat.messages[segment.turn]["role"])
            (self.audit.trained if flag else self.audit.masked)[role, segment.part] += 1
            if segment.turn is not None:
                by_turn.setdefault(segment.turn, Counter())[segment.part, flag] += 1
            if segment.from_data and chat.input_ids[at] in self._control.names and not is_thinking(segment):
                quoted.append(self._control.names[chat.input_ids[at]])
            if segment.part in EOS:
                markers.add(chat.input_ids[at])
        answers = [t for t in by_turn if chat.chat.messages[t]["role"] == "assistant"]
        body = {t: sum(n for (part, flag), n in by_turn[t].items() if flag and part in BODY) for t in by_turn}
        written = [t for t in answers if any(part in BODY for part, _ in by_turn[t])]
        if len(written) > 1:
            self._note("last-answer-only", bool(body[written[-1]]) and not any(body[t] for t in written[:-1]))
        ends = {t: [flag for (part, flag) in by_turn[t] if part in EOS] for t in answers}
        # An answer that is not trained has no end to miss, and one that was cut off has no end at all.
        taught = [t for t in answers if body[t] and ends[t]]
        none = not any(any(ends[t]) for t in taught)
        self._note("no-ends", none, bool(taught))
        # A collator that masks padding by its id masks the ends, too, where both are one token.
        self._note("pad-is-end", none and markers == {self._pad}, bool(taught))
        # A collator that shifts, or a cut, loses the last end only.
        if len(taught) > 1:
            self._note("last-end-masked", any(any(ends[t]) for t in taught[:-1]) and not any(ends[taught[-1]]))
        self._note("cut-answer", ends_inside_answer(chat, trained), any(body[t] for t in answers))
        for role, code in (("user", "user-trained"), ("system", "system-trained"), ("tool", "tool-trained")):
            turns = [t for t in by_turn if chat.chat.messages[t]["role"] == role]
            self._note(code, any(body[t] for t in turns), bool(turns))
        for part, code in (("header", "header-trained"), ("empty_reasoning", "empty-think-trained")):
            has = [t for t in answers if by_turn[t][part, True] + by_turn[t][part, False]]
            self._note(code, any(by_turn[t][part, True] for t in has), bool(has))
        return quoted

    def _compare(
        self, number: int, row: Mapping[str, Any], chat: TokenizedChat, trained: Sequence[bool], *, source: bool
    ) -> bool:
        """Compares a row with shipped policies and the given one; True if it equals the latter."""
        markers = frozenset() if source else self._doubts.markers(chat.chat)
        other = None if source else self._doubts.other_reading(chat)
        for name, program in self._presets.items():
            if self._preset_untold[name].of(row, source=source) or self._preset_doubtful[name] & markers:
                self._unsure.add(name)
                continue
            mask = or_none(apply_program, program, chat)
            if mask is None:
                continue
            # The first token is never trained.
            differing = [at for at in _differing(mask, trained) if at]
            self._agree[name] += not differing
            if differing and other is not None and not _certain(program, other.chat, trained, differing):
                self._perhaps[name] += 1
        if self._program is None or self._untold is None or self._watch is None:
            return False
        untold, doubtful = self._untold.of(row, source=source), self._doubtful & markers
        if untold or doubtful:
            self.audit.undecided += 1
            self.audit.untold.update(untold)
            self.audit.markers.update(doubtful)
            return False
        mask = or_none(apply_program, self._program, chat)
        if mask is None:
            # The policy refuses the row (`on straddle error`, a guard), so it says nothing of its labels.
            self.audit.undecided += 1
            self.audit.refused += 1
            return False
        differing = _differing(mask, trained)
        if differing and other is not None:
            differing = _certain(self._program, other.chat, trained, differing)
            if not differing:
                self.audit.undecided += 1
                self.audit.markers.update(other.markers)
                return False
        masked = MaskedRow(tokenized=chat, mask=mask, program=self._program)
        self._watch.look(masked, self.audit.evidence, number=number, source=source)
        self.audit.compared += 1
        self.audit.rules.update(mask.rules_T.tolist())
        if differing:
            tokens = tuple(
                (at, chat.chat.text[chat.starts_T[at] : chat.ends_T[at]], "trained" if trained[at] else "masked")
                for at in differing[:5]
            )
            self.audit.breaches.append(Breach(row=number, differing=len(differing), tokens=tokens))
        return not differing

    def finish(self) -> Audit:
        """The account, smells and presets named."""
        for code, habit in HABITS.items():
            rows, of = self._show[code], self._could[code]
            if of and rows >= (1 if code in OF_ONE_ROW else _SHARE * of):
                asked = self._asked[code] == rows
                self.audit.smells.append(
                    Smell(code=code, message=habit.message, help=habit.help, rows=rows, of=of, asked=asked)
                )
        if self.audit.recovered:
            # A preset that could not be compared with every row is left out: its share would say too much.
            sure = self._presets.keys() - self._unsure
            shares = {name: self._agree[name] / self.audit.recovered for name in sure - self._perhaps.keys()}
            self.audit.perhaps = sorted(
                (
                    name
                    for name in sure & self._perhaps.keys()
                    if self._agree[name] + self._perhaps[name] == self.audit.recovered
                ),
                key=_plain_first,
            )
            self.audit.presets = sorted(shares.items(), key=lambda item: (-item[1], _plain_first(item[0])))
        return self.audit


def _plain_first(name: str) -> tuple[bool, str]:
    # Of several that give the same labels here, others than the plain policy differ elsewhere.
    return name != "default", name


def _differing(mask: TokenMask, trained: Sequence[bool]) -> list[int]:
    """The tokens that the labels train and the mask does not, and the other way around."""
    return [at for at, (w, t) in enumerate(zip(mask.weights_T.tolist(), trained, strict=True)) if (w != 0) != t]


def _certain(program: Program, other: TokenizedChat, trained: Sequence[bool], differing: list[int]) -> list[int]:
    """The differing tokens that differ by the other reading too."""
    mask = or_none(apply_program, program, other)
    return differing if mask is None else sorted(set(differing) & set(_differing(mask, trained)))


def _sampled(row: Mapping[str, Any], size: int) -> Any:
    """The row's marks of tokens that were sampled, where another column says what is trained."""
    return None if row.get("labels") is None else marks_of(row, size)


def _of(marks: Any, kept: Sequence[int]) -> list[Any] | None:
    """The marks of the tokens that are no padding."""
    return None if marks is None else [marks[at] for at in kept]
