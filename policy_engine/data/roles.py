"""Roles in the data that look misspelled: none that is known, and much like one that is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from policy_engine.chat.formats import CALL_ROLE, Format
from policy_engine.core.suggest import nearest
from policy_engine.core.vocabulary import KNOWN_ROLES
from policy_engine.data.summary import DoubtfulRole
from policy_engine.mask.masker import Masker

_ALIKE: Final = 0.75
"""How like a known role another has to be, so that `critique` is none that was meant as `critic`."""
_WORDS: Final = re.compile(r"[^\W\d_]+")


class Spelling:
    """Tells roles that look misspelled. Known are the usual roles, those that the policy names, and those that the
    dataset file or the format of the data has."""

    def __init__(self, known: Iterable[str], read_as: Mapping[str, str] | None = None) -> None:
        self._known = frozenset(known)
        self._read_as = dict(read_as or {})
        self._meant: dict[str, str | None] = {}

    @staticmethod
    def of(format: Format, masker: Masker | None = None) -> Spelling:
        """The spelling of data of a format, masked as a masker does."""
        known = {*KNOWN_ROLES, *format.roles, *format.roles.values()} - {CALL_ROLE}
        if masker is not None:
            schema = masker.dataset.to_schema()
            known |= schema.roles | schema.trained_roles | masker.program.policy.roles | masker.tokenizer.model_roles
        return Spelling(known, format.roles)

    def meant(self, role: str) -> str | None:
        """The known role that a role of the data was likely meant as; None for one that is known or like none."""
        if role in self._known:
            return None
        if role not in self._meant:
            if len(self._meant) >= 1024:  # data that names persons has any number of roles
                self._meant.clear()
            self._meant[role] = self._find(role)
        return self._meant[role]

    def doubtful(self, roles: Iterable[str], row: int) -> Iterator[DoubtfulRole]:
        """Those of a row's roles that look misspelled, one for each message that has one."""
        for role in roles:
            meant = self.meant(role)
            if meant is not None:
                yield DoubtfulRole(role=role, meant=meant, read_as=self._read_as.get(meant, meant), messages=1, row=row)

    def _find(self, role: str) -> str | None:
        # `user_a` and `assistant 2` are made from a role on purpose; `User` is not.
        plain = role.strip().lower()
        made_from = set(_WORDS.findall(plain)) - {plain}
        known = sorted(name for name in self._known if name.lower() not in made_from)
        letters = sorted(plain[:60])
        turned = (name for name in known if sorted(name.lower()) == letters)  # `gtp`: short, so like nothing
        return next(turned, None) or nearest(plain, known, cutoff=_ALIKE)
