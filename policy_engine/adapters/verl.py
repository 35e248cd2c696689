"""verl: a dataset that masks by a policy, for its SFT trainer (`data.custom_cls`).

    data:
      custom_cls:
        path: pkg://policy_engine.adapters.verl
        name: PolicySFTDataset
      policy: my.policy
      max_length: 4096

Files that are masked already (what `apply` writes) are taken as they are, without `policy`.

`loss_mask` carries the policy's weights (float32; its sum is the denominator of verl's loss). verl's Megatron engine
rounds masks to 0 and 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_engine.adapters.documents import documents_of
from policy_engine.core.errors import ConfigError, RowError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.data.conversation import Conversation, read_row
from policy_engine.data.files.readers import read_rows
from policy_engine.data.formats import named_format
from policy_engine.data.prepared import check_lengths, mask_of
from policy_engine.mask.masker import Masker
from policy_engine.proof.load_policy import load_policy


class PolicySFTDataset:
    """Items of one row each: `input_ids`, `attention_mask`, `position_ids` and `loss_mask`.

    The first three are int64 tensors, `loss_mask` is float32.

    The constructor's arguments are verl's. `config` needs `policy`, unless all rows are masked already; `max_length`
    and `truncation` (`error`, `left`, `right`) are read as verl reads them. A document's first token has no loss.
    Raises ConfigError if rows are not masked and no policy is given. Raises RowError for values that are no rows, and
    for labels that are shifted or padded. Raises what loading a policy raises; a policy with a guard that some
    conversation breaks does not load.
    """

    def __init__(
        self,
        parquet_files: str | Sequence[str],
        tokenizer: Any,
        config: Any,
        processor: Any = None,
        max_samples: int = -1,
    ) -> None:
        policy = config.get("policy")
        self._masker = Masker(load_policy(policy), tokenizer) if policy else None
        self._max_length = config.get("max_length")
        self._truncation = config.get("truncation", "error")
        key = config.get("messages_key", "messages")
        format = named_format("messages", field=key) if key != "messages" else named_format("messages")
        files = [parquet_files] if isinstance(parquet_files, str) else list(parquet_files)
        self._rows: list[Conversation | _Masked] = []
        for file in files:
            for number, row in read_rows(file):
                # verl's -1 means all.
                if 0 <= max_samples <= len(self._rows):
                    break
                if isinstance(row, Exception):
                    raise row
                if policy:
                    self._rows.append(read_row(row, format, number))
                elif isinstance(row, Mapping) and "input_ids" in row:
                    self._rows.append(_masked(row, number))
                else:
                    raise ConfigError("the data config names no policy", help="add `data.policy: my.policy`")
        if not policy and not self._rows:
            raise ConfigError("the data config names no policy", help="add `data.policy: my.policy`")

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        import torch

        return {name: torch.from_numpy(column) for name, column in self.columns(index).items()}

    def columns(self, index: int) -> dict[str, npt.NDArray[Any]]:
        """An item as arrays. Raises what masking raises, and RowError for a row that is too long."""
        ids, weights, positions = self._item(self._rows[index])
        if self._max_length is not None and len(ids) > self._max_length:
            if self._truncation == "error":
                raise RowError(
                    f"row {index} has {len(ids)} tokens and `max_length` is {self._max_length}",
                    help="raise `data.max_length`, or set `data.truncation: right`",
                )
            # verl names the side that is cut off: `right` keeps the start.
            kept = slice(None, self._max_length) if self._truncation == "right" else slice(-self._max_length, None)
            ids, weights, positions = ids[kept], weights[kept], positions[kept]
        # After the cut: what is now the first token is predicted by nothing.
        weights = [0.0 if at == 0 or positions[at] == 0 else weight for at, weight in enumerate(weights)]
        return {
            "input_ids": np.array(ids, dtype=np.int64),
            "attention_mask": np.ones(len(ids), dtype=np.int64),
            "position_ids": np.array(positions, dtype=np.int64),
            "loss_mask": np.array(weights, dtype=np.float32),
        }

    def _item(self, row: Conversation | _Masked) -> _Masked:
        if not isinstance(row, Conversation):
            return row
        assert self._masker is not None  # conversations are read with a policy only
        made = self._masker.mask(row)
        return _columns(made["input_ids"], made["labels"], made.loss_weights, None)


_Masked = tuple[list[int], list[float], list[int]]
"""Ids, weights (0: no loss) and positions of a row."""


def _masked(row: Mapping[str, Any], number: int) -> _Masked:
    if row.get("labels") is not None:
        documents = documents_of({**row, "row": number})
        weights = np.concatenate([document.weights_T for document in documents])
        positions = np.concatenate([np.arange(len(document.ids_T)) for document in documents])
        return list(row["input_ids"]), weights.tolist(), positions.tolist()
    ids, labels, _, _ = mask_of(row, number)
    check_lengths(row, ("loss_weights", "position_ids"), len(ids), f"row {number}")
    return _columns(ids, labels, row.get("loss_weights"), row.get("position_ids"))


def _columns(
    ids: Sequence[int], labels: Sequence[int], weights: Sequence[float] | None, positions: Sequence[int] | None
) -> _Masked:
    ones = [1.0] * len(ids) if weights is None else weights
    kept = [0.0 if label == IGNORE_INDEX else float(w) for label, w in zip(labels, ones, strict=True)]
    return list(ids), kept, list(range(len(ids))) if positions is None else list(positions)
