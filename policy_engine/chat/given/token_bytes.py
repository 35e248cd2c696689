"""The bytes that the ids of a tokenizer stand for."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from policy_engine.chat.given.spell import Spelling, all_known
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.chat.tokens.byte_lengths import ByteTable, by_byte, character_ranges
from policy_engine.chat.tokens.locator import TokenLocator
from policy_engine.core.errors import AttributionError, RowError
from policy_engine.data.row_tokens import RowTokens

# Every half of a surrogate pair, which is how `surrogateescape` writes a stray byte.
_REPLACEMENT = dict.fromkeys(range(0xD800, 0xE000), "\ufffd")


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenBytes:
    """The bytes of a tokenizer's ids: to compare given ids with a text, and to read them."""

    locator: TokenLocator

    @functools.cached_property
    def tables(self) -> tuple[ByteTable, ...]:
        """Ways to read ids as bytes; empty where they stand for no fixed ones, as WordPiece's do."""
        pipeline = self.locator.pipeline
        if pipeline is None:
            return self.locator.slow_tables
        # A tokenizer with a backend has one way; without one, each row proves which of several it is.
        return () if pipeline.table is None else (pipeline.table,)

    @functools.cached_property
    def spellings(self) -> tuple[Spelling, ...]:
        """The ways to compare ids with a text, one for each table."""
        pipeline = self.locator.pipeline
        return tuple(
            Spelling(
                table=table,
                stripping={} if pipeline is None else pipeline.stripping,
                forms=() if pipeline is None else pipeline.forms,
                spaced_first=self._puts_space(table, ""),
                spaced_after=any(self._puts_space(table, text) for text in self._some_added),
            )
            for table in self.tables
        )

    @functools.cached_property
    def normalizes(self) -> bool:
        """True if the tokenizer may change a text in other ways than a `Spelling` knows."""
        pipeline = self.locator.pipeline
        return pipeline is None or pipeline.table is None or pipeline.normalizer is not None

    @functools.cached_property
    def end(self) -> int:
        """One past the largest id."""
        sizes = [len(table.pieces) for table in self.tables]
        return max(sizes) if sizes else len(self.locator.tokenizer)

    def check(self, given: RowTokens) -> None:
        """Raises RowError for an id that the tokenizer does not have."""
        ids_T = given.ids_T
        if ids_T.size and int(ids_T.max()) >= self.end:
            token = int(np.argmax(ids_T >= self.end))
            raise RowError(
                f"token {token} of {given.source} is {int(ids_T[token])}, and the ids of {self.locator.name} end at "
                f"{self.end - 1}",
                help="give the tokenizer that the ids were sampled with",
                code="PE541",
            )

    def spell_out(self, ids: Sequence[int]) -> tuple[str, npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """The text that ids stand for, and the characters of each.

        Bytes that are no text become U+FFFD. Raises AttributionError where they stand for no fixed bytes.

        >>> from policy_engine.chat.loading import load_tokenizer
        >>> tokenizer = load_tokenizer("builtin")
        >>> ids = tokenizer.locator.call(["Hi 🙂"])[0][0]
        >>> text, starts_T, ends_T = token_bytes(tokenizer).spell_out(ids)
        >>> text, ends_T.tolist()
        ('Hi 🙂', [2, 4, 4])
        """
        if not self.tables:
            raise AttributionError(
                f"the tokens of {self.locator.name} stand for no fixed bytes, so their text is not known",
                help="use a byte-level or SentencePiece tokenizer, or give rows of messages",
            )
        # Without a table that knows all ids, the first one, and names for the ids that it lacks.
        table = next((t for t in self.tables if all_known(ids, t.pieces)), self.tables[0])
        pieces = [self._piece(table, i) for i in ids]
        data = b"".join(pieces)
        # Half of a character is one character of its own here, so that each byte keeps its place.
        text = data.decode("utf-8", "surrogateescape")
        ends_T = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
        starts_T = ends_T - np.array([len(piece) for piece in pieces], np.int64)
        if text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text):
            starts, ends = character_ranges(text, data, starts_T, ends_T)
        else:
            widths = [1 if "\ud800" <= char <= "\udfff" else len(char.encode()) for char in text]
            char_of_byte = np.append(np.repeat(np.arange(len(text)), widths), len(text)).astype(np.int32)
            starts, ends = by_byte(char_of_byte, starts_T, ends_T)
        text = text.translate(_REPLACEMENT)
        return text.replace(table.space, " ") if table.space != " " else text, starts, ends

    def _piece(self, table: ByteTable, token: int) -> bytes:
        piece = table.pieces[token] if token < len(table.pieces) else None
        if piece is not None:
            return piece
        # An unknown token has no fixed text: its name is shown for it.
        name: Any = self.locator.tokenizer.convert_ids_to_tokens(token)
        return ("" if name is None else str(name)).encode("utf-8", "surrogatepass")

    def _puts_space(self, table: ByteTable, before: str) -> bool:
        """True if the tokenizer puts a space between a text and what is before it."""
        # Tried, not read: options of prefix spaces differ from component to component.
        found = self.locator.locate([before + "ab"])[0]
        if isinstance(found, AttributionError):
            return False
        pieces = [self._piece(table, i) for i in found[0]]
        space = table.space.encode()
        text = (before + "ab").replace(" ", table.space).encode()
        return b"".join(pieces) != text and any(piece.startswith(space) for piece in pieces)

    @functools.cached_property
    def _some_added(self) -> list[str]:
        """An added token or two, without whitespace of their own."""
        added = self.locator.tokenizer.added_tokens_decoder.values()
        plain = [str(token) for token in added if not (token.lstrip or token.rstrip) and str(token).strip()]
        return plain[:2]


# Weak: the bytes of a vocabulary go when its tokenizer goes.
_KNOWN: WeakKeyDictionary[TokenLocator, TokenBytes] = WeakKeyDictionary()


def token_bytes(tokenizer: ChatTokenizer) -> TokenBytes:
    """The bytes of a tokenizer's ids; worked out once."""
    found = _KNOWN.get(tokenizer.locator)
    if found is None:
        found = _KNOWN[tokenizer.locator] = TokenBytes(locator=tokenizer.locator)
    return found
