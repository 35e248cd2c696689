"""`diff --data` with two templates or tokenizers: the rows of which other text is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from policy_engine import Masker, policy_from_text
from policy_engine.mask.compare.two_templates import text_changes
from tests.cli.support import cli, write_policy

USER = {"role": "user", "content": "Two and two?"}
THOUGHT = {"role": "assistant", "reasoning_content": "I count.", "content": "Four."}
PLAIN = {"role": "assistant", "content": " Yes. "}
ROWS = [[USER, THOUGHT, USER, PLAIN], [USER, {"role": "assistant", "content": "So."}]]
OLD = """{%- for m in messages %}<|im_start|>{{ m.role }}
{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}<|im_end|>
{% endfor %}"""
POLICY = "train assistant\ntrain eos of assistant\nnever train user\n"


def compared(folder: Path, new: str, *options: str, rows: list[Any] = ROWS, policy: str = POLICY) -> Any:
    (folder / "old.jinja").write_text(OLD)
    (folder / "new.jinja").write_text(new)
    data = folder / "d.jsonl"
    data.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    sides = ["--template", str(folder / "old.jinja"), "--template", str(folder / "new.jinja")]
    return cli("diff", write_policy(folder, policy), "--data", str(data), "-t", "builtin", *sides, *options)


def test_other_headers_change_no_mask(tmp_path: Path) -> None:
    ran = compared(tmp_path, OLD.replace("{{ m.role }}", "{{ m.role | upper }}"))
    assert 0 == ran.code, ran.out + ran.err
    assert "the same text is trained in 2 rows; the rendered text of 2 rows differs" in ran.out
    ran = compared(tmp_path, OLD, "--format", "github")
    assert (0, "", "") == (ran.code, ran.out, ran.err)


@pytest.mark.parametrize(
    ("new", "changes"),
    [
        # Dropped thinking.
        (
            OLD.replace("if m.reasoning_content", "if m.reasoning_content and loop.last"),
            {
                (1, "reasoning.open", "old only"): ("<think>", ""),
                (1, "reasoning.text", "old only"): ("I count.", ""),
                (1, "reasoning.close", "old only"): ("</think>", ""),
            },
        ),
        # Blanks that are cut.
        (OLD.replace("{{ m.content }}", "{{ m.content | trim }}"), {(3, "text", "text"): (" Yes. ", "Yes.")}),
        # Another end marker, which both rows have.
        (
            OLD.replace("<|im_end|>", "<|end|>"),
            {(1, "eot", "text"): ("<|im_end|>", "<|end|>"), (3, "eot", "text"): ("<|im_end|>", "<|end|>")},
        ),
    ],
)
def test_what_is_trained_is_compared_by_message_and_part(new: str, changes: Any, tmp_path: Path) -> None:
    ran = compared(tmp_path, new, "--format", "json")
    document = ran.document
    first = document["data"]["changed_rows"][0]
    found = {
        (c["turn"], c["part"], c["change"]): tuple("".join(p["text"] for p in c[side]) for side in ("old", "new"))
        for c in first["changes"]
    }
    assert changes == found
    assert (1, 1, "equal") == (ran.code, first["row"], document["comparison"])
    assert {"assistant"} == {place["role"] for place in document["data"]["by_place"]}
    rows = 2 if (1, "eot", "text") in changes else 1
    assert (2, rows) == (document["data"]["rows"], document["data"]["rows_changed"])
    assert "\n" not in compared(tmp_path, new, "--list", "1").out.split("⟦")[1].split("⟧")[0]


def test_how_a_template_cuts_its_text_makes_no_difference() -> None:
    masker = Masker(policy_from_text(POLICY), "builtin", template=OLD)
    pieces = OLD.replace("{{ m.content }}", "{% for c in m.content %}{{ c }}{% endfor %}")
    other = Masker(policy_from_text(POLICY), "builtin", template=pieces)
    assert () == text_changes(masker(ROWS[0]), other(ROWS[0]))


def test_weights_and_two_policies(tmp_path: Path) -> None:
    half = tmp_path / "half.policy"
    half.write_text(POLICY.replace("train assistant\n", "train assistant weight 0.5\n"))
    ran = compared(tmp_path, OLD, "--format", "json")
    assert 0 == ran.code
    data = str(tmp_path / "d.jsonl")
    sides = ["--template", str(tmp_path / "old.jinja"), "--template", str(tmp_path / "new.jinja")]
    ran = cli(
        "diff", write_policy(tmp_path, POLICY), str(half), "--data", data, "-t", "builtin", *sides, "--format", "json"
    )
    assert (1, "trains less") == (ran.code, ran.document["comparison"])
    change = ran.document["data"]["changed_rows"][1]["changes"]
    assert [("text", "weight", [{"text": "So.", "weight": 0.5}])] == [
        (c["part"], c["change"], c["new"]) for c in change
    ]


def test_a_row_that_fails_on_one_side(tmp_path: Path) -> None:
    refusing = "{% if messages[0].content == 'Hi' %}{{ raise_exception('no greeting') }}{% endif %}" + OLD
    rows = [*ROWS, [{"role": "user", "content": "Hi"}, PLAIN], "no row"]
    ran = compared(tmp_path, refusing, rows=rows)
    assert 1 == ran.code
    assert "1 row: written → fails" in ran.out
    assert "(on the new side only)" in ran.err
    assert "1 row cannot be masked on either side" in ran.out
    github = compared(tmp_path, refusing, "--format", "github", "--list", "0", rows=rows).out
    assert "other text is trained of 1 row%0Ahelp: `--list N` lists them" in github


def test_two_tokenizers(tmp_path: Path) -> None:
    compared(tmp_path, OLD)
    data, policy = str(tmp_path / "d.jsonl"), write_policy(tmp_path, POLICY)
    ran = cli(
        "diff", policy, "--data", data, "-t", "builtin", "-t", "builtin", "--template", str(tmp_path / "old.jinja")
    )
    assert (0, True) == (ran.code, "the same text is trained in 2 rows" in ran.out)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ([], "there is nothing to compare with"),
        (["-t", "builtin", "--template", "a"], "there is nothing to compare with"),
        (["-t", "builtin", "-t", "builtin"], "-t means nothing without data"),
        (["--template", "a", "--template", "b", "--template", "c"], "--template is given 3 times"),
    ],
)
def test_what_cannot_be_compared(options: list[str], reason: str, tmp_path: Path) -> None:
    ran = cli("diff", write_policy(tmp_path, POLICY), *options)
    assert (2, True) == (ran.code, reason in ran.err)
