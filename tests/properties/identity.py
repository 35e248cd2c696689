"""The same rows by every way that a run may take, beside the plain one.

plain     row by row, in full, ids from the tokenizer itself
others    a batch at once, replayed; ids from kitoken, from gigatoken, or from a tokenizer out of the cache
a file    two workers, or two actors of Ray: see `identity_files.py`

A way gives for each row what the plain one gives, an error included, or refuses before the row is given out.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, Final
from unittest import mock

import numpy as np

from policy_engine.chat import template as template_module
from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.chat.tokens.fast_backend import BackendMismatch
from policy_engine.core.errors import PolicyEngineError
from policy_engine.data.conversation import Conversation
from policy_engine.mask.batch import mask_rows
from policy_engine.mask.masker import Masker
from policy_engine.mask.row import MaskedRow
from policy_engine.rules.compile import compile_text
from tests.properties import skeletons
from tests.properties.identity_files import RAY, WITHOUT_RAY, ray_engine_of_two, written
from tests.properties.identity_rows import HOSTILE, rows_of, template_of
from tests.support.tokenizers import REAL, chat_tokenizer, load

NAMES: Final = ("builtin", *REAL)
ROWS: Final = 100
ROWS_OF_A_FILE: Final = 300
STRETCH: Final = 50
"""Cases in a row that share a vocabulary, which takes seconds to load; the first three are files."""
_POLICIES: Final = (
    "train assistant; mask system,user; train eos after assistant; mask assistant.reasoning; on unrendered ignore",
    'train assistant weight 0.5; train user where message.content contains "x"; train eos after assistant; '
    "train last assistant; on straddle train; on unrendered ignore",
)


@functools.lru_cache(maxsize=1)
def tokenizers(name: str) -> dict[str, ChatTokenizer]:
    """The ways to the ids of one vocabulary; the plain one first."""
    own = load_tokenizer("builtin") if name == "builtin" else chat_tokenizer(name)
    found = {"plain": own.with_skeletons(False), "batch": own}
    if name != "builtin":
        folder = tempfile.TemporaryDirectory()
        _FOLDERS.append(folder)
        load(name).save_pretrained(folder.name)
        # The second one is read out of the cache; errors name the tokenizer, which is no difference.
        cached = [load_tokenizer(folder.name, cache=True) for _ in range(2)][1]
        found["cached"] = dataclasses.replace(cached, name=own.name)
    for backend in ("kitoken", "gigatoken"):
        fast = own.qualify_fast([], (backend,), full=True)
        if not isinstance(fast, str):
            found[backend] = own.with_fast(fast)
    return found


_FOLDERS: Final[list[Any]] = []


@functools.lru_cache(maxsize=2)
def maskers(name: str, policy: str, source: str | None = None) -> dict[str, Masker]:
    """The same as maskers of one policy, with another template if its `source` is given."""
    found = tokenizers(name)
    if source is not None:
        found = {way: tokenizer.with_template(source) for way, tokenizer in found.items()}
    return {way: Masker(compile_text(policy), tokenizer) for way, tokenizer in found.items()}


def facts(row: MaskedRow | PolicyEngineError) -> tuple[Any, ...]:
    """All that a row came to, or its error."""
    if isinstance(row, PolicyEngineError):
        return type(row).__name__, str(row)
    mask, chat = row.mask, row.tokenized
    arrays = (chat.ids_T, chat.starts_T, chat.ends_T, mask.weights_T, mask.rules_T, mask.reasons_T, mask.segments_T)
    return (*(np.asarray(values).tolist() for values in arrays), row.labels, row.chat.unrendered)


def _plain(masker: Masker, conversation: Conversation) -> tuple[Any, ...]:
    try:
        return facts(masker.row_masker.mask(conversation))
    except PolicyEngineError as error:
        return facts(error)


def _made(masker: Masker, rows: Sequence[Conversation]) -> list[tuple[Any, ...] | None]:
    """What a way makes of a batch of rows; None for a row that it refuses, of which a run writes nothing."""
    try:
        return [facts(row) for row in mask_rows(rows, masker.row_masker)]
    except BackendMismatch:
        if len(rows) == 1:
            return [None]
    return [made for row in rows for made in _made(masker, [row])]


class _Stopped(datetime):
    """A clock that does not run, so that a template writes the same time by every way."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return datetime(2026, 11, 30, 12, 34, 56, 789012)


@contextmanager
def _comparable() -> Iterator[None]:
    with skeletons.never_compared(), mock.patch.object(template_module, "datetime", _Stopped):
        yield


def kind_of(number: int) -> str:
    """The kind of a case's template, `own` for every second one."""
    stretch, at = divmod(number, STRETCH)
    if at < 3:
        return HOSTILE[stretch % 3] if at == 1 or (at == 2 and stretch % 2) else "own"
    return "own" if at % 2 else HOSTILE[at // 2 % 3]


def identity_case(seed: int, number: int) -> tuple[str, str | None]:
    """The kind of a case's template, with what came out, and the first row and way that differ from the plain one."""
    stretch, at = divmod(number, STRETCH)
    name, kind, key = NAMES[stretch % len(NAMES)], kind_of(number), f"identity:{seed}:{number}"
    source = None if kind == "own" else template_of(kind, key)
    found = maskers(name, _POLICIES[number // 2 % 2], source)
    added = [str(token) for token in found["plain"].tokenizer.tokenizer.added_tokens_decoder.values()][:60]
    title = f"{name}, {kind} template"
    if at == 2 and not RAY:
        return WITHOUT_RAY, None
    if at < 3:
        rows = rows_of(kind, key, added, ROWS_OF_A_FILE)
        problem = written(rows, found["plain"], found["batch"], ray_engine_of_two() if at == 2 else None)
        outcome = f"{kind}, a file{' by Ray' if at == 2 else ''}"
        return outcome, problem and f"{title}: {problem}, template {source!r}"
    rows = rows_of(kind, key, added, ROWS)
    with _comparable():
        expected = [_plain(found["plain"], row) for row in rows]
        refused = False
        for way in list(found)[1:]:
            for row, theirs, ours in zip(rows, expected, _made(found[way], rows), strict=True):
                refused |= ours is None
                if ours is not None and theirs != ours and " at 0x" not in str(theirs):  # an object's own address
                    return kind, f"{title}, {way}: {row!r}: {ours!r}, plain {theirs!r}, template {source!r}"
    outcome = "no row" if all(isinstance(made[0], str) for made in expected) else "rows"
    return f"{kind}, {outcome}{', refused' if refused else ''}", None
