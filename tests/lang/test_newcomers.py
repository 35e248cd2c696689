"""Words that newcomers write, and what they are told to write instead."""

from __future__ import annotations

import pytest

from policy_engine.core.errors import PolicyError
from policy_engine.lang.check import check_text
from policy_engine.lang.lint.lint import lint


@pytest.mark.parametrize(
    ("word", "help"),
    [
        ("content", "did you mean `text`, the part that has a message's content?"),
        ("thinking", "did you mean the part `reasoning`?"),
        ("gpt", "ShareGPT's `gpt` is read as `assistant`: write `assistant`,"),
        ("human", "ShareGPT's `human` is read as `user`: write `user`,"),
        ("all", "did you mean `everything`?"),
        ("everythin", "did you mean `everything`?"),
        ("observation", "ShareGPT's `observation` is read as `tool`: write `tool`,"),
    ],
)
def test_words_of_data_formats(word: str, help: str) -> None:
    policy = check_text(f"train {word}")
    (warning,) = policy.warnings
    assert ("PE251", f"{help} else declare it in a dataset file if the data has it") == (warning.code, warning.help)
    assert () == lint(policy)


@pytest.mark.parametrize(
    ("part", "meant"),
    [("content", "text"), ("thinking", "reasoning"), ("arguments", "tool_call.arguments"), ("tool_calls", "tool_call")],
)
def test_words_of_data_formats_for_a_part(part: str, meant: str) -> None:
    with pytest.raises(PolicyError) as error:
        check_text(f"train assistant.{part}")
    assert ["PE202"] == [finding.code for finding in error.value.diagnostics]
    assert f"did you mean `{meant}`?" == error.value.diagnostics[0].help
    check_text(f"train assistant.{meant}")


def test_a_quoted_role_is_meant() -> None:
    (warning,) = check_text('train "content"').warnings
    assert "declare it in a dataset file if the data has it" == warning.help


@pytest.mark.parametrize(
    ("text", "help"),
    [
        (
            "train eos of (assistant, tool)",
            "a relation has one role; repeat it for each: `eos of assistant, eos of tool`",
        ),
        ("train text after (user, tool)", "a relation has one role; repeat it for each: `text after assistant, text "),
        ("train assistant only", "remove it: a rule is about what it names, and nothing else"),
        ("train assistant and user", "targets are listed with commas: `train assistant, user`; "),
        ("train assistant or user", "targets are listed with commas: `train assistant, user`; "),
        ("train assistant where turn.tokens > 5", "did you mean `turn.chars`? It counts the characters"),
        ("train assistant where len(message.content) > 5", "there are no functions; `turn.chars` is the number of"),
        ("train assistant where exists(message.train)", "there are no functions; `has FIELD` asks if a field is there"),
        ("train content of assistant", "did you mean `text`?"),
        ("train thinking of last assistant", "did you mean `reasoning`?"),
        ("train tool_calls of assistant", "did you mean `tool_call`?"),
        ("train flavour of assistant", "parts are `"),
        ("train assistant where turn.length > 5", "did you mean `turn.chars`? It counts the characters"),
    ],
)
def test_words_of_other_languages(text: str, help: str) -> None:
    with pytest.raises(PolicyError) as error:
        check_text(text)
    (finding,) = error.value.diagnostics
    assert str(finding.help).startswith(help)


@pytest.mark.parametrize(
    ("text", "word", "help"),
    [
        ("train only assistant", "only", "`train assistant` trains nothing else"),
        ("mask just last user; train tool", "just", "`mask last user` masks nothing else"),
        ("train the last assistant", "the", "`train last assistant` trains the same"),
        ("train all assistant.text", "all", "`train assistant.text` trains all of them"),
        ("never train only user", "only", "`never train user` is about nothing else"),
    ],
)
def test_words_of_english_before_a_target(text: str, word: str, help: str) -> None:
    with pytest.raises(PolicyError) as error:
        check_text(text)
    (finding,) = error.value.diagnostics
    assert ("PE101", f"there is no `{word}`", help) == (finding.code, finding.message, finding.help)
    assert finding.span is not None
    assert word == finding.span.text
