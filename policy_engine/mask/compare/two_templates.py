"""The trained text of rows with two templates or tokenizers, by message and part.

    old    ⟦<think>⏎I count.⏎</think>⏎⏎Four.<|im_end|>⟧
    new    ⟦Four.<|im_end|>⟧                               the thinking is trained with the old template only

Ids and places differ between the two, so they are not compared; neither is text that is masked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar, Literal

import numpy as np

from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.source import Place
from policy_engine.core.vocabulary import PARTS
from policy_engine.core.wording import counted
from policy_engine.mask.compare.fates import Fate, RowFates
from policy_engine.mask.row import MaskedRow

ChangeKind = Literal["old only", "new only", "text", "weight"]
"""A change of what is trained: by one side only, another text, or the same text with another weight."""

Trained = tuple[tuple[str, float], ...]
"""Trained stretches of one part of a message, each with its weight, in order."""
_Place = tuple[int | None, str]
"""A message, by its index (None for text of no message), and a part."""


@dataclass(frozen=True, kw_only=True)
class TextChange:
    """A part of a message of which other text is trained, or the same text with another weight."""

    turn: int | None
    role: str | None
    part: str
    old: Trained
    new: Trained

    @property
    def kind(self) -> ChangeKind:
        """The kind of the change.

        >>> TextChange(turn=1, role="assistant", part="text", old=(("Four.", 1.0),), new=()).kind
        'old only'
        """
        if not self.old or not self.new:
            return "old only" if self.old else "new only"
        return "weight" if [text for text, _ in self.old] == [text for text, _ in self.new] else "text"


@dataclass(frozen=True, kw_only=True)
class RowTextChange:
    """One row that changes. `changed` is empty where only its fate does."""

    number: int
    place: Place
    old: Fate
    new: Fate
    changed: tuple[TextChange, ...]


@dataclass(kw_only=True)
class TemplateDiff(RowFates):
    """Counts over all rows, and the first of which other text is trained; `add` changes them."""

    texts_differ: int = 0
    """Rows whose rendered text differs, trained or not."""
    places: Counter[tuple[str, str, ChangeKind]] = field(default_factory=Counter)
    """Changes by role (empty for text of no message), part and kind."""
    listed: list[RowTextChange] = field(default_factory=list)

    only: ClassVar[str] = "on the {} side only"

    def add(
        self, number: int, place: Place, old: MaskedRow | PolicyEngineError, new: MaskedRow | PolicyEngineError
    ) -> None:
        """Counts a row that was masked on either side."""
        fates = self.count(place, old, new)
        changed: tuple[TextChange, ...] = ()
        if isinstance(old, MaskedRow) and isinstance(new, MaskedRow):
            self.texts_differ += old.chat.text != new.chat.text
            changed = text_changes(old, new)
            self.places.update((change.role or "", change.part, change.kind) for change in changed)
        if changed or fates[0] != fates[1]:
            self.rows_changed += 1
            if len(self.listed) < self.most:
                self.listed.append(
                    RowTextChange(number=number, place=place, old=fates[0], new=fates[1], changed=changed)
                )

    def by_count(self) -> list[tuple[tuple[str, str, ChangeKind], int]]:
        """The places of change, the most frequent first."""
        return sorted(self.places.items(), key=lambda item: (-item[1], item[0]))

    def in_words(self) -> str:
        """The counts in a sentence.

        >>> from policy_engine.rules.compile import compile_text
        >>> program = compile_text("train assistant")
        >>> TemplateDiff(old=program, new=program, most=1, rows=50, rows_changed=3, texts_differ=50).in_words()
        'of 3 of 50 rows other text is trained; the rendered text of 50 rows differs'
        """
        rows = counted(self.rows - self.failed, "row")
        trained = (
            f"of {self.rows_changed:,} of {rows} other text is trained"
            if self.rows_changed
            else f"the same text is trained in {rows}"
        )
        return f"{trained}; the rendered text of {counted(self.texts_differ, 'row')} differs"


def text_changes(old: MaskedRow, new: MaskedRow) -> tuple[TextChange, ...]:
    """The parts of messages of which two maskings train other text, in order.

    Both are of one conversation.

    >>> from policy_engine.mask.masker import Masker
    >>> from policy_engine.rules.compile import compile_text
    >>> program = compile_text("train assistant, eos of assistant")
    >>> chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
    >>> template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}<|im_end|>{% endfor %}"
    >>> old, new = Masker(program, "builtin"), Masker(program, "builtin", template=template)
    >>> text_changes(old(chat), new(chat))
    ()
    """
    a, b = _trained(old), _trained(new)
    places = sorted(a.keys() | b.keys(), key=lambda at: (-1 if at[0] is None else at[0], PARTS.index(at[1])))
    return tuple(
        TextChange(
            turn=turn,
            role=None if turn is None else str(old.chat.messages[turn]["role"]),
            part=part,
            old=a.get((turn, part), ()),
            new=b.get((turn, part), ()),
        )
        for turn, part in places
        if a.get((turn, part)) != b.get((turn, part))
    )


def _trained(row: MaskedRow) -> Mapping[_Place, Trained]:
    """The text that a row trains, by message and part."""
    text, mask, tokens = row.chat.text, row.mask, row.tokenized
    weights_C = np.zeros(len(text), dtype=np.float32)
    for at in np.flatnonzero(mask.weights_T).tolist():
        weights_C[tokens.starts_T[at] : tokens.ends_T[at]] = mask.weights_T[at]
    found: dict[_Place, list[tuple[int, str, float]]] = {}
    for segment in row.chat.segments:
        own = found.setdefault((segment.turn, segment.part), [])
        weights = weights_C[segment.start : segment.end]
        bounds = [segment.start, *(np.flatnonzero(np.diff(weights)) + segment.start + 1).tolist(), segment.end]
        own += [(start, text[start:end], float(weights_C[start])) for start, end in pairwise(bounds) if end > start]
    kept = {place: [piece for piece in pieces if piece[2]] for place, pieces in found.items()}
    return {place: _joined(pieces) for place, pieces in kept.items() if pieces}


def _joined(pieces: list[tuple[int, str, float]]) -> Trained:
    """The pieces, neighbours of one weight as one.

    So it makes no difference how a template cuts its text into segments.

    >>> _joined([(0, "Fo", 1.0), (2, "ur.", 1.0), (9, "Yes.", 1.0)])
    (('Four.', 1.0), ('Yes.', 1.0))
    """
    made: list[tuple[int, str, float]] = []
    for start, text, weight in pieces:
        if made and made[-1][0] + len(made[-1][1]) == start and made[-1][2] == weight:
            made[-1] = (made[-1][0], made[-1][1] + text, weight)
        else:
            made.append((start, text, weight))
    return tuple((text, weight) for _, text, weight in made)
