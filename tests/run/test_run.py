"""A dataset in, a file for the trainer out: what is written, what is counted, what is left when a run breaks off."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_engine.core.errors import ConfigError, DataError, GuardError, RowError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.data.dataset import DatasetSpec
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from policy_engine.run.truncate import KEEPS, Truncation
from tests.run.support import CARD, apply_dataset, chat, masked, masker, write_lines

ROOT = Path(__file__).parents[2]
ROWS = [{"messages": chat(f"Question {n}", f"Answer {n}", "And?", "No.")} for n in range(10)]


def run(tmp_path, rows, *, policy=CARD, name="out.parquet", **options):
    data = write_lines(tmp_path / "in.jsonl", rows)
    summary = apply_dataset(data, masker(policy), tmp_path / name, **options)
    lost = (
        summary.rows_failed + summary.rows_empty + summary.rows_cut_empty + summary.rows_too_long + summary.rows_drifted
    )
    assert summary.rows_in == summary.rows_out + lost
    # A run that leaves no row writes no file.
    assert bool(summary.rows_out) == (tmp_path / name).exists()
    return summary, (pq.read_table(tmp_path / name) if summary.rows_out and name.endswith(".parquet") else None)


class TestWritten:
    def test_columns_are_those_of_the_masker(self, tmp_path):
        _, table = run(tmp_path, ROWS)
        assert ["row", "input_ids", "labels", "attention_mask"] == table.column_names
        assert [pa.int64(), pa.list_(pa.int32()), pa.list_(pa.int32()), pa.list_(pa.int8())] == table.schema.types
        assert len(ROWS) == table.num_rows
        for n, row in enumerate(table.to_pylist()):
            expected = masked(f"Question {n}", f"Answer {n}", "And?", "No.")
            assert {"row": n + 1, **dict(expected)} == row

    def test_ids_are_those_of_transformers(self, tmp_path):
        _, table = run(tmp_path, ROWS)
        tokenizer = masker().tokenizer.tokenizer
        for row, ids in zip(ROWS, table["input_ids"].to_pylist()):
            assert tokenizer.apply_chat_template(row["messages"], tokenize=True, return_dict=False) == ids

    def test_weights_come_only_with_a_weighted_policy(self, tmp_path):
        _, table = run(tmp_path, ROWS[:2], policy="train assistant weight 0.5")
        assert pa.list_(pa.float32()) == table.schema.field("loss_weights").type
        for row in table.to_pylist():
            assert [0.0 if label == IGNORE_INDEX else 0.5 for label in row["labels"]] == row["loss_weights"]

    def test_the_file_says_what_it_was_made_with(self, tmp_path):
        _, table = run(tmp_path, ROWS[:1])
        made = json.loads(table.schema.metadata[b"policy_engine"])
        assert masker().program.fingerprint == made["policy"]
        assert masker().tokenizer.fingerprint == made["tokenizer"]

    @pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz"])
    def test_json_lines(self, tmp_path, name):
        run(tmp_path, ROWS[:2], name=name)
        data = (tmp_path / name).read_bytes()
        lines = (gzip.decompress(data) if name.endswith("gz") else data).decode().splitlines()
        assert [1, 2] == [json.loads(line)["row"] for line in lines]
        assert masked("Question 0", "Answer 0", "And?", "No.").labels == json.loads(lines[0])["labels"]

    def test_without_row_numbers(self, tmp_path):
        _, table = run(tmp_path, ROWS[:2], row_numbers=False)
        assert ["input_ids", "labels", "attention_mask"] == table.column_names

    @pytest.mark.parametrize("batch_size", [1, 3, 100])
    def test_batches_do_not_show(self, tmp_path, batch_size):
        _, table = run(tmp_path, ROWS, batch_size=batch_size)
        _, whole = run(tmp_path, ROWS, overwrite=True)
        assert whole.equals(table)

    def test_limit(self, tmp_path):
        summary, table = run(tmp_path, ROWS, limit=3)
        assert 3 == summary.rows_in == table.num_rows

    def test_the_same_rows_in_every_shape_give_the_same_tokens(self, tmp_path):
        said = ("q", "a")
        rows = {
            "openai": {"messages": chat(*said)},
            "sharegpt": {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
            "alpaca": {"instruction": "q", "input": "", "output": "a"},
            "pair": {"prompt": "q", "completion": "a"},
            "lists": {"prompt": chat(*said)[:1], "completion": chat(*said)[1:]},
        }
        found = [run(tmp_path, [row], name=f"{name}.parquet")[1]["labels"].to_pylist() for name, row in rows.items()]
        assert [[masked(*said).labels]] * len(rows) == found

    def test_a_dataset_file_says_where_the_messages_are(self, tmp_path):
        spec = DatasetSpec(names={"field": "talk", "role": "who", "content": "what", "roles": {"bot": "assistant"}})
        data = write_lines(
            tmp_path / "in.jsonl", [{"talk": [{"who": "user", "what": "q"}, {"who": "bot", "what": "a"}]}]
        )
        bound = Masker(compile_text(CARD), masker().tokenizer, dataset=spec)
        apply_dataset(data, bound, tmp_path / "out.parquet")
        assert [masked("q", "a").labels] == pq.read_table(tmp_path / "out.parquet")["labels"].to_pylist()


class TestCounted:
    def test_rows_that_fail_are_told_with_place_and_reason(self, tmp_path):
        rows = [
            ROWS[0],
            {"messages": [{"content": "x"}]},
            ROWS[1],
            {"messages": None},
            {"messages": chat("only a question")},
        ]
        summary, table = run(tmp_path, rows)
        assert [1, 3] == table["row"].to_pylist()
        assert (5, 2, 2, 1) == (summary.rows_in, summary.rows_out, summary.rows_failed, summary.rows_empty)
        assert {"PE501": 2} == summary.failure_codes
        first, second = summary.failures
        assert (2, f"{tmp_path / 'in.jsonl'}:2") == (first.row, first.place)
        assert "messages[0] has no `role`" in first.reason
        assert "column `messages` with the messages is null" in second.reason

    def test_broken_lines_do_not_end_the_run(self, tmp_path):
        path = tmp_path / "in.jsonl"
        path.write_text(f"{json.dumps(ROWS[0])}\n{{oops\n{json.dumps(ROWS[1])}\n")
        summary = apply_dataset(path, masker(), tmp_path / "out.parquet")
        assert (2, 1) == (summary.rows_out, summary.rows_failed)
        assert "line 2 is not JSON" in summary.failures[0].reason

    def test_tokens_by_role_and_part_add_up(self, tmp_path):
        rows = [{"messages": chat("Hi", "Hello", system="Be brief.")}, *ROWS]
        summary, table = run(tmp_path, rows)
        labels = [label for row in table["labels"].to_pylist() for label in row]
        assert sum(label != IGNORE_INDEX for label in labels) == summary.tokens_trained
        assert len(labels) == summary.tokens_trained + summary.tokens_masked
        trained = {(count.role, count.part) for count in summary.tokens if count.trained}
        assert {("assistant", "text"), ("assistant", "eot")} == trained
        assert {"system", "user", "assistant"} <= {count.role for count in summary.tokens}

    def test_what_never_reached_the_text(self, tmp_path):
        template = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|im_end|>\n{% endfor %}"
        lossy = Masker(compile_text(CARD), masker().tokenizer, template=template)
        message = {"role": "assistant", "content": "a", "reasoning_content": "thought long"}
        data = write_lines(tmp_path / "in.jsonl", [{"messages": [{"role": "user", "content": "q"}, message]}] * 3)
        summary = apply_dataset(data, lossy, tmp_path / "out.parquet")
        lost = {"role": "assistant", "field": "reasoning_content", "messages": 3, "rows": (1, 2, 3)}
        assert [lost] == summary.to_json()["unrendered"]

    def test_rows_with_control_tokens_in_their_data(self, tmp_path):
        hostile = {"messages": chat("What is <|im_end|>?", "An end marker.")}
        both = {"messages": chat("<|im_end|>, <|im_start|>, <|im_end|>?", "Markers.")}
        summary = run(tmp_path, [*ROWS[:2], hostile, both, *[hostile] * 30], batch_size=3)[0]
        assert 32 == summary.rows_with_control_tokens
        assert [
            {"token": "<|im_end|>", "rows": 32, "first_rows": list(range(3, 23))},
            {"token": "<|im_start|>", "rows": 1, "first_rows": [4]},
        ] == [dict(use, first_rows=list(use["first_rows"])) for use in summary.to_json()["control_tokens"]]

    def test_the_summary_is_json(self, tmp_path):
        summary, _ = run(tmp_path, [*ROWS, 3, {"messages": chat("q")}])
        told = json.loads(json.dumps(summary.to_json()))
        assert summary.tokens_trained == told["tokens_trained"]
        assert 11 == told["failures"][0]["row"]

    def test_the_format_and_the_progress_are_said(self, tmp_path):
        said, steps = [], []
        summary, _ = run(tmp_path, ROWS, say=said.append, progress=steps.append, batch_size=4)
        assert [summary.description] == said
        assert [4, 8, 10] == [step.rows for step in steps]
        assert 1.0 == steps[-1].fraction

    def test_settings_for_empty_rows(self, tmp_path):
        rows = [ROWS[0], {"messages": chat("only a question")}]
        assert 1 == run(tmp_path, rows)[0].rows_empty
        assert 2 == run(tmp_path, rows, policy=CARD + "\non empty keep", overwrite=True)[0].rows_out
        assert {"PE516": 1} == run(tmp_path, rows, policy=CARD + "\non empty error", overwrite=True)[0].failure_codes


class TestTruncatedAndPacked:
    @pytest.mark.parametrize("keep", KEEPS)
    def test_no_row_is_longer_and_all_are_accounted_for(self, tmp_path, keep):
        rows = [*ROWS, {"messages": chat("Hi", "word " * 60)}, {"messages": chat("long " * 60, "Hi")}]
        summary, table = run(tmp_path, rows, truncation=Truncation(max_length=40, keep=keep))
        assert all(len(ids) <= 40 for ids in table["input_ids"].to_pylist())
        assert all(labels[0] == IGNORE_INDEX for labels in table["labels"].to_pylist())
        assert all(any(label != IGNORE_INDEX for label in labels) for labels in table["labels"].to_pylist())
        assert summary.tokens_cut > 0
        if keep == "drop":
            assert 2 == summary.rows_too_long
        if keep == "keep_start":
            assert (0, 1) == (summary.rows_empty, summary.rows_cut_empty)

    def test_packed(self, tmp_path):
        summary, packed = run(tmp_path, ROWS, truncation=Truncation(max_length=100), packed=True, batch_size=4)
        _, plain = run(tmp_path, ROWS, name="plain.parquet")
        assert ["row", "input_ids", "labels", "position_ids", "seq_lengths"] == packed.column_names
        assert packed.num_rows == summary.sequences < summary.rows_out == len(ROWS)
        documents = {}
        for row in packed.to_pylist():
            assert sum(row["seq_lengths"]) == len(row["input_ids"]) <= 100
            start = 0
            for number, length in zip(row["row"], row["seq_lengths"]):
                documents[number] = (row["input_ids"][start : start + length], row["labels"][start : start + length])
                start += length
        expected = {row["row"]: (row["input_ids"], row["labels"]) for row in plain.to_pylist()}
        assert expected == documents

    def test_packing_needs_a_length(self, tmp_path):
        with pytest.raises(ConfigError, match="length of a sequence"):
            run(tmp_path, ROWS, packed=True)


class TestRefused:
    @pytest.mark.parametrize(
        ("make", "reason"),
        [
            (lambda path: None, "does not exist"),
            (lambda path: path.write_bytes(b""), "is empty"),
            (lambda path: path.write_bytes(b"PAR1"), "is a Parquet file"),
            (lambda path: path.mkdir(), "has no data files"),
        ],
    )
    def test_inputs(self, tmp_path, make, reason):
        make(tmp_path / "in.jsonl")
        with pytest.raises(DataError, match=reason) as caught:
            apply_dataset(tmp_path / "in.jsonl", masker(), tmp_path / "out.parquet")
        assert caught.value.help
        assert not (tmp_path / "out.parquet").exists()

    def test_a_dataset_without_messages(self, tmp_path):
        with pytest.raises(ConfigError, match="no conversation found") as caught:
            run(tmp_path, [{"text": "a"}])
        assert "does not say who wrote which part of it" in str(caught.value.help)
        assert not (tmp_path / "out.parquet").exists()

    def test_an_output_that_exists(self, tmp_path):
        (tmp_path / "out.parquet").write_bytes(b"old")
        with pytest.raises(DataError, match="exists"):
            run(tmp_path, ROWS)
        assert b"old" == (tmp_path / "out.parquet").read_bytes()
        assert len(ROWS) == run(tmp_path, ROWS, overwrite=True)[1].num_rows

    @pytest.mark.parametrize("inside", [False, True])
    def test_the_input_as_output(self, tmp_path, inside):
        data = write_lines(tmp_path / "in.jsonl", ROWS)
        with pytest.raises(DataError, match="is also the input"):
            apply_dataset(tmp_path if inside else data, masker(), data, overwrite=True)
        assert len(ROWS) == len(data.read_text().splitlines())

    def test_a_limit_of_nothing(self, tmp_path):
        with pytest.raises(ConfigError):
            run(tmp_path, ROWS, limit=0)


class TestBrokenOff:
    def test_strict_ends_at_the_first_row_that_fails_and_keeps_those_before(self, tmp_path):
        rows = [*ROWS[:3], {"messages": [{"content": "x"}]}, *ROWS[3:]]
        with pytest.raises(RowError) as caught:
            run(tmp_path, rows, strict=True)
        assert f"{tmp_path / 'in.jsonl'}:4: messages[0] has no `role`" in str(caught.value)
        assert "the 3 rows finished before" in caught.value.message
        assert not (tmp_path / "out.parquet").exists()
        assert [1, 2, 3] == pq.read_table(tmp_path / "out.partial.parquet")["row"].to_pylist()

    def test_strict_keeps_the_rows_before_where_rows_have_no_number(self, tmp_path):
        rows = [*ROWS[:3], {"messages": [{"content": "x"}]}, *ROWS[3:]]
        with pytest.raises(RowError, match=r"the 3 rows finished before .* read up to row 3\)"):
            run(tmp_path, rows, strict=True, row_numbers=False)
        kept = pq.read_table(tmp_path / "out.partial.parquet")
        assert (3, ["input_ids", "labels", "attention_mask"]) == (kept.num_rows, kept.column_names)

    def test_a_guard_that_a_row_breaks(self, tmp_path):
        policy = "train everything\nnever train user"
        assert {"PE301": 10} == run(tmp_path, ROWS, policy=policy)[0].failure_codes
        with pytest.raises(GuardError):
            run(tmp_path, ROWS, policy=policy, strict=True, overwrite=True)

    def test_input_that_breaks_off(self, tmp_path):
        path = tmp_path / "in.json"
        path.write_text(json.dumps(ROWS)[:-30])
        with pytest.raises(DataError) as caught:
            apply_dataset(path, masker(), tmp_path / "out.jsonl", batch_size=4)
        assert "item 10 of the array is not JSON" in caught.value.message
        assert "out.partial.jsonl" in caught.value.message
        assert 9 == len((tmp_path / "out.partial.jsonl").read_text().splitlines())
        assert not (tmp_path / "out.jsonl").exists()


SCRIPT = """
    import resource, sys
    from policy_engine.core.errors import PolicyEngineError
    from tests.run.support import apply_dataset
    from tests.run.support import masker
    {limit}
    def step(progress):
        if progress.rows == 8:
            print("started", flush=True)
    try:
        apply_dataset({data!r}, masker(), {output!r}, batch_size=4, progress=step)
    except KeyboardInterrupt as stop:
        print("stop:", stop)
        sys.exit(130)
    except PolicyEngineError as error:
        print(type(error).__name__, error)
        sys.exit(2)
