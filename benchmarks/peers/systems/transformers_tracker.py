"""transformers: the tracker behind `return_assistant_tokens_mask`, on tagged templates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from benchmarks.peers.cases import Case, gemma_like
from benchmarks.peers.chats import Row, rows_of
from benchmarks.peers.systems.trl_preparation import KINDS, TAGGED_BREAK
from benchmarks.peers.trial import Masked, Trial, each

RELEASES = ("transformers", "trl")
CASES = (
    Case(name="ChatML", vocabulary="qwen", source="trl/qwen2_5_training"),
    Case(name="Qwen3", vocabulary="qwen", source="trl/qwen3_training"),
    Case(name="Llama 3", vocabulary="llama3", source="trl/llama3_training"),
    gemma_like("trl/gemma_training"),
)


def trials(count: int) -> Iterator[Trial]:
    """The one setting on every template."""
    for case in CASES:
        tokenizer = case.theirs()
        for policy in ("trl_assistant_only", *([TAGGED_BREAK] if case.name == "ChatML" else [])):
            yield Trial(
                system="transformers",
                setting="return_assistant_tokens_mask",
                case=case.name,
                policy=policy,
                tokenizer=case.ours(),
                rows=rows_of(count, KINDS[case.name]),
                theirs=each(lambda row, t=tokenizer: tracked(t, row)),
            )


def tracked(tokenizer: Any, row: Row) -> Masked:
    """One row through the tracker."""
    made = tokenizer.apply_chat_template(
        row["messages"], tools=row.get("tools"), return_dict=True, return_assistant_tokens_mask=True
    )
    return list(made["input_ids"]), [bool(flag) for flag in made["assistant_masks"]]


def timed(case: Case) -> tuple[str, str, dict[str, Callable[[Sequence[Row]], object]]]:
    """All rows in one call, as the tracker takes them."""
    tokenizer = CASES[0].theirs()

    def run(rows: Sequence[Row]) -> object:
        return tokenizer.apply_chat_template(
            [row["messages"] for row in rows], return_dict=True, return_assistant_tokens_mask=True
        )

    return "trl_assistant_only", CASES[0].template, {"transformers": run}
