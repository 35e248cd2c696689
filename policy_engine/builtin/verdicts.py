"""Verdicts on fast backends that come with the package, in place of full checks.

A verdict is of one vocabulary with its normalizer and pre-tokenizer, whatever its added tokens are: those are checked
where they are met. It holds for the versions that it was made with, and for no other.

`make verdicts` makes them.
"""

from __future__ import annotations

import functools
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

VERDICTS: Final = Path(__file__).parent / "verdicts.json"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of a full check.

    `vocabulary` and `checks` are checksums (hex): of what decides the ids of text, and of the texts that were compared.
    `difference` says where the backend differs, None if it does not.
    """

    of: str
    vocabulary: str
    backend: str
    version: str
    tokenizers: str
    unicode: str
    """The version of the Unicode tables whose characters were compared."""
    checks: str
    difference: str | None


@functools.cache
def shipped_verdicts(path: Path = VERDICTS) -> tuple[Verdict, ...]:
    """The verdicts of the package."""
    return tuple(Verdict(**entry) for entry in json.loads(path.read_text(encoding="utf-8")))


def shipped_verdict(
    vocabulary: str, *, backend: str, version: str, tokenizers: str, unicode: str, checks: str
) -> Verdict | None:
    """The verdict on a backend for a vocabulary; None where these versions were not compared.

    >>> shipped_verdict("0" * 64, backend="kitoken", version="1", tokenizers="1", unicode="14.0.0", checks="") is None
    True
    """
    asked = (vocabulary, backend, version, tokenizers, checks)
    for known in shipped_verdicts():
        # An older Unicode knows fewer characters, and what it does not know no backend is given.
        same = (known.vocabulary, known.backend, known.version, known.tokenizers, known.checks) == asked
        if same and _numbers(unicode) <= _numbers(known.unicode):
            return known
    return None


def write_verdicts(verdicts: list[Verdict], path: Path = VERDICTS) -> None:
    """Writes the file, one verdict after another in order of their names."""
    made = [asdict(verdict) for verdict in sorted(verdicts, key=lambda verdict: (verdict.of, verdict.backend))]
    assert all(entry.keys() == {field.name for field in fields(Verdict)} for entry in made)
    path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))
