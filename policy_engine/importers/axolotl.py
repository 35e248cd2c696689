"""axolotl's `datasets` of type `chat_template` as policies. Semantics of axolotl 0.19."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import ConfigError
from policy_engine.core.suggest import nearest
from policy_engine.importers.axolotl_parts import has_flags, note_of
from policy_engine.importers.axolotl_rules import NOTHING_TRAINED, role_names, rules_of, trained_roles
from policy_engine.importers.imported import (
    Imported,
    cannot,
    note_of_others,
    read_config,
    refuse_slips,
    refuse_unknown,
    warning_of_others,
)
from policy_engine.importers.known_keys import AXOLOTL
from policy_engine.importers.other_kinds import refuse_other_kind

_ENTRY: Final = {
    "path", "name", "type", "split", "shards", "shards_idx", "preprocess_shards", "data_files", "ds_type", "revision",
    "trust_remote_code", "conversation", "temporary_directory", "skip", "subset",
    "chat_template", "chat_template_jinja", "field_messages", "field_tools", "field_thinking", "field_system",
    "template_thinking_key", "message_property_mappings", "message_field_role", "message_field_content",
    "message_field_training", "message_field_training_detail", "roles", "roles_to_train", "train_on_eos",
    "train_on_eot", "split_thinking", "drop_system_message", "chat_template_kwargs",
}  # fmt: skip
CARRIED: Final = frozenset({
    "datasets", "type", "base_model", "train_on_inputs", "eot_tokens", "field_messages", "field_tools",
    "field_thinking", "field_system", "message_property_mappings", "message_field_role", "message_field_content",
    "message_field_training", "message_field_training_detail", "roles", "roles_to_train", "train_on_eos",
    "train_on_eot", "chat_template_kwargs",
})  # fmt: skip
"""Keys that became rules, or lines of the dataset file.

All others are named in the policy's comment.
"""
TOLD: Final = CARRIED | {"chat_template", "chat_template_jinja", "sequence_len", "excess_length_strategy", "rl"}
"""Keys that became rules, lines of the dataset file, or a note or an error of their own."""
_AT_TOP: Final = frozenset({"train_on_inputs", "eot_tokens", "datasets", "base_model", "type", "chat_template_kwargs"})

_TEMPLATES: Final = {
    "alpaca", "aya", "chatml", "cohere", "command_a", "command_a_rag", "command_a_tool_use", "deepseek_v2",
    "deepseek_v3", "exaone", "exaone4", "falcon_h1", "gemma", "gemma3", "gemma3n", "gemma4", "gemma4_unified", "jamba",
    "llama3", "llama3_2_vision", "llama4", "llava", "metharme", "mistral_v1", "mistral_v2v3", "mistral_v3_tekken",
    "mistral_v7_tekken", "nemotron_h", "phi_3", "phi_35", "phi_4", "pixtral", "qwen2_vl", "qwen3", "qwen3_5", "qwen_25",
}  # fmt: skip
_INSTEAD: Final = (
    "only `chat_template` says its mask in settings. To train answers under the model's chat template, no import is "
    "needed: `policy-engine apply DATA -p axolotl -t TOKENIZER -o OUT` reads Alpaca and ShareGPT rows as they are"
)
_FALLBACK: Final = "tokenizer_default_fallback_"
_LENGTH: Final = 512
"""axolotl's `sequence_len` if it is not set."""
_THINKING: Final = (
    "Where the template writes an empty `<think>` into a last answer without thinking (Qwen3's and its like), axolotl "
    "masks the `<think>` that opens a last answer's own thinking, with its line break; here both are trained."
)


def from_axolotl(path: Path) -> list[Imported]:
    """One policy and dataset file for each entry of `datasets`.

    Raises ConfigError for entries of other types, settings without meaning, and keys nobody knows.
    """
    config = read_config(path)
    refuse_other_kind(config, "axolotl", path)
    entries = config.get("datasets")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path} has no `datasets`", help="give axolotl's own configuration file")
    _refuse_misplaced(config, path)
    return [_entry(config, entry, number, len(entries), path) for number, entry in enumerate(entries)]


def _refuse_misplaced(config: Mapping[str, Any], path: Path) -> None:
    """Keys about masks that axolotl does not read there, or that are misspelled.

    Without an error, axolotl would train something else in silence.
    """
    if config.get("rl"):
        raise cannot("rl", str(path), "masks are those of supervised fine-tuning", "leave it out to import the rest")
    misplaced = [key for key in config if key in CARRIED - _AT_TOP]
    if misplaced:
        raise cannot(
            "`, `".join(misplaced), str(path), "axolotl reads that in an entry of `datasets` only", "move it there"
        )
    refuse_slips(config, CARRIED | {"chat_template", "chat_template_jinja", "sequence_len"}, str(path))


