"""axolotl: its `ChatTemplateStrategy`, made by its own loader from a configuration.

The policy for each configuration is the shipped one where there is one, else what `policy-engine import axolotl` makes.
"""

from __future__ import annotations

import copy
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.peers.cases import CHATML_CASE, GEMMA, LLAMA3, QWEN3, QWEN_VL, Case
from benchmarks.peers.chats import Kind, Row, rows_of
from benchmarks.peers.datasets import Planted
from benchmarks.peers.trial import Masked, Trial, each, trained_by
from policy_engine.importers.axolotl import from_axolotl
from policy_engine.testing.choices import RandomChoices

RELEASES = ("axolotl", "transformers")
KINDS: dict[str, tuple[Kind, ...]] = {
    "ChatML": ("plain", "system"),
    "Qwen3": ("plain", "system", "reasoning", "think", "tools"),
    "Llama 3": ("plain", "system"),
    "Gemma": ("plain", "system"),
}
PARTS = "train and weight of content parts"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """A configuration: `top` are its own keys, `entry` those of the dataset.

    `marks` puts fields into rows.
    """

    policy: str | None = None
    top: Mapping[str, Any] = field(default_factory=dict)
    entry: Mapping[str, Any] = field(default_factory=dict)
    marks: Callable[[Row, int], Row] | None = None
    cases: tuple[str, ...] = tuple(KINDS)
    eos: str | None = None


FLAGS = (True, False, 0, 1, None)


def _flags(row: Row, seed: int) -> Row:
    """`train` on some messages, of any role, by every value that data has for it."""
    choices = RandomChoices(f"flags-{seed}")
    messages = [{**m, "train": choices.pick(FLAGS)} if choices.chance(50) else m for m in row["messages"]]
    return {**row, "messages": messages}


def _details(row: Row, seed: int, *, anywhere: bool = False) -> Row:
    """Puts `detail` on some messages: the text in up to three pieces, each trained or not.

    The list may be empty.

    Cut before white space, in texts without any around them: where tokens end, in the content as in the row. With
    `anywhere` texts and cuts are as they come.
    """
    choices = RandomChoices(f"details-{seed}")
    messages = []
    for message in row["messages"]:
        text = str(message.get("content") or "")
        text = text if anywhere else text.strip()
        if text and choices.chance(60):
            cuts = [choices.integer(1, len(text) - 1)] if anywhere and len(text) > 1 else _cuts(text, choices)
            entries = [
                {"begin_offset": start, "end_offset": end - 1, "train": choices.chance(50)}
                for start, end in zip([0, *cuts], [*cuts, len(text)])
            ]
            message = {**message, "content": text, "detail": choices.pick((entries, entries, entries, [], None))}
        messages.append(message)
    return {**row, "messages": messages}


def _anywhere(row: Row, seed: int) -> Row:
    return _details(row, seed, anywhere=True)


def _both(row: Row, seed: int) -> Row:
    return _flags(_details(row, seed), seed)


def _parts(row: Row, seed: int) -> Row:
    """Some messages in up to three parts, most with a flag.

    They are cut before white space, as axolotl asks, and have no white space around the whole, which the template would
    trim.
    """
    choices = RandomChoices(f"parts-{seed}")
    messages = []
    for message in row["messages"]:
        text = str(message.get("content") or "").strip()
        if text and choices.chance(70):
            flags = [{"train": True}, {"train": False}, {"weight": 1}, {"weight": 0}, {}]
            parts = [{"type": "text", "text": piece, **choices.pick(flags)} for piece in _pieces(text, choices)]
            message = {**message, "content": parts}
        messages.append(message)
    return {**row, "messages": messages}


def _pieces(text: str, choices: RandomChoices) -> list[str]:
    cuts = _cuts(text, choices)
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)])]


def _cuts(text: str, choices: RandomChoices) -> list[int]:
    places = [at for at in range(1, len(text)) if text[at] == " " and text[at - 1] != " "]
    return sorted({choices.pick(places) for _ in range(choices.integer(1, 2))}) if places else []


