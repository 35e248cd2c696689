"""Unsloth: `train_on_responses_only` of unsloth_zoo, on ids of the chat template.

The function is in `unsloth_zoo.dataset_utils`. unsloth_zoo wants `unsloth` installed and sets up a device, unless its
own switch says not to; the switch replaces triton and bitsandbytes by stubs, and nothing that masks.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.cases import CHATML_CASE, GEMMA, LLAMA3, QWEN3, Case
from benchmarks.peers.chats import Kind, Row, rows_of
from benchmarks.peers.datasets import Planted, save
from benchmarks.peers.trial import Masked, Trial, each, trained_by

RELEASES = ("unsloth_zoo", "transformers")
KINDS: dict[str, tuple[Kind, ...]] = {
    "ChatML": ("plain", "system"),
    "Qwen3": ("plain", "system", "reasoning", "think", "tools"),
    "Llama 3": ("plain", "system"),
    "Gemma": ("plain", "system"),
}
MARKERS = {
    "ChatML": ("<|im_start|>user\n", "<|im_start|>assistant\n"),
    "Qwen3": ("<|im_start|>user\n", "<|im_start|>assistant\n"),
    "Llama 3": (
        "<|start_header_id|>user<|end_header_id|>\n\n",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "Gemma": ("<start_of_turn>user\n", "<start_of_turn>model\n"),
}
SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "markers given": ({}, "unsloth"),
    "markers found": ({"instruction_part": None, "response_part": None}, "unsloth"),
    "last_response_only": ({"last_response_only": True}, "unsloth_last"),
    "mask_out_tokens": (
        {"mask_out_tokens": ["</think>"]},
        "use unsloth\nmask /<\\/think>/ in assistant",
    ),
}


def trials(count: int) -> Iterator[Trial]:
    """Every setting on every template."""
    for case in (CHATML_CASE, QWEN3, LLAMA3, GEMMA):
        for setting, (arguments, policy) in SETTINGS.items():
            if setting == "mask_out_tokens" and case.name != "Qwen3":
                continue
            tokenizer = case.theirs()
            function = masking(case, tokenizer, **arguments)
            yield Trial(
                system="Unsloth",
                setting=setting,
                case=case.name,
                policy=with_break(policy) if case is GEMMA else policy,
                tokenizer=case.ours(),
                rows=rows_of(count, KINDS[case.name]),
                theirs=each(lambda row, t=tokenizer, f=function: masked(t, f, row)),
            )


def with_break(policy: str) -> str:
    """The preset, and the line break behind the end marker where the marker is not the eos.

    The scan takes it along.
    """
    return f"use {policy}\ntrain separator of {'last ' if policy == 'unsloth_last' else ''}assistant"


def masking(case: Case, tokenizer: Any, **arguments: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The function that masks batches of ids."""
    os.environ["UNSLOTH_ZOO_DISABLE_GPU_INIT"] = "1"
    with contextlib.redirect_stdout(io.StringIO()):  # it says which markers it found
        from unsloth_zoo.dataset_utils import train_on_responses_only

        instruction, response = MARKERS[case.name]
        given = {"instruction_part": instruction, "response_part": response, **arguments}
        function: Callable[[dict[str, Any]], dict[str, Any]] = train_on_responses_only(
            None, tokenizer=tokenizer, return_function=True, **given
        )
    return function


def masked(tokenizer: Any, function: Callable[[dict[str, Any]], dict[str, Any]], row: Row) -> Masked:
    """One row: ids of the template, then the scan."""
    ids = tokenizer.apply_chat_template(row["messages"], tools=row.get("tools"), return_dict=True)["input_ids"]
    return list(ids), trained_by(function({"input_ids": [list(ids)]})["labels"][0])


PLANTED = (
    Planted(name="clean-chatml", case=CHATML_CASE, policy="unsloth", fault=None, why="markers given"),
    Planted(name="clean-llama3", case=LLAMA3, policy="unsloth", fault=None, why="markers given"),
    Planted(
        name="all-masked", case=CHATML_CASE, policy="unsloth", fault="all-masked",
        why="markers of Llama 3, on ChatML (unsloth #2900)",
    ),
    Planted(
        name="user-trained", case=LLAMA3, policy="unsloth", fault="user-trained",
        why="instruction and response marker changed round",
    ),
    Planted(
        name="user-quotes", case=CHATML_CASE, policy="unsloth", fault="user-trained", kind="quoted",
        why="a user quotes the response marker, and the scan trains what follows",
    ),
    Planted(
        name="last-answer-only", case=LLAMA3, policy="unsloth", fault="last-answer-only", why="`last_response_only`",
    ),
)  # fmt: skip


def write(planted: Planted, rows: list[Row], place: Path, spoil: Any) -> Any:
    """Ids of the template and the labels of the scan, as a `datasets` folder."""
    tokenizer = planted.case.theirs()
    arguments: dict[str, Any] = {}
    if planted.name == "all-masked":
        arguments = dict(zip(("instruction_part", "response_part"), MARKERS["Llama 3"], strict=True))
    if planted.name == "user-trained":
        arguments = dict(zip(("response_part", "instruction_part"), MARKERS["Llama 3"], strict=True))
    if planted.name == "last-answer-only":
        arguments = {"last_response_only": True}
    function = masking(planted.case, tokenizer, **arguments)
    ids = tokenizer.apply_chat_template([row["messages"] for row in rows], return_dict=True)["input_ids"]
    labels = function({"input_ids": ids})["labels"]
    # A dataset that was mapped keeps its columns: with the messages `audit` need not find them again.
    save(
        [
            {"input_ids": i, "labels": made, **({"messages": row["messages"]} if planted.kind == "quoted" else {})}
            for i, made, row in zip(ids, labels, rows, strict=True)
        ],
        place, spoil, tokenizer,
    )  # fmt: skip
    return tokenizer


def timed(case: Case) -> tuple[str, None, dict[str, Callable[[Sequence[Row]], object]]]:
    """All rows rendered and tokenized in one call, then scanned."""
    tokenizer = case.theirs()
    function = masking(case, tokenizer)

    def run(rows: Sequence[Row]) -> object:
        made = tokenizer.apply_chat_template([row["messages"] for row in rows], return_dict=True)
        return function({"input_ids": made["input_ids"]})

    return "unsloth", None, {"Unsloth": run}
