from __future__ import annotations

import pytest

from policy_engine.mask.marks import marked


@pytest.mark.parametrize(
    ("stretches", "expected"),
    [
        ([], "abcd"),
        ([(0, 4, 1.0)], "⟦abcd⟧"),
        ([(0, 1, 0.0), (1, 2, 1.0), (2, 3, 2.0), (3, 4, 0.0)], "a⟦bc⟧d"),
        ([(0, 2, 1.0), (2, 2, 0.0), (2, 4, 1.0)], "⟦abcd⟧"),  # no text, no mark
        ([(0, 2, 0.0), (1, 2, 1.0), (2, 4, -1.0)], "a⟦bcd⟧"),
        ([(1, 3, 1.0), (0, 2, 0.0), (3, 4, 0.0)], "a⟦bc⟧d"),  # one that begins before what is written
    ],
)
def test_what_is_trained_stands_between_marks(stretches: list[tuple[int, int, float]], expected: str) -> None:
    assert expected == marked("abcd", stretches)


def test_weights_stand_after_their_stretch() -> None:
    stretches = [(0, 1, 1.0), (1, 2, 0.5), (2, 3, 0.0), (3, 4, 0.5)]
    assert marked("abcd", stretches, weights=True) == "⟦a×1⟧⟦b×0.5⟧c⟦d×0.5⟧"