def _entry(config: Mapping[str, Any], entry: Any, number: int, count: int, path: Path) -> Imported:
    where = f"{path}: `datasets[{number}]`"
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} is no mapping", help="write its `path` and `type`")
    # axolotl lets a mapping be a type: a prompt that is written in place.
    kind = "a prompt of its own" if isinstance(entry.get("type"), dict) else entry.get("type")
    if kind != "chat_template":
        raise cannot("type", where, f"`{kind}` masks by code of its own", _INSTEAD)
    misplaced = [key for key in entry if key in (TOLD | AXOLOTL) - _ENTRY]
    if misplaced:
        raise cannot("`, `".join(misplaced), where, "axolotl reads that at the top of the file only", "move it there")
    refuse_unknown(entry, _ENTRY, where)
    flagged = has_flags(entry, path.parent)
    rules, notes = rules_of(config, entry, where, flagged=bool(flagged))
    warnings = [_trains_nothing(where)] if NOTHING_TRAINED in notes else []
    notes += note_of(flagged)
    # One policy for each entry: entries may differ in everything that is imported.
    stem = path.stem if count == 1 else f"{path.stem}-{number}"
    return Imported(
        name=stem,
        source=f"axolotl, {path.name}, dataset `{entry.get('path', number)}`",
        rules=rules,
        dataset=_dataset(config, entry),
        notes=[*notes, *_left_behind(config, entry)],
        warnings=[*warnings, *warning_of_others(config, TOLD, AXOLOTL, str(path), "axolotl 0.19")],
    )


def _trains_nothing(where: str) -> Diagnostic:
    return Diagnostic(
        code="PE254",
        severity="warning",
        message=f"{where} trains nothing: `roles_to_train` is empty",
        help="name the roles; for the last answer alone, as in the documentation of axolotl, `use last_assistant`",
    )


def _dataset(config: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    mapped = entry.get("message_property_mappings") or {}
    messages: dict[str, Any] = {"field": entry.get("field_messages", "messages")}
    # The older keys count where the newer mapping does not say it, as in axolotl.
    named = {
        "role": mapped.get("role", entry.get("message_field_role")),
        "content": mapped.get("content", entry.get("message_field_content")),
        "tools": entry.get("field_tools"),
        "system": entry.get("field_system"),
        "reasoning": entry.get("field_thinking"),
    }
    messages |= {name: given for name, given in named.items() if given}
    messages["roles"] = {s: t for s, t in role_names(entry).items() if s != t}
    found: dict[str, Any] = {"messages": messages}
    trained = trained_roles(entry)
    if trained != ["assistant"]:
        # The assistant's turns are what the model writes, also where another role is trained.
        found["trained_roles"] = sorted({*trained, "assistant"})
    if config.get("chat_template_kwargs"):
        found["template_kwargs"] = config["chat_template_kwargs"]
    if config.get("base_model"):
        found["tokenizer"] = config["base_model"]
    return found


def _of_template(name: str) -> str:
    if name == "tokenizer_default" or name.startswith(_FALLBACK):
        return "`chat_template`: the tokenizer's own, which is what is taken here without --template." + (
            f" (`{name}`: if it has no template, give that one of axolotl's.)" if name.startswith(_FALLBACK) else ""
        )
    if name in _TEMPLATES:
        return f"`chat_template: {name}` is one of axolotl's own: save it as a file and give it with --template."
    if name == "jinja":
        return "`chat_template: jinja` without `chat_template_jinja` names no template, and axolotl refuses it."
    meant = nearest(name, _TEMPLATES)
    return (
        f"`chat_template: {name}` is no template of axolotl 0.19{f' (did you mean `{meant}`?)' if meant else ''}: give "
        "the one that is meant with --template."
    )


def _left_behind(config: Mapping[str, Any], entry: Mapping[str, Any]) -> list[str]:
    notes = []
    template = entry.get("chat_template") or config.get("chat_template")
    own = entry.get("chat_template_jinja") or config.get("chat_template_jinja")
    if own:
        notes.append("`chat_template_jinja`: give the same file with --template, or its text in a file.")
    # A key without a value is axolotl's default.
    elif template is not None or "chat_template" in {**config, **entry}:
        notes.append(_of_template(str(template or "tokenizer_default")))
    if entry.get("split_thinking"):
        notes.append(
            "`split_thinking` is not needed: thinking inside the content is told apart where the template does."
        )
    if entry.get("drop_system_message"):
        notes.append(
            "`drop_system_message` changes the text, which a policy never does: drop the messages in the data."
        )
    # axolotl drops rows that are too long unless this says otherwise.
    cut = "keep_start" if config.get("excess_length_strategy") == "truncate" else "drop"
    why = " (`excess_length_strategy`)" if "excess_length_strategy" in config else ""
    length = config.get("sequence_len")
    said = f"`sequence_len: {length}`" if length else f"`sequence_len` is not set, and {_LENGTH} in axolotl"
    notes.append(f"{said}: apply with --max-length {length or _LENGTH} --truncate {cut}{why}.")
    for field, name in (("field_tools", "tools"), ("field_system", "system")):
        if entry.get(field) not in (None, name):
            notes.append(f"`{field}` is carried to the dataset file; axolotl itself reads `{name}` whatever it says.")
    if entry.get("chat_template_kwargs"):
        notes.append(
            "`chat_template_kwargs` of the dataset is left behind: axolotl reads those at the top of the file only."
        )
    notes.append(_THINKING)
    if entry.get("template_thinking_key"):
        notes.append(
            "`template_thinking_key` is not needed: thinking is given to the template by the names that templates read."
        )
    of_entry = TOLD | {"split_thinking", "drop_system_message", "template_thinking_key"}
    where = note_of_others(entry, of_entry, what="About where the data is")
    return [*notes, *where, *note_of_others(config, TOLD, AXOLOTL)]
