"""A vocabulary of an encoder, asked as a slow transformers tokenizer is asked."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from policy_engine.chat.tokens.byte_lengths import ByteTable


class ControlToken(str):
    """A control token's text, which says that it is special, as transformers' AddedToken does."""

    special = True


class EncoderVocabulary:
    """Bytes by id, the control tokens among them, and a way to encode plain text.

    `pieces` are the bytes of each id (None where an id stands for no text), `control` the texts of control tokens by
    id, `special_tokens_map` those that transformers names (`bos_token` …). `space` is how `pieces` write a space.

    >>> given = {"pieces": [b"<s>", b"Hi"], "control": {0: "<s>"}, "special_tokens_map": {}}
    >>> made = EncoderVocabulary(**given, encode=lambda text: [1])
    >>> made("Hi")["input_ids"], made.decode([0, 1]), made.convert_ids_to_tokens([0, 5])
    ([1], '<s>Hi', ['<s>', None])
    """

    # Slow, so that no offsets are asked of it: the bytes of its tokens give their places.
    is_fast = False
    pad_token_id: int | None = None

    def __init__(
        self,
        *,
        pieces: Sequence[bytes | None],
        control: Mapping[int, str],
        special_tokens_map: Mapping[str, str],
        encode: Callable[[str], list[int]],
        space: str = " ",
    ) -> None:
        self._pieces = pieces
        self._encode = encode
        self._space = space
        self.special_tokens_map = dict(special_tokens_map)
        self.added_tokens_decoder = {i: ControlToken(text) for i, text in control.items()}

    @functools.cached_property
    def byte_table(self) -> ByteTable:
        """The bytes of each id, for the places of tokens."""
        return ByteTable(pieces=self._pieces, added=frozenset(self.added_tokens_decoder), space=self._space)

    def __len__(self) -> int:
        return len(self._pieces)

    def __call__(self, text: str | list[str], **_: Any) -> dict[str, Any]:
        """The ids of plain text; control tokens in it are text like any other."""
        return {"input_ids": self._encode(text) if isinstance(text, str) else [self._encode(t) for t in text]}

    def convert_ids_to_tokens(self, ids: int | Sequence[int]) -> Any:
        """The text of one id or of several; a part of a character shows as U+FFFD."""
        if not isinstance(ids, int):
            return [self.convert_ids_to_tokens(int(i)) for i in ids]
        piece = self._pieces[ids] if 0 <= ids < len(self._pieces) else None
        return None if piece is None else piece.decode("utf-8", errors="replace").replace(self._space, " ")

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        """The text of ids with control tokens, without spaces that encoding put before a piece."""
        made: list[str] = []
        for is_control, group in itertools.groupby(ids, self.added_tokens_decoder.__contains__):
            text = b"".join([self._pieces[i] or b"" for i in group]).decode("utf-8", errors="replace")
            # SentencePiece writes a space before each piece of text, also behind a control token.
            made.append(text if is_control or self._space == " " else text.removeprefix(self._space))
        return "".join(made).replace(self._space, " ")

    def get_vocab(self) -> dict[str, int]:
        """Ids by text, as the bytes have it (Latin-1, so that no two are the same)."""
        return {piece.decode("latin-1"): i for i, piece in enumerate(self._pieces) if piece is not None}
