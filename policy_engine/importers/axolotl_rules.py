"""The rules of an entry of axolotl's `datasets`, in the order in which axolotl decides.

First the turns that are trained, as a whole: by role, by what their messages say. Then the ends, which follow from
those. Then the text that is left out within trained turns; no end depends on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from policy_engine.core.errors import ConfigError
from policy_engine.core.vocabulary import KNOWN_ROLES, role_in_policy
from policy_engine.data.role_spelling import RoleSpelling
from policy_engine.importers.axolotl_parts import LEFT_OUT, WHOLE
from policy_engine.importers.imported import cannot

_EOS: Final = ("all", "turn", "last", "none")
_ROLES: Final = {"human": "user", "gpt": "assistant"}
"""Roles that axolotl reads for these names of authors if `roles` is not set."""
NOTHING_TRAINED: Final = (
    "`roles_to_train` is empty: axolotl trains nothing of this data, and drops rows without a trained token."
)
_FALSE: Final = '[false, 0, ""]'
"""Values of a flag that are false in Python, as axolotl reads it."""


def rules_of(
    config: Mapping[str, Any], entry: Mapping[str, Any], where: str, *, flagged: bool
) -> tuple[list[str], list[str]]:
    """The rules of one entry, and notes on them.

    With `flagged`, content parts say for themselves whether they are trained.

    Raises ConfigError for settings without meaning.

    >>> rules_of({}, {"roles_to_train": ["assistant"]}, "a.yaml", flagged=False)[0][:3]
    ['train assistant', 'mask markup', 'train trained eos']
    """
    notes: list[str] = []
    flag, detail = entry.get("message_field_training"), entry.get("message_field_training_detail")
    eos = _setting(entry, "train_on_eos", "turn", where)
    # axolotl's default: as for `train_on_eos`.
    eot = _setting(entry, "train_on_eot", eos, where)
    rules = []
    roles = trained_roles(entry)
    _refuse_misspelled(entry, where)
    if any(key in entry and entry[key] is None for key in ("roles_to_train", "train_on_eos")):
        notes.append(
            "axolotl drops empty settings: where `roles_to_train` or `train_on_eos` is left empty its default holds. "
            "For the last message alone, as its documentation has it, `use last_assistant`."
        )
    if config.get("train_on_inputs"):
        rules.append("train body")
        notes.append("`train_on_inputs`: what every role wrote is trained, headers are not.")
    elif roles:
        rules.append(f"train {', '.join(role_in_policy(role) for role in roles)}")
    elif flag or detail or flagged:
        notes.append("`roles_to_train` is empty: only messages that say so themselves are trained.")
    elif "all" in (eos, eot):
        notes.append("`roles_to_train` is empty: only ends are trained, of every turn.")
    else:
        notes.append(NOTHING_TRAINED)
    if detail:
        # An empty list of details masks a message, one with an item trains it as a turn, whose end then follows.
        rules += [f"mask body where message.{detail} != null", f"train body where has message.{detail}[0]"]
    rules += WHOLE if flagged else ()
    if flag:
        rules += [f"train body where message.{flag} != null", f"mask body where message.{flag} in {_FALSE}"]
        notes.append(
            f"`{flag}` of a message wins over its role" + (f" and over an empty `{detail}`." if detail else ".")
        )
    # axolotl takes for a turn's own what changes when its content does: scaffold that stays is masked.
    rules.append("mask markup")
    before, ends = _ends(config, eos, eot, where, notes)
    rules = [*before, *rules, *ends]
    if detail:
        unless = f" unless message.{flag} in {_FALSE}" if flag else ""
        # Below the ends: the message counted as trained for its end, and now its spans alone are.
        rules += [f"mask body where has message.{detail}[0]", f"train spans message.{detail} in text{unless}"]
        notes.append(
            f"`{detail}`: offsets count in the message as it is in the data. axolotl counts them in tokens of the "
            "content alone, which shifts them where the template trims it."
        )
    rules += LEFT_OUT if flagged else ()
    rules.append("on straddle train  # a token that is partly trained text is trained by axolotl")
    return rules, notes


def _ends(config: Mapping[str, Any], eos: str, eot: str, where: str, notes: list[str]) -> tuple[list[str], list[str]]:
    """The rules on ends: those above the others, and those below the turns that are trained."""
    # One setting for both: the two need not be told apart.
    if eos == eot:
        return [], _end(eos, "")
    tokens = config.get("eot_tokens") or []
    if not tokens:
        raise cannot(
            "train_on_eot",
            where,
            "it differs from `train_on_eos` and no `eot_tokens` tell the two apart",
            "set `eot_tokens` at the top of the file",
        )
    listed = f"segment.text in {json.dumps(as_list(tokens), ensure_ascii=False)}"
    notes.append("`eot_tokens` and the tokenizer's eos are trained by different rules, told apart by their text.")
    ends = ((eot, listed), (eos, f"not ({listed})"))
    if "all" not in (eos, eot):
        return [], [rule for setting, test in ends for rule in _end(setting, test)]
    # With `all` for one of the two axolotl looks at every turn, so the other's `last` is that of any turn.
    last = [rule for setting, test in ends if setting == "last" for rule in _end(setting, test)]
    # All is trained for a moment, so that `trained last eos` means the last turn of any role; then bodies are masked
    # again.
    before = ["train body", "mask markup", *last, "mask body"] if last else []
    return before, [rule for setting, test in ends if setting != "last" for rule in _end(setting, test)]


def _end(setting: str, test: str) -> list[str]:
    """A turn of which nothing is rendered is not found by axolotl, and no end of it is trained.

    >>> _end("last", ""), _end("all", "")
    (['train trained last eos'], ['train eos where turn.chars > 0'])
    """
    if setting == "none":
        return []
    if setting == "all":
        return [f"train eos where turn.chars > 0{f' and {test}' if test else ''}"]
    return [f"train trained {'last ' if setting == 'last' else ''}eos{f' where {test}' if test else ''}"]


def trained_roles(entry: Mapping[str, Any]) -> list[str]:
    """The roles of `roles_to_train`, by the names that the template knows.

    >>> trained_roles({"roles_to_train": ["assistant"]})
    ['assistant']
    """
    given, names = entry.get("roles_to_train"), role_names(entry)
    return list(dict.fromkeys(names.get(role, role) for role in (["assistant"] if given is None else as_list(given))))


def _refuse_misspelled(entry: Mapping[str, Any], where: str) -> None:
    """A role that the entry does not declare and that resembles a known one.

    axolotl trains nothing of it.
    """
    names = role_names(entry)
    spelling = RoleSpelling({*KNOWN_ROLES, *names, *names.values()})
    meant = {str(role): spelling.meant(str(role)) for role in as_list(entry.get("roles_to_train"))}
    slips = [f"`{near}` for `{role}`" for role, near in meant.items() if near]
    if slips:
        raise cannot("roles_to_train", where, f"nobody declares such a role; did you mean {', '.join(slips)}?",
                     "spell it so, or declare it in the entry's `roles`")  # fmt: skip


def role_names(entry: Mapping[str, Any]) -> dict[str, str]:
    """Names of authors in the data → roles.

    >>> role_names({"roles": {"assistant": ["bot", "gpt"]}})
    {'bot': 'assistant', 'gpt': 'assistant'}
    """
    roles = {source: target for target, sources in (entry.get("roles") or {}).items() for source in as_list(sources)}
    return roles or dict(_ROLES)


def as_list(value: Any) -> list[Any]:
    """A setting that may be one value or several.

    >>> as_list(None), as_list("a"), as_list(["a"])
    ([], ['a'], ['a'])
    """
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _setting(entry: Mapping[str, Any], key: str, default: str, where: str) -> str:
    value = entry.get(key)
    value = default if value is None else str(value)
    if value not in _EOS:
        raise ConfigError(f"{where}: `{key}` is `{value}`", help=f"axolotl knows {', '.join(_EOS)}")
    return value
