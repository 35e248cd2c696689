from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.support import cli, write_chats, write_policy

POLICY = "train assistant unless message.training == false\ntrain eos after assistant\n"


@pytest.fixture
def args(tmp_path: Path) -> list[str | Path]:
    return [write_chats(tmp_path), "-p", write_policy(tmp_path, POLICY), "-t", "builtin"]


def test_every_segment_with_its_rule(args: list[str | Path]) -> None:
    ran = cli("explain", *args, "--row", "2", "--format", "json")
    assert ran.code == 0
    pieces = [p for e in ran.document["explanations"] for p in e["pieces"]]
    found = {(p["turn"], p["part"]): p["rule"] and p["rule"]["index"] for p in pieces}
    assert (0, 1, None, None) == (found[2, "text"], found[2, "eot"], found[4, "text"], found[3, "text"])


def test_conditions_and_their_values(args: list[str | Path]) -> None:
    ran = cli("explain", *args, "--row", "2", "--turn", "4")
    assert ran.code == 0
    assert "did not hold" in ran.out
    assert "message.training" in ran.out
    assert "False" in ran.out or "false" in ran.out


def test_tokens_by_number_and_by_text(args: list[str | Path]) -> None:
    by_text = cli("explain", *args, "--at", "世", "--format", "json").document["explanations"]
    assert by_text
    assert all(e["token"] is not None and "世" in e["text"] for e in by_text)
    number = str(by_text[0]["token"])
    assert by_text[:1] == cli("explain", *args, "--token", number, "--format", "json").document["explanations"]


def test_text_in_one_message(args: list[str | Path]) -> None:
    def turns(*options: str) -> set[int]:
        found = cli("explain", *args, "--row", "2", "--at", "<|im_end|>", *options, "--format", "json")
        return {piece["turn"] for e in found.document["explanations"] for piece in e["pieces"]}

    assert {0} == turns()
    assert {3} == turns("--turn", "3")
    ran = cli("explain", *args, "--row", "2", "--at", "nowhere", "--turn", "3")
    assert (2, True) == (ran.code, "message 3, as it is rendered, does not contain `nowhere`" in ran.err)
    # A text of another message is none of this one.
    assert 2 == cli("explain", *args, "--row", "2", "--at", "system", "--turn", "3").code


def test_text_of_a_message_that_is_written_inside_of_another(tmp_path: Path, args: list[str | Path]) -> None:
    template = tmp_path / "folded.jinja"
    template.write_text(
        "{% for m in messages if m.role != 'system' %}<|im_start|>{{ m.role }}\n{% if loop.first and messages[0].role "
        "== 'system' %}{{ messages[0].content }}\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    options = ("explain", *args, "--template", template, "--row", "2", "--format", "json")
    assert 0 == cli(*options, "--at", "Be brief.", "--turn", "0").code
    assert 2 == cli(*options, "--at", "Be brief.", "--turn", "1").code
    assert 0 == cli(*options, "--at", "2+2?<|im_end|>", "--turn", "1").code


def test_a_token_by_number_has_no_turn(args: list[str | Path]) -> None:
    ran = cli("explain", *args, "--row", "2", "--token", "1", "--turn", "3")
    assert (2, True) == (ran.code, "--turn means nothing beside it" in ran.err)


@pytest.mark.parametrize("option", [["--token", "9999"], ["--at", "nowhere"], ["--turn", "9"], ["--row", "99"]])
def test_what_the_row_does_not_have(args: list[str | Path], option: list[str]) -> None:
    ran = cli("explain", *args, *option)
    assert ran.code == 2
    assert "error[" in ran.err


def test_a_row_that_fails(tmp_path: Path) -> None:
    chats = write_chats(tmp_path, [[{"role": "user", "content": "x"}], '{"other": 1}'])
    ran = cli("explain", chats, "-p", write_policy(tmp_path), "-t", "builtin", "--row", "2")
    assert ran.code == 1
    assert "chats.jsonl:2: " in ran.err


@pytest.mark.parametrize(
    ("condition", "value"),
    [
        ("has message.tool_calls", "[{'type'"),
        ("has sample.tags", "['a', 'b']"),
        ('sample.tags contains "a"', "['a', 'b']"),
        ("has sample.meta", "{'x': [1]}"),
    ],
)
def test_conditions_on_lists_and_objects(tmp_path: Path, condition: str, value: str) -> None:
    call = {"type": "function", "function": {"name": "w", "arguments": {"c": ["Oslo"]}}}
    messages = [{"role": "user", "content": "Rain?"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    data = tmp_path / "calls.jsonl"
    row = {"messages": messages, "tags": ["a", "b"], "meta": {"x": [1]}}
    data.write_text(json.dumps(row) + "\n", encoding="utf-8")
    policy = write_policy(tmp_path, f"train assistant where {condition}\ntrain eos after assistant\n")
    ran = cli("explain", data, "-p", policy, "-t", "builtin")
    assert (0, "") == (ran.code, ran.err)
    assert f"`{condition}` is true: `{condition.split()[-1 if 'has' in condition else 0]}` is " in ran.out
    assert value in ran.out
