from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from policy_engine.report.view import row_view, source_of
from tests.report.samples import masked
from tests.support.chats import fake_tokens

MESSAGES = [{"role": "user", "content": "Hi 世界"}, {"role": "assistant", "content": "Grüße 👩‍👩‍👧!"}]


def test_counts_and_turns() -> None:
    row = row_view(*masked(MESSAGES), name="row 0")
    assert [(0, "user"), (1, "assistant")] == [(t.turn, t.role) for t in row.turns]
    assert len("Grüße 👩‍👩‍👧!") == row.trained == row.turns[1].trained == row.by_rule[0]
    assert len(row.chat.text) == row.total == sum(row.by_reason.values())


def test_pieces_of_one_character_make_one_cell() -> None:
    def bounds(text: str) -> list[tuple[int, int]]:
        return [(i, i + 1) for i, c in enumerate(text) for _ in c.encode()]

    row = row_view(*masked(MESSAGES, bounds=bounds), name="row 0")
    cells = [cell for turn in row.turns for cell in turn.cells]
    assert list(row.chat.text) == [cell.text for cell in cells]
    assert [3, 3] == [len(cell.tokens) for cell in cells if cell.text in "世界"]


@given(st.integers())
def test_cells_are_the_text_whatever_the_tokens(seed: int) -> None:
    tokenized, _ = masked(MESSAGES)
    tokens = fake_tokens(tokenized.chat, rng=random.Random(seed))
    bounds = list(zip(tokens.starts_T.tolist(), tokens.ends_T.tolist(), strict=True))
    row = row_view(*masked(MESSAGES, bounds=lambda _: bounds), name="row")
    cells = [cell for turn in row.turns for cell in turn.cells]
    assert row.chat.text == "".join(cell.text for cell in cells)
    assert list(range(len(bounds))) == [t.index for cell in cells for t in cell.tokens]


def test_uncovered_characters_are_shown_without_tokens() -> None:
    row = row_view(*masked(MESSAGES, bounds=lambda text: [(5, 9)]), name="row")
    assert row.chat.text == "".join(cell.text for turn in row.turns for cell in turn.cells)
    assert row.total == 1


def test_sources_in_words() -> None:
    tokenized, _ = masked([{"role": "user", "content": [{"type": "text", "text": "a"}]}])
    assert {"template", "content[0].text"} <= {source_of(s) for s in tokenized.chat.segments}
