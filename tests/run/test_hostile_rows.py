"""Rows that anybody may send: each is masked, or an error that says what to do; nothing after it is lost."""

from __future__ import annotations

import copy
import itertools

import pytest

from policy_engine.core.errors import PolicyEngineError
from policy_engine.data.formats import named_format
from policy_engine.run.batches import BatchMasker
from tests.run.support import chat, masker

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}
SHAPES = {
    "messages": {
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": [{"type": "text", "text": "a"}], "reasoning_content": "r"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "tool_call_id": "c1", "content": "x"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "chat_template_kwargs": {"enable_thinking": True},
    },
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": '{"name": "f", "arguments": {}}'},
        ],
        "system": "s",
        "tools": '[{"name": "f"}]',
    },
    "alpaca": {"instruction": "i", "input": "x", "output": "o", "history": [["a", "b"]], "system": "s"},
    "prompt_completion": {"prompt": "p", "completion": [{"role": "assistant", "content": "c"}]},
}


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


VALUES = [
    None, True, -1, float("nan"), "", "\x00", "\ud800", [], {}, [None], [[]], {"role": "user"}, nested(400), 10**400,
    b"bytes", "[", "[1]", "<|im_end|>",
]  # fmt: skip


def paths(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*path, key))


def changed(row, path, value):
    """The row with another value at a path."""
    if not path:
        return value
    row = copy.deepcopy(row)
    at = row
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return row


@pytest.mark.parametrize(("kind", "unrolled"), [*((kind, False) for kind in SHAPES), ("alpaca", True)])
def test_every_value_in_every_place(kind, unrolled):
    bad = [changed(SHAPES[kind], path, value) for path, value in itertools.product(paths(SHAPES[kind]), VALUES)]
    good = {"messages": {"messages": chat("q", "a")}}.get(kind, SHAPES[kind])
    bound = masker("train assistant where message.weight > 0; train eos after assistant; train assistant")
    batches = BatchMasker(bound.unrolled() if unrolled else bound, named_format(kind))
    # A good row after each: numbers of good rows are even.
    rows = [row for pair in zip(bad, itertools.repeat(good)) for row in pair]
    made = batches.mask(list(enumerate(rows, start=1)))
    counts = made.counts
    assert len(rows) == counts.read == counts.written + counts.empty + sum(counts.codes.values())
    assert [] == [number for number, _ in made.errors if number % 2 == 0]
    assert set(range(2, len(rows) + 1, 2)) <= {int(row["row"][0]) for row in made.rows}
    assert made.errors
    for number, error in made.errors:
        assert isinstance(error, PolicyEngineError), number
        assert "PE000" != error.code, error
        assert error.message
        assert error.help, error


def test_there_are_enough_kinds():
    assert sum(1 for shape in SHAPES.values() for _ in paths(shape)) * len(VALUES) >= 200
