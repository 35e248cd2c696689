"""The owner of each character of an encoder's text, found by a second run on tinted data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from policy_engine.chat.encoders.align import merged, runs_of_tinted, with_json
from policy_engine.chat.encoders.protocol import Chunk
from policy_engine.chat.encoders.tint import WAYS, Tinting, Way, check_untinted
from policy_engine.chat.trace.origins import Run
from policy_engine.core.errors import AttributionError, TemplateError

Tinted = Callable[[Sequence[Mapping[str, Any]]], str]
"""The text that an encoder writes for tinted messages."""


@dataclass(kw_only=True)
class Provenance:
    """Finds the runs of texts of one encoder, and remembers which way of tinting it takes."""

    name: str
    _ways: list[Way] = field(default_factory=lambda: list(WAYS))

    @property
    def way(self) -> Way:
        """The way that fitted last."""
        return self._ways[0]

    def runs(
        self, messages: Sequence[Mapping[str, Any]], tools: Any, chunks: Sequence[Chunk], tinted: Tinted
    ) -> list[Run]:
        """The runs of the chunks' text.

        Raises AttributionError where no way of tinting gives the plain text back.
        """
        # First of all: with tints in the data nothing below could be believed.
        check_untinted(messages, tools)
        plain = "".join([chunk.text for chunk in chunks])
        reason = ""
        for way in self._ways:
            try:
                found = self._in_way(way, messages, plain, chunks, tinted)
            # A way that the encoder refuses is no reason to refuse the row: the next one may do.
            except TemplateError as error:
                reason = reason or error.message
                continue
            if found is not None:
                if way is not self._ways[0]:
                    # Rows of a dataset are alike: the way that fits one is tried first for the next.
                    self._ways = [way, *(other for other in self._ways if other is not way)]
                return found
        raise AttributionError(
            f"{self.name} writes this conversation in a way that does not show whose each character is"
            + (f" ({reason})" if reason else ""),
            help="drop the row: the encoder changes, compares or reads words of a message, and does more than parse "
            "JSON and strip blanks",
        )

    def _in_way(
        self,
        way: Way,
        messages: Sequence[Mapping[str, Any]],
        plain: str,
        chunks: Sequence[Chunk],
        tinted: Tinted,
    ) -> list[Run] | None:
        windows: list[list[Run]] = []
        first = 0
        # More characters than there are tints take several runs, each with another window of the data tinted.
        while True:
            tinting = Tinting(way=way, first=first)
            text = tinted(tinting.messages(messages))
            runs = runs_of_tinted(text, plain, tinting)
            if runs is None:
                return None
            windows.append(runs)
            if tinting.is_last:
                break
            first += len(tinting.tints)
        at = 0
        written = []
        for chunk in chunks:
            written.append((at, at + len(chunk.text), chunk.turn))
            at += len(chunk.text)
        return with_json(merged(windows, len(plain)), plain, tinting, written)
