"""A table of rows to a table of columns, the same as one row at a time."""

from __future__ import annotations

import gc
import json
import pickle
from collections import Counter

import pyarrow as pa
import pytest

from policy_engine.core.errors import RowError
from policy_engine.data.files.read_text import Line
from policy_engine.data.formats import named_format
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from policy_engine.run.batches import BatchMasker, MaskingTransform, TableMasker
from policy_engine.run.columns import schema_of
from policy_engine.run.summary import OF_A_KIND, Counts
from tests.run.support import chat, masked, masker

FORMAT = named_format("messages")
TABLE = pa.table({"messages": [chat("q", "a"), chat("only a question"), chat("r", "b")], "id": [7, 8, 9]})
BROKEN = pa.table({"messages": [chat("q", "a"), None, chat("r", "b")]})


def test_a_table_in_a_table_out():
    transform = MaskingTransform(masker(), FORMAT)
    table = transform(TABLE)
    assert transform.schema == table.schema
    assert [1, 3] == table["row"].to_pylist()
    assert [masked("q", "a").labels, masked("r", "b").labels] == table["labels"].to_pylist()


def test_numbers_from_a_column():
    assert [7, 9] == MaskingTransform(masker(), FORMAT, row_column="id")(TABLE)["row"].to_pylist()


def test_chunked_and_empty_tables():
    transform = MaskingTransform(masker(), FORMAT)
    chunked = pa.concat_tables([TABLE.slice(0, 2), TABLE.slice(2)])
    assert transform(TABLE).equals(transform(chunked))
    assert 0 == transform(TABLE.slice(0, 0)).num_rows


def test_a_row_that_fails_raises_with_its_number():
    with pytest.raises(RowError, match="row 2: column `messages`"):
        MaskingTransform(masker(), FORMAT)(BROKEN)


def test_a_row_that_fails_has_its_reason_in_a_column():
    table = MaskingTransform(masker(), FORMAT, errors="column")(BROKEN)
    assert [1, 2, 3] == table["row"].to_pylist()
    first, second, third = table["error"].to_pylist()
    assert (None, None) == (first, third)
    assert "is null" in second
    assert [] == table["input_ids"].to_pylist()[1]


def test_it_pickles():
    transform = pickle.loads(pickle.dumps(MaskingTransform(masker(), FORMAT)))
    assert MaskingTransform(masker(), FORMAT)(TABLE).equals(transform(TABLE))


def test_one_tokenizer_call_a_batch(monkeypatch):
    calls = []
    kind = type(masker().tokenizer)
    original = kind.encode_batch
    monkeypatch.setattr(
        kind, "encode_batch", lambda self, chats, **kw: calls.append(len(chats)) or original(self, chats, **kw)
    )
    BatchMasker(masker(), FORMAT).mask([(n, {"messages": chat("q", "a")}) for n in range(1, 51)])
    assert [50] == calls


def test_garbage_is_looked_for_between_batches_and_not_in_them(monkeypatch):
    seen = []
    kind = type(masker().tokenizer)
    original = kind.encode_batch

    def encode_batch(self, *given, **options):
        seen.append(gc.isenabled())
        return original(self, *given, **options)

    monkeypatch.setattr(kind, "encode_batch", encode_batch)
    gc.enable()
    MaskingTransform(masker(), FORMAT)(TABLE)
    masker().batch({"messages": [chat("q", "a")]})
    assert seen == [False, False]
    assert gc.isenabled()


def test_counts_of_batches_merge_to_those_of_the_whole():
    rows = [(n, row) for n, row in enumerate([*TABLE.to_pylist(), {"messages": None}, 3] * 6, start=1)]
    batches = BatchMasker(masker(), FORMAT)
    whole = batches.mask(rows).counts
    merged = Counts()
    for start in range(0, len(rows), 4):
        merged.merge(batches.mask(rows[start : start + 4]).counts)
    assert whole == merged
    assert len(whole.failures) == 2 * OF_A_KIND
    assert [6, 6] == list(whole.alike.values())


def test_rows_that_lost_a_piece_merge_to_those_of_the_whole(monkeypatch):
    """Those of a piece are in order and each once, also where pieces are counted together."""
    template = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
    lossy = BatchMasker(
        Masker(compile_text("train assistant; on unrendered warn"), "builtin", template=template), FORMAT
    )
    lost = [{"note": "n"}, {}, {"hint": "h"}, {"note": "n", "hint": "h"}]
    rows = [(n, {"messages": [*chat("q", "a"), {"role": "user", "content": "b", **lost[n % 4]}]}) for n in range(1, 41)]
    whole = lossy.mask(rows).counts
    assert {
        ("user", "hint"): [n for n in range(1, 41) if n % 4 >= 2],
        ("user", "note"): [n for n in range(1, 41) if n % 4 in (0, 3)],
    } == whole.lost_rows
    monkeypatch.setattr("policy_engine.run.summary.LOST_ROWS", 3)
    merged = Counts()
    for start in range(0, len(rows), 7):
        merged.merge(lossy.mask(rows[start : start + 7]).counts)
    assert {("user", "hint"): [2, 3, 6], ("user", "note"): [3, 4, 7]} == merged.lost_rows
    assert whole.unrendered == merged.unrendered
    monkeypatch.setattr("policy_engine.run.summary.MOST_LOST", 0)
    counts = Counts()
    counts.add_lost(Counter({("assistant", "a.x"): 1, ("assistant", "a.y"): 2}), lambda _: (5,))
    counts.add_lost(Counter({("assistant", "a.z"): 1}), lambda _: (4,))
    assert ({("assistant", "a"): 4}, {("assistant", "a"): [4, 5]}) == (counts.unrendered, counts.lost_rows)


def test_a_batch_of_lines_comes_back_from_a_worker_as_it_was_made():
    """Lines are read where rows are masked, and a broken one has the number of its line in the file."""
    rows = [{"messages": chat("q", "a")}, {"messages": chat("é", "ü")}]
    lines = [(4, Line(4, json.dumps(rows[0]).encode())), (105, Line(5, b"{")), (106, rows[1])]
    work = TableMasker(BatchMasker(masker(), FORMAT), schema_of(masker()))
    made = work(lines)
    assert [4, 106] == made.table["row"].to_pylist()
    assert [masked("q", "a").labels, masked("é", "ü").labels] == made.table["labels"].to_pylist()
    assert [(105, "line 5 is not JSON")] == [(number, error.message.partition(":")[0]) for number, error in made.errors]
    again = pickle.loads(pickle.dumps(made))
    assert made.table.equals(again.table, check_metadata=True)
    assert (made.counts, len(made.errors)) == (again.counts, len(again.errors))
    nothing = pickle.loads(pickle.dumps(work([])))
    assert (0, made.table.schema) == (nothing.table.num_rows, nothing.table.schema)
