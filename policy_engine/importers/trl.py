"""TRL's `SFTConfig` as a policy. Semantics of TRL 1.16."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from policy_engine.importers.imported import (
    Imported,
    cannot,
    note_of_others,
    read_config,
    refuse_slips,
    warning_of_others,
)
from policy_engine.importers.known_keys import TRL

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
_IN_COMPLETION: Final = "turn.from_end == 0" + "".join(
    f"\n  or turn.from_end == {place} and has sample.completion[{place}]" for place in range(1, _MOST)
)
_OPENS_COMPLETION: Final = "turn.from_end == 0 and not has sample.completion[1]" + "".join(
    f"\n  or turn.from_end == {place} and has sample.completion[{place}] and not has sample.completion[{place + 1}]"
    for place in range(1, _MOST)
)


def from_trl(path: Path) -> list[Imported]:
    """TRL's `SFTConfig`, saved as YAML or JSON.

    Raises ConfigError for keys of another trainer, and for those all but about masks.
    """
    config = read_config(path)
    # Before slips are looked for: `loss_weights` of DPO is no misspelling.
    found = [key for key in config if key in OTHER_TRAINERS]
    if found:
        raise cannot("`, `".join(found), str(path), f"of {OTHER_TRAINERS[found[0]]} training, not of `SFTConfig`",
                     "only supervised fine-tuning has one mask; give its configuration")  # fmt: skip
    refuse_slips(config, MASKS, str(path))
    rules, notes = _rules(config)
    return [
        Imported(
            name=path.stem,
            source=f"TRL, {path.name}",
            rules=rules,
            notes=[*notes, *_left_behind(config)],
            warnings=warning_of_others(config, MASKS, TRL, str(path), "TRL 1.16"),
        )
    ]


def _rules(config: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Rules and notes of the two `…_only_loss` settings.

    If `completion_only_loss` is not set, it holds for prompts and completions; if it is set, it does nothing to other
    data.
    """
    only_answers, only_completion = config.get("assistant_only_loss"), config.get("completion_only_loss")
    rules = ["use trl_assistant_only"] if only_answers else ["train everything  # lint: ignore PE603"]
    # Set to false, it has no effect on any data.
    if only_completion is False:
        return rules, []
    if only_answers:
        # Both settings at once: TRL multiplies the two masks.
        rules.append(f"mask assistant where {_PAIR} and not ({_IN_COMPLETION})")
    else:
        rules += [
            f"mask everything where {_PAIR}",
            f"train turn where {_PAIR} and ({_IN_COMPLETION})",
            f"mask header of assistant where {_PAIR} and ({_OPENS_COMPLETION})  # the generation prompt",
            "on straddle train  # a token that is partly trained text is trained by TRL",
        ]
    said = "is not set" if only_completion is None else "is set"
    return rules, [
        f"`completion_only_loss` {said}: in rows with `prompt` and `completion` only the completion is trained; other "
        f"rows are trained as without the setting. Of a completion with more than {_MOST} messages, only the last "
        f"{_MOST} are trained here: the policy counts messages from the end. Where prompt and completion are texts, "
        "TRL uses no chat template, and its ids are others."
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
