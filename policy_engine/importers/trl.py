"""TRL's `SFTConfig` as a policy. Semantics of TRL 1.16."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from policy_engine.core.errors import DataError, PolicyEngineError
from policy_engine.data.files.readers import read_rows
from policy_engine.importers.imported import (
    Imported,
    cannot,
    note_of_others,
    read_config,
    refuse_slips,
    warning_of_others,
)
from policy_engine.importers.known_keys import TRL
from policy_engine.importers.other_kinds import refuse_other_kind

MASKS: Final = {
    "assistant_only_loss", "completion_only_loss", "max_length", "truncation_mode", "packing", "dataset_kwargs",
    "chat_template_path",
}  # fmt: skip
"""Settings that became rules or notes."""
_OTHERS: Final = {
    "DPO": "discopop_tau f_alpha_divergence_coef f_divergence_type label_smoothing ld_alpha loss_weights use_weighting",
    "KTO": "desirable_weight undesirable_weight",
    "DPO or KTO": "precompute_ref_batch_size precompute_ref_log_probs",
    "reward": "center_rewards_coefficient",
    "RLOO": "normalize_advantages reward_clip_range",
    "GRPO": "cast_lm_head_to_fp32 delta entropy_coef entropy_coef_delta entropy_coef_max entropy_coef_min "
    "entropy_target importance_sampling_level log_completions_hub_repo max_tool_calling_iterations "
    "multi_objective_aggregation "
    "off_policy_mask_threshold sapo_temperature_neg sapo_temperature_pos scale_rewards top_entropy_quantile "
    "use_adaptive_entropy use_bias_correction_kl vespo_k_neg vespo_k_pos vespo_lambda_neg vespo_lambda_pos "
    "vllm_importance_sampling_cap vllm_importance_sampling_clip_max vllm_importance_sampling_clip_min "
    "vllm_importance_sampling_correction vllm_importance_sampling_mode",
    "GRPO or RLOO": "cache_implementation chat_template_kwargs ds3_gather_for_generation epsilon epsilon_high "
    "generation_batch_size generation_kwargs log_completions log_multimodal log_unique_prompts "
    "mask_truncated_completions max_completion_length min_p num_completions_to_print num_generations "
    "num_generations_eval num_iterations repetition_penalty reward_weights steps_per_generation temperature top_k "
    "top_p transformers_continuous_batching_config use_transformers_continuous_batching use_transformers_paged "
    "use_vllm vllm_enable_sleep_mode vllm_gpu_memory_utilization vllm_group_port vllm_max_model_length vllm_mode "
    "vllm_model_impl vllm_server_base_url vllm_server_host vllm_server_port vllm_server_timeout "
    "vllm_structured_outputs_regex vllm_tensor_parallel_size",
    "preference or reward": "beta disable_dropout ref_model_mixup_alpha ref_model_sync_steps sync_ref_model",
}
"""Settings of TRL's other trainers that `SFTConfig` does not have."""
OTHER_TRAINERS: Final = {key: trainer for trainer, keys in _OTHERS.items() for key in keys.split()}
_PAIR: Final = "has sample.prompt and has sample.completion"
_MOST: Final = 8
"""Messages of a completion that the policy tells from those of its prompt."""


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """The rows that a policy is written for, of either kind unless the data says more.

    `pairs` is True for rows of prompt and completion only, False for data without such a row. `most` is how many
    messages a completion has at most.
    """

    pairs: bool | None = None
    most: int = _MOST
    data: str = ""

    @classmethod
    def of(cls, data: str) -> _Rows:
        """The rows of a dataset, all of which are looked at. Raises what reading raises."""
        kinds: set[bool] = set()
        longest = 1
        rows = read_rows(data)
        for number, row in rows:
            if isinstance(row, PolicyEngineError):
                raise row.at(rows.where(number))
            # Null is as good as absent: files with columns, as Parquet, fill those of the other kind with it.
            is_pair = isinstance(row, Mapping) and None not in (row.get("prompt"), row.get("completion"))
            kinds.add(is_pair)
            completion = row["completion"] if is_pair else None
            longest = max(longest, len(completion) if isinstance(completion, list | tuple) else 1)
        if not kinds:
            raise DataError(f"`{data}` has no rows", help="leave out --data for a policy that fits any rows")
        pairs = kinds.pop() if len(kinds) == 1 else None
        return cls(pairs=pairs, most=min(longest, _MOST) if pairs else _MOST, data=data)

    @property
    def in_completion(self) -> str:
        """The condition that a turn is of the completion, counted from the end.

        >>> _Rows(most=1).in_completion
        'turn.from_end == 0'
        """
        return "turn.from_end == 0" + "".join(
            f"\n  or turn.from_end == {place} and has sample.completion[{place}]" for place in range(1, self.most)
        )

    @property
    def opens_completion(self) -> str:
        """The condition that a turn is the first of the completion."""
        if self.most == 1:
            return self.in_completion
        return "turn.from_end == 0 and not has sample.completion[1]" + "".join(
            f"\n  or turn.from_end == {at} and has sample.completion[{at}] and not has sample.completion[{at + 1}]"
            for at in range(1, self.most)
        )

    def where(self, condition: str) -> str:
        """A condition on turns of rows of prompt and completion."""
        return condition if self.pairs else f"{_PAIR} and ({condition})"


