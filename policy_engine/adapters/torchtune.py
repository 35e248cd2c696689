"""torchtune: a dataset that masks by a policy, and a model transform for own code.

    dataset:
      _component_: policy_engine.adapters.torchtune.policy_dataset
      source: json
      data_files: chats.jsonl
      policy: my.policy
      chat_tokenizer: path/to/model    # whose chat template is rendered
      packed: false

Files that are masked already (what `apply` writes) need no `policy` and no `chat_tokenizer`. torchtune has no per-token
weights, so rows that have some are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

import pyarrow.compute as compute

from policy_engine.adapters.documents import documents_of
from policy_engine.core.errors import ConfigError, DataError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.mask.masker import Masker
from policy_engine.proof.load_policy import load_policy

_PROBE: Final = "Hello, world! 12345 naïve\n\tdef f(x): return x"


@dataclass(frozen=True, kw_only=True)
class PolicyTransform:
    """A model transform for `torchtune.datasets.SFTDataset(model_transform=…)`.

    It turns a sample with `messages` into `tokens` and `mask`.

    Messages may be torchtune's `Message` objects or plain dicts. `tools` of the sample are passed on. torchtune's mask
    is inverted: True is a token that carries no loss. Raises ConfigError for a policy with weights.
    """

    masker: Masker

    def __post_init__(self) -> None:
        _refuse_weights(self.masker.program.is_weighted, "the policy has weights")

    def __call__(self, sample: Mapping[str, Any], inference: bool = False) -> dict[str, Any]:
        """The sample with `tokens` (ids) and `mask` (True: no loss), its other fields kept."""
        messages = [_plain(message) for message in sample["messages"]]
        row = self.masker(messages, tools=sample.get("tools"))
        kept = {key: value for key, value in sample.items() if key != "messages"}
        return {**kept, "tokens": list(row["input_ids"]), "mask": [label == IGNORE_INDEX for label in row["labels"]]}


def policy_dataset(
    tokenizer: Any,
    *,
    source: str,
    policy: str | None = None,
    chat_tokenizer: str | None = None,
    template: str | None = None,
    dataset: str | None = None,
    packed: bool = False,
    **load_dataset_kwargs: Any,
) -> Any:
    """Rows of `tokens` and `labels` for torchtune's collators.

    With `packed`, torchtune's `PackedDataset` of them.

    The recipe passes its own `tokenizer`. Its `max_seq_len` and `pad_id` are used, and it has to have the vocabulary of
    `chat_tokenizer`. `source` and further arguments go to `datasets.load_dataset` (`split` is `train` unless given).
    `template` is the path of a chat template, `dataset` that of a dataset file. Rows without trained tokens are left
    out.

    Raises ConfigError for weights in policy or data, for packed rows, for another vocabulary, and for rows longer than
    `max_seq_len`, which torchtune would not cut. Raises what `load_policy`, `Masker` and masking raise.
    """
    from datasets import load_dataset

    rows: Any = load_dataset(source, **{"split": "train", **load_dataset_kwargs})
    if "input_ids" not in rows.column_names:
        if policy is None or chat_tokenizer is None:
            raise ConfigError(
                "the dataset is not masked, and its configuration names no `policy` or no `chat_tokenizer`",
                help="add both, or give a file that `policy-engine apply` wrote",
            )
        masker = Masker(load_policy(policy), chat_tokenizer, template=template, dataset=dataset)
        # Before the rows are masked: ids of another vocabulary would train a model on noise, without any error.
        _check_vocabulary(tokenizer, masker.tokenizer.tokenizer)
        rows = rows.map(masker.batch, batched=True, remove_columns=rows.column_names)
    _check_columns(rows.column_names)
    most: int | None = getattr(tokenizer, "max_seq_len", None)
    if most is not None:
        _check_lengths(rows, most)
    made = _MaskedRows(rows)
    if not packed:
        return made
    if most is None:
        raise ConfigError("`packed` needs a length", help="set `tokenizer.max_seq_len`")
    packed_dataset: Any = import_module("torchtune.datasets").PackedDataset
    return packed_dataset(made, max_seq_len=most, padding_idx=tokenizer.pad_id)


class _MaskedRows:
    """Masked rows under the names that torchtune's collators read."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        # What somebody else made is checked as it is read: labels that are shifted or cut, padding.
        (document,) = documents_of(self._rows[index])
        return {"tokens": document.ids_T.tolist(), "labels": document.labels_T.tolist()}


def _check_columns(names: list[str]) -> None:
    if "labels" not in names:
        raise DataError("the rows have `input_ids` and no `labels`", help="give what `policy-engine apply` wrote")
    _refuse_weights("loss_weights" in names, "the rows have `loss_weights`")
    if "seq_lengths" in names or "position_ids" in names:
        raise ConfigError(
            "the rows are packed, and torchtune would let their documents see each other",
            help="apply the policy without `--pack`, and set `packed: true` here",
        )


def _refuse_weights(weighted: bool, said: str) -> None:
    if weighted:
        raise ConfigError(
            f"{said}, and torchtune has no weights per token",
            help="use a policy without weights, or a trainer that has them",
        )


def _check_lengths(rows: Any, most: int) -> None:
    number = 0
    # Lengths from Arrow's offsets: no list of ids is made.
    for batch in rows.with_format("arrow").iter(1000):
        for size in compute.list_value_length(batch["input_ids"]).to_pylist():
            if size > most:
                raise ConfigError(
                    f"row {number} has {size:,} tokens, and `max_seq_len` of the tokenizer is {most:,}",
                    help="raise it, or give a file made with `policy-engine apply --max-length`",
                )
            number += 1


def _check_vocabulary(tokenizer: Any, chat_tokenizer: Any) -> None:
    """Raises ConfigError if the two tokenizers cut the same text into other ids.

    Openings are left out: what a tokenizer puts before a text differs.
    """
    encode = getattr(tokenizer, "encode", None)
    if encode is None:
        return
    theirs = encode(_PROBE, add_bos=False, add_eos=False)[3:]
    ours = chat_tokenizer.encode(_PROBE, add_special_tokens=False)
    if ours[len(ours) - len(theirs) :] != theirs:
        raise ConfigError(
            "the recipe's tokenizer and `chat_tokenizer` cut the same text into other ids",
            help="name the tokenizer of the model that is trained in both places",
        )


def _plain(message: Any) -> dict[str, Any]:
    if isinstance(message, Mapping):
        return dict(message)
    content = message.content
    # torchtune wraps every text in a list of parts; templates for text take strings.
    if isinstance(content, list) and all(part.get("type") == "text" for part in content):
        content = "".join(part["content"] for part in content)
    return {"role": message.role, "content": content}
