"""The rows that the page shows: filtered, searched, sorted, and a page of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from policy_engine.play.editions import Edition
from policy_engine.report.row_facts import Flag
from policy_engine.report.visible import one_line

Order = Literal["number", "trained share", "tokens"]
ORDERS: Final = get_args(Order)
FILTERS: Final[dict[str, Flag | None]] = {
    "all rows": None,
    "failed": "failed",
    "nothing trained": "empty",
    "straddling tokens": "straddle",
    "ids that drift": "drift",
    "lost fields": "lost",
}
AT_ONCE: Final = 50
"""Rows of one page."""
HEADS: Final = ("row", "tokens", "trained", "%", "", "begins with")


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Filter, bounds, search words and order.

    `low` and `high` bound the trained share (percent, both included); `row` is the number of one row to show alone.

    >>> Choice(search="paris", low=10).order
    'number'
    """

    filter: str = "all rows"
    low: float = 0
    high: float = 100
    search: str = ""
    order: Order = "number"
    row: int | None = None


def chosen(edition: Edition, choice: Choice) -> list[int]:
    """The indices of the rows that a choice leaves, in its order."""
    flag, words = FILTERS.get(choice.filter), choice.search.lower().strip()
    # The whole range is no bound: rows that failed have no share, and are left out only where one is asked for.
    bounded = (choice.low, choice.high) != (0, 100)
    found = []
    for index, (facts, row) in enumerate(zip(edition.facts, edition.board.rows)):
        if flag is not None and flag not in facts.flags:
            continue
        if bounded and ("failed" in facts.flags or not choice.low <= 100 * facts.share <= choice.high):
            continue
        if words and words not in row.words and words not in str(row.error or "").lower():
            continue
        found.append(index)
    if choice.order == "trained share":
        # Stable, so that rows of an equal share stay in the order of the data.
        found.sort(key=lambda index: -edition.facts[index].share)
    elif choice.order == "tokens":
        found.sort(key=lambda index: -edition.facts[index].tokens)
    return found


def to_show(edition: Edition, choice: Choice) -> list[int]:
    """The indices of the rows whose tokens are shown.

    That is the picked row, or the first `AT_ONCE` of the chosen ones.
    """
    # A picked row is shown whatever the filters say: the link or the table named it.
    if choice.row is not None:
        picked = [index for index, row in enumerate(edition.board.rows) if row.number == choice.row]
        # Two for a pair, of which each answer is a row of its own.
        if picked:
            return picked
    return chosen(edition, choice)[:AT_ONCE]


def listing(edition: Edition, choice: Choice) -> list[list[str | int | float]]:
    """The chosen rows as a table with the columns `HEADS`."""
    lines: list[list[str | int | float]] = []
    for index in chosen(edition, choice):
        facts, row = edition.facts[index], edition.board.rows[index]
        opening = row.error.message if row.error is not None else _opening(row.conversation)
        opening = f"{row.side}: {opening}" if row.side else opening
        share = round(100 * facts.share, 1)
        odd = ", ".join(sorted(facts.flags))
        lines.append([row.number, facts.tokens, facts.trained, share, odd, one_line(opening, 70)])
    return lines


def _opening(conversation: object) -> str:
    """The first words of a conversation: those of its first user, else of its first message.

    >>> from policy_engine.data.conversation import Conversation
    >>> _opening(Conversation(messages=({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"})))
    'Hi'
    """
    messages = getattr(conversation, "messages", ())
    users = [message for message in messages if message.get("role") == "user"] or list(messages)
    content = users[0].get("content") if users else ""
    return content if isinstance(content, str) else str(content or "")
