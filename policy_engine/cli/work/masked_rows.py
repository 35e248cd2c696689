"""Rows of data read and masked one by one, for the verbs that look at single rows."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from policy_engine.chat.tokens.fast_backend import BackendMismatch
from policy_engine.cli.work.inputs import MaskerInputs
from policy_engine.core.errors import ConfigError, DataError, PolicyEngineError, RowError
from policy_engine.core.source import Place
from policy_engine.core.wording import counted
from policy_engine.data.dataset import LOOKED_AT, DatasetSpec, format_seen
from policy_engine.data.files.readers import PIPE, Rows, first_rows, read_rows
from policy_engine.data.formats import Format
from policy_engine.data.pairs import PAIR_KINDS, conversations_in, read_judged
from policy_engine.data.role_spelling import DoubtfulRoles, RoleSpelling
from policy_engine.mask.masker import Masker
from policy_engine.mask.preferences.join import mask_preferences
from policy_engine.mask.row import MaskedRow
from policy_engine.mask.warner import DataWarning


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row of the data, masked or refused.

    `number` counts from 1; `place` is its file and line where known. `side` is `chosen` or `rejected` where the row is
    a pair of answers, which becomes two of these, else empty.
    """

    number: int
    place: Place
    result: MaskedRow | PolicyEngineError
    side: str = ""

    @property
    def name(self) -> str:
        """`row 3`, or `row 3, chosen`.

        >>> Row(number=3, place=Place(file=None, number=3), result=RowError("it is empty"), side="chosen").name
        'row 3, chosen'
        """
        return f"row {self.number}{f', {self.side}' if self.side else ''}"


def masked_rows(
    data: str,
    inputs: MaskerInputs,
    *,
    limit: int | None,
    numbers: Sequence[int],
    say: Callable[[str], None],
    doubtful: DoubtfulRoles | None = None,
) -> Iterator[Row]:
    """The first `limit` rows, or those of the given numbers (from 1), masked one by one.

    `say` gets how the rows are read, and that there are more than `limit`; `doubtful` gets the roles of these rows
    that look misspelled. From a pipe no row more is read than is masked: it may come late.

    Raises ConfigError if the format is not known, RowError if a number is past the end of the data, and what reading
    raises.
    """
    wanted = set(numbers)
    last = max(wanted) if wanted else None
    source = read_rows(data)
    asked = last if last is not None else limit
    # Seen in as many rows as `apply` looks at, however few are shown, so that both read them alike.
    enough = asked if data == PIPE and asked is not None else LOOKED_AT
    format, rows = see_format(source, None, inputs.masker.dataset, enough=enough)
    say(format.description)
    spelling = RoleSpelling.of(format, inputs.masker.known_roles)
    seen = 0
    for index, (number, row) in enumerate(rows, start=1):
        seen = number
        # Numbers skip blank lines, so that the last wanted one may never come.
        if last is not None and number > last:
            break
        # The one more row is not masked: that it is there is all that matters.
        if last is None and limit is not None and index > limit:
            say(f"there are more rows than {limit}: `--limit` shows more, `--row` any one")
            break
        if last is None or number in wanted:
            wanted.discard(number)
            masked, roles = _mask(row, format, inputs.masker)
            if doubtful is not None:
                doubtful.add_roles(roles, spelling, number, place=str(source.where(number)))
            for side, result in masked:
                yield Row(number=number, place=source.where(number), result=result, side=side)
        if last is not None and not wanted:
            break
        if last is None and data == PIPE and index == limit:
            say(f"the pipe's first {counted(index, 'row')}: `--limit` shows more, `--row` any one")
            break
    if wanted:
        missing = min(wanted)
        # Rows after it were seen, so it was there and had nothing.
        if missing < seen:
            raise RowError(
                f"there is no row {missing}: that line of `{data}` is blank",
                help="blank lines are passed over, and counted in the numbers of rows",
            )
        raise RowError(f"there is no row {missing}: the last of `{data}` is {seen}", help="rows count from 1")


def see_format(
    source: Rows, limit: int | None, spec: DatasetSpec, *, enough: int = LOOKED_AT
) -> tuple[Format, Iterator[tuple[int, Any]]]:
    """The format of the rows, declared or seen in the first ones, and the first `limit` rows.

    Where the first `enough` rows show no format, as many as usual are looked at. Raises ConfigError if the rows have no
    known shape, DataError if none of those looked at could be read.
    """
    first, rows = first_rows(islice(source, limit), min(enough, LOOKED_AT))
    try:
        return format_seen(first, source, spec), rows
    except (ConfigError, DataError):
        if enough >= LOOKED_AT:
            raise
    first, rows = first_rows(rows, LOOKED_AT)
    return format_seen(first, source, spec), rows


_Sides = list[tuple[str, "MaskedRow | PolicyEngineError"]]


def _mask(row: Any, format: Format, masker: Masker) -> tuple[_Sides, list[str]]:
    """A row masked or refused, by side, and the roles of its messages if it could be read."""
    roles: list[str] = []
    try:
        if isinstance(row, PolicyEngineError):
            raise row
        told = conversations_in(row, format)
        roles = [message["role"] for _, conversation in told for message in conversation.messages]
        with warnings.catch_warnings():
            # The views say per row what never reached the text.
            warnings.simplefilter("ignore", DataWarning)
            if format.kind not in PAIR_KINDS:
                return [("", masker.mask(told[0][1]))], roles
            made = mask_preferences([read_judged(row, format)], masker.row_masker)[0]
            if isinstance(made, PolicyEngineError):
                raise made
            return [(side, answer.row) for (side, _), answer in zip(told, made.answers)], roles
    except BackendMismatch:
        raise  # no fault of the row
    except PolicyEngineError as error:
        return [("", error)], roles
