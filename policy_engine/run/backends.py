"""Whether a run may take its ids from a fast backend, decided before its first row."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.chat.tokens.fast_backend import CHECKED_ROWS
from policy_engine.core.choices import Backend
from policy_engine.core.errors import ConfigError, PolicyEngineError, TokenizerError
from policy_engine.data.conversation import read_row
from policy_engine.data.formats import Format
from policy_engine.mask.masker import Masker

BACKENDS: Final[tuple[Backend, ...]] = get_args(Backend)


@dataclass(frozen=True, kw_only=True)
class BackendChoice:
    """A masker that takes its ids from `name`, and one sentence that says why."""

    masker: Masker
    name: str
    description: str


def choose_backend(
    masker: Masker, format: Format, rows: Iterable[tuple[int, Any]], *, wanted: Backend, again: bool
) -> BackendChoice:
    """Checks a fast backend on the first rows of the data, if one is wanted. `again` says whether the input can be read
    once more, as a mismatch asks for.

    Raises:
        ConfigError: it is demanded for an input that can only be read once.
        TokenizerError: it is demanded, and does not qualify.
    """
    if wanted == "reference":
        return BackendChoice(masker=masker, name="reference", description="ids from the tokenizer itself")
    if not again:
        if wanted == "kitoken":
            raise ConfigError("a pipe cannot be read again, should the backend differ", help="give a file, or leave it")
        return BackendChoice(
            masker=masker, name="reference", description="ids from the tokenizer itself: the input is a pipe"
        )
    texts = _texts(masker, format, rows)
    found = masker.tokenizer.qualify_fast(texts)
    if isinstance(found, str):
        if wanted == "kitoken":
            raise TokenizerError(f"{found}", help="run with --backend reference", code="PE409")
        return BackendChoice(masker=masker, name="reference", description=f"ids from the tokenizer itself: {found}")
    made = copy.copy(masker)
    made.tokenizer = masker.tokenizer.with_fast(found)
    description = (
        f"ids from {found.name}, equal on a stress corpus and the first {len(texts):,} rows; 1 row in 1,000 is checked"
    )
    return BackendChoice(masker=made, name=found.name, description=description)


def backend_verdict(tokenizer: ChatTokenizer, texts: Sequence[str] = ()) -> str:
    """Whether a run with this tokenizer may take its ids from the fast backend, in a sentence for people.

    `texts` are rendered rows that it has to agree on, beside the stress corpus.
    """
    found = tokenizer.qualify_fast(texts)
    if isinstance(found, str):
        return f"`--backend kitoken` does not serve this tokenizer: {found}"
    rows = " and these rows" if texts else ""
    return f"`--backend {found.name}` gives the same ids as this tokenizer, on a stress corpus{rows}"


def _texts(masker: Masker, format: Format, rows: Iterable[tuple[int, Any]]) -> list[str]:
    texts: list[str] = []
    for _, row in rows:
        if len(texts) == CHECKED_ROWS:
            break
        if isinstance(row, PolicyEngineError):
            continue
        try:
            conversation = read_row(row, format)
            texts.append(masker.tokenizer.template_for(conversation).render(conversation).text)
        except PolicyEngineError:
            continue  # the run says what is wrong with it
    return texts
