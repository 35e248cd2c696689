"""Files of preferences: columns, counts, truncation, folders; each verb that reads rows reads both sides."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policy_engine.core.errors import ConfigError
from policy_engine.data.dataset import DatasetSpec
from policy_engine.data.formats import named_format
from policy_engine.mask.masker import Masker
from policy_engine.mask.preferences.pair_columns import PAIR_TYPES
from policy_engine.run.batches import MaskingTransform
from policy_engine.run.truncate import Truncation
from tests.cli.support import cli
from tests.run.support import CARD, apply_dataset, masker

ROWS: list[dict[str, Any]] = [
    {"prompt": "Hi", "chosen": "Hello", "rejected": "What?"},
    {"prompt": "Same", "chosen": "a", "rejected": "a"},
    {"prompt": "Count", "chosen": "one two three four five six", "rejected": "no"},
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return file


@pytest.mark.parametrize("pairs", ["dpo", "kto", "reward"])
@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl", "out/"])
def test_columns_of_a_run(data: Path, tmp_path: Path, pairs: Any, name: str) -> None:
    own = Masker(masker().program, masker().tokenizer, dataset=DatasetSpec(pairs=pairs))
    output = f"{tmp_path}/{name}"
    summary = apply_dataset(data, own, output)
    assert (summary.rows_in, summary.rows_out, summary.rows_failed) == (3, 2, 1)
    if name == "out.jsonl":
        rows = [json.loads(line) for line in Path(output).read_text().splitlines()]
    else:
        file = Path(output) / "part-000000.parquet" if name == "out/" else Path(output)
        rows = pq.read_table(file).to_pylist()
    assert list(rows[0]) == ["row", *PAIR_TYPES[pairs]]
    assert [row["row"] for row in rows] == ([1, 1, 3, 3] if pairs == "kto" else [1, 3])
    expected = own.batch({"prompt": ["Hi"], "chosen": ["Hello"], "rejected": ["What?"]})
    for column in PAIR_TYPES[pairs]:
        value = expected[column][0]
        assert rows[0][column] == (value if column == "label" else list(value))


def test_labels_of_a_run(tmp_path: Path) -> None:
    file = tmp_path / "kto.jsonl"
    rows = [{"prompt": "q", "completion": "a", "label": True}, {"prompt": "r", "completion": "b", "label": False}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    apply_dataset(file, masker(), tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert (found["label"].to_pylist(), found.schema.field("label").type) == ([True, False], pa.bool_())


def test_a_pair_is_cut_whole_or_not_at_all(data: Path, tmp_path: Path) -> None:
    sizes = {}
    for keep in ("keep_start", "turn", "drop"):
        cut = Truncation(max_length=14, keep=keep)
        summary = apply_dataset(data, masker(), tmp_path / f"{keep}.jsonl", truncation=cut)
        rows = [json.loads(line) for line in (tmp_path / f"{keep}.jsonl").read_text().splitlines()]
        sizes[keep] = [max(len(r["prompt_ids"]) + len(r[f"{s}_ids"]) for s in ("chosen", "rejected")) for r in rows]
        assert summary.rows_out == len(rows)
        assert summary.rows_truncated == (keep == "keep_start")
        assert summary.rows_too_long == (keep != "keep_start")
    assert sizes["keep_start"] == [13, 14]
    assert sizes["turn"] == sizes["drop"] == [13]
    short = apply_dataset(data, masker(), tmp_path / "short.jsonl", truncation=Truncation(max_length=9))
    assert (short.rows_out, short.rows_too_long) == (0, 2)


def test_the_end_of_a_pair_keeps_one_prompt_for_both(data: Path, tmp_path: Path) -> None:
    """The longer answer says how much of the prompt goes, and it is the same for the other."""

    def rows(name: str, **options: Any) -> list[dict[str, Any]]:
        summary = apply_dataset(data, masker(), tmp_path / name, **options)
        text = (tmp_path / name).read_text() if summary.rows_out else ""
        return [json.loads(line) for line in text.splitlines()]

    whole = rows("whole.jsonl")
    cut = rows("cut.jsonl", truncation=Truncation(max_length=11, keep="keep_end"))
    assert len(whole) == len(cut) == 2
    for before, after in zip(whole, cut, strict=True):
        longest = len(before["prompt_ids"]) + max(len(before[f"{s}_ids"]) for s in ("chosen", "rejected"))
        assert before["prompt_ids"][longest - 11 :] == after["prompt_ids"]
        assert len(before["prompt_ids"]) > len(after["prompt_ids"]) > 0
        for name in ("chosen_ids", "chosen_labels", "rejected_ids", "rejected_labels"):
            assert before[name] == after[name]
    # Of an answer that fills the length alone, no prompt would be left: the pair goes.
    least = min(max(len(r[f"{s}_ids"]) for s in ("chosen", "rejected")) for r in whole)
    assert [] == rows("none.jsonl", truncation=Truncation(max_length=least, keep="keep_end"))


@pytest.mark.parametrize(
    ("options", "reason"), [({"truncation": Truncation(max_length=9), "packed": True}, "are not packed")]
)
def test_options_that_preferences_do_not_take(data: Path, tmp_path: Path, options: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        apply_dataset(data, masker(), tmp_path / "out.parquet", **options)
    with pytest.raises(ConfigError) as caught:
        apply_dataset(data, masker().unrolled(), tmp_path / "out.parquet")
    assert "(--pairs kto)" in str(caught.value.help)


def test_samples_of_turns_are_counted_and_cut_one_by_one(tmp_path: Path) -> None:
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n"
        "{% if m.reasoning_content and loop.last %}({{ m.reasoning_content }})"
        "{% endif %}{{ m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    chat = [
        {"role": "assistant", "content": "b", "reasoning_content": "w"}, {"role": "user", "content": "c"},
        {"role": "assistant", "content": "d " * 20, "reasoning_content": "w"},
    ]  # fmt: skip
    file = tmp_path / "kto.jsonl"
    rows = [{"prompt": "q", "completion": chat, "label": True}, {"prompt": "r", "completion": "b", "label": False}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = Masker(masker("train assistant; train assistant.reasoning").program, "builtin", template=source, unroll=True)
    for name in ("out.parquet", "out/"):
        summary = apply_dataset(file, own, f"{tmp_path}/{name}", workers=1)
        found = pq.read_table(tmp_path / name / "part-000000.parquet" if name == "out/" else tmp_path / name)
        assert found.column_names == ["row", *PAIR_TYPES["kto"], "turn", "samples"]
        named = [found[column].to_pylist() for column in ("row", "turn", "samples", "label")]
        assert named == [[1, 1, 2], [1, 3, 1], [2, 2, 1], [True, True, False]]
        assert (summary.rows_out, summary.samples, summary.rows_unrolled) == (2, 3, 1)
    cut = apply_dataset(file, own, tmp_path / "cut.jsonl", truncation=Truncation(max_length=16, keep="drop"))
    kept = [json.loads(line) for line in (tmp_path / "cut.jsonl").read_text().splitlines()]
    assert [(row["row"], row["turn"]) for row in kept] == [(1, 1), (2, 1)]
    assert (cut.rows_out, cut.rows_too_long) == (2, 0)


def test_counts_are_of_both_sides_and_of_what_carries_loss(data: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.jsonl"
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}]
    file.write_text(json.dumps({"prompt": chat, "chosen": "d", "rejected": "e"}))
    summary = apply_dataset(file, masker(CARD), tmp_path / "out.jsonl")
    count = {(t.role, t.part): (t.trained, t.masked) for t in summary.tokens}
    # Both prompts have the answer `b`, which carries no loss.
    assert count["assistant", "text"] == (2, 2)
    assert count["user", "text"] == (0, 4)


def test_tables_as_other_engines_give_them() -> None:
    rows = pa.Table.from_pylist([row for row in ROWS if row["prompt"] != "Same"])
    made = MaskingTransform(masker(), named_format("preference"))(rows)
    assert made.column_names == ["row", *PAIR_TYPES["dpo"]]
    kto = Masker(masker().program, masker().tokenizer, dataset=DatasetSpec(pairs="kto"))
    marked = MaskingTransform(kto, named_format("preference"), errors="column")(pa.Table.from_pylist(ROWS))
    assert marked["row"].to_pylist() == [1, 1, 2, 3, 3]
    assert marked["label"].to_pylist() == [True, False, False, True, False]
    assert "the same" in marked["error"].to_pylist()[2]


def test_verbs_that_read_rows_read_both_sides(data: Path, tmp_path: Path) -> None:
    shown = cli("show", data, "-p", "default", "-t", "builtin", "--format", "json")
    assert [row["name"] for row in json.loads(shown.out)["rows"]] == [
        "row 1, chosen", "row 1, rejected", "row 3, chosen", "row 3, rejected"
    ]  # fmt: skip
    assert shown.code == 1  # row 2 fails
    page = tmp_path / "page.html"
    assert cli("show", data, "-p", "default", "-t", "builtin", "--html", page).code == 1
    assert page.read_text().count(", rejected</a>") == 2
    for side, word in ((None, "Hello"), ("chosen", "Hello"), ("rejected", "What?")):
        more = () if side is None else ("--side", side)
        told = cli("explain", data, "-p", "default", "-t", "builtin", "--row", "1", *more)
        assert (told.code, word in told.out) == (0, True)
    diffed = cli("diff", "default", "last_assistant", "--data", data, "-t", "builtin", "--format", "json")
    assert diffed.code in (0, 1)
    made = cli("init", data, "-t", "builtin", "-o", tmp_path / "starter")
    assert made.code in (0, 1)
    applied = cli("apply", data, "-p", "default", "-t", "builtin", "-o", tmp_path / "o.jsonl", "--pairs", "kto")
    assert applied.code == 1
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 4
