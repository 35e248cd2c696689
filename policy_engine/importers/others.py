"""LLaMA-Factory, tinker and OpenAI settings as policies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from policy_engine.core.errors import ConfigError, DataError, PolicyEngineError
from policy_engine.data.files.readers import read_rows
from policy_engine.importers.imported import (
    Imported,
    cannot,
    note_of_others,
    read_config,
    refuse_slips,
    refuse_unknown,
    warning_of_others,
)
from policy_engine.importers.known_keys import LLAMAFACTORY
from policy_engine.importers.other_kinds import DATASET_KEYS, refuse_other_kind

CARRIED: Final = {
    "train_on_prompt", "mask_history", "enable_thinking", "template", "cutoff_len", "dataset", "dataset_dir",
    "model_name_or_path", "stage",
}  # fmt: skip
"""Settings of LLaMA-Factory that became rules, lines of the dataset file, or notes."""
_ODD: Final = (
    "LLaMA-Factory drops rows whose messages do not alternate between questions and answers, or do not end with an "
    "answer, as those that end with a user's message. `apply` keeps them: take them out of the data for the same rows."
)
_OPENAI_ROW: Final = {"messages", "tools", "parallel_tool_calls", "functions"}
_OPENAI_MESSAGE: Final = {
    "role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call", "refusal", "audio",
}  # fmt: skip
_TINKER: Final = {
    "last_assistant_message": "tinker_last_message",
    "last_assistant_turn": "tinker_last_turn",
    "all_assistant_messages": "tinker_all_assistant",
    "all_messages": "tinker_all_messages",
    "all_tokens": "tinker_all_tokens",
    "all_user_and_system_messages": "tinker_user_and_system",
    "customized": "tinker_customized",
}


def from_llamafactory(path: Path) -> list[Imported]:
    """LLaMA-Factory's training YAML, and `dataset_info.json` of its `dataset_dir` or beside it."""
    config = read_config(path)
    refuse_other_kind(config, "llamafactory", path)
    refuse_slips(config, CARRIED, str(path))
    on_prompt, history = config.get("train_on_prompt"), config.get("mask_history")
    # As LLaMA-Factory itself refuses it.
    if on_prompt and history:
        raise ConfigError(f"{path}: `train_on_prompt` and `mask_history` exclude each other", help="keep one of them")
    stage = config.get("stage", "sft")
    if stage != "sft":
        raise cannot(
            "stage", str(path), f"`{stage}` is no supervised fine-tuning", "give the configuration of `stage: sft`"
        )
    # `true` unless it says otherwise: thinking that a reasoning template adds empty is trained.
    thinking = config.get("enable_thinking", True)
    notes = []
    if on_prompt:
        rules = ["use llamafactory_prompt"]
    elif history:
        rules = ["use llamafactory_mask_history", *([] if thinking else ["mask empty_reasoning"])]
    else:
        rules = ["use llamafactory" if thinking else "use llamafactory_no_thinking"]
    if thinking is False:
        notes.append(
            "`enable_thinking: false` takes thinking out of the data, which a policy never does: leave it out."
        )
    if config.get("template"):
        notes.append(
            f"`template: {config['template']}` is LLaMA-Factory's own: here it is the tokenizer's chat template."
        )
    if config.get("cutoff_len"):
        notes.append(_of_cutoff(config["cutoff_len"], keeps_end=bool(history)))
    notes.append(_ODD)
    notes += note_of_others(config, CARRIED, LLAMAFACTORY)
    warnings = warning_of_others(config, CARRIED, LLAMAFACTORY, str(path), "LLaMA-Factory 0.9.5")
    wanted = config.get("dataset")
    names = (
        wanted if isinstance(wanted, list) else [part.strip() for part in str(wanted or "").split(",") if part.strip()]
    )
    info = _dataset_info(path, config) if names else {}
    made = []
    for entry in names or [path.stem]:
        dataset = _llamafactory_dataset(info, entry, path) if names else {}
        if config.get("model_name_or_path"):
            dataset["tokenizer"] = config["model_name_or_path"]
        source = f"LLaMA-Factory, {path.name}, dataset `{entry}`"
        made.append(
            Imported(name=str(entry), source=source, rules=rules, dataset=dataset, notes=notes, warnings=warnings)
        )
    return made


def _of_cutoff(length: object, *, keeps_end: bool) -> str:
    """The note of `cutoff_len`, which counts pairs of a question and its answer.

    With `mask_history` LLaMA-Factory takes the last pair first, and else the first.
    """
    keep, place, beside = ("keep_end", "last", "before") if keeps_end else ("keep_start", "first", "behind")
    note = (
        f"`cutoff_len`: apply with --max-length {length} --truncate {keep}. LLaMA-Factory keeps the {place} pairs of "
        f"question and answer that fit, and of the pair {beside} them the beginning of its question and of its answer; "
        f"`apply` keeps the {place} {length} tokens."
    )
    if keeps_end:
        note += " A last pair that is longer than that loses its end there, and its beginning here."
    return note


