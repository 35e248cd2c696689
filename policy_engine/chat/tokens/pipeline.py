"""The work of a fast tokenizer's pipeline on text, read from its components.

"normalizer": {"type": "NFC"}           ->  forms: `e` and a combining accent become one character
"pre_tokenizer": {"type": "ByteLevel"}  ->  table: `Ġthe` is the four bytes of ` the`
"trim_offsets": true                    ->  trims: offsets of ` the` leave its space out
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from policy_engine.chat.tokens.byte_lengths import (
    SPACE_MARK,
    ByteTable,
    byte_level_pieces,
    byte_of_char,
    metaspace_bytes,
)

Form = Literal["NFC", "NFD", "NFKC", "NFKD"]
_FORMS: dict[str, Form] = {
    "NFC": "NFC",
    "NFD": "NFD",
    "NFKC": "NFKC",
    "NFKD": "NFKD",
    "Precompiled": "NFKC",
    "BertNormalizer": "NFD",
}
"""Unicode normal forms by the normalizer that applies them; SentencePiece's precompiled tables are close to NFKC."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pipeline:
    """The components of a `tokenizers.Tokenizer` that decide the places of its tokens.

    `forms` are the Unicode normal forms its normalizer applies; `table` the bytes of its tokens, None if they stand for
    no fixed bytes; `trims` whether its post-processor takes whitespace out of offsets; `stripping` the added tokens
    that take whitespace beside them, by id; `affixes` what its model adds to the pieces of words. With `drops`, it may
    leave out characters (BPE without an unknown token does); offsets are then wrong from there to the end of the word,
    so each token has to spell its characters.
    """

    normalizer: Any = None
    forms: tuple[Form, ...] = ()
    table: ByteTable | None = None
    trims: bool = False
    stripping: dict[int, str] = field(default_factory=dict)
    drops: bool = False
    affixes: tuple[str, str] = ("", "")

    def spells(self, token: str, text: str) -> bool:
        """True if a token is just this text, normalized; spaces aside.

        >>> Pipeline(affixes=("##", "")).spells("##ing", "ing"), Pipeline().spells("Ġthe", " the")
        (True, True)
        """
        normal = text if self.normalizer is None else self.normalizer.normalize_str(text)
        # WordPiece writes `##ing`, old BPE `low</w>`: marks of the place in a word, not text.
        word = token.removeprefix(self.affixes[0]).removesuffix(self.affixes[1])
        spaces = f" \t\r\n{SPACE_MARK}Ġ"
        return word.strip(spaces) == normal.strip(spaces)

    def removes(self, text: str) -> bool:
        """True if the normalizer leaves nothing of a text but whitespace."""
        return self.normalizer is not None and not self.normalizer.normalize_str(text).strip(" \t\r\n" + SPACE_MARK)


def read_pipeline(backend: Any, vocabulary: bytes | None = None) -> Pipeline:
    """Reads the components of a `tokenizers.Tokenizer`.

    `vocabulary` is its model's as JSON, where it is at hand: to ask the backend for it takes three times as long.
    """
    normalizers = list(_parts(backend.normalizer))
    pre_tokenizers = list(_parts(backend.pre_tokenizer))
    post_processors = list(_parts(backend.post_processor))
    added = backend.get_added_tokens_decoder()
    model = backend.model
    unknown_text = getattr(model, "unk_token", None)
    # A Unigram model names the unknown token by its id, the others by its text.
    unknown = backend.token_to_id(unknown_text) if isinstance(unknown_text, str) else getattr(model, "unk_id", None)
    ids: dict[str, int] = (
        backend.get_vocab(with_added_tokens=True)
        if vocabulary is None
        else json.loads(vocabulary) | {token.content: i for i, token in added.items()}
    )
    complete = _complete(model, ids, pre_tokenizers)
    return Pipeline(
        normalizer=backend.normalizer,
        forms=tuple(dict.fromkeys(_FORMS[n["type"]] for n in normalizers if n["type"] in _FORMS)),
        table=_table(model, ids, normalizers, pre_tokenizers, added, None if complete else unknown),
        trims=any(p.get("trim_offsets", False) for p in post_processors),
        stripping={i: token.content for i, token in added.items() if token.lstrip or token.rstrip},
        # BPE drops what it cannot merge from its alphabet if there is no unknown token to put there.
        drops=type(model).__name__ == "BPE" and unknown is None and not complete,
        affixes=(
            getattr(model, "continuing_subword_prefix", None) or "",
            getattr(model, "end_of_word_suffix", None) or "",
        ),
    )