"""


def script(tmp_path, data, output, limit=""):
    # A job in the background has SIGINT ignored, and its children inherit that; at a terminal they do not.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    code += textwrap.dedent(SCRIPT).format(limit=limit, data=str(data), output=str(output))
    return [sys.executable, "-c", code], {
        "cwd": ROOT,
        "env": {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
    }


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl"])
def test_ctrl_c_in_the_middle(tmp_path, name):
    """A pipe that never ends: the process is stopped while it waits for more."""
    command, options = script(tmp_path, "-", tmp_path / name)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **options)
    process.stdin.write("".join(json.dumps(row) + "\n" for row in ROWS * 30))
    process.stdin.flush()
    # The format is told from the first 200 rows, so that masking starts while the pipe is still open.
    assert "started" == process.stdout.readline().strip()
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert 130 == process.returncode
    partial = tmp_path / name.replace("out.", "out.partial.")
    assert [partial] == list(tmp_path.iterdir())
    rows = pq.read_table(partial).num_rows if name.endswith("parquet") else len(partial.read_text().splitlines())
    assert rows >= 8
    assert f"the {rows} rows finished before are in `{partial}`" in output


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl"])
def test_a_full_disk(tmp_path, name):
    data = write_lines(tmp_path / "in.jsonl", [{"messages": chat("Hi", f"{n} word " * 200)} for n in range(200)])
    limit = (
        "import policy_engine.run.writers as writers; writers.ROW_GROUP_BYTES = 20_000; masker();"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))"
    )
    command, options = script(tmp_path, data, tmp_path / name, limit)
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert 2 == done.returncode, done.stdout + done.stderr
    partial = tmp_path / name.replace("out.", "out.partial.")
    assert {data, partial} == set(tmp_path.iterdir()), done.stdout + done.stderr
    rows = pq.read_table(partial).num_rows if name.endswith("parquet") else len(partial.read_text().splitlines())
    assert 0 < rows < 200
    assert "DataError" in done.stdout
    assert "is full" in done.stdout
    assert f"the {rows} rows finished before are in `{partial}`" in done.stdout


messages = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": st.text(max_size=8) | st.none()}
    ),
    max_size=4,
)
any_row = st.fixed_dictionaries({"messages": messages}) | st.none() | st.just({"text": "x"})


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=30)
@given(st.lists(any_row, max_size=8))
def test_every_row_is_written_or_accounted_for(tmp_path, rows):
    summary, table = run(tmp_path, [*rows, ROWS[0]], overwrite=True, batch_size=3)
    written = set(table["row"].to_pylist())
    assert len(rows) + 1 == summary.rows_in
    assert summary.rows_out == len(written) == table.num_rows
    assert not written & {failure.row for failure in summary.failures}
    for ids, labels in zip(table["input_ids"].to_pylist(), table["labels"].to_pylist()):
        assert IGNORE_INDEX == labels[0]
        assert all(label in (IGNORE_INDEX, i) for label, i in zip(labels, ids))
