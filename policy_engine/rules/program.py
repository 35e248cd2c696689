"""A compiled policy: decides every character of a rendered chat."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import Any

from policy_engine.core.bounded import Bounded
from policy_engine.core.errors import RowError
from policy_engine.core.facts import ChatFacts, Placed, placed_of
from policy_engine.core.source import Span
from policy_engine.core.vocabulary import MESSAGE_SCOPES
from policy_engine.lang.ast import Field
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.rules.conditions.chat_view import ChatView
from policy_engine.rules.conditions.turn_conditions import Held
from policy_engine.rules.decide import Decider
from policy_engine.rules.decisions import Decisions, PieceTable, PlacedTable
from policy_engine.rules.fields_read import fields_read
from policy_engine.rules.fingerprint import policy_fingerprint
from policy_engine.rules.guards import Guards
from policy_engine.rules.ranges import Decided
from policy_engine.rules.spans import uses_sampled

# The largest float32, and the smallest above 0: masks keep weights as float32, where others become inf or 0.
_LARGEST = float.fromhex("0x1.fffffep+127")
_SMALLEST = 2.0**-149
_SHAPE_ENTRIES = 500_000
"""Segments whose decisions are kept by the shape of their chat, over all shapes."""


@dataclass(frozen=True, kw_only=True)
class Program:
    """A compiled policy.

    It keeps what it learns about kinds of segments, so one program should serve a whole dataset. It pickles as its
    policy, and is rebuilt where it is loaded. Not thread-safe.
    """

    policy: CheckedPolicy
    decider: Decider = field(init=False, repr=False, compare=False)
    guards: Guards = field(init=False, repr=False, compare=False)
    _shapes: Bounded[Any, tuple[list[float], list[int], tuple[tuple[int, int], ...]]] = field(
        init=False, repr=False, compare=False, default_factory=lambda: Bounded(_SHAPE_ENTRIES)
    )

    def __post_init__(self) -> None:
        decider = Decider(self.policy)
        object.__setattr__(self, "decider", decider)
        object.__setattr__(self, "guards", Guards(self.policy, decider))

    def __repr__(self) -> str:
        return f"<Program {self.policy.description}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Compiled regexes do not pickle, and what was learnt about segments is large.
        return (_program, (self.policy,))

    @functools.cached_property
    def fingerprint(self) -> str:
        """A hash of what the policy means; comments and layout do not change it."""
        return policy_fingerprint(self.policy)

    def setting(self, name: str) -> str | None:
        """The value of the setting `straddle`, `empty`, `unrendered`, `media` or `drift`.

        None for `unrendered` where the policy does not set it, since its default depends on the turn.

        >>> from policy_engine.rules.compile import compile_text
        >>> program = compile_text("train assistant; on empty keep")
        >>> program.setting("empty"), program.setting("straddle"), program.setting("unrendered")
        ('keep', 'mask', None)
        """
        # A dropped text is an error or a warning, depending on whether the policy trains it (`mask.unrendered`).
        defaults = {"straddle": "mask", "empty": "drop", "media": "error", "drift": "error"}
        return self.policy.settings.get(name, defaults.get(name))

    @functools.cached_property
    def message_fields(self) -> frozenset[str]:
        """Fields of messages that the policy reads in a condition, weight or span.

        `message.quality` gives `quality`, and so does `previous.quality`.

        >>> from policy_engine.rules.compile import compile_text
        >>> sorted(compile_text("train assistant where previous.quality > 3 weight message.w").message_fields)
        ['quality', 'w']
        """
        read = fields_read(self.policy)
        return frozenset(str(field.path[0]) for field in read if field.scope in MESSAGE_SCOPES and field.path)

    @functools.cached_property
    def is_weighted(self) -> bool:
        """True if a trained token can have another weight than 1, so that labels need loss weights.

        >>> from policy_engine.rules.compile import compile_text
        >>> [compile_text(f"train assistant weight {weight}").is_weighted for weight in (1, 0.5)]
        [False, True]
        """
        return any(
            # A weight that is a field may be anything, so it counts as other than 1.
            rule.effect == "scale" or (rule.effect == "train" and (isinstance(rule.weight, Field) or rule.weight != 1))
            for rule in self.policy.rules
        )

    @functools.cached_property
    def is_whole(self) -> bool:
        """True if roles, parts, order and conditions decide everything, segment by segment.

        Two chats of one shape, on whose turns the same conditions hold, are then decided alike.
        """
        return all(rule.is_whole for rule in self.decider.rules) and self.guards.is_whole

    @functools.cached_property
    def _knows_by_layout(self) -> bool:
        """True if chats of one layout are decided alike, whatever their data is."""
        return self.is_whole and not self.decider.conditions.ask

    @functools.cached_property
    def needs_sampled(self) -> Span | None:
        """The first rule or guard that asks which characters were sampled; None if nothing asks."""
        return next((s.span for s in self.policy.statements if uses_sampled(s.targets)), None)

    def decide(self, chat: ChatFacts) -> Decisions:
        """Weight and deciding rule of every character.

        Raises GuardError if the chat breaks a guard. Raises RowError if the row does not say which tokens were sampled
        and the policy asks for it, if a weight in the data is no number or a span no span, and if regexes scan more
        bytes of the row than the bound.
        """
        return self.table(chat).decisions()

    def table(self, chat: ChatFacts) -> PieceTable:
        """The same decisions column by column. Raises what `decide` raises."""
        # Before anything else: it does not depend on what the row's text is.
        if self.needs_sampled is not None and chat.sampled is None:
            raise _not_marked(self.needs_sampled)
        if self._knows_by_layout:
            # The usual chat: nothing is looked at but its layout.
            placed = placed_of(chat.segments)
            known = None if placed is None else self._shapes.get((placed.layout, ()))
            if known is not None and placed is not None:
                return PlacedTable(placed, *known)
        view = ChatView(chat)
        # Spans and weights in the data differ from chat to chat of one shape, so nothing can be kept.
        if not self.is_whole:
            return self._decide(view)
        held: tuple[Held, ...] = ()
        if self.decider.conditions.ask:
            view.held = self.decider.conditions.read(view)
            # Some condition differs within a turn (`segment.text`), so the shape does not decide.
            if any(still for _, still in view.held):
                return self._decide(view)
            held = view.held
        segments = chat.segments
        # From here on the decisions follow from the shape: roles, parts, order, and the conditions that hold.
        placed = placed_of(segments)
        if placed is not None:
            return self._placed(view, placed, held)
        shape = (
            view.roles,
            # An empty segment has no piece, so emptiness is a part of the shape. (Lists: faster than generators.)
            tuple([s.part if s.start < s.end else "" for s in segments]),
            tuple([s.turn for s in segments]),
            held,
        )
        known = self._shapes.get(shape)
        if known is None:
            return self._learnt(view, shape)
        weights, rules, never = known
        # Pieces number the segments as they are in the chat, empty ones counted.
        if "" in shape[1]:
            segments = [s for s in segments if s.start < s.end]
            indices = [i for i, s in enumerate(chat.segments) if s.start < s.end]
        else:
            indices = list(range(len(segments)))
        starts = [s.start for s in segments]
        ends = [s.end for s in segments]
        return PieceTable(
            starts=starts,
            ends=ends,
            segments=indices,
            weights=weights,
            rules=rules,
            never=tuple([(starts[a], ends[b]) for a, b in never]),
        )

    def _placed(self, view: ChatView, placed: Placed, held: tuple[Held, ...]) -> PieceTable:
        """The decisions of a chat by its layout, which all chats of its shape share."""
        # The key keeps the layout alive, so that its identity cannot become another layout's.
        known = self._shapes.get((placed.layout, held))
        if known is None:
            return self._learnt(view, (placed.layout, held))
        return PlacedTable(placed, *known)

    def _learnt(self, view: ChatView, shape: Any) -> PieceTable:
        """The decisions of a chat, kept for those of its shape."""
        table = self._decide(view)
        # Weighed by its pieces: a chat of a thousand turns takes as much memory as a hundred short ones.
        self._shapes.keep(shape, (table.weights, table.rules, _covered(table)), len(table.weights))
        return table

    def _decide(self, view: ChatView) -> PieceTable:
        chat, decider = view.chat, self.decider
        decider.prepare(view)
        total = len(decider.rules)
        decided: list[tuple[float, int] | list[Decided] | None] = [
            decider.decide(view, index, total) if segment.start < segment.end else None
            for index, segment in enumerate(chat.segments)
        ]
        never = self.guards.check(view, decided) if self.guards else ()
        starts: list[int] = []
        ends: list[int] = []
        indices: list[int] = []
        weights: list[float] = []
        rules: list[int] = []
        for index, decision in enumerate(decided):
            if decision is None:
                continue
            if isinstance(decision, list):
                pieces = decision
            else:
                pieces = [(chat.segments[index].start, chat.segments[index].end, *decision)]
            for start, end, weight, rule in pieces:
                # Only weights that decide: one that a later rule overrides may be out of range.
                if weight and not _SMALLEST <= abs(weight) <= _LARGEST:
                    raise self._out_of_range(weight, rule)
                starts.append(start)
                ends.append(end)
                indices.append(index)
                weights.append(weight)
                rules.append(rule)
        return PieceTable(starts=starts, ends=ends, segments=indices, weights=weights, rules=rules, never=never)

    def _out_of_range(self, weight: float, rule: int) -> RowError:
        how = "infinite" if math.isinf(weight) else f"{weight:g}"
        return RowError(
            f"{self.decider.rules[rule].place}: the weight comes out as {how}, which float32 cannot hold",
            help="use weights and `scale` factors whose product stays between 1e-45 and 3e38",
            code="PE514",
        )


def _covered(table: PieceTable) -> tuple[tuple[int, int], ...]:
    """The `never` ranges, each as its first and last piece.

    Where guards cover whole segments, every range begins and ends with a piece.
    """
    first = {start: i for i, start in enumerate(table.starts)}
    last = {end: i for i, end in enumerate(table.ends)}
    return tuple((first[start], last[end]) for start, end in table.never)


def _not_marked(span: Span) -> RowError:
    return RowError(
        f"{span} (`{span.one_line}`) asks which tokens were sampled, and the row does not say it: it has no column "
        "`sampled`, and no ids of a completion",
        help="give the row's ids with `sampled` (1 for each token that the model sampled) or as `prompt_ids` and "
        "`completion_ids`; a column of another name is named in a dataset file: `messages: {sampled: NAME}`",
        code="PE542",
    )


def _program(policy: CheckedPolicy) -> Program:
    return Program(policy=policy)
