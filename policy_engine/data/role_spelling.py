"""Roles in the data that look misspelled: unknown, and much like a known one.

asistant     meant as `assistant`
critique     a role of its own: not like enough to `critic`
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from policy_engine.core.bounded import Bounded
from policy_engine.core.suggest import nearest
from policy_engine.core.vocabulary import KNOWN_ROLES
from policy_engine.data.formats import CALL_ROLE, Format

_OTHER_IN_YAML: Final = frozenset({"null", "true", "false", "yes", "no", "on", "off", "y", "n"})
_ALIKE: Final = 0.75
"""Similarity above which an unknown role counts as a typo; high enough that `critique` is not read as `critic`."""
_WORDS: Final = re.compile(r"[^\W\d_]+")
_MOST: Final = 20
"""Doubtful roles that are reported singly."""


class RoleSpelling:
    """Finds roles that look misspelled: not one of the `known`, and much like one.

    `read_as` maps the data's names of authors to the roles they are read as.
    """

    def __init__(self, known: Iterable[str], read_as: Mapping[str, str] | None = None) -> None:
        self._known = frozenset(known)
        self._read_as = dict(read_as or {})
        # Data that names persons has any number of roles.
        self._meant: Bounded[str, str | None] = Bounded(1024)

    @staticmethod
    def of(format: Format, known: Iterable[str] = ()) -> RoleSpelling:
        """The spelling for data of a format: knows the usual roles, the format's own, and `known`."""
        return RoleSpelling({*KNOWN_ROLES, *format.roles, *format.roles.values(), *known} - {CALL_ROLE}, format.roles)

    def knows(self, roles: Iterable[str]) -> bool:
        """True if all roles are known."""
        return self._known.issuperset(roles)

    def meant(self, role: str) -> str | None:
        """The known role that a role was likely meant as; None if it is known or like no other.

        >>> spelling = RoleSpelling(["user", "assistant", "critic"])
        >>> [spelling.meant(role) for role in ("asistant", "critique", "user", "user_a", "tool_call")]
        ['assistant', None, None, None, 'function_call']
        """
        if role in self._known:
            return None
        # Comparing with all known names takes long, and roles come again in every row.
        if role not in self._meant:
            # A call that has a role of its own is no turn of the model, so nothing would train it.
            call = CALL_ROLE if read_elsewhere_as(role) == CALL_ROLE else None
            self._meant.keep(role, call or self._find(role))
        return self._meant[role]

    def read_as(self, role: str) -> str:
        """The role that an author of the data is read as."""
        return self._read_as.get(role, role)

    def _find(self, role: str) -> str | None:
        # `user_a` and `assistant 2` are made from a role on purpose; `User` is not.
        plain = role.strip().lower()
        made_from = set(_WORDS.findall(plain)) - {plain}
        known = sorted(name for name in self._known if name.lower() not in made_from)
        letters = sorted(plain[:60])
        turned = (name for name in known if sorted(name.lower()) == letters)  # `gtp`: short, so like nothing
        return next(turned, None) or nearest(plain, known, cutoff=_ALIKE)


@dataclass(frozen=True, kw_only=True)
class DoubtfulRole:
    """A role of the data that looks misspelled.

    `meant` is the likely spelling, `read_as` the role that this is read as (`human` as `user`), `messages` how many
    messages have the role. `row` is the number of the first row that does, `place` its file and line, empty where not
    known.
    """

    role: str
    meant: str
    read_as: str
    messages: int
    row: int
    place: str = ""


class DoubtfulRoles(dict[str, DoubtfulRole]):
    """Roles of some data that look misspelled, by name; the first 20 that were met."""

    def add(self, found: DoubtfulRole) -> None:
        """Counts a role, in rows after those counted so far."""
        # The first row of a role stays; only its number of messages grows.
        known = self.get(found.role)
        if known is not None:
            found = replace(known, messages=known.messages + found.messages)
        if known is not None or len(self) < _MOST:
            self[found.role] = found

    def add_roles(self, roles: Iterable[str], spelling: RoleSpelling, row: int, *, place: str = "") -> None:
        """Counts those of a row's roles that look misspelled.

        >>> found = DoubtfulRoles()
        >>> found.add_roles(["user", "asistant"], RoleSpelling(["user", "assistant"]), 3)
        >>> [(role.role, role.meant, role.row) for role in found.values()]
        [('asistant', 'assistant', 3)]
        """
        for role in roles:
            meant = spelling.meant(role)
            if meant is not None:
                read_as = spelling.read_as(meant)
                self.add(DoubtfulRole(role=role, meant=meant, read_as=read_as, messages=1, row=row, place=place))

    def name_places(self, where: Callable[[int], object]) -> None:
        """Gives each role the place of its row."""
        self.update({name: replace(found, place=str(where(found.row))) for name, found in self.items()})


_ELSEWHERE: Final = {
    "tool_call": CALL_ROLE, "tool_calls": CALL_ROLE, "function_call": CALL_ROLE, "action": CALL_ROLE,
    "tool_response": "tool", "tool_result": "tool", "function_response": "tool", "function_result": "tool",
    "observation": "tool", "tool_output": "tool", "tool_outputs": "tool", "tool_results": "tool",
    "function": "tool", "ipython": "tool", "environment": "tool",
    "human": "user", "customer": "user", "prompter": "user",
    "assistant_tool_call": CALL_ROLE, "tool_use": CALL_ROLE,
    "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant", "ai": "assistant",
    "agent": "assistant",
    "developer": "system",
}  # fmt: skip
"""Roles as other programs name them (`tool_call` is ms-swift's), with the role that a dataset file may map them to."""


def read_elsewhere_as(role: str) -> str | None:
    """The role that other programs mean by a name; None if unknown.

    `tool_call` is `function_call`, `human_1` is `user`.

    >>> read_elsewhere_as("human"), read_elsewhere_as("user")
    ('user', None)
    """
    # `Human 1`, `human-1` and `HUMAN_1` are one name.
    plain = re.sub(r"[\W_]+", "_", role.strip().lower()).strip("_")
    bare = re.sub(r"_?\d+$", "", plain)
    for name in (plain, bare):
        if name in _ELSEWHERE:
            return _ELSEWHERE[name]
    return bare if bare in KNOWN_ROLES and bare != role else None


def what_to_do(role: str, *, meant: str, read_as: str) -> str:
    """The advice for a role that was likely meant as a known one."""
    if meant == CALL_ROLE:
        declared = as_declared(role, CALL_ROLE)
        return f"if its messages are calls of the assistant as JSON text, say so in a dataset file: {declared}"
    return f"did you mean `{meant}`? Fix the data, or say in a dataset file what it is: {as_declared(role, read_as)}"


def as_declared(role: str, read_as: str) -> str:
    """The line of a dataset file that has a role read as another, in code marks.

    >>> as_declared("tool_call", "function_call"), as_declared("user ", "user")
    ('`messages: {roles: {tool_call: function_call}}`', '`messages: {roles: {"user ": user}}`')
    """
    # YAML takes blanks around a bare word away, and reads `no`, `1` and `a: b` as something else than a text.
    bare = re.fullmatch(r"[A-Za-z_][\w-]*", role, re.ASCII) and role.lower() not in _OTHER_IN_YAML
    return f"`messages: {{roles: {{{role if bare else json.dumps(role, ensure_ascii=False)}: {read_as}}}}}`"
