"""A hash of a policy's meaning, the same in every process.

Comments, layout and the names of `let`s do not change it.
"""

from __future__ import annotations

import hashlib
from dataclasses import fields, is_dataclass
from typing import Any

from policy_engine.lang.checked import CheckedPolicy

# Where a policy is written, and what was said about it, does not change what it decides.
_SAYS_NOTHING = frozenset({"span", "source", "warnings", "undeclared"})


def policy_fingerprint(policy: CheckedPolicy) -> str:
    """A SHA-256 in hex. Policies of one fingerprint decide every chat alike.

    >>> from policy_engine.lang.check import check_text
    >>> one, other = check_text("train assistant"), check_text("train assistant;  # answers only")
    >>> policy_fingerprint(one) == policy_fingerprint(other)
    True
    """
    # A literal may hold a lone surrogate (`"\ud800"`), which UTF-8 cannot encode.
    return hashlib.sha256(repr(_plain(policy)).encode("utf-8", "backslashreplace")).hexdigest()


def _plain(value: Any) -> Any:
    """A value as tuples and scalars, without its places in a text.

    Sets are sorted, since their order changes between processes.
    """
    if is_dataclass(value) and not isinstance(value, type):
        named = [(f.name, _plain(getattr(value, f.name))) for f in fields(value) if f.name not in _SAYS_NOTHING]
        # With the name of its class: an `And` and an `Or` of the same operands mean different things.
        return (type(value).__name__, *named)
    if isinstance(value, dict):
        return tuple(sorted((key, _plain(v)) for key, v in value.items()))
    if isinstance(value, (frozenset, set)):
        return tuple(sorted(value))
    if isinstance(value, (tuple, list)):
        return tuple(_plain(v) for v in value)
    return value
