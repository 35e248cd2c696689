"""One masked conversation: what a trainer takes, and why."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, overload

import numpy as np

from policy_engine.chat.segments import RenderedChat, TokenizedChat, Unrendered
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.mask.labels import check_sizes, labels_of, labels_where, loss_weights_of
from policy_engine.mask.token_mask import TokenMask
from policy_engine.rules.program import Program

# Imported where a row is explained: most are not.
if TYPE_CHECKING:
    from policy_engine.mask.explain import Explanation
    from policy_engine.mask.explain_row import RowExplanation

LIST_TYPES: Final = {
    "input_ids": "int32",
    "labels": "int32",
    "attention_mask": "int8",
    "loss_weights": "float32",
    "position_ids": "int32",
    "seq_lengths": "int32",
    "mm_token_type_ids": "int8",
    "token_type_ids": "int8",
    "moe_mm_token_type_ids": "int8",
}
"""Columns that are a list per row, with the type of their numbers. `position_ids` and `seq_lengths` are those of packed
rows, the last three those that a processor makes."""
MEDIA_COLUMN: Final = "media"
"""The media of a row that a processor made, in order: a list of objects with the fields `MEDIA_TYPES`."""
MEDIA_TYPES: Final = {
    "kind": "string",
    "turn": "int32",
    "item": "int32",
    "source": "string",
    "width": "int32",
    "height": "int32",
    "first": "int32",
    "count": "int32",
}
"""Fields of an entry of `media`; see `chat.segments.MediaTokens`."""
SAMPLE_COLUMNS: Final = ("turn", "samples")
"""The name of a sample of an unrolled conversation, beside the number of its row; int32, one of each per sample."""


def column_names(
    program: Program, tokenizer: ChatTokenizer, *, unrolled: bool = False, carried: Sequence[str] = ()
) -> list[str]:
    """The columns that rows masked by a program have.

    Samples of unrolled conversations have two more, which name them: `turn`, the last message that a sample trains
    (from 0), and `samples`, how many the conversation became. A processor adds columns of its own, such as
    `mm_token_type_ids`, and `media`. `carried` are columns of the data that go along (float32).

    >>> from policy_engine.rules.compile import compile_text
    >>> from policy_engine.chat.loading import load_tokenizer
    >>> column_names(compile_text("train assistant weight 0.5"), load_tokenizer("builtin"), unrolled=True)
    ['input_ids', 'labels', 'attention_mask', 'loss_weights', 'turn', 'samples']
    """
    names = _columns_of(program)
    if tokenizer.media is not None:
        names += [*tokenizer.media.columns, MEDIA_COLUMN]
    names += carried
    return [*names, *SAMPLE_COLUMNS] if unrolled else names


def _columns_of(program: Program) -> list[str]:
    """The columns of every row; `loss_weights` only if the policy has weights."""
    return ["input_ids", "labels", "attention_mask", *(["loss_weights"] if program.is_weighted else [])]


@dataclass(frozen=True, kw_only=True)
class MaskedRow(Mapping[str, Any]):
    """The tokens of one conversation with their decisions. All columns have one entry per token.

    Also a mapping of the trainer's columns: `row["labels"]`, `dict(row)`, `**row`.

    >>> from policy_engine.mask.masker import Masker
    >>> from policy_engine.rules.compile import compile_text
    >>> masker = Masker(compile_text("train assistant; train eos of assistant"), "builtin")
    >>> chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
    >>> row = masker(chat)
    >>> list(row), len(row["labels"]), sum(label != -100 for label in row["labels"])
    (['input_ids', 'labels', 'attention_mask'], 13, 3)
    """

    tokenized: TokenizedChat
    mask: TokenMask
    program: Program

    @property
    def chat(self) -> RenderedChat:
        """The rendered conversation: text, segments, and what the template dropped."""
        return self.tokenized.chat

    @property
    def unrendered(self) -> tuple[Unrendered, ...]:
        """Pieces that never reached the text, each with `turn`, `field` and `kind`.

        >>> from policy_engine.mask.masker import Masker
        >>> from policy_engine.rules.compile import compile_text
        >>> template = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
        >>> policy = compile_text("train assistant; on unrendered ignore")
        >>> answer = {"role": "assistant", "content": "Yes.", "thinking": "Hm."}
        >>> row = Masker(policy, "builtin", template=template)([{"role": "user", "content": "Hi"}, answer])
        >>> [(lost.turn, lost.field) for lost in row.unrendered]
        [(1, 'thinking')]
        """
        return self.chat.unrendered

    @property
    def input_ids(self) -> list[int]:
        """The token ids, as `apply_chat_template(tokenize=True)` gives them."""
        return self.tokenized.input_ids

    @property
    def labels(self) -> list[int]:
        """The id of each trained token, -100 elsewhere; not shifted."""
        labels: list[int] = labels_of(self.tokenized.ids_T, self.mask).tolist()
        return labels

    @property
    def attention_mask(self) -> list[int]:
        """1 for every token: a row is not padded."""
        return [1] * len(self.input_ids)

    @property
    def loss_weights(self) -> list[float] | None:
        """The weight of each token's loss, 0 where masked; None if the policy has no weights."""
        weights = loss_weights_of(self.program, self.mask)
        return None if weights is None else weights.tolist()

    @property
    def is_empty(self) -> bool:
        """True if nothing of the row is trained."""
        return not np.count_nonzero(self.mask.weights_T)  # `any` goes through Python

    def arrays(self) -> dict[str, Any]:
        """The columns as arrays.

        Ids and labels are int32, attention int8, weights (if the policy has any) float32. With a processor there are
        its columns too, and `media` as a list.

        >>> from policy_engine.mask.masker import Masker
        >>> from policy_engine.rules.compile import compile_text
        >>> masker = Masker(compile_text("train assistant"), "builtin")
        >>> chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
        >>> {name: str(column.dtype) for name, column in masker(chat).arrays().items()}
        {'input_ids': 'int32', 'labels': 'int32', 'attention_mask': 'int8'}
        """
        return arrays_of([self])[0]

    @property
    def media(self) -> list[dict[str, Any]]:
        """The place and size of each medium of the row, in order; empty without a processor.

        An entry has `kind`, `turn` and `item` (message and content part), `source` (its path or URL, None for bytes and
        objects), `width` and `height` of an image (pixels), and its tokens: `count` of them from `first` on.
        """
        return [dataclasses.asdict(medium) for medium in self.tokenized.media or ()]

    @property
    def _names(self) -> list[str]:
        """Names of the columns."""
        names = [*_columns_of(self.program), *self.tokenized.columns]
        return names if self.tokenized.media is None else [*names, MEDIA_COLUMN]

    def __getitem__(self, key: str) -> Any:
        # A `KeyError`, as of any mapping; `getattr` would also find methods.
        if key not in self._names:
            raise KeyError(key)
        if key in self.tokenized.columns:
            # Lists, as under the other keys.
            return self.tokenized.columns[key].tolist()
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        trained = int((self.mask.weights_T != 0).sum())
        return f"<MaskedRow: {len(self.mask.weights_T)} tokens, {trained} trained>"

    @overload
    def explain(self) -> RowExplanation: ...
    @overload
    def explain(self, *, token: int) -> Explanation: ...
    @overload
    def explain(self, *, segment: int) -> Explanation: ...
    def explain(self, *, token: int | None = None, segment: int | None = None) -> Explanation | RowExplanation:
        """Explains why a token or a segment is decided as it is.

        The result has the rules that lost, and what conditions were worth. With neither given, it is all tokens as a
        table. `print` shows either.

        Raises IndexError for a token or segment that is not there, and TypeError if both are given.
        """
        from policy_engine.mask.explain import explain_segment, explain_token
        from policy_engine.mask.explain_row import explain_row

        if token is None and segment is None:
            return explain_row(self.program, self.tokenized, self.mask)
        if token is not None and segment is not None:
            raise TypeError("give `token` or `segment`, not both")
        if token is not None:
            return explain_token(self.program, self.tokenized, token, mask=self.mask)
        # `or 0` is for the type checker: `segment` is a number here.
        return explain_segment(self.program, self.chat, segment or 0, media=self.tokenized.media or ())


