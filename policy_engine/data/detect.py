"""How the rows of a dataset are read, told from the first of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from policy_engine.core.errors import DataError, PolicyEngineError
from policy_engine.data.dataset import DatasetSpec
from policy_engine.data.formats import Format
from policy_engine.data.read_text import Numbered
from policy_engine.data.readers import Rows

LOOKED_AT: Final = 200
"""Rows that the format of a dataset is told from."""


def format_seen(first: Iterable[Numbered], source: Rows, spec: DatasetSpec) -> Format:
    """The format that a dataset file declares, or that the first rows show.

    Raises ConfigError if they have no known shape; DataError if none could be read, with what is wrong with the first.
    """
    bad: list[tuple[int, PolicyEngineError]] = []
    rows = []
    for number, row in first:
        if isinstance(row, PolicyEngineError):
            bad.append((number, row))
        else:
            rows.append(row)
    if bad and not rows:
        number, error = bad[0]
        more = "" if len(bad) == 1 else f"; the {len(bad) - 1} after it could not be read either"
        raise DataError(f"{error.message}{more}", help=error.help).at(source.where(number))
    return spec.format_of(rows)
