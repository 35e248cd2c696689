"""The verbs on models that render by code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.support import CHATS, GOOD, cli
from tests.support.encoder_files import encoder_folder
from tests.support.tokenizers import package

MISTRAL = package("mistral_common") / "data" / "mistral_instruct_tokenizer_240323.model.v3"
ROWS = [[m for m in chat if m["role"] != "system"] for chat in CHATS]


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """Data, and the options of policy and tokenizer."""
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps({"messages": row}) + "\n" for row in ROWS))
    (tmp_path / "p.policy").write_text(GOOD)
    return [str(tmp_path / "chats.jsonl"), "-p", str(tmp_path / "p.policy"), "-t", str(MISTRAL)]


def test_show_and_explain(given: list[str]) -> None:
    shown = cli("show", *given)
    assert (0, True) == (shown.code, "[INST]Hello?[/INST]" in shown.out)
    assert "⟦Hi 世界.</s>⟧" in shown.out
    explained = cli("explain", *given)
    assert 0 == explained.code
    assert "text of message 1 (assistant), from content, from character 0: weight 1" in explained.out


def test_apply_is_the_same_with_workers_and_audit_and_diff_read_it(given: list[str], tmp_path: Path) -> None:
    alone, pooled = tmp_path / "alone.jsonl", tmp_path / "pooled.jsonl"
    assert 0 == cli("apply", *given, "-o", alone).code
    assert 0 == cli("apply", *given, "-o", pooled, "--workers", "2").code
    assert alone.read_text() == pooled.read_text()
    rows = [json.loads(line) for line in alone.read_text().splitlines()]
    assert 3 == len(rows)
    assert all(row["input_ids"][0] == 1 and row["labels"][-1] == 2 for row in rows)
    audited = cli("audit", alone, "-t", MISTRAL, "--format", "json")
    assert 0 == audited.code, audited.err
    assert 3 == audited.document["rows"]


def test_unrolled_and_cut(given: list[str], tmp_path: Path) -> None:
    out = tmp_path / "cut.jsonl"
    ran = cli("apply", *given, "-o", out, "--unroll", "--max-length", "12", "--truncate", "keep_start")
    assert 0 == ran.code, ran.err
    assert all(len(json.loads(line)["input_ids"]) <= 12 for line in out.read_text().splitlines())


def test_tests_of_a_dataset_file_run_on_it(tmp_path: Path) -> None:
    (tmp_path / "p.policy").write_text(GOOD)
    (tmp_path / "d.yaml").write_text(
        f"policy: {tmp_path / 'p.policy'}\ntokenizer: {MISTRAL}\ntests:\n"
        "  - name: answers\n    messages:\n      - {role: user, content: Hi}\n"
        "      - {role: assistant, content: Hello}\n    expect: |\n      <s>[INST]Hi[/INST]⟦Hello</s>⟧\n"
    )
    ran = cli("test", tmp_path / "d.yaml")
    assert 0 == ran.code, ran.out


def test_template_says_what_holds_of_it() -> None:
    ran = cli("template", MISTRAL, "--examples", "20", "--format", "json")
    verdicts = {p["name"]: p["verdict"] for p in ran.document["properties"]}
    assert 0 == ran.code
    assert {"partition": "holds", "injection": "holds", "ends": "holds", "bounded": "holds"}.items() <= verdicts.items()
    assert "does not apply" == verdicts["parity"]


def test_python_encoders_run_with_trust_alone(given: list[str], tmp_path: Path) -> None:
    folder = encoder_folder(tmp_path / "model")
    asked = [*given[:-1], str(folder)]
    refused = cli("show", *asked)
    assert 2 == refused.code
    assert "encoding_ds.py renders for it: read the file" in refused.err
    shown = cli("show", *asked, "--trust-encoder")
    assert (0, True) == (shown.code, "⟦Hi 世界.<｜end▁of▁sentence｜>⟧" in shown.out)
    assert 2 == cli("show", *asked).code
    alone, pooled = tmp_path / "alone.jsonl", tmp_path / "pooled.jsonl"
    assert 0 == cli("apply", *asked, "-o", alone, "--trust-encoder").code
    assert 0 == cli("apply", *asked, "-o", pooled, "--workers", "2", "--trust-encoder").code
    assert alone.read_text() == pooled.read_text()


def test_a_template_file_is_not_taken_with_it(given: list[str], tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text("{{ messages[0].content }}")
    ran = cli("show", *given, "--template", tmp_path / "t.jinja")
    assert 2 == ran.code
    assert "pass the folder it is in" in ran.err
