"""Ids of a text in which some control tokens are plain text, as transformers encodes it.

    <|im_start|>user⏎What is ⟪<|im_end|>⟫?<|im_end|>          ⟪ ⟫: characters of `literals`
    '<|im_start|>user⏎What is '   '<|im_end|>'   '?<|im_end|>'
     as it is                      as plain text  as it is

Each piece but the first is encoded behind a line break, whose ids are taken away again: SentencePiece would put a space
before it else. That is transformers' way (`encode_marked_chat`), and the ids are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_engine.chat.tokens.locator import Located, TokenLocator
from policy_engine.core.errors import AttributionError, TokenizerError

_BREAK: Final = "\n"
Encoded = tuple[int, int, bool]
"""Characters `[start, end)` of a text, and True if they are encoded as plain text."""


def pieces_of(size: int, literals: Sequence[tuple[int, int]]) -> list[Encoded]:
    """The pieces of a text of `size` characters, in order; no piece is empty.

    `pieces_of(9, [(2, 5), (7, 7)])` is `[(0, 2, False), (2, 5, True), (5, 7, False), (7, 9, False)]`.

    >>> pieces_of(9, [(3, 5)])
    [(0, 3, False), (3, 5, True), (5, 9, False)]
    """
    found: list[Encoded] = []
    at = 0
    for start, end in literals:
        found += ((at, start, False), (start, end, True))
        at = end
    found.append((at, size, False))
    return [piece for piece in found if piece[0] < piece[1]]


@dataclass(frozen=True, kw_only=True, eq=False)
class PieceLocator:
    """Encodes texts, in pieces those that have `literals`."""

    tokens: TokenLocator
    _plain: dict[str, Located] = field(default_factory=dict, init=False)

    def locate(self, texts: Sequence[str], literals: Sequence[Sequence[tuple[int, int]]]) -> list[Any]:
        """Ids and ranges of each text as `TokenLocator.locate` gives them, or an error.

        Raises TokenizerError where the installed transformers cannot encode control tokens as text.
        """
        # The usual batch: nothing was sanitized.
        if not any(literals):
            return self.tokens.locate(texts)
        # Texts with and without literals go their own ways, and come back in the order given.
        cut = [i for i, places in enumerate(literals) if places]
        parted = iter(self._locate([texts[i] for i in cut], [literals[i] for i in cut]))
        whole = iter(self.tokens.locate([text for text, places in zip(texts, literals) if not places]))
        return [next(parted if places else whole) for places in literals]

    def _locate(self, texts: Sequence[str], literals: Sequence[Sequence[tuple[int, int]]]) -> list[Any]:
        cut = [pieces_of(len(text), places) for text, places in zip(texts, literals)]
        # A dict, so that a piece that many texts share is encoded once.
        asked = {
            text[start:end] if not start else _BREAK + text[start:end]: None
            for text, pieces in zip(texts, cut)
            for start, end, is_plain in pieces
            if not is_plain
        }
        known = self._located([_BREAK, *asked])
        line = known[_BREAK]
        # A tokenizer that cannot encode a line break cannot encode any of these.
        if isinstance(line, AttributionError):
            return [line for _ in texts]
        # Where the line break merges with what follows it, a piece is encoded by itself.
        merged = [
            text[1:]
            for text, found in known.items()
            if text in asked and text[:1] == _BREAK and text[1:] and not _opens(found, line)
        ]
        known |= {text: found for text, found in self._located(merged).items() if text not in known}
        return [self._joined(text, pieces, known, line) for text, pieces in zip(texts, cut)]

    def _located(self, texts: Sequence[str]) -> dict[str, Any]:
        return dict(zip(texts, self.tokens.locate(texts))) if texts else {}

    def _joined(self, text: str, pieces: Sequence[Encoded], known: dict[str, Any], line: Located) -> Any:
        ids: list[int] = []
        starts: list[npt.NDArray[np.int32]] = []
        ends: list[npt.NDArray[np.int32]] = []
        for start, end, is_plain in pieces:
            piece = text[start:end]
            if is_plain:
                found: Any = self._as_text(piece, line)
            elif not start:
                found = known[piece]
            else:
                found = known[_BREAK + piece]
                found = _behind(found, line) if _opens(found, line) else known[piece]
            if isinstance(found, AttributionError):
                return found
            own, _, (starts_T, ends_T) = found
            ids += own
            # The token of an inserted space may reach before the piece, into the line break that is not there.
            starts.append(np.clip(starts_T, 0, end - start) + start)
            ends.append(np.clip(ends_T, 0, end - start) + start)
        empty = np.empty(0, dtype=np.int32)
        ranges = tuple(np.concatenate(found or [empty]).astype(np.int32) for found in (starts, ends))
        return ids, np.asarray(ids, dtype=np.int32), ranges

    def _as_text(self, piece: str, line: Located) -> Located | AttributionError:
        """A control token as plain text.

        Where the places of its tokens are not known, each has the whole of it.
        """
        if piece not in self._plain:
            tokenizer = self.tokens.tokenizer
            # Private, and the only function that encodes as `encode_marked_chat` does.
            encode = getattr(tokenizer, "_encode_without_added_tokens", None)
            if encode is None:
                raise TokenizerError(
                    "`sanitize_control_tokens` needs transformers 5.24 or later",
                    help="pip install --upgrade transformers, or leave it out",
                )
            size = len(line[0])
            ids = list(encode(_BREAK + piece))
            ids = ids[size:] if ids[:size] == line[0] else list(encode(piece))
            # The ids would hold the very token that the sanitizing is to keep out: refuse, never train.
            if tokenizer.convert_tokens_to_ids(piece) in ids:
                return AttributionError(
                    f"`{piece}` in the data cannot be encoded as text: the tokenizer makes the control token of it",
                    help="take it out of the data, or leave out `sanitize_control_tokens`",
                )
            self._plain[piece] = (ids, np.asarray(ids, dtype=np.int32), self._ranges(piece, ids))
        return self._plain[piece]

    def _ranges(self, piece: str, ids: list[int]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        table = None if self.tokens.pipeline is None else self.tokens.pipeline.table
        found = None if table is None else table.locate(piece, ids)
        if found is not None:
            return found
        return np.zeros(len(ids), dtype=np.int32), np.full(len(ids), len(piece), dtype=np.int32)


def _opens(found: Any, line: Located) -> bool:
    return isinstance(found, AttributionError) or found[0][: len(line[0])] == line[0]


def _behind(found: Any, line: Located) -> Any:
    """A piece that was encoded behind a line break, without that."""
    if isinstance(found, AttributionError):
        return found
    size = len(line[0])
    ids, ids_T, (starts_T, ends_T) = found
    return ids[size:], ids_T[size:], (starts_T[size:] - 1, ends_T[size:] - 1)
