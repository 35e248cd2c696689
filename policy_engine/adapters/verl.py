"""verl: a dataset for its SFT trainer (`data.custom_cls.path` and `.name`) that masks by a policy.

    data:
      custom_cls:
        path: pkg://policy_engine.adapters.verl
        name: PolicySFTDataset
      policy: my.policy
      max_length: 4096

`loss_mask` carries the policy's weights (float32; its sum is the denominator of verl's loss). verl's Megatron engine
rounds masks to 0 and 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from policy_engine.chat.conversation import Conversation, read_row
from policy_engine.chat.formats import named_format
from policy_engine.core.errors import ConfigError, RowError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.data.readers import read_rows
from policy_engine.mask.masker import Masker
from policy_engine.proof.load import load_policy


class PolicySFTDataset:
    """Items of `input_ids`, `attention_mask`, `position_ids` (int64) and `loss_mask` (float32), tensors of one row.

    The constructor's arguments are verl's. `config` needs `policy`; `max_length` and `truncation` (`error`, `left`,
    `right`) are read as verl reads them. Raises ConfigError without a policy, RowError for a row that is none, and
    what loading a policy raises: one whose guard some conversation breaks does not load.
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
        if not policy:
            raise ConfigError("the data config names no policy", help="add `data.policy: my.policy`")
        self._masker = Masker(load_policy(policy), tokenizer)
        self._max_length = config.get("max_length")
        self._truncation = config.get("truncation", "error")
        key = config.get("messages_key", "messages")
        format = named_format("messages", field=key) if key != "messages" else named_format("messages")
        files = [parquet_files] if isinstance(parquet_files, str) else list(parquet_files)
        self._conversations: list[Conversation] = []
        for file in files:
            for number, row in read_rows(file):
                if 0 <= max_samples <= len(self._conversations):
                    break
                if isinstance(row, Exception):
                    raise row
                self._conversations.append(read_row(row, format, number))

    def __len__(self) -> int:
        return len(self._conversations)

    def __getitem__(self, index: int) -> dict[str, Any]:
        import torch

        conversation = self._conversations[index]
        row = self._masker.mask(conversation)
        ids, labels = list(row["input_ids"]), list(row["labels"])
        weights = [0.0 if label == IGNORE_INDEX else 1.0 for label in labels]
        if row.loss_weights is not None:
            weights = [float(w) for w in row.loss_weights]
        if self._max_length is not None and len(ids) > self._max_length:
            if self._truncation == "error":
                raise RowError(
                    f"row {index} has {len(ids)} tokens and `max_length` is {self._max_length}",
                    help="raise `data.max_length`, or set `data.truncation: right`",
                )
            kept = slice(None, self._max_length) if self._truncation == "right" else slice(-self._max_length, None)
            ids, weights = ids[kept], weights[kept]
            weights[0] = 0.0
        return {
            "input_ids": torch.tensor(ids, dtype=torch.int64),
            "attention_mask": torch.ones(len(ids), dtype=torch.int64),
            "position_ids": torch.arange(len(ids), dtype=torch.int64),
            "loss_mask": torch.tensor(weights, dtype=torch.float32),
        }
