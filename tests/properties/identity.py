"""The same rows by every way that a run may take, beside the plain one.

plain     row by row, in full, ids from the tokenizer itself
others    a batch at once, replayed; ids from kitoken, from gigatoken, or from a tokenizer out of the cache
a file    two workers, by whatever backend a run chooses, beside one process that renders in full
"""

from __future__ import annotations

import dataclasses
import functools
import json
import random
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
import pyarrow.parquet as pq

from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.skeleton.mismatch import SkeletonMismatch
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.chat.tokens.fast_backend import BackendMismatch
from policy_engine.core.errors import PolicyEngineError
from policy_engine.data.conversation import Conversation
from policy_engine.mask.batch import mask_rows
from policy_engine.mask.masker import Masker
from policy_engine.mask.row import MaskedRow
from policy_engine.rules.compile import compile_text
from policy_engine.run.apply import apply_dataset
from policy_engine.run.run_options import RunOptions
from policy_engine.testing.choices import RandomChoices
from tests.properties import skeletons
from tests.properties.injection import hostile_conversation
from tests.support.tokenizers import REAL, chat_tokenizer, load

NAMES: Final = ("builtin", *REAL)
ROWS: Final = 20
"""Rows of a case: two shapes, whose rows are replayed, and conversations that quote control tokens."""
STRETCH: Final = 250
"""Cases in a row that share a vocabulary, the first of which is a file."""
_OF_A_FILE: Final = 25
"""Cases whose rows are in one file."""
_POLICIES: Final = (
    "train assistant; mask system,user; train eos after assistant; mask assistant.reasoning; on unrendered ignore",
    'train assistant weight 0.5; train user where message.content contains "x"; train eos after assistant; '
    "train last assistant; on straddle train; on unrendered ignore",
)
_SCRIPTS: Final = ((0x20, 0x7E), (0xC0, 0x24F), (0x300, 0x36F), (0x4E00, 0x4EFF), (0x600, 0x6FF), (0x1F300, 0x1F5FF))


@functools.lru_cache(maxsize=1)
def tokenizers(name: str) -> dict[str, ChatTokenizer]:
    """The ways to the ids of one vocabulary; the plain one first."""
    if name == "builtin":
        own = load_tokenizer("builtin")
        found = {"plain": own.with_skeletons(False), "batch": own}
    else:
        own = chat_tokenizer(name)
        found = {"plain": own.with_skeletons(False), "batch": own}
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
def maskers(name: str, policy: str) -> dict[str, Masker]:
    """The same as maskers of one policy."""
    return {way: Masker(compile_text(policy), tokenizer) for way, tokenizer in tokenizers(name).items()}


def _words(rng: random.Random) -> str:
    first, last = rng.choice(_SCRIPTS)
    return "".join(chr(rng.randint(first, last)) for _ in range(rng.randrange(40)))


def rows_of(key: str, added: Sequence[str]) -> list[Conversation]:
    """The rows of a case; `added` are the tokenizer's own tokens."""
    rng, choices = random.Random(key), RandomChoices(key)
    rows: list[Conversation] = []
    for shape in rng.sample(skeletons.SHAPES, 2):
        row = skeletons.conversation(rng, shape)
        for _ in range(ROWS * 2 // 5):
            rows.append(row)
            row = dataclasses.replace(row, messages=skeletons.varied(rng, row.messages))
            if rng.random() < 0.3 and isinstance(row.messages[-1].get("content"), str):
                words = f"{_words(rng)}{rng.choice(('', *added))}{_words(rng)}"
                row = dataclasses.replace(row, messages=(*row.messages[:-1], {**row.messages[-1], "content": words}))
    rows += [hostile_conversation(choices, tuple(added)) for _ in range(ROWS - len(rows))]
    return rows


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


def identity_case(seed: int, number: int) -> tuple[str, str | None]:
    """The vocabulary of a case, and the first row and way that differ from the plain one."""
    name = NAMES[number // STRETCH % len(NAMES)]
    if number % STRETCH == 0:
        return _file_case(name, seed, number)
    found = maskers(name, _POLICIES[number % 2])
    added = [str(token) for token in found["plain"].tokenizer.tokenizer.added_tokens_decoder.values()][:60]
    rows = rows_of(f"identity:{seed}:{number}", added)
    expected = [_plain(found["plain"], row) for row in rows]
    refused = False
    for way in list(found)[1:]:
        try:
            with skeletons.never_compared():
                made = mask_rows(rows, found[way].row_masker)
        except (BackendMismatch, SkeletonMismatch):
            refused = True  # a run begins again, and nothing of this is written
            continue
        for row, theirs, ours in zip(rows, expected, map(facts, made)):
            if theirs != ours:
                return name, f"{name}, {way}: {row.messages!r}: {ours!r}, plain {theirs!r}"
    return f"{name}{', refused' if refused else ''}", None


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def _file_case(name: str, seed: int, number: int) -> tuple[str, str | None]:
    """Rows of several cases in a file: two workers beside one process that renders in full."""
    plain, batch = (maskers(name, _POLICIES[1])[way] for way in ("plain", "batch"))
    added = [str(token) for token in plain.tokenizer.tokenizer.added_tokens_decoder.values()][:60]
    rows = [row for at in range(_OF_A_FILE) for row in rows_of(f"identity:{seed}:{number + at}", added)]
    with _folder() as folder, mock.patch.object(skeletons.module, "FREE_RECORDINGS", 1 << 60):
        data = folder / "rows.jsonl"
        lines = [{"messages": row.messages, **({"tools": row.tools} if row.tools else {})} for row in rows]
        data.write_text("".join(json.dumps(line) + "\n" for line in lines))
        one = apply_dataset(data, plain, folder / "plain.parquet", RunOptions(backend="reference"))
        two = apply_dataset(data, batch, folder / "two.parquet", RunOptions(backend="auto", workers=2, batch_size=32))
        same = pq.read_table(folder / "plain.parquet").equals(pq.read_table(folder / "two.parquet"))
        counts = [(s.rows_in, s.rows_out, s.failure_codes, s.tokens, s.rules, s.straddles) for s in (one, two)]
    if not same or counts[0] != counts[1]:
        return f"{name}, a file", f"{name}: two workers ({two.backend}) write other rows: {counts}"
    return f"{name}, a file", None
