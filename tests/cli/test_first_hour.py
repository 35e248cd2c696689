"""The first hour with the tool: what it says where a newcomer goes wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from policy_engine import Masker, policy_from_text
from policy_engine.core.errors import RowError
from tests.cli.support import CHATS, cli, write_chats, write_policy

RAISES = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{{ m.content }}{% endfor %}"
)


def test_the_same_error_three_times_and_a_count(tmp_path: Path) -> None:
    bad = [json.dumps({"messages": [{"role": "user", "content": "a"}] * n + [{"content": "b"}]}) for n in range(1, 31)]
    data = write_chats(tmp_path, [CHATS[0], *bad, "not json"])
    ran = cli("apply", data, "-p", write_policy(tmp_path), "-t", "builtin", "-o", tmp_path / "o.jsonl")
    findings = [line for line in ran.err.splitlines() if "error[" in line]
    assert 5 == len(findings)
    assert ["has no `role`" in line for line in findings[:3]] == [True] * 3
    assert "error[PE501]: 27 more rows fail like the 3 above" in findings[3]
    assert "is not JSON" in findings[4]


def test_rows_that_are_left_out_by_number(tmp_path: Path) -> None:
    empty = [{"role": "user", "content": "a"}]
    data = write_chats(tmp_path, [CHATS[0], *[empty] * 12, "3"])
    arguments = ["apply", data, "-p", write_policy(tmp_path), "-t", "builtin", "-o"]
    text = cli(*arguments, tmp_path / "o.jsonl").out
    (line,) = [line for line in text.splitlines() if line.startswith("rows empty")]
    assert line.rstrip().endswith("12  rows 2, 3, 4, 5, 6, 7, 8, 9, …")
    for out in (f"{tmp_path}/o2.jsonl", f"{tmp_path}/shards/"):
        summary = cli(*arguments, out, "--format", "json").document["summary"]
        assert {"empty": [*range(2, 14)], "failed": [14]} == summary["left_out"]


def test_rows_that_lost_a_field_by_number(tmp_path: Path) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}")
    thinks = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning_content": "Hm."}]
    data = write_chats(tmp_path, [thinks, CHATS[0]] * 15)
    odd = list(range(1, 31, 2))
    asked = ["apply", data, "-t", "builtin", "--template", template, "--format", "json", "-p"]
    for out in (f"{tmp_path}/o.jsonl", f"{tmp_path}/shards/"):
        (lost,) = cli(*asked, write_policy(tmp_path), "-o", out).document["summary"]["unrendered"]
        assert {"role": "assistant", "field": "reasoning_content", "messages": 15, "rows": odd} == lost
    strict = write_policy(tmp_path, "train assistant\ntrain eos of assistant\non unrendered error\n")
    summary = cli(*asked, strict, "-o", tmp_path / "none.jsonl").document["summary"]
    assert {"failed": odd} == summary["left_out"]


def test_weights_that_a_plain_trainer_drops(tmp_path: Path) -> None:
    policy = write_policy(tmp_path, "train assistant weight 0.5\ntrain eos after assistant\n")
    ran = cli("apply", write_chats(tmp_path), "-p", policy, "-t", "builtin", "-o", tmp_path / "o.jsonl")
    assert "a plain Trainer or SFTTrainer drops the column" in ran.out.replace("\n", " ")


def test_thinking_that_is_lost_names_unroll(tmp_path: Path) -> None:
    template = tmp_path / "t.jinja"
    template.write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if loop.last and m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
        "{{ m.content }}<|im_end|>\n{% endfor %}"
    )
    answer = {"role": "assistant", "content": "a", "reasoning_content": "Hm."}
    user = {"role": "user", "content": "q"}
    data = write_chats(tmp_path, [[user], [user, answer, user, answer], [user, answer, user, answer]])
    ran = cli(
        "apply", data, "-p", write_policy(tmp_path), "-t", "builtin", "--template", template, "-o", tmp_path / "o.jsonl"
    )
    unroll = "`apply --unroll` makes a sample of each turn, in which the template writes it"
    lost = "reasoning_content of 2 assistant messages never reached the text "
    lost += f"(PE403, first in row 2; `--format json` lists the rows); {unroll}\n"
    assert lost in ran.out
    # The same fact in the same words.
    assert lost in cli("init", data, "-t", "builtin", "--template", template, "-o", tmp_path / "start").out
    shown = cli("show", data, "-p", write_policy(tmp_path), "-t", "builtin", "--template", template)
    assert unroll in shown.out


def test_thinking_that_no_turn_keeps_does_not_name_unroll(tmp_path: Path) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}")
    answer = {"role": "assistant", "content": "a", "thinking": "Hm."}
    arguments = [write_chats(tmp_path, [[{"role": "user", "content": "q"}, answer]]), "-p", write_policy(tmp_path)]
    arguments += ["-t", "builtin", "--template", template]
    ran = cli("apply", *arguments, "-o", tmp_path / "o.jsonl")
    assert "thinking of 1 assistant message never reached the text (PE403, row 1)\n" in ran.out
    assert "unroll" not in ran.out + cli("show", *arguments).out


def test_init_on_rows_that_do_not_render(tmp_path: Path) -> None:
    template = tmp_path / "t.jinja"
    template.write_text(RAISES)
    system = [{"role": "system", "content": "s"}, *CHATS[0]]
    arguments = ["-t", "builtin", "--template", template, "-o"]
    late = [[*CHATS[0] * times, *system] for times in (1, 2)]
    ran = cli("init", write_chats(tmp_path, late), *arguments, tmp_path / "none")
    assert 1 == ran.code
    assert "2 rows do not render; the first: " in ran.err
    assert "at message 2 (`system` after `assistant`): no system" in ran.err
    assert "help: change that message to what the template accepts" in ran.err
    assert "next: 2 rows looked at, and not one renders with this template" in ran.out
    assert "policy-engine show" not in ran.out
    some = cli("init", write_chats(tmp_path, [system, CHATS[0]]), *arguments, tmp_path / "some")
    assert 0 == some.code
    assert "next: 1 row does not render (above); then policy-engine show" in some.out


def test_a_template_of_another_tokenizer(tmp_path: Path) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("{% for m in messages %}{% set text = bos_token + m.content %}{{ text }}{% endfor %}")
    ran = cli("show", write_chats(tmp_path), "-p", write_policy(tmp_path), "-t", "builtin", "--template", template)
    assert 1 == ran.code
    # No message is to blame, and no change of the data helps.
    assert "t.jinja writes `bos_token`, and the tokenizer has no such token\n" in ran.err
    assert "help: take template and tokenizer of one model" in ran.err
    assert "message 0" not in ran.err


def test_init_writes_beside_a_name_with_an_ending(tmp_path: Path) -> None:
    data = write_chats(tmp_path)
    for number, name in enumerate(("a.policy", "b.yaml", "c.yml", "d.v2")):
        out = tmp_path / f"out{number}"
        out.mkdir()
        assert 0 == cli("init", data, "-t", "builtin", "-o", out / name).code
        base = name if name == "d.v2" else name[0]
        assert {f"{base}.policy", f"{base}.yaml"} == {path.name for path in out.iterdir()}


def test_init_on_prepared_data_leads_to_audit(tmp_path: Path) -> None:
    path = tmp_path / "prepared.jsonl"
    path.write_text(json.dumps({"input_ids": [1, 2], "labels": [-100, 2]}) + "\n")
    ran = cli("init", path, "-t", "builtin")
    assert 2 == ran.code
    assert f"help: `policy-engine audit {path} -t builtin` says what its labels train" in ran.err


def test_map_with_the_masker_itself() -> None:
    datasets = pytest.importorskip("datasets")
    masker = Masker(policy_from_text("train assistant\ntrain eos after assistant"), "builtin")
    data = datasets.Dataset.from_list([{"messages": CHATS[0]}])
    with pytest.raises(RowError, match=r"map\(masker\.batch, batched=True\)"):
        data.map(masker)


def test_completions_of_verbs_and_options() -> None:
    def complete(words: str) -> list[str]:
        place = {"_POLICY_ENGINE_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
        command = [sys.executable, "-c", "from policy_engine.cli.main import main; main()"]
        root = str(Path(__file__).parents[2])
        made = subprocess.run(
            command, capture_output=True, encoding="utf-8", env={**os.environ, "PYTHONPATH": root, **place}, timeout=120
        )
        return made.stdout.split()

    assert ["apply"] == complete("policy-engine ap")
    assert "--max-length" in complete("policy-engine apply --max")


BEFORE = """\
# A comment that stays.
policy: default
tokenizer: builtin
tests:
  - name: one
    messages: [{role: user, content: Hi}, {role: assistant, content: "Hello\\nyou"}]
    expect: ""   # to be filled in
  - {name: two, messages: [{role: user, content: Hi}], expect: wrong}
  - name: three
    expect: |
      wrong
      too

    messages: [{role: assistant, content: A}]
