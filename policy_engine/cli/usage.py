"""Command lines that do not parse: what is wrong with them, and what was meant.

apply x -o y --truncate keepstart   →   --truncate: there is no `keepstart`; did you mean `keep_start`?
show x --limit                      →   `--limit` needs a value
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from policy_engine.cli.outcome import FORMATS, ReportFormat
from policy_engine.core.errors import ConfigError
from policy_engine.core.suggest import did_you_mean


def usage_error(error: Any, arguments: Sequence[str], verbs: Collection[str]) -> ConfigError:
    """The error for a command line that typer refused.

    Typer's errors come from a copy of click inside it or from click itself, by release, so they are told apart by name.
    """
    verb = verb_of(arguments)
    kind = type(error).__name__
    # Without a known verb there are no options to suggest.
    if verb not in verbs:
        listing = "`policy-engine --help` lists the verbs"
        if kind == "NoSuchOption":
            return ConfigError(f"there is no option `{error.option_name}` before a verb", help=listing)
        if not verb:
            return ConfigError("no verb is given", help=listing)
        return ConfigError(f"there is no verb `{verb}`", help=_join(did_you_mean(verb, verbs), listing))
    listing = f"`policy-engine {verb} --help` lists the options"
    if kind == "NoSuchOption":
        known = [name for parameter in error.cmd.params for name in parameter.opts]
        meant = did_you_mean(error.option_name, known)
        return ConfigError(f"`{verb}` has no option `{error.option_name}`", help=_join(meant, listing))
    if kind == "BadOptionUsage":
        return ConfigError(f"`{error.option_name}` needs a value", help=listing)
    parameter: Any = getattr(error, "param", None)
    if kind == "MissingParameter":
        is_argument = parameter.param_type_name == "argument"
        what = parameter.metavar if is_argument else " or ".join(parameter.opts)
        about = (getattr(parameter, "help", None) or "").rstrip(".")
        return ConfigError(f"`{verb}` needs {what}", help=_join(about[:1].lower() + about[1:], listing))
    # Click's error has the bad value in an English sentence alone, so the arguments are read once more.
    given, rest = _parsed(error, list(arguments[list(arguments).index(verb) + 1 :]))
    if parameter is not None:
        name = parameter.opts[-1] if parameter.param_type_name == "option" else parameter.metavar
        wrong, help = _wrong_value(error, given.get(parameter.name))
        return ConfigError(f"{name}: {wrong}", help=_join(help, listing))
    if rest:
        extra = ", ".join(f"`{text}`" for text in rest)
        return ConfigError(f"`{verb}` has no place for {extra}", help=listing)
    return ConfigError("the command line does not parse", help=listing)


def _parsed(error: Any, arguments: list[str]) -> tuple[dict[str, Any], list[str]]:
    """The values by parameter, unconverted, and the arguments that there is no place for."""
    given, rest, _ = error.cmd.make_parser(error.ctx).parse_args(args=arguments)
    return given, rest


def _wrong_value(error: Any, given: Any) -> tuple[str, str | None]:
    """The fault of an option's value, and the values that the option takes."""
    values = [str(value) for value in given] if isinstance(given, list | tuple) else [str(given)]
    declared = get_type_hints(error.cmd.callback, include_extras=True)[error.param.name]
    names = choices_of(declared)
    if names:
        value = next((v for v in values if v not in names), values[0])
        listed = ", ".join(f"`{name}`" for name in names)
        return f"there is no `{value}`", did_you_mean(value, names) or f"give one of {listed}"
    # Of a path, typer asks only that it can be read.
    if Path in (kind := get_args(declared)[0], *get_args(kind)):
        return f"`{next((v for v in values if not os.access(v, os.R_OK)), values[0])}` cannot be read", None
    # Neither: the options that take other values are whole numbers, some with a least and a most.
    whole = [v for v in values if v.removeprefix("-").isdecimal()]
    if len(whole) < len(values):
        return f"`{next(v for v in values if v not in whole)}` is no whole number", None
    low, high = min(whole, key=int), max(whole, key=int)
    least, most = _bound(declared, "min"), _bound(declared, "max")
    if least is None or int(low) >= least:
        return f"{high} is too large: the most is {most}", None
    return f"{low} is too small: the least is {least}", None


def choices_of(declared: Any) -> list[str]:
    """The values of a `Literal` in a declaration, `Annotated` and optional or not.

    >>> choices_of(Literal["drop", "turn"] | None)
    ['drop', 'turn']
    """
    if get_origin(declared) is Literal:
        return [str(value) for value in get_args(declared)]
    inner = get_args(declared)[:1] if get_origin(declared) is Annotated else get_args(declared)
    return next((names for part in inner if (names := choices_of(part))), [])


def _bound(declared: Any, name: str) -> Any:
    bounds = (getattr(info, name, None) for info in get_args(declared)[1:])
    return next((bound for bound in bounds if bound is not None), None)


def verb_of(arguments: Sequence[str]) -> str:
    """The first argument that is no option; empty if all are options.

    >>> verb_of(["--no-cache", "apply", "x"])
    'apply'
    """
    return next((a for a in arguments if not a.startswith("-")), "")


def format_of(arguments: Sequence[str]) -> ReportFormat:
    """The format that a command line asks for; text if it names no known one.

    >>> format_of(["check", "--format", "json"])
    'json'
    """
    for index, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == "--format":
            value = value or next(iter(arguments[index + 1 : index + 2]), "")
            return next((known for known in FORMATS if known == value), "text")
    return "text"


def _join(meant: str | None, listing: str) -> str:
    if not meant:
        return listing
    return f"{meant}{' ' if meant.endswith('?') else '; '}{listing}"
