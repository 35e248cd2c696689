from __future__ import annotations

import pytest

from policy_engine.core.wording import article, counted, field_path


def test_numbers_with_nouns() -> None:
    assert ["0 rows", "1 row", "2,000 rows"] == [counted(n, "row") for n in (0, 1, 2000)]


@pytest.mark.parametrize(("name", "expected"), [("assistant", "an"), ("user", "a"), ("unknown", "an"), ("tool", "a")])
def test_articles(name: str, expected: str) -> None:
    assert expected == article(name)


def test_fields_are_written_as_in_a_policy() -> None:
    assert ["", "content", "meta.labels[0]", "[2].text"] == [
        field_path(path) for path in ((), ("content",), ("meta", "labels", 0), (2, "text"))
    ]
