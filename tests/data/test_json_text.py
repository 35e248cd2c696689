"""JSON that different programs read differently, or that breaks them, is that row's error."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_engine.core.errors import RowError
from policy_engine.data.files import read_text
from policy_engine.data.files.read_text import Line, read_unread
from policy_engine.data.files.readers import read_rows
from policy_engine.data.json_text import MAX_DEPTH, UNREAD, read_fast, read_json

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


# Pieces of JSON, right and wrong, where readers of it are known to differ.
PIECES = [
    b"NaN", b"-NaN", b"Infinity", b"-Infinity", b"nan", b"-0", b"-0.0", b"1e400", b"-1e-400", b"1E+5", b"01", b"1.",
    b".5", b"+1", b"-", b"9223372036854775808", b"-9223372036854775809", b"18446744073709551616", b"0.1",
    b"2.2250738585072011e-308", b"123456789012345678901234567890.5e-20", b"true", b"nul", b"null", b"{", b"}", b"[",
    b"]", b":", b",", b'"a"', b'"', b"\\", b'{"a":1,"a":2}', b'{"a":1,"\\u0061":2}', b'{"a":{"b":[{"c":1,"c":2}]}}',
    b"[1,]", b'{"a" : 1}', b'{"a":1}x', b"'a'", b"//", b'"\x00"', b'"\x1f"', b'"\x7f"', b'"\t"', b"\t", b"\x0b",
    b"\xc2\xa0", b"\xef\xbb\xbf", b'"\\u0000"', b'"\\ud800"', b'"\\ud83d\\ude00"', b'"\\ude00\\ud83d"',
    b'"\\ud83d\\u0041"', b'"\\uD83D"', b"\\ud83d", b'"\\u12g4"', b'"\\u 123"', b'"\\x41"', b'"\\/"', '"é"'.encode(),
    b'"\xed\xa0\x80"', b'"\xc0\x80"', b'"\xf4\x90\x80\x80"', b"\xff", b"1" * 4300, b"1" * 4301, b"1" * 5000 + b".5",
    b"[" * 100 + b"]" * 100, b"[" * 101 + b"]" * 101, b"[" * 201 + b"]" * 201, b'{"a":' * 300 + b"1" + b"}" * 300,
]  # fmt: skip


def _same(one, other):
    """Equal by value, type and order of keys; numbers bit for bit."""
    if type(one) is float and type(other) is float:
        return struct.pack("d", one) == struct.pack("d", other)
    if type(one) is dict and type(other) is dict:
        return list(one) == list(other) and all(map(_same, one.values(), other.values()))
    if type(one) is list and type(other) is list:
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, RowError):
        return str(one) == str(other)
    return type(one) is type(other) and one == other


def _read(text):
    (_, row), *_ = read_unread([(1, Line(7, text))])
    return row


def _check_alike(text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(read_text, "read_fast", lambda text: UNREAD)
        expected = _read(text)
    assert _same(_read(text), expected), text


@pytest.mark.parametrize("piece", PIECES)
def test_a_line_is_read_alike_with_and_without_jiter(piece):
    for text in (piece, b'{"a": [' + piece + b"]}", b'{"a": "' + piece + b'", "b": 2}'):
        _check_alike(text)


@given(st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map(b"".join) | st.binary(min_size=1, max_size=12))
def test_joined_pieces_are_read_alike(text):
    _check_alike(text)
    _check_alike(b'["' + text + b'"]')


@given(st.floats(), st.integers(0, 25))
def test_numbers_are_read_alike_bit_for_bit(number, digits):
    _check_alike(json.dumps([number]).encode())
    _check_alike(f"[{number:.{digits}e}]".replace("nan", "NaN").replace("inf", "Infinity").encode())


def test_usual_lines_are_read_fast():
    row = {"messages": [{"role": "user", "content": 'say "é" or 😀\n', "n": [1, 2.5, None]}] * 70}
    for text in (json.dumps(row).encode(), json.dumps(row, ensure_ascii=False).encode()):
        assert row == read_fast(text)


def test_lines_are_read_without_jiter(monkeypatch):
    monkeypatch.setattr("policy_engine.data.json_text.from_json", None)
    assert UNREAD is read_fast(GOOD.encode())
    assert json.loads(GOOD) == _read(GOOD.encode())
