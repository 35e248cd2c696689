"""The error of a template in which tags cannot say what a policy trains."""

from __future__ import annotations

from typing import Final

from policy_engine.core.errors import TemplateError

_HELP: Final = (
    "use rows of `apply` or `Masker`, which have no such limit: trainers, as TRL, take `input_ids` and `labels` as "
    "they are"
)


class UntaggableError(TemplateError):
    """Generation tags cannot say what the policy trains in this template.

    `reason` is one of few sentences; `detail` names the line, the text or the rule. Without a `help` of its own the
    error says what has no such limit.

    >>> UntaggableError("a rule asks for fields of the data", "`train user where has message.x`").reason
    'a rule asks for fields of the data'
    """

    code = "PE410"

    def __init__(self, reason: str, detail: str = "", *, help: str | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason, help=help or _HELP)
        self.reason = reason
        self.detail = detail
