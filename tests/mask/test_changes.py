from __future__ import annotations

from policy_engine.core.errors import RowError
from policy_engine.core.source import Place
from policy_engine.mask.compare.changes import _runs
from policy_engine.mask.compare.two_policies import DataDiff
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text


def test_tokens_that_follow_each_other_and_change_alike_are_one_stretch() -> None:
    keys = [(1.0,), (1.0,), (0.0,), (2.0,), (2.0,)]
    assert [(3, 5), (5, 6), (6, 7), (8, 9)] == _runs([3, 4, 5, 6, 8], keys)
    assert [] == _runs([], [])


def test_a_negative_weight_trains_too() -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
    programs = [compile_text(f"train assistant weight {weight}") for weight in (0.5, -1, -0.5)]
    rows = [Masker(program, "builtin")(chat) for program in programs]
    diffs = [DataDiff(old=programs[a], new=programs[b], most=1) for a, b in ((0, 1), (1, 2), (0, 2))]
    for diff, (a, b) in zip(diffs, ((0, 1), (1, 2), (0, 2)), strict=True):
        diff.add(1, Place(file=None, number=1), rows[a], rows[b])
    assert [(2, 0, 0), (0, 2, 0), (0, 0, 2)] == [(d.tokens_more, d.tokens_less, d.tokens_other) for d in diffs]


def test_a_row_that_fails_under_both_policies_is_listed_once() -> None:
    program = compile_text("train assistant")
    diff = DataDiff(old=program, new=program, most=1)
    place, error = Place(file="x.jsonl", number=3), RowError("no role", help="add it")
    diff.add(3, place, error, error)
    assert ([(place, error)], 1, 0) == (diff.failures, diff.failed, diff.rows_changed)
    row = Masker(program, "builtin")([{"role": "assistant", "content": "Yes."}])
    diff.add(4, place, row, error)
    assert "no role (under the new policy only)" == diff.failures[1][1].message
    # No token has two weights, and yet the row changes: one policy writes it and the other does not.
    assert (1, [(4, "masked", "failed")]) == (diff.rows_changed, [(r.number, r.old, r.new) for r in diff.listed])