"""


def test_update_fills_in_what_is_expected(tmp_path: Path) -> None:
    path = tmp_path / "d.yaml"
    path.write_text(BEFORE)
    assert 1 == cli("test", path).code
    ran = cli("test", path, "--update")
    assert 0 == ran.code
    assert f"{path}: 0 of 3 tests passed, 3 updated\n0 passed, 3 updated, 0 failed\n" in ran.out
    assert f"wrote 3 texts into {path}" in ran.out
    after = path.read_text()
    assert "# A comment that stays." in after
    assert "    expect: |   # to be filled in\n      <|im_start|>user\n      Hi<|im_end|>\n" in after
    assert "⟦Hello\n      you<|im_end|>⟧" in after
    assert 0 == cli("test", path).code
    again = cli("test", path, "--update").out
    assert f"{path}: 3 of 3 tests pass\n3 passed, 0 failed\n" in again
    assert "wrote" not in again
    assert after == path.read_text()


def test_errors_come_after_how_rows_are_read(tmp_path: Path) -> None:
    policy = write_policy(tmp_path)
    script = (
        "import sys; from policy_engine.cli.main import main; sys.stderr = sys.stdout; "
        f"sys.argv = ['policy-engine', 'show', {str(write_chats(tmp_path, [*CHATS, '3']))!r}, '-p', {str(policy)!r}, "
        "'-t', 'builtin']; main()"
    )
    root = str(Path(__file__).parents[2])
    ran = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONPATH": root},
        timeout=120,
    )
    starts = [
        ran.stdout.index(text) for text in ("read as OpenAI messages", "error[PE501]", "row 1 · ", "rule  tokens")
    ]
    assert sorted(starts) == starts


def test_rows_of_another_shape_by_number(tmp_path: Path) -> None:
    """Among preferences, a conversation that ends with its answer fails, and is named where the format is said."""
    human, answer = {"from": "human", "value": "Two and two?"}, {"from": "gpt", "value": "Four."}
    judged = {"chosen": answer, "rejected": {"from": "gpt", "value": "Five."}}
    good, answered = {"conversations": [human], **judged}, {"conversations": [human, answer], **judged}
    data = tmp_path / "pairs.jsonl"
    data.write_text("\n".join(map(json.dumps, [good, good, answered, good, {"conversations": [human, answer]}, good])))
    arguments = [data, "-p", "default", "-t", "builtin"]
    ran = cli("apply", *arguments, "-o", tmp_path / "o.jsonl")
    assert "(4 of 6 rows looked at; 2 with another shape: rows 3, 5)" in ran.out
    assert "left_out" not in ran.out
    assert "rows 3, 5" in next(line for line in ran.out.splitlines() if line.startswith("rows failed"))
    assert "pairs.jsonl:3: error[PE501]: column `conversations` ends with an answer (`assistant`)" in ran.err
    assert 1 == ran.code
    assert "2 with another shape: rows 3, 5)" in cli("show", *arguments).out
    assert "2 with another shape: rows 3, 5)" in cli("init", data, "-t", "builtin", "-o", tmp_path / "new").out


def test_init_names_a_row_of_two_answers_once_where_both_lost_the_same_field(tmp_path: Path) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}")
    answers = {
        name: [{"role": "assistant", "content": text, "reasoning_content": "Hm."}]
        for name, text in (("chosen", "a"), ("rejected", "b"))
    }
    data = tmp_path / "pairs.jsonl"
    data.write_text(json.dumps({"prompt": "q", **answers}) + "\n")
    asked = ["init", data, "-t", "builtin", "--template", template, "-o", tmp_path / "starter", "--format", "json"]
    (lost,) = cli(*asked).document["unrendered"]
    assert {"role": "assistant", "field": "reasoning_content", "messages": 2, "rows": [1]} == lost