def _parts(component: Any) -> Iterator[dict[str, Any]]:
    """The components in a component, sequences flattened.

    One written in Python has no state: its type is `Custom`.

    >>> from tokenizers import normalizers
    >>> [part["type"] for part in _parts(normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()]))]
    ['NFC', 'Lowercase']
    """
    if component is None:
        return
    try:
        state = json.loads(component.__getstate__())
    # A component in Python has no state to give; what it raises is not documented.
    except Exception:
        state = {"type": "Custom"}
    yield from _flat(state)


def _flat(state: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if state["type"] != "Sequence":
        yield state
        return
    # Sequences of each kind name their list in their own way.
    for key in ("normalizers", "pretokenizers", "processors"):
        for part in state.get(key, ()):
            yield from _flat(part)


def _table(
    model: Any,
    vocabulary: dict[str, int],
    normalizers: list[dict[str, Any]],
    pre_tokenizers: list[dict[str, Any]],
    added: dict[int, Any],
    unknown: int | None,
) -> ByteTable | None:
    """`unknown` is the unknown token's id, None where nothing becomes it."""
    # `##ing` and `ing` have the same text and not the same bytes in the vocabulary.
    if getattr(model, "continuing_subword_prefix", None) or getattr(model, "end_of_word_suffix", None):
        return None
    byte_level = _byte_level(pre_tokenizers)
    if byte_level is not None:
        # Where nothing is inserted, equal lengths say that nothing is lost either.
        plain = unknown is None and not byte_level.get("add_prefix_space", False)
        plain = plain and not any(p["type"] in ("Custom", "Metaspace") for p in pre_tokenizers)
        return ByteTable(
            pieces=_pieces(vocabulary, byte_level_pieces, added, " ", unknown),
            added=frozenset(added),
            sum_proves=plain and not normalizers,
            # The normal forms leave ASCII as it is.
            nfc_proves=plain and all(n["type"] == "NFC" for n in normalizers),
            ascii_proves=plain and all(n["type"] in ("NFC", "NFD", "NFKC", "NFKD") for n in normalizers),
        )
    if any(_marks_spaces(c) for c in (*normalizers, *pre_tokenizers)):
        pieces = _pieces(vocabulary, lambda tokens: list(map(metaspace_bytes, tokens)), added, SPACE_MARK, unknown)
        return ByteTable(pieces=pieces, added=frozenset(added), space=SPACE_MARK)
    return None


def _byte_level(pre_tokenizers: list[dict[str, Any]]) -> dict[str, Any] | None:
    found = [p for p in pre_tokenizers if p["type"] == "ByteLevel"]
    # Two of them would encode bytes of bytes.
    return found[0] if len(found) == 1 else None


def _complete(model: Any, vocabulary: dict[str, int], pre_tokenizers: list[dict[str, Any]]) -> bool:
    """True if every byte has a token, so that no text is unknown."""
    if _byte_level(pre_tokenizers) is not None:
        return all(chr(char) in vocabulary for char in byte_of_char())
    return bool(getattr(model, "byte_fallback", False)) and all(f"<0x{b:02X}>" in vocabulary for b in range(256))


def _marks_spaces(component: dict[str, Any]) -> bool:
    """True if a component writes spaces as the space mark.

    >>> _marks_spaces({"type": "Metaspace", "replacement": "▁"}), _marks_spaces({"type": "NFC"})
    (True, False)
    """
    if component["type"] == "Metaspace":
        return bool(component.get("replacement") == SPACE_MARK)
    return bool(component["type"] == "Replace" and component.get("content") == SPACE_MARK)


def _pieces(
    vocabulary: dict[str, int],
    read: Callable[[list[str]], Sequence[bytes | None]],
    added: dict[int, Any],
    space: str,
    unknown: int | None,
) -> list[bytes | None]:
    """Bytes by token id; `read` gives those of many tokens at once."""
    pieces: list[bytes | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    # An added token is its own text, in any alphabet.
    tokens = [token for token, i in vocabulary.items() if i not in added]
    for i, piece in zip([i for i in vocabulary.values() if i not in added], read(tokens), strict=True):
        pieces[i] = piece
    for i, token in added.items():
        # With the whitespace beside it, such a token's text differs from row to row.
        pieces[i] = None if token.lstrip or token.rstrip else token.content.replace(" ", space).encode()
    if unknown is not None:
        pieces[unknown] = None
    return pieces
