"""Numbers and names as messages say them."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """A number with its noun, which takes an s unless there is one: `1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def article(name: str) -> str:
    """`a` or `an`, as a name begins; `user` begins like `you`."""
    return "an" if name[:1].lower() in tuple("aeio") or name.lower().startswith("un") else "a"
