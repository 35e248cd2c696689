"""Rows read, rendered and tokenized once, for policies to decide again and again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from policy_engine.chat.segments import RenderedChat, TokenizedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.source import Place
from policy_engine.data.conversation import Conversation
from policy_engine.data.dataset import LOOKED_AT, DatasetSpec, format_seen
from policy_engine.data.files.readers import first_rows, read_rows
from policy_engine.data.formats import Format
from policy_engine.data.pairs import PAIR_KINDS, Judged, Pair, conversations_in, read_judged
from policy_engine.lang.library import read_shipped
from policy_engine.mask.batch import attempt
from policy_engine.report.html.row_articles import RowCells

NO_FILE: Final = "<play>"
"""Name of a policy text that is in no file: its `use` reaches shipped policies only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BoardRow:
    """One row of the data: its tokens, or the error that kept it from having any.

    `number` counts from 1; `place` is its file and line. `words` is its text in lower case, for searching. Rows whose
    ids are given have their `chat` alone: how it is placed in the ids is up to the policy. Two answers, of which one is
    preferred, are two of these, one after the other: `side` is `chosen` or `rejected`, and `judged` what both are of.
    """

    number: int
    place: Place
    conversation: Conversation | None = None
    chat: RenderedChat | None = None
    tokenized: TokenizedChat | None = None
    error: PolicyEngineError | None = None
    words: str = ""
    side: str = ""
    judged: Pair | Judged | None = None


@dataclass(frozen=True, kw_only=True)
class Board:
    """The rows of a dataset with the tokenizer that they were made by.

    `data` is as the command line has it; `description` says how the rows are read, `more` that there are more of them.
    `policy_name` is the file that policies are edited for: their `use` of a quoted path starts from its folder, and
    stays in it. `opening` is the policy text to begin with.
    """

    data: str
    tokenizer: ChatTokenizer
    dataset: DatasetSpec
    description: str
    rows: tuple[BoardRow, ...]
    more: bool
    policy_name: str = NO_FILE
    opening: str = ""
    _cells: dict[int, RowCells] = field(default_factory=dict, compare=False, repr=False)

    def cells(self, index: int) -> RowCells | None:
        """The cells of a row, worked out once; None for a row whose tokens are up to the policy."""
        tokenized = self.rows[index].tokenized
        # The cells depend on the tokens alone: every edition shows them, only the colours differ.
        if tokenized is not None and index not in self._cells:
            self._cells[index] = RowCells(tokenized)
        return self._cells.get(index)


def sample_policy() -> str:
    """The policy to begin with on the sample that comes with the package.

    It is the shipped `default`, with leave for rows with images.

    >>> sample_policy().splitlines()[-1]
    'on media ignore'
    """
    why = "# The sample has rows with images, which its tokenizer alone cannot take."
    return f"{read_shipped('default').text}{why}\non media ignore\n"


def load_board(
    data: str,
    tokenizer: ChatTokenizer,
    *,
    dataset: DatasetSpec | None = None,
    limit: int,
    opening: str,
    policy_name: str = NO_FILE,
) -> Board:
    """Reads the first `limit` rows.

    A row that cannot be read, rendered or tokenized is there with its error.

    Raises ConfigError if the rows have no known shape, and DataError if they cannot be read.
    """
    spec = DatasetSpec() if dataset is None else dataset
    source = read_rows(data)
    first, numbered = first_rows(source, LOOKED_AT)
    format = format_seen(first, source, spec)
    rows: list[BoardRow] = []
    more = False
    for count, (number, row) in enumerate(numbered):
        # Only a row beyond the limit says that there are more: the page says "the first" of them.
        if count == limit:
            more = True
            break
        rows += _board_rows(number, source.where(number), row, format, tokenizer)
    return Board(
        data=data,
        tokenizer=tokenizer,
        dataset=spec,
        description=format.description,
        rows=tuple(rows),
        more=more,
        policy_name=policy_name,
        opening=opening,
    )


def _board_rows(number: int, place: Place, row: Any, format: Format, tokenizer: ChatTokenizer) -> list[BoardRow]:
    if isinstance(row, PolicyEngineError):
        return [BoardRow(number=number, place=place, error=row)]
    told = attempt(conversations_in, row, format)
    if isinstance(told, PolicyEngineError):
        return [BoardRow(number=number, place=place, error=told)]
    # Both answers keep what they are of: the policy decides whether a pair may have an empty answer.
    judged = read_judged(row, format) if format.kind in PAIR_KINDS else None
    made = []
    for side, conversation in told:
        bare = BoardRow(number=number, place=place, conversation=conversation, side=side, judged=judged)
        made.append(_tokenized(bare, conversation, tokenizer))
    return made


def _tokenized(row: BoardRow, conversation: Conversation, tokenizer: ChatTokenizer) -> BoardRow:
    chat = attempt(tokenizer.render, conversation)
    if isinstance(chat, PolicyEngineError):
        return replace(row, error=chat)
    row = replace(row, chat=chat, words=chat.text.lower())
    # Given ids have no tokens of ours; where its text lies in them depends on `on drift`, so on the policy.
    if conversation.given is not None:
        return row
    made = attempt(tokenizer.encode, chat)
    return replace(row, error=made) if isinstance(made, PolicyEngineError) else replace(row, tokenized=made)
