"""JSON that different programs read differently, or that breaks them, is that row's error."""

from __future__ import annotations

import json

import pytest

from policy_engine.core.errors import RowError
from policy_engine.data.files.readers import read_rows
from policy_engine.data.json_text import MAX_DEPTH, read_json

GOOD = '{"messages": [{"role": "user", "content": "q"}]}'
TWICE = '{"messages": [{"role": "user", "role": "tool", "content": "q"}]}'


def nested(depth):
    """A JSON text of so many lists and objects in one another, its outermost included."""
    return '{"a": [' * (depth // 2) + "1" + "]}" * (depth // 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TWICE, "has the key `role` twice in one object"),
        ('{"a": 1, "b": 2, "a": 1}', "has the key `a` twice"),
        ('[{"x": [{"y": {"z": 1, "z": 2}}]}]', "has the key `z` twice"),
        (nested(MAX_DEPTH + 2), "is nested more than 100 deep"),
        ("[" * 101 + "1" + "]" * 101, "is nested more than 100 deep"),
        ("[" * 101 + "]" * 101, "is nested more than 100 deep"),
        (nested(100_000), "is nested more than 100 deep"),
        ("{'a': 1}", "Expecting property name"),
    ],
)
def test_what_is_refused(text, said):
    with pytest.raises(ValueError, match=said):
        read_json(text)


@pytest.mark.parametrize(
    "text", [GOOD, nested(MAX_DEPTH), "[" * 100 + "]" * 100, json.dumps([["["] * 300, {"a": {"a": 1}}])]
)
def test_what_is_read_as_json_reads_it(text):
    assert json.loads(text) == read_json(text)


@pytest.mark.parametrize("bad", [TWICE, nested(400)])
@pytest.mark.parametrize("name", ["in.jsonl", "in.json", "document.json"])
def test_a_row_costs_itself_alone(tmp_path, bad, name):
    path = tmp_path / name
    rows = [GOOD, bad, GOOD]
    text = {"in.jsonl": "\n".join(rows), "in.json": f"[{','.join(rows)}]"}.get(name, f'{{"data": [{",".join(rows)}]}}')
    path.write_text(text)
    (_, first), (number, error), (_, last) = read_rows(path)
    assert json.loads(GOOD) == first == last
    assert 2 == number
    assert isinstance(error, RowError)
    assert error.message.startswith(("line 2 ", "item 2 "))
