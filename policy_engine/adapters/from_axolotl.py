"""axolotl's `datasets` of type `chat_template` as policies. Semantics of axolotl 0.19."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from policy_engine.adapters.axolotl_parts import RULES, has_flags, note_of
from policy_engine.adapters.imported import Imported, cannot, read_config, refuse_slips, refuse_unknown
from policy_engine.core.errors import ConfigError
from policy_engine.core.vocabulary import KEYWORDS, parts_of

_ENTRY: Final = {
    "path", "name", "type", "split", "shards", "shards_idx", "preprocess_shards", "data_files", "ds_type", "revision",
    "trust_remote_code", "conversation", "temporary_directory", "skip", "subset",
    "chat_template", "chat_template_jinja", "field_messages", "field_tools", "field_thinking", "field_system",
    "template_thinking_key", "message_property_mappings", "message_field_role", "message_field_content",
    "message_field_training", "message_field_training_detail", "roles", "roles_to_train", "train_on_eos",
    "train_on_eot", "split_thinking", "drop_system_message", "eot_tokens", "chat_template_kwargs",
}  # fmt: skip
CARRIED: Final = frozenset({
    "datasets", "type", "base_model", "train_on_inputs", "eot_tokens", "field_messages", "field_tools",
    "field_thinking", "field_system", "message_property_mappings", "message_field_role", "message_field_content",
    "message_field_training", "message_field_training_detail", "roles", "roles_to_train", "train_on_eos",
    "train_on_eot", "chat_template_kwargs",
})  # fmt: skip
"""Keys that became rules, or lines of the dataset file. All others are named in the policy's comment."""
_AT_TOP: Final = frozenset({"train_on_inputs", "eot_tokens", "datasets", "base_model", "type", "chat_template_kwargs"})
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
    _refuse_misplaced(config, path)
    return [_entry(config, entry, number, len(entries), path) for number, entry in enumerate(entries)]


def _refuse_misplaced(config: Mapping[str, Any], path: Path) -> None:
    """Keys about masks where axolotl does not read them, or misspelled: it would train something else in silence."""
    if config.get("rl"):
        raise cannot("rl", str(path), "masks are those of supervised fine-tuning", "leave it out to import the rest")
    for key in config:
        if key in CARRIED - _AT_TOP:
            raise cannot(key, str(path), "axolotl reads it in an entry of `datasets` only", "move it there")
    refuse_slips(config, CARRIED | {"chat_template", "chat_template_jinja", "sequence_len"}, str(path))


def _entry(config: Mapping[str, Any], entry: Any, number: int, count: int, path: Path) -> Imported:
    where = f"{path}: dataset {number}"
    if not isinstance(entry, dict):
        raise ConfigError(f"{where} is no mapping", help="write its `path` and `type`")
    kind = "a prompt of its own" if isinstance(entry.get("type"), dict) else entry.get("type")
    if kind != "chat_template":
        raise cannot(
            "type", where, f"`{kind}` masks by code of its own", "only `chat_template` says its mask in settings"
        )
    refuse_unknown(entry, _ENTRY, where)
    flagged = has_flags(entry, path.parent)
    rules, notes = _rules(config, entry, where, flagged=bool(flagged))
    notes += note_of(flagged, ends=str(entry.get("train_on_eos", "turn")) == "turn")
    stem = path.stem if count == 1 else f"{path.stem}-{number}"
    return Imported(
        name=stem,
        source=f"axolotl, {path.name}, dataset `{entry.get('path', number)}`",
        rules=rules,
        dataset=_dataset(config, entry),
        notes=[*notes, *_left_behind(config, entry)],
    )


