"""Numbers, names, fields and kinds of values as messages write them."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, noun: str) -> str:
    """A number with its noun: `1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def article(name: str) -> str:
    """`a` or `an`, by the name's first sound: `an assistant`, `a user`."""
    return "an" if name[:1].lower() in tuple("aeio") or name.lower().startswith("un") else "a"


def field_path(path: Sequence[str | int]) -> str:
    """The path of a field as a policy writes it: `meta.labels[0]`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path).removeprefix(".")
