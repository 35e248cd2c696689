"""axolotl: a prompt strategy that masks by a policy.

In axolotl's config:

    datasets:
      - path: chats.jsonl
        ds_type: json
        type: policy_engine.adapters.axolotl
        policy: my.policy            # a file, or a shipped policy's name
        messages_field: messages     # optional

axolotl imports this module and calls `load`; rows then carry `input_ids`, `attention_mask` and `labels`, which it uses
as they are. It has no per-token weights, so a policy with weights is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policy_engine.core.errors import ConfigError
from policy_engine.mask.masker import Masker
from policy_engine.proof.load import load_policy


class PolicyStrategy:
    """What axolotl calls a `DatasetWrappingStrategy`: it turns a dataset of conversations into one of tokens."""

    def __init__(self, masker: Masker) -> None:
        self.masker = masker

    def wrap_dataset(
        self,
        dataset: Any,
        process_count: int | None = None,
        keep_in_memory: bool | None = False,
        **unused: Any,
    ) -> Any:
        """The dataset with the masked columns and no others."""
        columns = list(dataset.features) if getattr(dataset, "features", None) else None
        options: dict[str, Any] = {"batched": True, "remove_columns": columns}
        if type(dataset).__name__ != "IterableDataset":
            options |= {"num_proc": process_count, "keep_in_memory": keep_in_memory, "desc": "Masking by policy"}
        return dataset.map(self.masker.batch, **options)


def load(tokenizer: Any, cfg: Any, ds_cfg: Mapping[str, Any] | None = None, processor: Any = None) -> PolicyStrategy:
    """The strategy for one entry of axolotl's `datasets`.

    Raises ConfigError if the entry names no policy or the policy has weights, and what loading a policy raises: one
    whose guard some conversation breaks does not load.
    """
    given = dict(ds_cfg or {})
    policy = given.get("policy")
    if not policy:
        raise ConfigError(
            "this dataset entry names no policy",
            help="add `policy: my.policy` beside its `type`, or a shipped policy's name",
        )
    program = load_policy(policy)
    if program.is_weighted:
        raise ConfigError(
            f"`{policy}` has weights, and axolotl has no per-token weights",
            help="leave the weights out, or train with `weighted_trainer`",
        )
    return PolicyStrategy(Masker(program, tokenizer))
