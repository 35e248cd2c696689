"""`apply --unroll`: the same samples from every engine, each named, counted, cut, packed and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.errors import DataError
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from policy_engine.run.truncate import Truncation
from tests.cli.support import cli
from tests.run.support import apply_dataset
from tests.support.templates import trl_templates

POLICY = "train assistant; train eos after assistant"
pytestmark = pytest.mark.skipif(not trl_templates(), reason="trl's templates are not installed")


def masker(policy: str = POLICY) -> Masker:
    tokenizer = load_tokenizer("builtin", template=trl_templates()["trl/qwen3"])
    return Masker(compile_text(policy), tokenizer, unroll=True)


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    path = tmp_path / "chats.jsonl"
    lines = []
    for n in range(30):
        turns = [
            [{"role": "user", "content": f"q{n} {t}"}, {"role": "assistant", "content": f"a{n} {t}"}]
            for t in range(n % 3 + 1)
        ]
        lines.append(json.dumps({"messages": [message for turn in turns for message in turn]}))
    path.write_text("\n".join(lines) + "\n")
    return path


def rows(path: Path) -> list[dict[str, Any]]:
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def test_samples_are_named_and_counted(chats: Path, tmp_path: Path) -> None:
    summary = apply_dataset(chats, masker(), tmp_path / "out.parquet")
    assert 20 == summary.rows_unrolled
    made = rows(tmp_path / "out.parquet")
    assert (30, 30, 60, 60) == (summary.rows_in, summary.rows_out, summary.samples, summary.sequences)
    assert [(1, 1, 1), (2, 1, 2), (2, 3, 2), (3, 1, 3)] == [(r["row"], r["turn"], r["samples"]) for r in made[:4]]
    assert "int32" == str(pq.read_schema(tmp_path / "out.parquet").field("turn").type)


def test_engines_make_the_same(chats: Path, tmp_path: Path) -> None:
    apply_dataset(chats, masker(), tmp_path / "one.parquet")
    apply_dataset(chats, masker(), tmp_path / "two.parquet", workers=2, batch_size=4)
    apply_dataset(chats, masker(), f"{tmp_path}/folder/", span_bytes=500, workers=2)
    expected = rows(tmp_path / "one.parquet")
    assert expected == rows(tmp_path / "two.parquet")
    assert expected == rows(tmp_path / "folder")


def test_a_run_is_not_resumed_as_another_kind(chats: Path, tmp_path: Path) -> None:
    folder = f"{tmp_path}/folder/"
    apply_dataset(chats, masker(), folder)
    apply_dataset(chats, masker(), folder, resume=True)
    plain = masker()
    plain.unrolls = False
    with pytest.raises(DataError, match="unrolled"):
        apply_dataset(chats, plain, folder, resume=True)


def test_samples_that_are_cut_or_packed(chats: Path, tmp_path: Path) -> None:
    whole = apply_dataset(chats, masker(), tmp_path / "whole.parquet")
    longest = max(len(r["input_ids"]) for r in rows(tmp_path / "whole.parquet"))
    drop = Truncation(max_length=longest - 1, keep="drop")
    summary = apply_dataset(chats, masker(), tmp_path / "cut.parquet", truncation=drop)
    assert summary.samples + summary.samples_dropped == whole.samples
    assert 30 == summary.rows_out
    assert summary.samples_dropped > 0
    packing = Truncation(max_length=200)
    packed = apply_dataset(chats, masker(), tmp_path / "packed.parquet", truncation=packing, packed=True)
    made = rows(tmp_path / "packed.parquet")
    assert packed.sequences < packed.samples == 60
    assert sorted((r["row"], r["turn"]) for r in rows(tmp_path / "whole.parquet")) == sorted(
        pair for r in made for pair in zip(r["row"], r["turn"], strict=True)
    )


def test_the_account_says_what_was_unrolled(chats: Path, tmp_path: Path) -> None:
    policy, template = tmp_path / "p.policy", tmp_path / "t.jinja"
    policy.write_text(POLICY)
    template.write_text(trl_templates()["trl/qwen3"])
    apply = ["apply", chats, "-p", policy, "-t", "builtin", "-o", tmp_path / "out.parquet", "--overwrite"]
    ran = cli(*apply, "--unroll", "--template", template)
    assert (0, 60) == (ran.code, len(rows(tmp_path / "out.parquet")))
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["rows", "that", "became", "several", "samples", "20"] in lines
    assert ["samples", "of", "all", "rows", "written", "60"] in lines
    assert "no row became several samples" not in ran.out
    # The built-in template leaves history as it was.
    ran = cli(*apply, "--unroll")
    assert ["rows", "that", "became", "several", "samples", "0"] in [line.split() for line in ran.out.splitlines()]
    assert "no row became several samples: one sample of each has all that is trained" in ran.out
    assert 0 == cli(*apply, "--unroll", "--format", "json").document["summary"]["rows_unrolled"]
    ran = cli(*apply)
    assert "several samples" not in ran.out
    assert "unrolled" not in ran.out


def test_masked_context_keeps_the_rule_that_masks_it(chats: Path, tmp_path: Path) -> None:
    policy = "train assistant; mask system, user; train eos after assistant"
    plain = Masker(compile_text(policy), load_tokenizer("builtin"))
    alike = [apply_dataset(chats, m, tmp_path / f"{n}.parquet") for n, m in enumerate([plain, plain.unrolled()])]
    # The built-in template leaves history as it was, so that each row is one sample in both.
    assert alike[0].rules == alike[1].rules
    assert alike[0].tokens == alike[1].tokens
    assert alike[0].rules[1] > 0
    # Where rows become several samples, the context of each counts.
    several = apply_dataset(chats, masker(policy), tmp_path / "several.parquet")
    user = sum(count.masked for count in several.tokens if count.role == "user")
    # The first token of a row has no rule.
    assert user - several.samples == several.rules[1] > alike[0].rules[1]
