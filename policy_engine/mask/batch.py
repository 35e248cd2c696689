"""Many rows masked with one tokenizer call: `Masker.batch` and every run use this.

A row that fails becomes its error, in its place, whatever failed:

    rows       [row, row, broken line, row]
    read       [Conversation, RowError, RowError, Conversation]     attempt(read_row, …)
    samples    [[Sample], RowError, RowError, [Sample, Sample]]     mask_samples(…), here unrolled
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from policy_engine.chat.segments import RenderedChat, TokenizedChat
from policy_engine.chat.tokens.fast_backend import BackendMismatch
from policy_engine.core.errors import ConfigError, PolicyEngineError, RowError
from policy_engine.core.memory import not_collecting
from policy_engine.data.conversation import Conversation
from policy_engine.mask.apply_program import mask_many, straddle_of, table_for
from policy_engine.mask.row import SAMPLE_COLUMNS, MaskedRow
from policy_engine.mask.row_masker import RowMasker, nothing_to_train
from policy_engine.mask.token_mask import TokenMask
from policy_engine.mask.unrendered import Lost, lost_of
from policy_engine.mask.unroll import lost_fields, unroll
from policy_engine.rules.decisions import PieceTable

Made = TypeVar("Made")

_log = logging.getLogger("policy_engine")


class RowSample(NamedTuple):
    """One sample of a row, which becomes one sample or several.

    It has the masked tokens, the values of `SAMPLE_COLUMNS` if the row was unrolled, and the fields of its messages
    that never reached the text.
    """

    row: MaskedRow
    names: dict[str, int]
    lost: Lost


def attempt(work: Callable[..., Made], *arguments: object) -> Made | PolicyEngineError:
    """The result of one row's `work`, or the row's error.

    An exception that is not ours is a defect, or data beyond what Python bears. It costs that row alone, and the log
    (`policy_engine`, level debug) has its traceback. Raises what is not about the row: BackendMismatch, and warnings
    that were asked to be errors.

    >>> attempt(len, [1, 2]), type(attempt(len, 3)).__name__
    (2, 'RowError')
    """
    try:
        return work(*arguments)
    except (BackendMismatch, Warning):
        raise
    except PolicyEngineError as error:
        _forget_frames(error)
        return error
    except RecursionError:
        return RowError("the row is nested too deeply", help="flatten what is in it, or drop the row")
    except MemoryError:
        return RowError("there is not enough memory for the row", help="drop the row, or run where more memory is free")
    except Exception as error:
        _log.debug("a row failed", exc_info=True)
        return RowError(
            f"policy-engine failed on this row ({type(error).__name__}: {error}); that is a defect of policy-engine",
            help="report it, if you can with the row; the row is left out",
            code="PE000",
        )


def _forget_frames(error: BaseException) -> None:
    """Removes the tracebacks of an error that is kept, and of its causes.

    Their frames hold the row, and those that called them the batch with the error in it: a cycle of much text for each
    row that fails, which the garbage collector would find late.
    """
    pending: list[BaseException | None] = [error]
    while pending:
        link = pending.pop()
        if link is not None and link.__traceback__ is not None:
            link.__traceback__ = None
            pending += (link.__cause__, link.__context__)


def mask_rows(
    conversations: Iterable[Conversation | PolicyEngineError], masker: RowMasker
) -> list[MaskedRow | PolicyEngineError]:
    """Masks conversations with one tokenizer call. Errors among them stay in their places.

    Raises BackendMismatch if a fast backend gives other ids than the tokenizer.
    """
    read = list(conversations)
    rendered = [c if isinstance(c, PolicyEngineError) else attempt(masker.render, c) for c in read]
    # Rows with given ids are not tokenized.
    given = [not isinstance(c, PolicyEngineError) and c.given is not None for c in read]
    chats = [chat for chat, own in zip(rendered, given) if isinstance(chat, RenderedChat) and not own]
    encoded = iter(_encode(chats, masker))
    tokenized = [
        chat
        if not isinstance(chat, RenderedChat)
        else attempt(masker.tokenize, conversation, chat)
        if own
        else next(encoded)
        for conversation, chat, own in zip(read, rendered, given)
    ]
    rows = _decide(tokenized, masker)
    masker.on_masked([[row] for row in rows if isinstance(row, MaskedRow)])
    return rows


def _decide(
    chats: Sequence[TokenizedChat | PolicyEngineError], masker: RowMasker
) -> list[MaskedRow | PolicyEngineError]:
    """Decides the tokens of all chats at once."""
    tables = [c if isinstance(c, PolicyEngineError) else attempt(table_for, masker.program, c) for c in chats]
    known = [(t, c) for t, c in zip(tables, chats) if isinstance(c, TokenizedChat) and isinstance(t, PieceTable)]
    straddle = straddle_of(masker.program)
    try:
        masks = iter(mask_many([t for t, _ in known], [c for _, c in known], straddle=straddle) if known else [])
    except Exception:
        # One by one, only the row that brings it about is lost.
        return [attempt(masker.decide, c) if isinstance(c, TokenizedChat) else c for c in chats]
    rows: list[MaskedRow | PolicyEngineError] = []
    for table, chat in zip(tables, chats):
        found: Any = next(masks) if isinstance(table, PieceTable) else table
        if isinstance(chat, TokenizedChat) and isinstance(found, TokenMask):
            found = MaskedRow(tokenized=chat, mask=found, program=masker.program)
        rows.append(found)
    return rows


def mask_samples(
    conversations: Sequence[Conversation | PolicyEngineError], masker: RowMasker, *, unrolled: bool
) -> list[list[RowSample] | PolicyEngineError]:
    """The samples that each conversation becomes: one, or if unrolled those of `unroll`.

    Raises BackendMismatch.
    """

    def samples(conversation: Conversation) -> list[RowSample]:
        return [RowSample(made.row, made.names, lost_fields(made)) for made in unroll(conversation, masker)]

    # As a block: what a decorator calls by is no file of this package, and warnings would point at it.
    with not_collecting():
        # One tokenizer call for all; unrolled samples need a rendering and a call each.
        if not unrolled:
            rows = mask_rows(conversations, masker)
            return [r if isinstance(r, PolicyEngineError) else [RowSample(r, {}, lost_of(r.chat))] for r in rows]
        made = [c if isinstance(c, PolicyEngineError) else attempt(samples, c) for c in conversations]
        masker.on_masked([[s.row for s in found] for found in made if not isinstance(found, PolicyEngineError)])
        return made


def _encode(chats: list[RenderedChat], masker: RowMasker) -> list[TokenizedChat | PolicyEngineError]:
    try:
        # With `errors="return"` a chat that fails for a reason of its own is its error, in its place.
        return masker.tokenizer.encode_batch(chats, errors="return")
    # It is about the tokenizer, so it would repeat on every row: the caller goes on without the fast backend.
    except BackendMismatch:
        raise
    except Exception:
        # A tokenizer fails a batch as a whole; one by one, only the row that it cannot take is lost.
        return [attempt(masker.tokenizer.encode, chat) for chat in chats]


def as_columns(
    columns: Any, given: dict[str, Any], kept: list[int], masked: list[Mapping[str, Any]], names: list[str]
) -> Any:
    """The columns that `map` is given back.

    They are those that are made, and its own, cut to the rows that are kept.
    """
    made: dict[str, Any] = {name: [row[name] for row in masked] for name in names}
    # Plain integers would become int64 columns in Arrow.
    made |= {name: np.array(made[name], dtype=np.int32) for name in names if name in SAMPLE_COLUMNS}
    size = len(next(iter(given.values()))) if given else 0
    # Every row became one sample, so the given columns fit as they are.
    if kept == list(range(size)):
        return made
    if hasattr(columns, "iloc"):  # a table of pandas, whose columns keep their length
        columns = {}
    # `map` merges what a function returns into the columns it gave, which still have every row. Only the object that it
    # gave, changed in place, also respects `remove_columns`.
    for name, column in given.items():
        columns[name] = [column[i] for i in kept]
    for name, column in made.items():
        columns[name] = column
    return columns


def rows_of_columns(columns: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A batch of columns, as `map(batched=True)` of `datasets` gives it, by name; and its rows.

    Raises ConfigError for a single row, and for a table of Arrow.

    >>> rows_of_columns({"id": [1, 2]})[1]
    [{'id': 1}, {'id': 2}]
    """
    if type(columns).__name__ == "LazyRow":
        raise ConfigError("`map` gave a single row", help="say `map(masker.batch, batched=True)`")
    if not hasattr(columns, "keys"):
        kind = f"{type(columns).__module__.partition('.')[0]}.{type(columns).__name__}"
        raise ConfigError(
            f"`masker.batch` got `{kind}`, not columns by name",
            help="give it lists by name; for a dataset say `dataset.with_format(None).map(masker.batch, batched=True)`",
        )
    given = {name: columns[name] for name in columns.keys()}  # noqa: SIM118 - a batch of `datasets` is no dict
    # A column of pandas is read by its labels, which need not be the numbers of its rows.
    given = {name: column.tolist() if hasattr(column, "tolist") else column for name, column in given.items()}
    size = len(next(iter(given.values()))) if given else 0
    return given, [{name: column[at] for name, column in given.items()} for at in range(size)]


def columns_of(samples: Sequence[RowSample], empty: str | None) -> list[Mapping[str, Any]] | PolicyEngineError:
    """The columns of a row's samples under a setting of `empty`: an error if it says so."""
    kept = [sample for sample in samples if empty == "keep" or not sample.row.is_empty]
    if not kept and empty == "error":
        return nothing_to_train()
    return [{**sample.row.arrays(), **sample.names} for sample in kept]