_FLAG, _DETAIL = {"message_field_training": "train"}, {"message_field_training_detail": "detail"}
SAID: dict[str, Setting] = {
    f"{name}{f', train_on_eos: {ends}' if ends else ''}": Setting(
        entry={**fields, **({"train_on_eos": ends} if ends else {})}, marks=marks
    )
    for name, fields, marks in (
        ("message_field_training", _FLAG, _flags),
        ("message_field_training_detail", _DETAIL, _details),
        ("message_field_training and _detail", {**_FLAG, **_DETAIL}, _both),
    )
    for ends in ("", "all", "last", "none")
}
"""Fields that messages have, under every rule for ends."""
SETTINGS: dict[str, Setting] = {
    "defaults": Setting(policy="axolotl"),
    "train_on_eos: turn": Setting(policy="axolotl", entry={"train_on_eos": "turn"}),
    "train_on_eos: all": Setting(policy="axolotl_eos_all", entry={"train_on_eos": "all"}),
    "train_on_eos: last": Setting(policy="axolotl_eos_last", entry={"train_on_eos": "last"}),
    "train_on_eos: none": Setting(policy="axolotl_eos_none", entry={"train_on_eos": "none"}),
    "train_on_inputs": Setting(policy="axolotl_inputs", top={"train_on_inputs": True}),
    "roles_to_train: user, tool": Setting(entry={"roles_to_train": ["user", "tool"]}),
    "roles_to_train: system, assistant": Setting(entry={"roles_to_train": ["system", "assistant"]}),
    "roles_to_train: []": Setting(entry={"roles_to_train": []}),
    "roles_to_train: [], train_on_eos: all": Setting(entry={"roles_to_train": [], "train_on_eos": "all"}),
    "roles_to_train: [], message_field_training": Setting(entry={"roles_to_train": [], **_FLAG}, marks=_flags),
    **SAID,
    "eot_tokens": Setting(policy="axolotl", top={"eot_tokens": ["<end_of_turn>"]}, cases=("Gemma",)),
    "train_on_eot: turn, train_on_eos: none": Setting(
        top={"eot_tokens": ["<|eot_id|>"]}, entry={"train_on_eot": "turn", "train_on_eos": "none"}, cases=("Llama 3",),
        eos="<|end_of_text|>",
    ),
    "train_on_eot: all, train_on_eos: last": Setting(
        top={"eot_tokens": ["<|eot_id|>"]}, entry={"train_on_eot": "all", "train_on_eos": "last"}, cases=("Llama 3",),
        eos="<|end_of_text|>",
    ),
    "train_on_eot: last, train_on_eos: all, message_field_training": Setting(
        top={"eot_tokens": ["<|eot_id|>"]}, entry={"train_on_eot": "last", "train_on_eos": "all", **_FLAG},
        marks=_flags, cases=("Llama 3",), eos="<|end_of_text|>",
    ),
    "message_field_training_detail, cut anywhere": Setting(entry=_DETAIL, marks=_anywhere),
    PARTS: Setting(marks=_parts, cases=("Qwen2.5-VL",)),
    "split_thinking": Setting(policy="axolotl", entry={"split_thinking": True}, cases=("Qwen3",)),
}  # fmt: skip


def trials(count: int) -> Iterator[Trial]:
    """Every setting on every template it is about."""
    for case in (CHATML_CASE, QWEN3, LLAMA3, GEMMA, QWEN_VL):
        for name, setting in SETTINGS.items():
            if case.name in setting.cases:
                yield trial(case, name, setting, count)


def trial(case: Case, name: str, setting: Setting, count: int) -> Trial:
    """One setting on one template."""
    kinds: tuple[Kind, ...] = ("think",) if name == "split_thinking" else KINDS.get(case.name, ("plain", "system"))
    rows = rows_of(count, kinds)
    if setting.marks is not None:
        rows = [setting.marks(row, seed) for seed, row in enumerate(rows)]
    tokenizer = case.theirs()
    if setting.eos is not None:
        tokenizer.eos_token = setting.eos
    loaded = strategy(tokenizer, setting)
    return Trial(
        system="axolotl",
        setting=name,
        case=case.name,
        policy=setting.policy or imported(setting, rows),
        tokenizer=case.ours(),
        rows=rows,
        theirs=each(lambda row: masked(loaded, row)),
        mine=(lambda row: rewritten(loaded, row)) if name == "split_thinking" else None,
    )


