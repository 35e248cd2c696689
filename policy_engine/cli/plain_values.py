"""Values of options that are what they should be as they are given.

Typer 0.29 and later converts each value by a schema of pydantic. Importing it and making the schemas takes a tenth of a
second, more than all else that a verb like `fmt` does. Nearly all values are a text, a path, a small number or one of
some words, which need no schema; whatever is not plainly right is left to typer, with its errors.

--limit 50      →    50
--limit fifty   →    typer, which refuses it
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

_HARD: Final = object()
"""The answer for a value that typer has to look at."""
_NUMBER: Final = re.compile("0|[1-9][0-9]{0,8}")


def take_plain_values(command: Any) -> None:
    """Lets a command of typer, and all below it, take plain values without a schema.

    A release of typer that makes no schemas is left as it is.
    """
    # Not once for `command.params`: the option `--help` is made when the parameters are first asked for.
    command.get_params = functools.partial(_taking, command.get_params)
    for below in getattr(command, "commands", {}).values():
        take_plain_values(below)


def _taking(get_params: Callable[[Any], list[Any]], ctx: Any) -> list[Any]:
    parameters = get_params(ctx)
    for parameter in parameters:
        own = getattr(parameter, "get_runtime_param", None)
        # Private to typer: where it has another name, typer's own way is taken.
        if own is not None and hasattr(parameter, "type_descriptor") and not isinstance(own, _Taking):
            parameter.get_runtime_param = _Taking(own, parameter.type_descriptor)
    return parameters


class _Taking:
    """Replaces typer's `get_runtime_param` of a parameter, and what that gives."""

    def __init__(self, typers: Callable[[], Any], descriptor: Any) -> None:
        self._typers = typers
        self._descriptor = descriptor

    def __call__(self) -> _Taking:
        return self

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        """The value, by typer if it is not plain. Raises what typer raises."""
        several = param.multiple or param.nargs == -1
        if value is None:
            return () if several else None
        info, annotation = self._descriptor.parameter_info, self._descriptor.annotation
        if several and get_origin(annotation) is list and isinstance(value, list | tuple):
            taken = [plain(one, get_args(annotation)[0], info) for one in value]
            found = _HARD if _HARD in taken else taken
        else:
            found = _HARD if several else plain(value, annotation, info)
        return self._typers().coerce(value, param=param, ctx=ctx) if found is _HARD else found


def plain(value: Any, annotation: Any, info: Any) -> Any:
    """The value as its annotation wants it, or a marker if it is not plain.

    `info` has typer's bounds.

    >>> from typer.models import OptionInfo
    >>> plain("50", int, OptionInfo(min=1)), plain("keep", Literal["drop", "keep"], OptionInfo())
    (50, 'keep')
    >>> [plain(value, int, OptionInfo(min=1)) is _HARD for value in ("0", "-1", "x", "١")]
    [True, True, True, True]
    """
    if info.parser is not None:
        return _HARD
    if annotation is str:
        return value if type(value) is str else _HARD
    if get_origin(annotation) is Literal:
        return value if type(value) is str and value in get_args(annotation) else _HARD
    if annotation is int:
        if type(value) is str and _NUMBER.fullmatch(value):
            value = int(value)
        low = info.min is not None and value < info.min if type(value) is int else True
        return _HARD if low or (info.max is not None and value > info.max) else value
    if annotation is Path:
        return _path(value, info)
    return _HARD


def _path(value: Any, info: Any) -> Any:
    # Of all that typer can ask of a path, it asks by itself only that the path can be read.
    usual = info.file_okay and info.dir_okay and not (info.exists or info.writable or info.resolve_path)
    if not (type(value) is str and usual and info.path_type is None):
        return _HARD
    return Path(value) if not os.path.exists(value) or os.access(value, os.R_OK) else _HARD
