"""A run whose skeletons turn out wrong is made again without them."""

from __future__ import annotations

import os
import sys

import pyarrow.parquet as pq
import pytest

from policy_engine.chat.skeleton import skeletons as module
from policy_engine.chat.skeleton import tree
from policy_engine.chat.skeleton.mismatch import SkeletonMismatch
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from policy_engine.run.backends import in_full
from tests.run.support import CARD, apply_dataset, chat, masker, write_lines
from tests.run.test_shards import contents_of

ROWS = [{"messages": chat(f"Question {n}", f"Answer {n}")} for n in range(60)]


def fresh():
    """A masker whose templates recorded nothing yet."""
    return Masker(compile_text(CARD), masker().tokenizer.with_skeletons(True))


@pytest.fixture
def wrong(monkeypatch):
    """A replay of one row writes another text; every replay from the twentieth on is compared."""
    replay = tree.Tree.replay

    def planted(self, messages, now):
        found = replay(self, messages, now)
        if found is not None and messages[-1]["content"] == "Answer 40":
            found.text = found.text.replace("Answer", "Reply!")
        return found

    monkeypatch.setattr(tree.Tree, "replay", planted)
    monkeypatch.setattr(module, "COMPARED_FIRST", frozenset(range(20, 100)))


@pytest.mark.parametrize("name", ["out.parquet", "out/"])
def test_all_rows_are_made_again(tmp_path, wrong, name):
    data = write_lines(tmp_path / "in.jsonl", ROWS)
    options = {"batch_size": 4, **({"span_bytes": 4_000} if name == "out/" else {})}
    said = []
    apply_dataset(data, fresh(), f"{tmp_path}/{name}", say=said.append, **options)
    assert any("all that was written is made again without skeletons" in line for line in said)
    apply_dataset(data, in_full(fresh()), f"{tmp_path}/full-{name}", **options)
    assert contents_of(tmp_path / name) == contents_of(tmp_path / f"full-{name}")


def test_a_pipe_is_rendered_in_full(tmp_path, wrong, monkeypatch):
    read, write = os.pipe()
    os.write(write, write_lines(tmp_path / "in.jsonl", ROWS).read_bytes())
    os.close(write)
    with os.fdopen(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        apply_dataset("-", fresh(), tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet").num_rows == len(ROWS)


def _all(bound):
    for row in ROWS:
        bound(row["messages"])


def test_a_masker_refuses(wrong):
    bound = fresh()
    with pytest.raises(SkeletonMismatch, match="does not write what the template does"):
        _all(bound)
    again = bound(ROWS[40]["messages"])  # from then on every row is rendered
    assert again.input_ids == in_full(bound)(ROWS[40]["messages"]).input_ids
    assert not in_full(bound).tokenizer.skeletons
