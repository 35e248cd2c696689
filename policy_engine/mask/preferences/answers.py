"""Masked preferences: a pair of answers, or an answer with a label; and their columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_engine.core.choices import PairColumns
from policy_engine.mask.batch import RowSample
from policy_engine.mask.labels import labels_of
from policy_engine.mask.row import MEDIA_COLUMN, SAMPLE_COLUMNS, MaskedRow
from policy_engine.mask.unrendered import lost_of


@dataclass(frozen=True, kw_only=True)
class MaskedAnswer:
    """One conversation whose first `prompt` tokens are the prompt, and the rest an answer to it."""

    row: MaskedRow
    prompt: int

    @property
    def prompt_ids(self) -> npt.NDArray[np.int32]:
        """Ids of the prompt, with what opens the answer."""
        return self.row.tokenized.ids_T[: self.prompt]

    @property
    def ids(self) -> npt.NDArray[np.int32]:
        """Ids of the answer."""
        return self.row.tokenized.ids_T[self.prompt :]

    @property
    def labels(self) -> npt.NDArray[np.int32]:
        """Labels of the answer: its trained ids, -100 elsewhere."""
        labels: npt.NDArray[np.int32] = labels_of(self.row.tokenized.ids_T, self.row.mask)[self.prompt :]
        return labels

    @property
    def prompt_columns(self) -> dict[str, Any]:
        """Columns of a processor: its numbers per token of the prompt, and its media."""
        tokenized = self.row.tokenized
        made: dict[str, Any] = {f"prompt_{name}": T[: self.prompt] for name, T in tokenized.columns.items()}
        return made if tokenized.media is None else {**made, MEDIA_COLUMN: self.row.media}

    @property
    def is_empty(self) -> bool:
        """True if nothing of the answer is trained."""
        return not self.row.mask.weights_T[self.prompt :].any()

    def judged(self, *, wanted: bool) -> dict[str, Any]:
        """The answer as a row of TRL's KTO trainer."""
        return {
            "prompt_ids": self.prompt_ids,
            "completion_ids": self.ids,
            "completion_labels": self.labels,
            # An array as the other columns are, so that one writer serves all of them.
            "label": np.array([wanted]),
            **self.prompt_columns,
        }


@dataclass(frozen=True, kw_only=True)
class MaskedPair(Mapping[str, Any]):
    """A pair masked: the preferred answer, and the other. Both have the same prompt.

    Also a mapping of the columns that TRL's DPO trainer takes, and the labels beside them: `pair["chosen_labels"]`,
    `dict(pair)`.

    >>> from policy_engine.mask.masker import Masker
    >>> from policy_engine.rules.compile import compile_text
    >>> masker = Masker(compile_text("train assistant; train eos of assistant"), "builtin")
    >>> pair = masker.pair(prompt="Hi", chosen="Hello", rejected="What?")
    >>> pair
    <MaskedPair: 9 tokens of prompt, chosen 3 tokens (2 trained), rejected 4 tokens (3 trained)>
    >>> list(pair)
    ['prompt_ids', 'chosen_ids', 'chosen_labels', 'rejected_ids', 'rejected_labels']
    """

    chosen: MaskedAnswer
    rejected: MaskedAnswer

    @property
    def answers(self) -> tuple[MaskedAnswer, ...]:
        """Both answers."""
        return self.chosen, self.rejected

    def columns(self, trainer: PairColumns) -> list[dict[str, Any]]:
        """The rows that the pair becomes for a trainer, as arrays: two for `kto`, else one."""
        if trainer == "kto":
            return [self.chosen.judged(wanted=True), self.rejected.judged(wanted=False)]
        # Both whole, prompt included, as the trainer scores them.
        if trainer == "reward":
            return [{"chosen_ids": self.chosen.row.tokenized.ids_T, "rejected_ids": self.rejected.row.tokenized.ids_T}]
        return [
            {
                "prompt_ids": self.chosen.prompt_ids,
                "chosen_ids": self.chosen.ids,
                "chosen_labels": self.chosen.labels,
                "rejected_ids": self.rejected.ids,
                "rejected_labels": self.rejected.labels,
                **self.chosen.prompt_columns,
            }
        ]

    @property
    def _names(self) -> list[str]:
        """Names of the columns."""
        return list(self.columns("dpo")[0])

    def __getitem__(self, key: str) -> list[Any]:
        column = self.columns("dpo")[0][key]
        found: list[Any] = column if isinstance(column, list) else column.tolist()
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        sizes = [f"{len(a.ids)} tokens ({int((a.labels >= 0).sum())} trained)" for a in self.answers]
        return f"<MaskedPair: {self.chosen.prompt} tokens of prompt, chosen {sizes[0]}, rejected {sizes[1]}>"


@dataclass(frozen=True, kw_only=True)
class MaskedJudgement:
    """An answer masked, and whether it is wanted.

    Of an unrolled answer, one sample: `turns` are the messages it trains (from 0), and `of` is the number of samples
    that the answer became.
    """

    answer: MaskedAnswer
    label: bool
    turns: tuple[int, ...] | None = None
    of: int = 1

    @property
    def answers(self) -> tuple[MaskedAnswer, ...]:
        """The answer."""
        return (self.answer,)

    def columns(self, trainer: PairColumns) -> list[dict[str, Any]]:
        """The row for TRL's KTO trainer, as arrays."""
        # `columns_for` has refused the others for answers with a label.
        assert trainer == "kto"
        return [{**self.answer.judged(wanted=self.label), **self._names}]

    @property
    def _names(self) -> dict[str, npt.NDArray[np.int32]]:
        if self.turns is None:
            return {}
        values = (self.turns[-1] if self.turns else -1, self.of)
        return {name: np.array([value], dtype=np.int32) for name, value in zip(SAMPLE_COLUMNS, values)}


Preference = MaskedPair | MaskedJudgement


def samples_of(made: Preference) -> list[RowSample]:
    """The masked conversations of a preference; what the prompt of both lost is with the first."""
    if isinstance(made, MaskedJudgement) and made.turns is not None:
        row = made.answer.row
        # What a template drops of the turns before them is what it drops at inference.
        return [RowSample(row, {}, lost_of(row.chat, made.turns))]
    first, *others = made.answers
    samples = [RowSample(first.row, {}, lost_of(first.row.chat))]
    for answer in others:
        lost, messages = lost_of(answer.row.chat), answer.row.chat.messages
        if lost:
            pairs = zip(first.row.chat.messages, messages)
            # One answer may be the beginning of the other.
            shared = next((turn for turn, (a, b) in enumerate(pairs) if a != b), len(first.row.chat.messages))
            lost = lost_of(answer.row.chat, range(shared, len(messages)))
            # Tools and columns are those of the row.
            lost = Counter({key: count for key, count in lost.items() if key[0]})
        samples.append(RowSample(answer.row, {}, lost))
    return samples


def with_rows(made: Preference, rows: Sequence[MaskedRow], *, start: int = 0) -> Preference | None:
    """The same with truncated rows; None if an answer or the prompt has no token left.

    `start` is how many tokens were cut off the prompt.
    """
    answers = [
        replace(answer, row=row, prompt=answer.prompt - start) for answer, row in zip(made.answers, rows, strict=True)
    ]
    # A trainer of preferences adds up an answer's log-probabilities, and an answer without tokens has no sum. Nothing
    # predicts an answer's first token where no prompt is before it.
    if any((start and answer.prompt < 1) or len(answer.ids) == 0 for answer in answers):
        return None
    if isinstance(made, MaskedPair):
        return replace(made, chosen=answers[0], rejected=answers[1])
    return replace(made, answer=answers[0])
