"""The choice of the backend that gives a run its ids, made before its first row."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.choices import Backend
from policy_engine.core.errors import ConfigError, PolicyEngineError, TokenizerError
from policy_engine.data.formats import Format
from policy_engine.data.pairs import conversations_in
from policy_engine.mask.masker import Masker

BACKENDS: Final[tuple[Backend, ...]] = get_args(Backend)
CHECKED_ROWS: Final = 64
"""First rows of the data that a backend has to agree on, unless it passed a full check."""
MUCH_DATA: Final = 32 << 20
"""Bytes of input from which `auto` prefers gigatoken: it loads slowly and encodes fast."""
FULL_CHECK: Final = 256 << 20
"""Bytes of input from which the ten seconds of a full check pay in the same run."""


@dataclass(frozen=True, kw_only=True)
class BackendChoice:
    """A masker that takes its ids from `name`, and one sentence that says why."""

    masker: Masker
    name: str
    description: str


def choose_backend(
    masker: Masker, format: Format, rows: Iterable[tuple[int, Any]], *, wanted: Backend, size: int | None
) -> BackendChoice:
    """Checks a fast backend, if one is wanted, on the first rows of the data too.

    `size` is the input's, in bytes; None for an input that cannot be read again, as a mismatch asks for.

    Raises:
        ConfigError: it is demanded for an input that can only be read once.
        TokenizerError: it is demanded, and does not qualify.
    """
    if wanted == "reference":
        return BackendChoice(masker=masker, name="reference", description="ids from the tokenizer itself")
    # A fast backend may be caught only in the middle of the data; then the run begins again, and a pipe cannot.
    if size is None:
        if wanted != "auto":
            raise ConfigError("a pipe cannot be read again, should the backend differ", help="give a file, or leave it")
        return BackendChoice(
            masker=masker, name="reference", description="ids from the tokenizer itself: the input is a pipe"
        )
    names = (
        (wanted,) if wanted != "auto" else ("gigatoken", "kitoken") if size > MUCH_DATA else ("kitoken", "gigatoken")
    )
    texts = _texts(masker, format, rows)
    found = masker.tokenizer.qualify_fast(texts, names, full=size > FULL_CHECK)
    if isinstance(found, str):
        if wanted != "auto":
            raise TokenizerError(f"{found}", help="run with --backend reference", code="PE409")
        return BackendChoice(masker=masker, name="reference", description=f"ids from the tokenizer itself: {found}")
    # A copy: the caller's masker keeps its tokenizer, for a run that begins again without the fast backend.
    made = copy.copy(masker)
    made.tokenizer = masker.tokenizer.with_fast(found)
    return BackendChoice(
        masker=made,
        name=found.name,
        description=f"ids from {found.name}, which gave the tokenizer's on the texts of a check; the tokenizer itself "
        "reads unusual texts, and some of the others to compare",
    )


def in_full(masker: Masker) -> Masker:
    """The same masker, all of whose rows are rendered in full."""
    made = copy.copy(masker)
    made.tokenizer = masker.tokenizer.with_skeletons(False)
    return made


def backend_verdict(tokenizer: ChatTokenizer, texts: Sequence[str] = ()) -> str:
    """A sentence for people: may a run with this tokenizer take its ids from a fast backend?

    `texts` are rendered rows that it has to agree on, beside the texts of the check.
    """
    found = tokenizer.qualify_fast(texts)
    if isinstance(found, str):
        return f"no fast backend serves this tokenizer: {found}"
    rows = " and these rows" if texts else ""
    return f"`--backend {found.name}` gives the same ids as this tokenizer, on the texts of a check{rows}"


def _texts(masker: Masker, format: Format, rows: Iterable[tuple[int, Any]]) -> list[str]:
    texts: list[str] = []
    for _, row in rows:
        if len(texts) >= CHECKED_ROWS:
            break
        if isinstance(row, PolicyEngineError):
            continue
        try:
            for _, told in conversations_in(row, format):
                texts.append(masker.tokenizer.render(told).text)
        except PolicyEngineError:
            continue  # the run says what is wrong with it
    return texts
