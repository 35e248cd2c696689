"""Verbs whose options come in records, declared and handed on together.

@dataclass(frozen=True, kw_only=True)
class Loading:
    trust_encoder: TrustEncoderOption = False
    no_cache: NoCacheOption = False

def check(data: DataArgument, loading: Loading, format: FormatOption = "text"): ...

app.command()(spread(check))
policy-engine check chats.jsonl --no-cache    →    check("chats.jsonl", Loading(no_cache=True), "text")
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

Result = TypeVar("Result")


def spread(verb: Callable[..., Result]) -> Callable[..., Result]:
    """The verb with each field of its records as a parameter of its own, in the record's place.

    >>> import dataclasses
    >>> Size = dataclasses.make_dataclass("Size", [("width", int), ("height", int, 2)])
    >>> def area(name, size):
    ...     print(name, size.width * size.height)
    >>> area.__annotations__ = {"name": str, "size": Size}
    >>> spread(area)(name="a", width=3, height=4)
    a 12
    >>> list(inspect.signature(spread(area)).parameters)
    ['name', 'width', 'height']
    """
    hints = get_type_hints(verb, include_extras=True)
    records: dict[str, type[Any]] = {}
    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(verb).parameters.values():
        kind = hints.get(parameter.name)
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            records[parameter.name] = kind
            parameters += _parameters_of(kind)
        else:
            # By keyword, as typer calls them: so parameters with and without a default may come in any order.
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=kind))

    @functools.wraps(verb)
    def run(**given: Any) -> Result:
        made = {
            name: record(**{field.name: given.pop(field.name) for field in dataclasses.fields(record)})
            for name, record in records.items()
        }
        return verb(**given, **made)

    # Both are read: typer and the table of options in the docs ask for the signature, `get_type_hints` for the other.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _parameters_of(record: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(record, include_extras=True)
    return [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is dataclasses.MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(record)
    ]
