"""Fields of the data that a policy asks for and that token ids do not show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from policy_engine.lang.ast import Field
from policy_engine.rules.fields_read import fields_read
from policy_engine.rules.program import Program

_SHOWN: Final = frozenset({"role", "content"})
_RENDERED: Final = {"message": _SHOWN, "previous": _SHOWN, "next": _SHOWN, "turn": None, "segment": None}
"""Scopes and fields that follow from the text itself; None: all of the scope.

`result` and `answer` do not: ids of calls, which say who answers what, are in no text.
"""


class Untold:
    """The fields that one policy asks for and that a row may not have."""

    def __init__(self, program: Program) -> None:
        self.fields = tuple(sorted({f for f in fields_read(program.policy) if not _is_rendered(f)}, key=str))

    def of(self, row: Mapping[str, Any], *, source: bool) -> tuple[str, ...]:
        """Names of the fields that a row does not have.

        `source` is true if its messages are known as the data had them.

        >>> from policy_engine.rules.compile import compile_text
        >>> untold = Untold(compile_text("train assistant where message.train == true and sample.good == true"))
        >>> untold.of({"input_ids": [5], "good": True}, source=False)
        ('message.train',)
        """
        # With its source a row has every message's fields; columns beside the messages are another matter.
        asked = [str(f) for f in self.fields if f.scope == "sample" or not source]
        known = {f"sample.{key}" for key in row}
        # `sample.meta.score[0]` is there if the column `meta` is.
        return tuple(name for name in asked if ".".join(name.split(".")[:2]).partition("[")[0] not in known)


def _is_rendered(field: Field) -> bool:
    if field.scope not in _RENDERED:
        return False
    known = _RENDERED[field.scope]
    return known is None or (len(field.path) == 1 and field.path[0] in known)