def arrays_of(rows: Sequence[MaskedRow]) -> list[dict[str, Any]]:
    """`MaskedRow.arrays` of many rows of one policy; labels are slices of one array."""
    if not rows:
        return []
    ids = [row.tokenized.ids_T for row in rows]
    masks = [row.mask.weights_T for row in rows]
    for ids_T, weights_T in zip(ids, masks):
        check_sizes(ids_T, weights_T)
    labels_T = labels_where(np.concatenate(masks), np.concatenate(ids))
    attended_T = np.ones(len(labels_T), dtype=np.int8)
    found = []
    end = 0
    for row, ids_T in zip(rows, ids):
        start, end = end, end + len(ids_T)
        columns = {"input_ids": ids_T, "labels": labels_T[start:end], "attention_mask": attended_T[start:end]}
        # A policy without weights has no such column: all weights would be 0 or 1, which the labels say.
        weights = loss_weights_of(row.program, row.mask)
        if weights is not None:
            columns["loss_weights"] = weights
        columns |= row.tokenized.columns
        if row.tokenized.media is not None:
            columns[MEDIA_COLUMN] = row.media
        found.append(columns)
    return found


def features_of(types: Mapping[str, str]) -> Any:
    """The types of columns, as `datasets.Features`; `types` has those of a list's numbers."""
    from datasets import Features, List, Sequence, Value

    entry = {name: Value(kind) for name, kind in MEDIA_TYPES.items()}
    return Features(
        {
            name: Value(kind)
            if name in SAMPLE_COLUMNS or kind == "bool"
            # `Sequence` of a dictionary would be a dictionary of lists.
            else List(entry)
            if name == MEDIA_COLUMN
            else Sequence(Value(kind))
            for name, kind in types.items()
        }
    )
