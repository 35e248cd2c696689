"""Datasets with media through `apply`: layouts, files, cutting, packing."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from policy_engine import ConfigError, Masker, MediaOptions, policy_from_text
from policy_engine.data.dataset import DatasetSpec
from policy_engine.run.apply import apply_dataset
from policy_engine.run.run_options import RunOptions
from policy_engine.run.truncate import KEEPS, Truncation, truncate
from tests.support.media_chats import media_chat, words
from tests.support.pictures import draw, picture, png, processor

POLICY = policy_from_text("train assistant; train eos after assistant; never train user; never train media")


def chat(*content: Any) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[i % 2], "content": c} for i, c in enumerate(content)]


def apply(rows: list[dict[str, Any]], root: Path, name: str = "qwen2_vl", **options: Any) -> tuple[Any, pa.Table]:
    data = root / "data.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    masker = Masker(POLICY, processor(name), media=MediaOptions(root=root))
    summary = apply_dataset(data, masker, root / "out.parquet", RunOptions(overwrite=True, **options))
    return summary, pq.read_table(root / "out.parquet")


def test_layouts_of_trainers_give_the_same_row(tmp_path: Path) -> None:
    draw(tmp_path, "a/1.png", 70, 50)
    draw(tmp_path, "a/2.png", 50, 90)
    first, second = "a/1.png", "a/2.png"
    openai = [{"type": "image_url", "image_url": {"url": first}}, {"type": "text", "text": "and"},
              {"type": "image_url", "image_url": {"url": second}}, {"type": "text", "text": "?"}]  # fmt: skip
    parts = [{"type": "image", "path": first}, {"type": "text", "text": "and"}, {"type": "image", "image": second},
             {"type": "text", "text": "?"}]  # fmt: skip
    bare = [{"type": "image"}, {"type": "text", "text": "and"}, {"type": "image"}, {"type": "text", "text": "?"}]
    rows = [
        {"messages": chat(openai, "Cats.")},
        {"messages": chat(parts, "Cats.")},
        {"messages": chat(bare, "Cats."), "images": [first, second]},
        {"messages": chat("<image>and<image>?", "Cats."), "images": [first, second]},
        {"messages": chat("<image>and<image>?", "Cats."), "image": [first, second]},
    ]
    summary, table = apply(rows, tmp_path)
    assert (5, 0) == (summary.rows_out, summary.rows_failed)
    assert 1 == len({tuple(ids) for ids in table["input_ids"].to_pylist()})
    assert 1 == len({tuple(labels) for labels in table["labels"].to_pylist()})
    for entries in table["media"].to_pylist():
        assert [(first, 70, 50), (second, 50, 90)] == [(m["source"], m["width"], m["height"]) for m in entries]
    llava = {
        "conversations": [{"from": "human", "value": "<image>?"}, {"from": "gpt", "value": "Cat."}],
        "image": first,
    }
    summary, table = apply([llava], tmp_path)
    assert (1, [[first]]) == (summary.rows_out, [[m["source"] for m in e] for e in table["media"].to_pylist()])


def test_bad_rows_fail_alone_and_by_name(tmp_path: Path) -> None:
    draw(tmp_path, "1.png")
    rows = [
        {"messages": chat("<image>?", "Cat."), "images": ["1.png"]},
        {"messages": chat("<image>?", "Cat."), "images": ["2.png"]},
        {"messages": chat("<image><image>?", "Cat."), "images": ["1.png"]},
        {"messages": chat("no mark", "Cat."), "images": ["1.png"]},
        {"messages": chat("<image> <|image_pad|>?", "Cat."), "images": ["1.png"]},
        {"messages": chat("text <image> alone", "Cat.")},
        {"messages": chat("no file <image>?", "Cat."), "images": []},
        {"messages": chat("no image", "Cat."), "images": []},
    ]
    summary, table = apply(rows, tmp_path)
    assert [1, 6, 8] == table["row"].to_pylist()
    assert 5 == summary.rows_failed
    reasons = {failure.row: failure.reason for failure in summary.failures}
    assert "`2.png`" in reasons[2]
    assert "column `images` has 1 image, and the messages have 2 places" in reasons[3]
    assert "has 1 image, and the messages have 0 places" in reasons[4]
    assert "messages[0]" in reasons[5]
    assert "<|image_pad|>" in reasons[5]
    assert {"PE531": 5} == summary.failure_codes
    assert "column `images` has 0 images, and the messages have 1 place" in reasons[7]


def test_parquet_with_image_features(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "messages": [{"role": datasets.Value("string"), "content": datasets.Value("string")}],
            "images": datasets.Sequence(datasets.Image()),
        }
    )
    rows = [{"messages": chat("<image>?", f"Cat {i}."), "images": [picture(60 + 10 * i, 50, i)]} for i in range(3)]
    data = datasets.Dataset.from_list(rows, features=features)
    data.to_parquet(str(tmp_path / "data.parquet"))
    masker = Masker(POLICY, processor("qwen2_vl"))
    summary = apply_dataset(tmp_path / "data.parquet", masker, tmp_path / "out.parquet")
    assert (3, 0) == (summary.rows_out, summary.rows_failed), summary.failures
    table = pq.read_table(tmp_path / "out.parquet")
    assert [60, 70, 80] == [m["width"] for e in table["media"].to_pylist() for m in e]
    mapped = data.map(masker.batch, batched=True, remove_columns=data.column_names)
    assert table["input_ids"].to_pylist() == mapped["input_ids"][:]
    assert table["media"].to_pylist() == mapped["media"][:]
    assert set(masker.features) == set(mapped.column_names)


def test_types_of_openai_are_those_of_the_template(tmp_path: Path) -> None:
    """Its template knows the type `image` alone."""
    draw(tmp_path, "1.png", 70, 50)
    said = [{"type": "text", "text": "?"}]
    rows = [
        {"messages": chat([part, *said], [{"type": "text", "text": "Cat."}])}
        for part in (
            {"type": "image", "path": "1.png"},
            {"type": "input_image", "image_url": "1.png"},
            {"type": "image_url", "image_url": {"url": "1.png", "detail": "low"}},
        )
    ]
    summary, table = apply(rows, tmp_path, "llava_next")
    assert (3, 0) == (summary.rows_out, summary.rows_failed), summary.failures
    assert 1 == len({tuple(ids) for ids in table["input_ids"].to_pylist()})


def test_bytes_in_json_are_base64(tmp_path: Path) -> None:
    import base64

    text = base64.b64encode(png(picture(70, 50))).decode()
    rows = [
        {"messages": chat([{"type": "image", "base64": text}, {"type": "text", "text": "?"}], "Cat.")},
        {"messages": chat([{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{text}"}}], "Cat.")},
    ]
    summary, table = apply(rows, tmp_path)
    assert (2, 0) == (summary.rows_out, summary.rows_failed), summary.failures
    assert [70, 70] == [m["width"] for e in table["media"].to_pylist() for m in e]
    assert [None, None] == [m["source"] for e in table["media"].to_pylist() for m in e]


def test_the_account_counts_the_media_that_are_written(tmp_path: Path) -> None:
    draw(tmp_path, "1.png", 70, 50)
    picture_part = {"type": "image", "path": "1.png"}
    rows = [
        {"messages": chat([picture_part, {"type": "text", "text": "?"}], "A cat.")},
        {"messages": chat([picture_part, {"type": "text", "text": "?"}])},
        {"messages": chat("Hello.", "word " * 40, [picture_part], "A cat.")},
    ]
    summary, table = apply(rows, tmp_path, truncation=Truncation(max_length=40))
    assert (2, 1) == (summary.rows_out, summary.rows_empty)
    assert {"image": 1} == dict(summary.media)
    assert [1, 0] == [len(media) for media in table["media"].to_pylist()]


@pytest.mark.parametrize("name", ["qwen2_vl", "idefics3", "gemma3"])
def test_a_cut_goes_through_no_medium(name: str) -> None:
    masker = Masker(POLICY, processor(name))
    rng = random.Random(name)
    marks = {getattr(processor(name), "image_token_id", None), *processor(name).image_token_ids} - {None}
    for _ in range(6):
        row = masker(media_chat(rng))
        size = len(row.input_ids)
        for length in rng.sample(range(1, size), min(size - 1, 40)):
            for keep in KEEPS:
                cut = truncate(row, Truncation(max_length=length, keep=keep))
                if cut is None:
                    continue
                assert len(cut.input_ids) <= length
                assert all(len(values) == len(cut.input_ids) for n, values in dict(cut).items() if n != "media")
                held: set[int] = set()
                for medium in cut["media"]:
                    own = range(medium["first"], medium["first"] + medium["count"])
                    held |= set(own)
                    (before,) = [m for m in row["media"] if (m["turn"], m["item"]) == (medium["turn"], medium["item"])]
                    start = before["first"]
                    assert cut.input_ids[own.start : own.stop] == row.input_ids[start : start + before["count"]]
                assert held >= {at for at, i in enumerate(cut.input_ids) if i in marks}
                assert cut.labels[0] == -100 or cut.input_ids[0] == row.input_ids[0]


def test_pictures_that_depend_on_each_other_stay_or_go_together() -> None:
    masker = Masker(POLICY, processor("llava_onevision"))
    parts = [{"type": "image", "image": picture(200, 60, at)} for at in range(3)]
    row = masker(chat([*parts, {"type": "text", "text": "What?"}], [{"type": "text", "text": "Cats."}]))
    # About the ends of each picture, seen from either end of the row, and here and there in between.
    ends = {medium["first"] + size for medium in row["media"] for size in (0, medium["count"])}
    ends |= {len(row.input_ids) - end for end in ends}
    near = {end + by for end in ends for by in range(-3, 4)} | set(range(1, len(row.input_ids) + 1, 17))
    assert {0, 3} == {
        len(cut["media"])
        for length in near & set(range(1, len(row.input_ids) + 1))
        for keep in ("keep_start", "keep_end")
        if (cut := truncate(row, Truncation(max_length=length, keep=keep))) is not None
    }


def test_packed_rows_keep_media_with_their_tokens(tmp_path: Path) -> None:
    rng = random.Random(2)
    rows = []
    for at in range(12):
        name = f"{at}.png"
        draw(tmp_path, name, 60, 50, seed=at)
        content = [{"type": "image", "path": name}, {"type": "text", "text": words(rng)}]
        rows.append({"messages": chat(content, [{"type": "text", "text": words(rng)}])})
    _, single = apply(rows, tmp_path, "llava")
    _, packed = apply(rows, tmp_path, "llava", packed=True, truncation=Truncation(max_length=160))
    token = processor("llava").image_token_id
    sources = []
    for row in packed.to_pylist():
        ids = np.array(row["input_ids"])
        starts = np.cumsum([0, *row["seq_lengths"][:-1]])
        assert all(row["labels"][start] == -100 for start in starts)
        for medium in row["media"]:
            own = slice(medium["first"], medium["first"] + medium["count"])
            assert (ids[own] == token).all()
            ids[own] = -1
            sources.append(medium["source"])
        assert token not in ids
    assert sorted(sources) == sorted(m["source"] for e in single["media"].to_pylist() for m in e)


def test_packing_is_refused_where_positions_are_grids(tmp_path: Path) -> None:
    for name, reason in (
        ("qwen2_vl", "positions of a grid"),
        ("gemma3", "see each other"),
        ("llava_onevision", "more of them"),
    ):
        with pytest.raises(ConfigError, match=reason):
            apply([{"messages": chat("Hi", "Ho")}], tmp_path, name, packed=True, truncation=Truncation(max_length=99))


def test_workers_and_shards_give_the_same(tmp_path: Path) -> None:
    draw(tmp_path, "1.png")
    rows = [{"messages": chat("<image>?", f"Cat {i}."), "images": ["1.png"]} for i in range(20)]
    _, one = apply(rows, tmp_path)
    _, two = apply(rows, tmp_path, workers=2, batch_size=4)
    assert one.equals(two)


def test_samples_of_turns_and_a_fast_backend() -> None:
    pytest.importorskip("kitoken")
    first = [{"type": "image", "image": picture(112, 56)}, {"type": "text", "text": "What?"}]
    second = [{"type": "image", "image": picture(56, 56, 1)}, {"type": "text", "text": "And?"}]
    messages = chat(first, [{"type": "text", "text": "A cat."}], second, [{"type": "text", "text": "A dog."}])
    masker = Masker(POLICY, processor("qwen2_vl"))
    whole = masker(messages)
    unrolled = Masker(POLICY, processor("qwen2_vl"), unroll=True).batch({"messages": [messages]})
    assert [whole.labels] == [list(labels) for labels in unrolled["labels"]]  # its template keeps all turns
    assert [[0, 2]] == [[medium["turn"] for medium in entries] for entries in unrolled["media"]]
    fast = masker.tokenizer.qualify_fast((), ["kitoken"])
    assert not isinstance(fast, str), fast
    assert dict(whole) == dict(Masker(POLICY, masker.tokenizer.with_fast(fast))(messages))


def test_pairs_with_pictures(tmp_path: Path) -> None:
    """Pictures are in the prompt of both answers, and go from both when it is cut."""
    for at in (1, 2):
        draw(tmp_path, f"{at}.png", 56 * at, 56, seed=at)
    question = {"role": "user", "content": "<image>and<image>?"}

    def shown(text: str) -> list[dict[str, Any]]:
        return [{"role": "assistant", "content": text}, {"role": "user", "content": "<image>"}]

    rows = [
        {"prompt": [question], "chosen": "A cat.", "rejected": "A dog of some kind.", "images": ["1.png", "2.png"]},
        {"prompt": "Hi", "chosen": shown("Hm."), "rejected": shown("See?"), "images": ["1.png"]},
        {"prompt": "Hi", "chosen": "Hello.", "rejected": "What?"},
    ]
    summary, table = apply(rows, tmp_path)
    assert ["PE531"] == [failure.code for failure in summary.failures]
    assert "the [image 1.png, 56 × 56: 4 tokens] of message 2 is in the answer" in summary.failures[0].reason
    first, third = table.to_pylist()
    assert ([1, 3], []) == ([first["row"], third["row"]], third["media"])
    assert len(first["prompt_ids"]) == len(first["prompt_mm_token_type_ids"])
    assert [("1.png", 4), ("2.png", 8)] == [(m["source"], m["count"]) for m in first["media"]]
    at = [place for place, kind in enumerate(first["prompt_mm_token_type_ids"]) if kind]
    assert at == [m["first"] + i for m in first["media"] for i in range(m["count"])]

    # One token less than all from the first picture on: it goes, with the tokens around it.
    size = len(first["prompt_ids"]) + len(first["rejected_ids"])
    keep = Truncation(max_length=size - first["media"][0]["first"] - 1, keep="keep_end")
    cut = apply(rows, tmp_path, truncation=keep)[1].to_pylist()[0]
    gone = first["media"][0]["first"] + first["media"][0]["count"] + 1
    assert first["prompt_ids"][gone:] == cut["prompt_ids"]
    assert [("2.png", first["media"][1]["first"] - gone)] == [(m["source"], m["first"]) for m in cut["media"]]
    assert [first[f"{side}_labels"] for side in ("chosen", "rejected")] == [
        cut["chosen_labels"],
        cut["rejected_labels"],
    ]
    # Within the second picture from the start: no answer is left.
    short = Truncation(max_length=first["media"][1]["first"] + 2)
    assert [3] == apply(rows, tmp_path, truncation=short)[1]["row"].to_pylist()


def test_a_pair_with_a_picture_and_what_trainers_of_pairs_do_not_take() -> None:
    own = Masker(POLICY, processor("qwen2_vl"))
    pair = own.pair(prompt="<image>?", chosen="A cat.", rejected="No.", images=[picture(56, 56)])
    assert ["image"] == [medium["kind"] for medium in pair["media"]]
    assert list(pair)[-2:] == ["prompt_mm_token_type_ids", "media"]
    reward = Masker(POLICY, processor("qwen2_vl"), dataset=DatasetSpec(pairs="reward"))
    with pytest.raises(ConfigError) as caught:
        reward.pair(prompt="Hi", chosen="A", rejected="B")
    assert "TRL's reward trainer takes no pictures" in str(caught.value.help)