def _rules(
    config: Mapping[str, Any], entry: Mapping[str, Any], where: str, *, flagged: bool
) -> tuple[list[str], list[str]]:
    notes: list[str] = []
    if _is_legacy(entry):
        if config.get("train_on_inputs"):
            return ["train everything"], ["Without roles and ends, `train_on_inputs` trains everything."]
        # The last answer as a whole, behind its prompt.
        notes.append("`roles_to_train` and `train_on_eos` are empty: only the last answer is trained, with its end.")
        return ["train turn of last assistant", "mask header of last assistant"], notes
    names = _role_names(entry)
    given = [names.get(role, role) for role in _list(entry.get("roles_to_train", ["assistant"]))]
    roles = [_quoted(role) for role in dict.fromkeys(given)]
    if config.get("train_on_inputs"):
        rules, trained = ["train body"], None
        notes.append("`train_on_inputs`: what every role wrote is trained, headers are not.")
    elif roles:
        rules, trained = [f"train {', '.join(roles)}"], roles
    elif entry.get("message_field_training") or entry.get("message_field_training_detail") or flagged:
        rules, trained = [], []
        notes.append("`roles_to_train` is empty: only messages that say so themselves are trained.")
    else:
        raise cannot(
            "roles_to_train",
            where,
            "empty, it trains nothing",
            "name the roles; for the last turn only, leave `train_on_eos` empty too",
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
    rules += RULES if flagged else ()
    rules += _eos(config, entry, trained, flag, detail, where, notes, flagged=flagged)
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
    *,
    flagged: bool,
) -> list[str]:
    eos = _setting(entry, "train_on_eos", "turn", where)
    eot = _setting(entry, "train_on_eot", eos, where)
    if eos == eot:
        return _ends(eos, roles, flag, detail, "", flagged=flagged)
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
        *_ends(eot, roles, flag, detail, f"segment.text in [{listed}]", flagged=flagged),
        *_ends(eos, roles, flag, detail, f"not (segment.text in [{listed}])", flagged=flagged),
    ]


def _ends(
    setting: str, roles: list[str] | None, flag: str | None, detail: str | None, condition: str, *, flagged: bool
) -> list[str]:
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
    # Flagged parts are trained in turns of any role.
    ends = (
        [f"train trained eos{where()}"]
        if flagged
        else [f"train eos after trained {role}{where()}" for role in roles or []]
    )
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
    if entry.get("field_system"):
        messages["system"] = entry["field_system"]
    if entry.get("field_thinking"):
        messages["reasoning"] = entry["field_thinking"]
    messages["roles"] = {s: t for s, t in _role_names(entry).items() if s != t}
    found: dict[str, Any] = {"messages": messages}
    names = _role_names(entry)
    trained = [names.get(role, role) for role in _list(entry.get("roles_to_train", ["assistant"]))]
    if trained != ["assistant"]:
        found["trained_roles"] = sorted({*trained, "assistant"})
    kwargs = {**(config.get("chat_template_kwargs") or {}), **(entry.get("chat_template_kwargs") or {})}
    if kwargs:
        found["template_kwargs"] = kwargs
    if config.get("base_model"):
        found["tokenizer"] = config["base_model"]
    return found


def _is_legacy(entry: Mapping[str, Any]) -> bool:
    """Whether roles and ends are both set to nothing, and no message says for itself what is trained."""
    empty = ("roles_to_train" in entry and not entry["roles_to_train"]) and (
        "train_on_eos" in entry and not entry["train_on_eos"] and not entry.get("train_on_eot")
    )
    return empty and not (entry.get("message_field_training") or entry.get("message_field_training_detail"))


def _role_names(entry: Mapping[str, Any]) -> dict[str, str]:
    """Names of authors in the data → roles."""
    roles = {source: target for target, sources in (entry.get("roles") or {}).items() for source in _list(sources)}
    return roles or dict(_ROLES)


def _left_behind(config: Mapping[str, Any], entry: Mapping[str, Any]) -> list[str]:
    notes = []
    template = entry.get("chat_template") or config.get("chat_template")
    own = entry.get("chat_template_jinja") or config.get("chat_template_jinja")
    if own:
        notes.append("`chat_template_jinja`: give the same file with --template, or its text in a file.")
    elif template == "tokenizer_default" or ("chat_template" in {**config, **entry} and not template):
        notes.append("`chat_template`: the tokenizer's own, which is what is taken here without --template.")
    elif template:
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
        why = " (`excess_length_strategy`)" if "excess_length_strategy" in config else ""
        notes.append(f"`sequence_len: {length}`: apply with --max-length {length} --truncate {cut}{why}.")
    if entry.get("template_thinking_key"):
        notes.append(
            "`template_thinking_key` is not needed: thinking is given to the template by the names that templates read."
        )
    told = CARRIED | {"chat_template", "chat_template_jinja", "sequence_len", "excess_length_strategy"}
    of_data = sorted(set(entry) - told - {"split_thinking", "drop_system_message", "template_thinking_key"})
    if of_data:
        notes.append(f"About where the data is, and left behind: {', '.join(of_data)}.")
    others = sorted(set(config) - told)
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
