"""axolotl's `datasets` of type `chat_template` as policies. Semantics of axolotl 0.19."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from policy_engine.adapters.imported import Imported, cannot, read_config, refuse_unknown
from policy_engine.core.errors import ConfigError
from policy_engine.core.vocabulary import KEYWORDS, parts_of

_ENTRY: Final = {
    "path", "name", "type", "split", "shards", "shards_idx", "preprocess_shards", "data_files", "ds_type", "revision",
    "trust_remote_code", "conversation", "temporary_directory", "skip", "subset",
    "chat_template", "chat_template_jinja", "field_messages", "field_tools", "field_thinking", "field_system",
    "template_thinking_key", "message_property_mappings", "message_field_role", "message_field_content",
    "message_field_training", "message_field_training_detail", "roles", "roles_to_train", "train_on_eos",
    "train_on_eot", "split_thinking", "drop_system_message", "eot_tokens",
}  # fmt: skip
_EOS: Final = ("all", "turn", "last", "none")
_ROLES: Final = {"human": "user", "gpt": "assistant"}
"""What axolotl takes these names of authors for when `roles` is not set."""


def from_axolotl(path: Path) -> list[Imported]:
    """One policy and dataset file for each entry of `datasets`.

    Raises ConfigError for entries of other types, settings without meaning, and keys nobody knows.
    """
    config = read_config(path)
    entries = config.get("datasets")
    if not isinstance(entries, list) or not entries:
        raise ConfigError(f"{path} has no `datasets`", help="give axolotl's own configuration file")
    return [_entry(config, entry, number, len(entries), path) for number, entry in enumerate(entries)]


def _entry(config: Mapping[str, Any], entry: Any, number: int, count: int, path: Path) -> Imported:
    where = f"{path}: dataset {number}"
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} is no mapping", help="write its `path` and `type`")
    kind = entry.get("type")
    if kind != "chat_template":
        raise cannot(
            "type", where, f"`{kind}` masks by code of its own", "only `chat_template` says its mask in settings"
        )
    refuse_unknown(entry, _ENTRY, where)
    rules, notes = _rules(config, entry, where)
    stem = path.stem if count == 1 else f"{path.stem}-{number}"
    return Imported(
        name=stem,
        source=f"axolotl, {path.name}, dataset `{entry.get('path', number)}`",
        rules=rules,
        dataset=_dataset(config, entry),
        notes=[*notes, *_left_behind(config, entry)],
    )


def _rules(config: Mapping[str, Any], entry: Mapping[str, Any], where: str) -> tuple[list[str], list[str]]:
    notes: list[str] = []
    roles = [_quoted(role) for role in _list(entry.get("roles_to_train", ["assistant"]))]
    if config.get("train_on_inputs"):
        rules, trained = ["train body"], None
        notes.append("`train_on_inputs`: what every role wrote is trained, headers are not.")
    elif roles:
        rules, trained = [f"train {', '.join(roles)}"], roles
    else:
        raise cannot(
            "roles_to_train",
            where,
            "empty, it selects axolotl's old path",
            "name the roles, or use `trl_completion_only`",
        )
    # axolotl takes for a turn's own what changes when its content does: scaffold that stays is masked.
    rules.append("mask markup")
    detail = entry.get("message_field_training_detail")
    if detail:
        rules += [f"mask body where has message.{detail}", f"train spans message.{detail} in text"]
        notes.append(
            f"`{detail}`: offsets count in the message as it is in the data. axolotl counts them in tokens of the "
            "content alone, which shifts them where the template trims it."
        )
    flag = entry.get("message_field_training")
    if flag:
        rules += [f"train body where message.{flag}", f"mask markup where message.{flag}"]
    rules += _eos(config, entry, trained, flag, detail, where, notes)
    if flag:
        rules.append(f"mask turn where message.{flag} == false")
        notes.append(f"`{flag}` of a message wins over its role, and holds for its end marker too.")
    rules.append("on straddle train  # a token that is partly trained text is trained by axolotl")
    return rules, notes


def _eos(
    config: Mapping[str, Any],
    entry: Mapping[str, Any],
    roles: list[str] | None,
    flag: str | None,
    detail: str | None,
    where: str,
    notes: list[str],
) -> list[str]:
    eos = _setting(entry, "train_on_eos", "turn", where)
    eot = _setting(entry, "train_on_eot", eos, where)
    if eos == eot:
        return _ends(eos, roles, flag, detail, "")
    tokens = _list(entry.get("eot_tokens", config.get("eot_tokens", [])))
    if not tokens:
        raise cannot(
            "train_on_eot",
            where,
            "it differs from `train_on_eos` and no `eot_tokens` tell the two apart",
            "set `eot_tokens`",
        )
    listed = ", ".join(_string(token) for token in tokens)
    notes.append("`eot_tokens` and the tokenizer's eos are trained by different rules, told apart by their text.")
    return [
        *_ends(eot, roles, flag, detail, f"segment.text in [{listed}]"),
        *_ends(eos, roles, flag, detail, f"not (segment.text in [{listed}])"),
    ]


def _ends(setting: str, roles: list[str] | None, flag: str | None, detail: str | None, condition: str) -> list[str]:
    def where(*tests: str) -> str:
        return (
            f" where {' and '.join(test for test in (*tests, condition) if test)}" if any((*tests, condition)) else ""
        )

    if setting == "none":
        return []
    # A turn of which nothing is rendered is not found by axolotl, and no end of it is trained.
    if setting == "all" or (roles is None and setting == "turn"):
        return [f"train eos{where('turn.chars > 0')}"]
    if setting == "last":
        return [f"train trained last eos{where()}"]
    ends = [f"train eos after trained {role}{where()}" for role in roles or []]
    # A flagged turn, and one that lists character ranges (whatever they say), is one to train, its end included.
    ends += [f"train eos{where(f'message.{flag}', 'turn.chars > 0')}"] if flag else []
    ends += [f"train eos{where(f'has message.{detail}', 'turn.chars > 0')}"] if detail else []
    return ends


def _dataset(config: Mapping[str, Any], entry: Mapping[str, Any]) -> dict[str, Any]:
    mapped = entry.get("message_property_mappings") or {}
    messages: dict[str, Any] = {"field": entry.get("field_messages", "messages")}
    role = mapped.get("role", entry.get("message_field_role"))
    content = mapped.get("content", entry.get("message_field_content"))
    if role:
        messages["role"] = role
    if content:
        messages["content"] = content
    if entry.get("field_tools"):
        messages["tools"] = entry["field_tools"]
    if entry.get("field_thinking"):
        messages["reasoning"] = entry["field_thinking"]
    roles = {source: target for target, sources in (entry.get("roles") or {}).items() for source in _list(sources)}
    messages["roles"] = {s: t for s, t in (roles or _ROLES).items() if s != t}
    found: dict[str, Any] = {"messages": messages}
    trained = _list(entry.get("roles_to_train", ["assistant"]))
    if trained != ["assistant"]:
        found["trained_roles"] = sorted({*trained, "assistant"})
    if config.get("base_model"):
        found["tokenizer"] = config["base_model"]
    return found


def _left_behind(config: Mapping[str, Any], entry: Mapping[str, Any]) -> list[str]:
    notes = []
    template = entry.get("chat_template") or config.get("chat_template")
    if template and template != "tokenizer_default":
        notes.append(
            f"`chat_template: {template}` is one of axolotl's own: save it as a file and give it with --template."
        )
    if entry.get("split_thinking"):
        notes.append(
            "`split_thinking` is not needed: thinking inside the content is told apart where the template does."
        )
    if entry.get("drop_system_message"):
        notes.append(
            "`drop_system_message` changes the text, which a policy never does: drop the messages in the data."
        )
    length = config.get("sequence_len")
    if length:
        cut = {"drop": "drop", "truncate": "keep_start", "raise": "drop"}.get(
            config.get("excess_length_strategy", "drop"), "drop"
        )
        notes.append(f"`sequence_len: {length}`: apply with --max-length {length} --truncate {cut}.")
    about = {
        "datasets", "base_model", "chat_template", "chat_template_jinja", "sequence_len", "excess_length_strategy",
        "train_on_inputs", "eot_tokens",
    }  # fmt: skip
    others = sorted(set(config) - about)
    if others:
        notes.append(f"Not about masks, and left behind: {', '.join(others)}.")
    return notes


def _setting(entry: Mapping[str, Any], key: str, default: str, where: str) -> str:
    value = entry.get(key)
    value = default if value is None else str(value)
    if value not in _EOS:
        raise ConfigError(f"{where}: `{key}` is `{value}`", help=f"axolotl knows {', '.join(_EOS)}")
    return value


def _list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _quoted(role: str) -> str:
    plain = role.isidentifier() and role.isascii() and role not in KEYWORDS and parts_of(role) is None
    return role if plain else _string(role)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
