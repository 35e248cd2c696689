from __future__ import annotations

from policy_engine.rules.ranges import overlay


def test_a_range_is_laid_over_the_pieces_it_touches_and_no_others() -> None:
    pieces = [(0, 2, 0.0, -1), (2, 4, 0.5, 0)]
    for ranges, expected in (
        ([(2, 3)], [(0, 2, 0.0, -1), (2, 3, 1.0, 7), (3, 4, 0.5, 0)]),
        ([(1, 2)], [(0, 1, 0.0, -1), (1, 2, 1.0, 7), (2, 4, 0.5, 0)]),
        ([(1, 3)], [(0, 1, 0.0, -1), (1, 2, 1.0, 7), (2, 3, 1.0, 7), (3, 4, 0.5, 0)]),
    ):
        assert expected == overlay(pieces, ranges, lambda weight, rule: (1.0, 7))
