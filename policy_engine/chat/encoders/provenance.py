"""The owner of each character of an encoder's text, found by a second run on tinted data."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from policy_engine.chat.encoders.align import Normal, merged, runs_of_tinted
from policy_engine.chat.encoders.protocol import Chunk
from policy_engine.chat.encoders.tint import SPLITS, WAYS, Splits, Tinting, Way, check_untinted
from policy_engine.chat.encoders.untinted import Written, names_in_ids, with_ids, with_json
from policy_engine.chat.trace.origins import Run
from policy_engine.core.errors import AttributionError, TemplateError
from policy_engine.core.source import common_prefix
from policy_engine.core.vocabulary import LABEL_FIELDS
from policy_engine.core.wording import field_path

Tinted = Callable[[Sequence[Mapping[str, Any]]], str]
"""The text that an encoder writes for tinted messages."""
_EXCERPT: Final = 24


@dataclass(kw_only=True)
class Provenance:
    """Finds the runs of texts of one encoder, and remembers which way of tinting it takes.

    `splitters` are the delimiters at which the encoder may split an answer, and `normal` is what its tokenizer makes of
    a text. With `ids`, chunks say which message they are of, so that the owner of an id is known. `labels` are further
    fields of messages that the encoder decides by.
    """

    name: str
    splitters: Mapping[Splits, re.Pattern[str]] = field(default_factory=dict)
    normal: Normal | None = None
    ids: bool = False
    labels: frozenset[str] = frozenset()
    _ways: list[Way] = field(default_factory=lambda: list(WAYS))
    _fitted: Way = WAYS[0]

    def tinting(self) -> Tinting:
        """A tinting in the way that fitted last."""
        return self._tinting(self._fitted, 0)

    def _tinting(self, way: Way, first: int) -> Tinting:
        splitters = self.splitters.get(way.splits)
        return Tinting(way=way, first=first, splitters=splitters, labels=LABEL_FIELDS | self.labels)

    def runs(
        self, messages: Sequence[Mapping[str, Any]], tools: Any, chunks: Sequence[Chunk], tinted: Tinted
    ) -> list[Run]:
        """The runs of the chunks' text.

        Raises AttributionError where no way of tinting gives the plain text back.
        """
        # First of all: with tints in the data nothing below could be believed.
        check_untinted(messages, tools)
        plain = "".join([chunk.text for chunk in chunks])
        failed = _Failed(plain)
        for way in self._untried(messages):
            try:
                found = self._in_way(way, messages, plain, chunks, tinted, failed)
            # A way that the encoder refuses is no reason to refuse the row: the next one may do.
            except TemplateError as error:
                failed.reason = failed.reason or error.message
                continue
            if found is not None:
                if self.ids and names_in_ids(found, messages):
                    with contextlib.suppress(TemplateError):
                        named = self._in_way(replace(way, ids=True), messages, plain, chunks, tinted, failed)
                        found = found if named is None else named
                self._fitted = way
                # Rows of a dataset are alike: the way that fits one is tried first for the next. But those that split
                # stay behind, so that what a row shows depends on no other row.
                self._ways = sorted([way, *(other for other in self._ways if other is not way)], key=_order)
                return found
        raise AttributionError(
            f"{self.name} writes this conversation in a way that does not show whose each character is: {failed}",
            help="change that text, or drop the row: the encoder changes, compares or reads its words, beyond parsing "
            "JSON, stripping blanks and splitting off thinking",
        )

    def _untried(self, messages: Sequence[Mapping[str, Any]]) -> Iterator[Way]:
        """The ways; of those that make the same of the messages, the first one."""
        tried: list[list[dict[str, Any]]] = []
        for way in list(self._ways):
            made = self._tinting(way, 0).messages(messages)
            if made not in tried:
                tried.append(made)
                yield way

    def _in_way(
        self,
        way: Way,
        messages: Sequence[Mapping[str, Any]],
        plain: str,
        chunks: Sequence[Chunk],
        tinted: Tinted,
        failed: _Failed,
    ) -> list[Run] | None:
        windows: list[list[Run]] = []
        first = 0
        # More characters than there are tints take several runs, each with another window of the data tinted.
        while True:
            tinting = self._tinting(way, first)
            text = tinted(tinting.messages(messages))
            runs = runs_of_tinted(text, plain, tinting, self.normal)
            if runs is None:
                failed.add(text, tinting)
                return None
            windows.append(runs)
            if tinting.is_last:
                break
            first += len(tinting.tints)
        written = list(_written(chunks))
        found = with_json(merged(windows, len(plain)), plain, tinting, written)
        return with_ids(found, messages, tinting, written)


def _written(chunks: Sequence[Chunk]) -> Iterator[Written]:
    at = 0
    for chunk in chunks:
        yield at, at + len(chunk.text), chunk.turn
        at += len(chunk.text)


def _order(way: Way) -> int:
    return SPLITS.index(way.splits)


class _Failed:
    """The ways that did not fit a text.

    As a string, the place that the best of them came to, and the texts there.
    """

    def __init__(self, plain: str) -> None:
        self._plain = plain
        self._same = -1
        self._described = ""
        self.reason = ""

    def add(self, text: str, tinting: Tinting) -> None:
        """Adds the tinted text of a way."""
        back = "".join([tint.char if (tint := tinting.tints.get(char)) else char for char in text])
        same = common_prefix(back, self._plain)
        if same <= self._same:
            return
        self._same = same
        # The data at the place, or the last before it.
        near = [tint for char in text[: same + 1] if (tint := tinting.tints.get(char))]
        place = f"at `{field_path(near[-1].origin.path)}` of message {near[-1].origin.turn}" if near else "at its start"
        start = max(0, same - _EXCERPT // 2)
        shown = [repr(given[start : same + _EXCERPT]) for given in (self._plain, back)]
        self._described = (
            f"{place} it writes {shown[0]}, and {shown[1]} where other letters take the place of the data's"
        )

    def __str__(self) -> str:
        return "; ".join(filter(None, (self._described, self.reason)))
