"""Command lines that do not parse, in the words of this house: what is wrong, and what was meant."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Any

from policy_engine.cli.reporters import Format
from policy_engine.core.errors import ConfigError
from policy_engine.core.suggest import did_you_mean


def usage_error(error: Any, arguments: Sequence[str], verbs: Collection[str]) -> ConfigError:
    """What typer found wrong with a command line.

    Its error classes come from a copy of click inside typer or from click itself, by release; so they are told apart by
    what they carry.
    """
    verb = verb_of(arguments)
    if verb not in verbs:
        listing = "`policy-engine --help` lists the verbs"
        name = getattr(error, "option_name", None)
        if name is not None:
            return ConfigError(f"there is no option `{name}` before a verb", help=listing)
        if not verb:
            return ConfigError("no verb is given", help=listing)
        return ConfigError(f"there is no verb `{verb}`", help=_join(did_you_mean(verb, verbs), listing))
    listing = f"`policy-engine {verb} --help` lists the options"
    command = getattr(error, "cmd", None)
    parameter = getattr(error, "param", None)
    message = str(getattr(error, "message", error)) or ""
    if getattr(error, "option_name", None) is not None and "requires an argument" not in message:
        known = [name for p in getattr(command, "params", ()) for name in p.opts]
        meant = did_you_mean(error.option_name, known)
        return ConfigError(f"`{verb}` has no option `{error.option_name}`", help=_join(meant, listing))
    if parameter is not None and not message:
        what = parameter.metavar if parameter.param_type_name == "argument" else f"{' or '.join(parameter.opts)}"
        return ConfigError(f"`{verb}` needs {what}", help=_join(_lower(getattr(parameter, "help", "")), listing))
    said = _lower(message.removeprefix("Value error, "))
    if parameter is not None:
        what = parameter.opts[-1] if parameter.param_type_name == "option" else parameter.metavar
        said, help = _value_said(said, error)
        return ConfigError(f"{what}: {said}", help=_join(help, listing))
    if getattr(error, "option_name", None) is not None:
        return ConfigError(f"`{error.option_name}` needs a value", help=listing)
    if found := re.fullmatch(r"got unexpected extra arguments?(?:\(s\))? \((.*)\)", said):
        return ConfigError(f"`{verb}` has no place for `{found[1]}`", help=listing)
    return ConfigError(said or "the command line does not parse", help=listing)


def _value_said(said: str, error: Any) -> tuple[str, str | None]:
    """What is wrong with an option's value, and what it takes: from the words of click, or of pydantic behind typer."""
    details: list[Any] = getattr(error.__cause__, "errors", list)()
    quoted = re.match(r"`?(.*?)`? is not ", said)
    value = str(details[0]["input"]) if details and "input" in details[0] else quoted[1] if quoted else ""
    if bound := re.search(r"(?:x>=|greater than or equal to )(-?\d+)", said):
        return f"{value} is too small: the least is {bound[1]}", None
    if "valid integer" in said:
        return f"`{value}` is no whole number", None
    if "is not one of" in said:
        names = re.findall(r"`([^`]*)`", said.partition("is not one of")[2])
        listed = ", ".join(f"`{name}`" for name in names)
        return f"there is no `{value}`", did_you_mean(value, names) or f"give one of {listed}"
    return said, None


def verb_of(arguments: Sequence[str]) -> str:
    """The first argument that is no option; empty if there is none."""
    return next((a for a in arguments if not a.startswith("-")), "")


def format_of(arguments: Sequence[str]) -> Format:
    """The format a command line that does not parse asked for, as far as it can be told."""
    for index, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == "--format":
            value = value or next(iter(arguments[index + 1 : index + 2]), "")
            return Format(value) if value in Format.__members__ else Format.text
    return Format.text


def _lower(text: str | None) -> str:
    """A sentence of another house: no capital, no period, what is quoted in backticks."""
    text = re.sub(r"'([^']*)'", r"`\1`", (text or "").rstrip("."))
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text


def _join(meant: str | None, listing: str) -> str:
    if not meant:
        return listing
    return f"{meant}{' ' if meant.endswith('?') else '; '}{listing}"
