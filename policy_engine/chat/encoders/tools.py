"""Tools given beside the messages, found in an encoder's text by their JSON.

<tools>⏎{"type": "function", "function": {"name": "weather", …}}⏎</tools>
        └──────────────────── preamble.tools ──────────────────┘
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from policy_engine.chat.encoders.untinted import places_of
from policy_engine.chat.trace.origins import LOST, Origin, Run, cut, origin_at, placed

# Every way of `json.dumps` that encoders use: escaped or not, sorted or not, compact, plain or indented.
_WAYS: Final[tuple[dict[str, Any], ...]] = tuple(
    {"ensure_ascii": escaped, "indent": indent, "sort_keys": ordered, "separators": separators}
    for escaped, ordered, (indent, separators) in itertools.product(
        (False, True), (False, True), ((None, None), (None, (",", ":")), (2, None), (4, None))
    )
)


def with_tools(runs: Sequence[Run], plain: str, tools: Sequence[Any] | None) -> tuple[Run, ...]:
    """The runs, with each tool that is found in the encoder's own text as one of its own.

    A tool that is not written as JSON is looked for by its name and its description.

    >>> runs = with_tools([(28, None, 0)], '<tools>{"name": "f"}</tools>', [{"name": "f"}])
    >>> [(length, None if origin is None else origin.path) for length, origin, _ in runs]
    [(7, None), (13, ('tools', 0)), (8, None)]
    """
    made = tuple(runs)
    for number, tool in enumerate(tools or ()):
        for path, texts in _texts(tool):
            place = next(((at, text) for text in texts for at in _free(made, plain, text)), None)
            if place is not None:
                at, text = place
                run = (len(text), origin_at(None, ("tools", number, *path)), LOST)
                made = (*cut(made, 0, at), run, *cut(made, at + len(text), len(plain)))
                if not path:
                    break
    return made


def _texts(tool: Any) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    function = tool.get("function", tool) if isinstance(tool, Mapping) else tool
    try:
        forms = [json.dumps(value, **way) for value in (tool, function) for way in _WAYS]
    except (TypeError, ValueError):
        forms = []
    # Longest first: a compact form must not be found inside of a longer one.
    yield (), sorted(dict.fromkeys(forms), key=len, reverse=True)
    # The description first, as the longer text; a name alone may be anywhere.
    for name in ("description", "name"):
        text = function.get(name) if isinstance(function, Mapping) else None
        if isinstance(text, str) and text.strip():
            yield (name,), [text]


def _free(runs: Sequence[Run], plain: str, text: str) -> Iterator[int]:
    """The places of a text that are all the encoder's own."""
    data = [(start, end) for start, end, (_, origin, _) in placed(runs) if isinstance(origin, Origin)]
    for at in places_of(text, plain, 0, len(plain)):
        if not any(start < at + len(text) and at < end for start, end in data):
            yield at
