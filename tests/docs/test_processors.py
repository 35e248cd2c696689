"""The page of processors is the table of its results."""

from __future__ import annotations

import json

from benchmarks.media_classes import PAGE, RESULT, page


def test_the_page_is_that_of_the_results() -> None:
    assert page(json.loads(RESULT.read_text(encoding="utf-8"))) == PAGE.read_text(encoding="utf-8")


def test_every_class_is_taken_or_has_a_reason() -> None:
    rows = json.loads(RESULT.read_text(encoding="utf-8"))["classes"]
    assert len(rows) > 170
    for row in rows:
        assert bool(row["refused"]) != bool(row["kinds"]) or row["refused"], row
