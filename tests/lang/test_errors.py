"""Broken policies: each gets the diagnostics its fixture lists, with line, column, code and what to write instead."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from policy_engine.core.codes import CODES
from policy_engine.core.errors import PolicyCheckError, PolicyError, PolicySyntaxError
from policy_engine.core.schema import Schema
from policy_engine.lang.check import check, check_text
from policy_engine.lang.parse import MAX_CHARACTERS, MAX_ERRORS, parse, parse_lenient
from tests.lang.fixtures import FOLDER, Case, found, read

CASES = [
    pytest.param(case, id=f"{path.stem}: {case.name}") for path in sorted(FOLDER.glob("*.txt")) for case in read(path)
]


@pytest.mark.parametrize("case", CASES)
def test_fixture(case: Case, tmp_path: Path) -> None:
    assert case.expected == found(case, tmp_path)


def test_there_are_enough_of_them_and_names_are_unique() -> None:
    names = [p.id for p in CASES]
    assert len(set(names)) == len(names) >= 100


def test_every_code_of_the_language_has_a_fixture() -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("*.txt"))
    # These need characters or sizes that a fixture file should not have; they are tested below.
    others = {"PE107", "PE109"}
    assert {c for c in CODES if c[:3] in ("PE1", "PE2")} - others - {"PE100"} == set(re.findall("PE[12][0-9]{2}", text))


@pytest.mark.parametrize(
    "character",
    ["\x00", "\x07", "\x0b", "\x0c", "\x7f", "\x85", "\u2028", "\u202e", "\u2066", "\ud800", "\ufeff", "\r"],
)
@pytest.mark.parametrize("before", ["# a comment ", "train ", 'train "', "mask /"])
def test_hidden_characters(character: str, before: str) -> None:
    text = f"mask user\n{before}{character}x\ntrian"
    with pytest.raises(PolicySyntaxError) as raised:
        parse(text)
    first, *rest = raised.value.diagnostics
    assert ("PE107", 2, len(before) + 1) == (
        first.code,
        first.span and first.span.line,
        first.span and first.span.column,
    )
    assert f"U+{ord(character):04X}" in first.message
    assert ["PE111"] == [d.code for d in rest]  # and nothing further about that statement


def test_byte_order_mark_and_carriage_returns_of_windows_editors() -> None:
    policy = parse("\ufefftrain assistant,\r\n  user # both\r\n\r\nmask tool\r\n")
    assert parse("train assistant, user; mask tool") == policy
    assert [" both"] == [c.text for c in policy.comments]


def test_a_text_too_long() -> None:
    text = "train assistant\n" * (MAX_CHARACTERS // 16 + 1)
    with pytest.raises(PolicySyntaxError) as raised:
        parse(text)
    assert ["PE109"] == [d.code for d in raised.value.diagnostics]


def test_too_many_errors_are_cut_off_and_said_so() -> None:
    _, errors = parse_lenient("trian x\n" * 500)
    assert len(errors) == MAX_ERRORS
    assert "401 more errors" in errors[-1].message
    # It is where the errors begin that are not listed.
    assert errors[-1].span is not None
    assert MAX_ERRORS == errors[-1].span.line


def test_what_is_nested_too_deep_is_marked_by_one_character() -> None:
    text = "mask user; train " + "(" * 40 + "assistant" + ")" * 40
    _, (error,) = parse_lenient(text)
    assert ("PE108", "(") == (error.code, error.span and error.span.text)


def test_a_relation_with_several_roles_is_repeated() -> None:
    for relation, part in (("of", "eos"), ("after", "text"), ("right after", "text"), ("before", "text")):
        _, (error,) = parse_lenient(f"train text {relation} (assistant, tool)")
        last = relation.split()[-1]
        assert (
            f"a relation has one role; repeat it for each: `{part} {last} assistant, {part} {last} tool`" == error.help
        )


@pytest.mark.parametrize(("size", "shown"), [(38, '"' + 38 * "x" + '"'), (39, '"' + 38 * "x" + "…")])
def test_long_values_are_cut(size: int, shown: str) -> None:
    schema = Schema(fields={"message.train": "boolean"})
    with pytest.raises(PolicyError) as raised:
        check_text(f'train assistant where message.train == "{size * "x"}"', schema=schema)
    assert f"so it never equals `{shown}`, a string" in raised.value.diagnostics[0].message


def test_a_broken_regex_is_reported_once(capfd: pytest.CaptureFixture[str]) -> None:
    """RE2 would write its own line to standard error, beside the diagnostic."""
    with pytest.raises(PolicyError):
        check_text("train assistant where message.name matches /(/")
    assert ("", "") == tuple(capfd.readouterr())


@pytest.mark.parametrize(
    "text", ["(" * 100_000, "train " + "(" * 100_000, "train a where " + "not " * 50_000, "train " + "a," * 10_000]
)
def test_deep_and_long_texts_end_with_a_place(text: str) -> None:
    with pytest.raises(PolicySyntaxError) as raised:
        parse(text)
    (error,) = raised.value.diagnostics
    assert error.span is not None
    assert 0 <= error.span.start <= error.span.end <= len(text)


def test_an_end_of_file_error_points_behind_the_last_token() -> None:
    _, (error,) = parse_lenient("train assistant; mask user,  # and\n\n# later\n")
    assert error.span is not None
    assert (1, 28, 0) == (error.span.line, error.span.column, error.span.end - error.span.start)


def test_a_policy_with_syntax_errors_is_checked_too() -> None:
    with pytest.raises(PolicySyntaxError) as raised:
        check_text("train assistant.foo\ntrian user")
    assert ["PE202", "PE111"] == [d.code for d in raised.value.diagnostics]


def test_check_alone_raises_check_errors() -> None:
    with pytest.raises(PolicyCheckError) as raised:
        check(parse("train assistant.foo; on straddle foo"))
    assert ["PE202", "PE215"] == [d.code for d in raised.value.diagnostics]
    assert "PE202" == raised.value.code


def test_errors_pickle() -> None:
    with pytest.raises(PolicyError) as raised:
        check_text("trian user")
    again = pickle.loads(pickle.dumps(raised.value))
    assert raised.value.diagnostics == again.diagnostics
    assert str(raised.value) == str(again)


def test_what_is_quoted_in_a_message_cannot_reach_a_terminal() -> None:
    with pytest.raises(PolicyError) as raised:
        check_text('train "a\\u001b[31m".foo; use "\\u001b.policy"')
    assert "\x1b" not in str(raised.value)
    assert "\x1b" not in "".join(w.message for w in check_text('train "\\u001b"').warnings)
