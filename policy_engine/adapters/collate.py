"""Batches of masked rows as padded tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.data.prepared import check_lengths

if TYPE_CHECKING:
    import torch

_FILL = {"labels": IGNORE_INDEX, "attention_mask": 0, "loss_weights": 0.0, "position_ids": 0}


@dataclass(frozen=True, kw_only=True)
class PaddingCollator:
    """Pads rows of a `Masker`: ids with the pad token, labels with -100, weights with 0.

    The first label of every row is made -100, whatever the side of the padding: a first token is never a target, and
    behind left padding a trainer would shift it into one.

    Packed rows (with `position_ids`) are laid end to end in one sequence. It has no attention mask, which would say
    that their documents see each other: without one (and without a cache) transformers' attention parts documents where
    positions begin again.

    Raises RowError for a row whose columns differ in length.
    """

    pad_token_id: int
    side: Literal["right", "left"] = "right"
    pad_to_multiple_of: int = 1
    extra: tuple[str, ...] = ()
    """Further columns with a number per token, padded with 0: those of a processor."""

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors of shape (rows, longest row); of packed rows, of shape (1, all tokens).

        They are int64, and float32 for `loss_weights`.
        """
        import torch

        if "position_ids" in rows[0]:
            rows = [self._flat(rows)]
        longest = max(len(row["input_ids"]) for row in rows)
        # What is missing to the next multiple: `-13 % 8` is 3.
        longest += -longest % self.pad_to_multiple_of
        fill = {**_FILL, **dict.fromkeys(self.extra, 0)}
        names = [name for name in ("input_ids", *fill) if name in rows[0]]
        if "position_ids" not in names:
            names.append("attention_mask")
        made: dict[str, list[list[Any]]] = {name: [] for name in names}
        for number, row in enumerate(rows):
            size = len(row["input_ids"])
            for name in made:
                if name in row:
                    _same_length(name, row, number, size)
                # Only the attention mask may be missing; of a row without padding it is all ones.
                values = [1] * size if name not in row else list(row[name])
                if name == "labels" and values:
                    values[0] = IGNORE_INDEX
                padding = [fill.get(name, self.pad_token_id)] * (longest - size)
                made[name].append(values + padding if self.side == "right" else padding + values)
        return {
            name: torch.tensor(values, dtype=torch.float32 if name == "loss_weights" else torch.int64)
            for name, values in made.items()
        }

    def _flat(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
        names = [name for name in rows[0] if name in _FILL or name in self.extra or name == "input_ids"]
        flat: dict[str, list[Any]] = {name: [] for name in names if name != "attention_mask"}
        for number, row in enumerate(rows):
            size = len(row["input_ids"])
            for name, values in flat.items():
                _same_length(name, row, number, size)
                values.extend(row[name])
        # The first token of each document has no token of its own before it.
        for at, position in enumerate(flat["position_ids"]):
            if position == 0 and "labels" in flat:
                flat["labels"][at] = IGNORE_INDEX
        return flat


def _same_length(name: str, row: Mapping[str, Any], number: int, size: int) -> None:
    help = "cut all columns together: truncate with policy-engine, not in the trainer"
    check_lengths(row, [name], size, f"row {number} of the batch", help=help)
