"""Rows with given ids through a run: columns of trainers, carried columns, truncation, packing, unrolling, drift."""

from __future__ import annotations

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from policy_engine import ConfigError, Masker, RowError, load_tokenizer
from policy_engine.data.dataset import DatasetSpec, load_dataset_spec
from policy_engine.rules.compile import compile_text
from policy_engine.run.apply import apply_dataset
from policy_engine.run.run_options import RunOptions
from policy_engine.run.truncate import Truncation

POLICY = "train sampled in everything; never train user, system, tool"
HISTORY = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% if messages[-1].role == 'assistant' and not loop.last %} (earlier){% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CHAT = [
    {"role": "user", "content": "2+2?"},
    {"role": "assistant", "content": "It is four."},
    {"role": "user", "content": "And 3+3?"},
    {"role": "assistant", "content": "Six."},
]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("builtin")


@pytest.fixture(scope="module")
def ids(tokenizer):
    return tokenizer.tokenizer.apply_chat_template(CHAT, tokenize=True, return_dict=False)[:-1]


@pytest.fixture(scope="module")
def start(tokenizer, ids):
    """The first token of the last answer."""
    return next(i for i in range(len(ids)) if tokenizer.tokenizer.decode(ids[i:]) == "Six.<|im_end|>")


def answers(tokenizer, labels) -> str:
    return tokenizer.tokenizer.decode([x for x in labels if x != -100])


def run(tmp_path, rows, tokenizer, *, spec=None, policy=POLICY, **options):
    data = tmp_path / "in.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said: list[str] = []
    masker = Masker(compile_text(policy), tokenizer, dataset=spec)
    summary = apply_dataset(data, masker, tmp_path / "out.parquet", RunOptions(**options), say=said.append)
    return summary, pq.read_table(tmp_path / "out.parquet"), said


class TestColumns:
    @pytest.mark.parametrize(
        ("prompt", "completion", "mask"),
        [
            ("prompt_ids", "completion_ids", None),
            ("prompt_ids", "completion_ids", "env_mask"),  # TRL
            ("prompt_ids", "completion_ids", "completion_mask"),  # prime-rl
            ("prompt_ids", "response_ids", "response_mask"),  # verl
            ("prompts", "responses", "response_mask"),  # verl's batches
            ("prompt_token_ids", "response_token_ids", "response_loss_mask"),  # ms-swift
        ],
    )
    def test_names_of_trainers_are_known(self, tmp_path, tokenizer, ids, start, prompt, completion, mask):
        row = {"messages": CHAT, prompt: ids[:start], completion: ids[start:]}
        row |= {} if mask is None else {mask: [0] + [1] * (len(ids) - start - 1)}
        summary, table, said = run(tmp_path, [row], tokenizer)
        assert summary.rows_out == 1, summary.failures
        assert table["input_ids"].to_pylist() == [ids]
        whole = answers(tokenizer, table["labels"][0].as_py())
        assert whole == "Six.<|im_end|>" if mask is None else "Six.<|im_end|>".endswith(whole)
        assert f"token ids from `{prompt}` and `{completion}` are taken as they are" in said[0]

    def test_a_padded_batch_of_a_trainer(self, tmp_path, tokenizer, ids, start):
        padded = [0, 0, *ids, 0]
        mask = [0, 0, *[1] * len(ids), 0]
        marks = [0] * (start + 2) + [1] * (len(ids) - start) + [0]
        row = {"messages": CHAT, "input_ids": padded, "attention_mask": mask, "response_mask": marks}
        _, table, _ = run(tmp_path, [row], tokenizer)
        assert table["input_ids"].to_pylist() == [ids]
        assert answers(tokenizer, table["labels"][0].as_py()) == "Six.<|im_end|>"

    def test_a_dataset_file_names_and_switches_off(self, tmp_path, tokenizer, ids, start):
        file = tmp_path / "data.yaml"
        file.write_text("messages: {input_ids: tokens, sampled: own}\ncarry: [logprobs]\n")
        spec = load_dataset_spec(file)
        marks = [0] * start + [1] * (len(ids) - start)
        row = {"messages": CHAT, "tokens": ids, "own": marks, "logprobs": [-0.5] * len(ids), "prompt_ids": None}
        _, table, _ = run(tmp_path, [row], tokenizer, spec=spec)
        assert table.column_names == ["row", "input_ids", "labels", "attention_mask", "logprobs"]
        assert answers(tokenizer, table["labels"][0].as_py()) == "Six.<|im_end|>"
        off = DatasetSpec(names={"input_ids": None})
        row = {"messages": CHAT, "input_ids": [1, 2]}
        summary, table, _ = run(tmp_path, [row], tokenizer, spec=off, policy="train assistant", overwrite=True)
        assert summary.rows_out == 1
        assert table["input_ids"][0].as_py()[:-1] == ids

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("carry: logprobs\n", "has to be a list of columns"),
            ("carry: [labels]\n", "which the output has already"),
            ("tests: [{messages: [{role: user, content: a}], sampled: [3], expect: x}]\n", "a list of messages"),
        ],
    )
    def test_a_dataset_file_that_means_nothing(self, tmp_path, text, message):
        (tmp_path / "data.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_dataset_spec(tmp_path / "data.yaml")

    def test_a_row_that_does_not_fit_fails_by_row_and_column(self, tmp_path, tokenizer, ids, start):
        spec = DatasetSpec(carry=("advantages",))
        good = {"messages": CHAT, "prompt_ids": ids[:start], "completion_ids": ids[start:]}
        rows = [
            {**good, "advantages": [1.0] * (len(ids) - start)},
            {**good, "advantages": [1.0]},
            {**good},
            {"messages": CHAT, "advantages": [1.0]},
        ]
        summary, table, _ = run(tmp_path, rows, tokenizer, spec=spec)
        assert [f.row for f in summary.failures] == [2, 3, 4]
        assert "column `advantages` has 1 value, and the row has" in summary.failures[0].reason
        assert "no column `advantages`" in summary.failures[1].reason
        assert "no token ids" in summary.failures[2].reason
        assert table["advantages"][0].as_py() == [0.0] * start + [1.0] * (len(ids) - start)


class TestCarried:
    def row(self, ids, start):
        numbers = [float(i) for i in range(len(ids))]
        return {"messages": CHAT, "prompt_ids": ids[:start], "completion_ids": ids[start:], "at": numbers}

    def test_truncation_cuts_them_alike(self, tmp_path, tokenizer, ids, start):
        spec = DatasetSpec(carry=("at",))
        for keep in ("keep_start", "keep_end"):
            cut = Truncation(max_length=len(ids) - 3, keep=keep)
            _, table, _ = run(tmp_path, [self.row(ids, start)], tokenizer, spec=spec, truncation=cut, overwrite=True)
            (made,) = table.to_pylist()
            assert [ids[int(at)] for at in made["at"]] == made["input_ids"]

    def test_packing_puts_them_beside_their_tokens(self, tmp_path, tokenizer, ids, start):
        spec = DatasetSpec(carry=("at",))
        cut = Truncation(max_length=2 * len(ids))
        rows = [self.row(ids, start)] * 2
        _, table, _ = run(tmp_path, rows, tokenizer, spec=spec, truncation=cut, packed=True)
        (made,) = table.to_pylist()
        assert made["seq_lengths"] == [len(ids)] * 2
        assert [ids[int(at)] for at in made["at"]] == made["input_ids"] == ids * 2

    def test_unrolling_keeps_the_one_context_that_the_ids_are_in(self, tokenizer, ids, start):
        masker = Masker(compile_text(POLICY), tokenizer, dataset=DatasetSpec(carry=("at",)), unroll=True)
        made = masker.batch({name: [value] for name, value in self.row(ids, start).items()})
        assert made["input_ids"][0].tolist() == ids
        assert made["at"][0].tolist() == list(range(len(ids)))
        assert made["samples"].tolist() == [1]
        rewritten = Masker(compile_text("train assistant"), tokenizer, template=HISTORY)
        own = rewritten(CHAT).input_ids
        with pytest.raises(RowError, match="writes what is before message 1 otherwise"):
            rewritten.unrolled().batch({"messages": [CHAT], "input_ids": [own]})

    def test_batch_of_a_dataset(self, tokenizer, ids, start):
        masker = Masker(compile_text(POLICY), tokenizer, dataset=DatasetSpec(carry=("at",)))
        rows = Dataset.from_list([self.row(ids, start)])
        made = rows.map(masker.batch, batched=True, remove_columns=rows.column_names, features=masker.features)
        assert made[0]["at"] == list(range(len(ids)))
        assert answers(tokenizer, made[0]["labels"]) == "Six.<|im_end|>"


class TestDrift:
    def test_error_mask_and_drop(self, tmp_path, tokenizer, ids, start):
        other = tokenizer.tokenizer("Z", add_special_tokens=False)["input_ids"][0]
        bad = [*ids[:start], other, *ids[start + 1 :]]
        rows = [{"messages": CHAT, "prompt_ids": x[:start], "completion_ids": x[start:]} for x in (ids, bad)]
        summary, table, _ = run(tmp_path, rows, tokenizer)
        assert (summary.rows_out, summary.rows_failed, summary.failures[0].code) == (1, 1, "PE541")
        summary, table, _ = run(tmp_path, rows, tokenizer, policy=POLICY + "; on drift drop", overwrite=True)
        assert (summary.rows_out, summary.rows_failed, summary.rows_drifted) == (1, 0, 1)
        assert summary.left_out["drift"] == (2,)
        policy = "train assistant; never train user; on drift mask"
        summary, table, _ = run(tmp_path, rows, tokenizer, policy=policy, overwrite=True)
        assert (summary.rows_out, summary.rows_failed) == (2, 0)
        assert summary.tokens_drifted > 0
        assert [answers(tokenizer, labels) for labels in table["labels"].to_pylist()] == [
            "It is four.Six.",
            "It is four.",
        ]
        masker = Masker(compile_text(POLICY + "; on drift drop"), tokenizer)
        made = masker.batch({name: [row[name] for row in rows] for name in rows[0]})
        assert len(made["input_ids"]) == 1
        assert masker.counts["drift"] == 1


class TestTurns:
    def test_turns_are_rows(self, tmp_path, tokenizer, ids, start):
        at = [i for i in range(len(ids)) if tokenizer.tokenizer.decode([ids[i]]) == "<|im_start|>"]
        cuts = list(zip(at, [*at[1:], len(ids)]))
        roles = ["system", "user", "assistant", "user", "assistant"][-len(cuts) :]
        turns = [{"role": r, "ids": ids[a:b], "sampled": False} for r, (a, b) in zip(roles, cuts)]
        opened = next(i for i in range(cuts[-1][0], len(ids)) if i == start) - cuts[-1][0]
        turns[-1]["sampled"] = [0] * opened + [1] * (len(ids) - start)
        summary, table, said = run(tmp_path, [{"turns": turns}], tokenizer)
        assert summary.rows_out == 1, summary.failures
        assert "nothing is rendered" in said[0]
        assert table["input_ids"].to_pylist() == [ids]
        assert answers(tokenizer, table["labels"][0].as_py()) == "Six.<|im_end|>"
        row = Masker(compile_text(POLICY), tokenizer).mask_turns(turns)
        assert [s.part for s in row.chat.segments if s.turn == len(turns) - 1] == ["header", "text", "eot"]
        assert row.chat.messages[-1]["content"] == "Six."
        assert row.chat.text == tokenizer.tokenizer.decode(ids)

    def test_parts_marks_and_half_characters(self, tokenizer):
        def encode(text):
            return tokenizer.tokenizer(text, add_special_tokens=False)["input_ids"]

        smile = encode("🙂")
        turns = [
            {"role": None, "ids": encode("You help.")},
            {"role": "user", "ids": [*encode("Hi"), *smile[:1]]},
            {"role": "assistant", "ids": encode("think"), "part": "reasoning.text"},
            {"role": "assistant", "ids": encode("Yo"), "part": "text", "logprobs": [-1.0] * len(encode("Yo"))},
        ]
        row = Masker(compile_text("train assistant; mask reasoning"), tokenizer).mask_turns(turns, carry=["logprobs"])
        assert row.chat.text.replace("\ufffd", "?").replace("??", "?") == "You help.Hi?thinkYo"
        assert [(s.turn, s.part) for s in row.chat.segments] == [
            (None, "preamble"), (0, "text"), (1, "reasoning.text"), (1, "text"),
        ]  # fmt: skip
        assert answers(tokenizer, row.labels) == "Yo"
        assert np.flatnonzero(row["logprobs"]).tolist() == [i for i, x in enumerate(row.labels) if x != -100]
        with pytest.raises(RowError, match="does not say it"):
            Masker(compile_text(POLICY), tokenizer).mask_turns(turns)

    @pytest.mark.parametrize(
        ("turns", "message"),
        [
            ([], "holds no turns"),
            ([{"role": "user"}], "has no `ids`"),
            ([{"role": "user", "ids": []}], "no token ids"),
            ([{"role": 3, "ids": [1]}], "has to name the author"),
            ([{"role": "user", "ids": [1], "part": "body"}], "there is no part `body`"),
            ([{"role": None, "ids": [1]}], "no role"),
            ([{"role": "user", "ids": [1], "sampled": [1, 1]}], "2 values, and the row has 1 token id"),
        ],
    )
    def test_what_is_no_turn(self, tokenizer, turns, message):
        with pytest.raises(RowError, match=message):
            Masker(compile_text(POLICY), tokenizer).mask_turns(turns)


def test_a_policy_test_names_the_messages_that_were_sampled(tmp_path, tokenizer):
    from policy_engine.mask.policy_tests import run_tests

    file = tmp_path / "data.yaml"
    file.write_text(
        "tests:\n- messages: [{role: user, content: Hi}, {role: assistant, content: A}, {role: user, content: B}, "
        "{role: assistant, content: C}]\n  sampled: [3]\n  expect: x\n"
    )
    spec = load_dataset_spec(file)
    (result,) = run_tests(spec, Masker(compile_text(POLICY), tokenizer))
    assert result.actual is not None
    assert result.actual.count("⟦") == 1
    assert "⟦C<|im_end|>⟧" in result.actual