def _dataset_info(path: Path, config: Mapping[str, Any]) -> dict[str, Any]:
    folder = Path(str(config.get("dataset_dir", path.parent)))
    # LLaMA-Factory takes the folder from where it is run, which is seldom where the import is.
    for place in (folder, path.parent / folder, path.parent):
        if (place / "dataset_info.json").is_file():
            return read_config(place / "dataset_info.json")
    raise DataError(f"{path} names datasets, and no `dataset_info.json` is in `{folder}`", help="set `dataset_dir`")


def _llamafactory_dataset(info: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    if name not in info:
        raise ConfigError(
            f"{path}: `dataset_info.json` has no dataset `{name}`", help=f"it has {', '.join(sorted(info))}"
        )
    entry = info[name]
    # Keys of an entry of `dataset_info.json`: a misspelled one is refused, and not passed over.
    refuse_unknown(entry, DATASET_KEYS, f"dataset `{name}`")
    if entry.get("ranking"):
        raise cannot("ranking", f"dataset `{name}`", "it is preference data", "only SFT data has one mask")
    columns, tags = dict(entry.get("columns") or {}), dict(entry.get("tags") or {})
    # LLaMA-Factory's own default.
    if entry.get("formatting", "alpaca") == "alpaca":
        ours = {
            "prompt": "instruction",
            "query": "input",
            "response": "output",
            "history": "history",
            "system": "system",
        }
        refuse_unknown(columns, {*ours, "tools", "images", "videos", "audios"}, f"`columns` of `{name}`")
        messages = {ours[key]: value for key, value in columns.items() if key in ours}
        return {"messages": messages} if messages else {}
    refuse_unknown(columns, {"messages", "system", "tools", "images", "videos", "audios"}, f"`columns` of `{name}`")
    names = {"role_tag", "content_tag", "user_tag", "assistant_tag", "observation_tag", "function_tag", "system_tag"}
    refuse_unknown(tags, names, f"`tags` of `{name}`")
    messages = {
        "field": columns.get("messages", "conversations"),
        "role": tags.get("role_tag", "from"),
        "content": tags.get("content_tag", "value"),
        "roles": {
            tags.get("user_tag", "human"): "user",
            tags.get("assistant_tag", "gpt"): "assistant",
            tags.get("observation_tag", "observation"): "tool",
            tags.get("function_tag", "function_call"): "function_call",
            tags.get("system_tag", "system"): "system",
        },
    }
    messages |= {key: columns[key] for key in ("system", "tools") if key in columns}
    return {"messages": messages}


def from_tinker(name: str) -> list[Imported]:
    """A member of tinker's `TrainOnWhat`, by name or value.

    >>> from_tinker("TrainOnWhat.ALL_TOKENS")[0].rules
    ['use tinker_all_tokens']
    """
    # `TrainOnWhat.ALL_TOKENS` as in code, or `all_tokens`, its value.
    key = name.rsplit(".", 1)[-1].lower()
    refuse_unknown({key: None}, _TINKER, "TrainOnWhat")
    return [Imported(name=key, source=f"tinker, TrainOnWhat.{key.upper()}", rules=[f"use {_TINKER[key]}"])]


def from_openai(path: Path) -> list[Imported]:
    """A JSONL file in OpenAI's fine-tuning format.

    Rows have `messages`, perhaps `tools`; an answer may have a `weight` of 0 or 1.

    Every row is read. Raises DataError for one that cannot be, ConfigError for one with another key or another weight.
    """
    rows = read_rows(path)
    # Every row: one weight of 0.5 in the last of them would otherwise be read as 1.
    for number, row in rows:
        where = str(rows.where(number))
        if isinstance(row, PolicyEngineError):
            raise row.at(rows.where(number))
        if not isinstance(row, Mapping) or not isinstance(row.get("messages"), list):
            raise DataError(f"{where}: the row has no `messages`", help="give the file made for the API")
        refuse_unknown(row, _OPENAI_ROW, where)
        for message in row["messages"]:
            if not isinstance(message, Mapping):
                raise DataError(f"{where}: a message is no object", help="give the file made for the API")
            refuse_unknown(message, _OPENAI_MESSAGE, f"{where}: a message")
            if message.get("weight") not in (None, 0, 1):
                raise cannot("weight", where, f"it is {message['weight']!r}, and the API takes 0 and 1",
                             "for others, `scale assistant by message.weight` in a policy of your own")  # fmt: skip
    return [
        Imported(
            name=path.stem,
            source=f"OpenAI, {path.name}",
            rules=["use openai"],
            dataset={"messages": {"field": "messages"}},
        )
    ]