def from_trl(path: Path, data: str | None = None) -> list[Imported]:
    """TRL's `SFTConfig`, saved as YAML or JSON.

    Where the `data` is known, the policy has no rules for the other kind of rows.

    Raises ConfigError for keys of another trainer, and for those all but about masks; and what reading the data raises.
    """
    config = read_config(path)
    refuse_other_kind(config, "trl", path)
    # Before slips are looked for: `loss_weights` of DPO is no misspelling.
    found = [key for key in config if key in OTHER_TRAINERS]
    if found:
        raise cannot("`, `".join(found), str(path), f"of {OTHER_TRAINERS[found[0]]} training, not of `SFTConfig`",
                     "only supervised fine-tuning has one mask; give its configuration")  # fmt: skip
    refuse_slips(config, MASKS, str(path))
    rules, notes = _rules(config, _Rows() if data is None else _Rows.of(data))
    return [
        Imported(
            name=path.stem,
            source=f"TRL, {path.name}",
            rules=rules,
            notes=[*notes, *_left_behind(config)],
            warnings=warning_of_others(config, MASKS, TRL, str(path), "TRL 1.16"),
        )
    ]


def _rules(config: Mapping[str, Any], rows: _Rows) -> tuple[list[str], list[str]]:
    """Rules and notes of the two `…_only_loss` settings.

    If `completion_only_loss` is not set, it holds for prompts and completions; if it is set, it does nothing to other
    data.
    """
    only_answers, only_completion = config.get("assistant_only_loss"), config.get("completion_only_loss")
    rules = ["use trl_assistant_only"] if only_answers else ["train everything  # lint: ignore PE603"]
    # Set to false, it has no effect on any data.
    if only_completion is False:
        return rules, []
    said = "is not set" if only_completion is None else "is set"
    if rows.pairs is False:
        return rules, [
            f"`completion_only_loss` {said}, which does nothing to rows without `prompt` and `completion`, such as all "
            f"of {rows.data}."
        ]
    if only_answers:
        # Both settings at once: TRL multiplies the two masks.
        rules.append(f"mask assistant where {'' if rows.pairs else f'{_PAIR} and '}not ({rows.in_completion})")
    else:
        # What no rule matches is masked, so that rows of one kind need no rule for the prompt.
        rules = [] if rows.pairs else [*rules, f"mask everything where {_PAIR}"]
        rules += [
            f"train turn where {rows.where(rows.in_completion)}",
            f"mask header of assistant where {rows.where(rows.opens_completion)}  # the generation prompt",
            "on straddle train  # a token that is partly trained text is trained by TRL",
        ]
    other = "" if rows.pairs else "; other rows are trained as without the setting"
    only = f", as all of {rows.data} are," if rows.pairs else ""
    long = (
        f"Of a completion with more than {_MOST} messages, only the last {_MOST} are trained here: the policy counts "
        "messages from the end. "
        if rows.most == _MOST
        else ""
    )
    return rules, [
        f"`completion_only_loss` {said}: in rows with `prompt` and `completion`{only} only the completion is trained"
        f"{other}. {long}Where prompt and completion are texts, TRL uses no chat template, and its ids are others.",
        *_how_to_shorten(rows),
    ]


def _how_to_shorten(rows: _Rows) -> list[str]:
    if rows.pairs is not None:
        return []
    if rows.data:
        return [f"{rows.data} has rows of both kinds, so that every condition asks which."]
    return [
        "The conditions on `sample.prompt` and `sample.completion` tell rows of prompt and completion from rows of "
        "messages, and `turn.from_end` and `sample.completion[N]` the messages of a completion from its prompt's. "
        "`policy-engine import trl CONFIG --data DATA` looks at your rows, and writes what these need."
    ]


def _left_behind(config: Mapping[str, Any]) -> list[str]:
    notes = []
    if config.get("max_length"):
        cut = "keep_end" if config.get("truncation_mode") == "keep_end" else "keep_start"
        notes.append(f"`max_length`: apply with --max-length {config['max_length']} --truncate {cut}.")
    if config.get("packing"):
        notes.append("`packing`: leave it to TRL, or apply with --pack and set `padding_free=True`, `max_length=None`.")
    if config.get("chat_template_path"):
        notes.append(f"`chat_template_path: {config['chat_template_path']}`: give the same with --template.")
    if config.get("dataset_kwargs"):
        said = json.dumps(config["dataset_kwargs"], ensure_ascii=False, default=str)
        notes.append(
            f"`dataset_kwargs: {said}`: left to TRL. With `skip_prepare_dataset` it takes the data's own columns, and "
            "masks nothing itself."
        )
    return [*notes, *note_of_others(config, MASKS, TRL)]