def strategy(tokenizer: Any, setting: Setting) -> Any:
    """The policy that axolotl's loader makes of a configuration."""
    from axolotl.prompt_strategies.chat_template import load
    from axolotl.utils.dict import DictDefault

    logging.disable(logging.WARNING)
    config = DictDefault({"chat_template": "tokenizer_default", "sequence_len": 1 << 20, **setting.top})
    return load(tokenizer, config, DictDefault({"type": "chat_template", **setting.entry}))


def masked(loaded: Any, row: Row) -> Masked:
    """One row through the strategy. It changes what it is given, so that is a copy."""
    given = {key: copy.deepcopy(row[key]) for key in ("messages", "tools") if key in row}
    made = loaded.tokenize_prompt(given)
    return list(made["input_ids"]), trained_by(made["labels"])


def rewritten(loaded: Any, row: Row) -> Row:
    """The messages that the strategy renders."""
    return {**row, "messages": loaded.get_conversation_thread({"messages": copy.deepcopy(row["messages"])})}


def imported(setting: Setting, rows: Sequence[Row]) -> str:
    """The policy that our importer makes of the configuration and the rows."""
    config = {**setting.top, "datasets": [{"path": "rows.jsonl", "type": "chat_template", **setting.entry}]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "config.yml")
        Path(folder, "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        return from_axolotl(path)[0].policy_text


PLANTED = (
    Planted(name="clean-chatml", case=CHATML_CASE, policy="axolotl", fault=None, why="nothing set"),
    Planted(name="clean-llama3", case=LLAMA3, policy="axolotl", fault=None, why="nothing set"),
    Planted(name="clean-qwen3-tools", case=QWEN3, policy="axolotl", fault=None, why="nothing set", kind="tools"),
    Planted(
        name="last-answer-only", case=CHATML_CASE, policy="axolotl", fault="last-answer-only",
        why="`roles_to_train: []` and `train_on_eos: null` select the old path",
    ),
    Planted(
        name="no-ends", case=GEMMA, policy="axolotl", fault="no-ends",
        why="Gemma's turns end with another token than the eos, and no `eot_tokens` name it (axolotl #3754)",
    ),
    Planted(
        name="user-trained", case=CHATML_CASE, policy="axolotl", fault="user-trained",
        why="`roles_to_train: [user, assistant]`",
    ),
    Planted(
        name="system-trained", case=LLAMA3, policy="axolotl", fault="system-trained",
        why="`roles_to_train: [system, assistant]`",
    ),
    Planted(
        name="tool-trained", case=QWEN3, policy="axolotl", fault="tool-trained", kind="tools",
        why="`roles_to_train: [assistant, tool]`",
    ),
)  # fmt: skip
_PLANTED = {
    "last-answer-only": Setting(entry={"roles_to_train": [], "train_on_eos": None}),
    "user-trained": Setting(entry={"roles_to_train": ["user", "assistant"]}),
    "system-trained": Setting(entry={"roles_to_train": ["system", "assistant"]}),
    "tool-trained": Setting(entry={"roles_to_train": ["assistant", "tool"]}),
}


def write(planted: Planted, rows: list[Row], place: Path, spoil: Any) -> Any:
    """axolotl's own dataset of its own strategy, with the columns of `last_run_prepared`."""
    from axolotl.datasets import TokenizedPromptDataset
    from datasets import Dataset

    tokenizer = planted.case.theirs()
    loaded = strategy(tokenizer, _PLANTED.get(planted.name, Setting()))
    # Mixed types are kept as JSON: Arrow's own inference would give every call the arguments of all others, as null.
    given = Dataset.from_list([{"messages": row["messages"]} for row in rows], on_mixed_types="use_json")
    made = TokenizedPromptDataset(loaded, given, process_count=None)
    made.save_to_disk(str(place))
    return tokenizer


def timed(case: Case) -> tuple[str, None, dict[str, Callable[[Sequence[Row]], object]]]:
    """The strategy on rows one by one, as axolotl's dataset calls it."""
    loaded = strategy(case.theirs(), Setting())
    return "axolotl", None, {"axolotl": lambda rows: [masked(loaded, row) for row in rows]}
