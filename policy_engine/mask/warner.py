"""Warnings about the data that a masker reads, each kind once."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field

from policy_engine.data.conversation import Conversation
from policy_engine.data.formats import Format
from policy_engine.data.role_spelling import Spelling, what_to_do
from policy_engine.mask.unrendered import Lost, lost_text


class LostFieldWarning(UserWarning):
    """A piece of a message never reached the text, and the policy does not refuse that.

    The warning is given once per kind.
    """


class QuotedArgumentsWarning(UserWarning):
    """Arguments of calls are JSON text, and the template quotes it once more. Given once."""


class DoubtfulRoleWarning(UserWarning):
    """A role of the data looks misspelled.

    Nothing declares it, and it is much like a role that is declared. The warning is given once per role.
    """


@dataclass(frozen=True, kw_only=True, eq=False)
class Warner:
    """Warnings of one masker; each kind is given once."""

    _spellings: dict[tuple[tuple[str, str], ...], Spelling] = field(default_factory=dict)
    _warned: set[str | tuple[str, str]] = field(default_factory=set)

    def look_at_roles(self, conversation: Conversation, layout: Format, known: frozenset[str]) -> None:
        """Warns of roles that are much like one of the `known`, and not declared."""
        kind = tuple(layout.roles.items())
        if kind not in self._spellings:
            self._spellings[kind] = Spelling.of(layout, known)
        spelling = self._spellings[kind]
        for role in {message["role"] for message in conversation.messages}:
            meant = spelling.meant(role)
            if meant is not None and role not in self._warned:
                self._warned.add(role)
                advice = what_to_do(role, meant=meant, read_as=spelling.read_as(meant))
                warnings.warn(
                    f"nothing declares the role `{role}`, which this row has and maybe others; {advice}",
                    DoubtfulRoleWarning,
                    stacklevel=3,
                )

    def lost(self, lost: Lost) -> None:
        """Warns of pieces that never reached the text."""
        for kind, count in lost.items():
            if kind not in self._warned:
                self._warned.add(kind)
                warnings.warn(
                    f"{lost_text(*kind, count)} never reached the text, in this row and maybe in others; "
                    "`on unrendered error` refuses such rows, `on unrendered ignore` reports no more of it",
                    LostFieldWarning,
                    stacklevel=5,
                )

    def quoted(self) -> None:
        """Warns of arguments that are quoted twice."""
        if "quoted" not in self._warned:
            self._warned.add("quoted")
            warnings.warn(
                "arguments of calls are JSON text in this row and maybe in others, and the template quotes it once "
                "more; say `messages: {arguments: parse}` in a dataset file, or write them as objects",
                QuotedArgumentsWarning,
                stacklevel=5,
            )
