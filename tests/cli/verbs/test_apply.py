from __future__ import annotations

import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import policy_engine
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.run import writers
from tests.cli.support import CHATS, GOOD, cli, write_chats, write_policy


@pytest.fixture
def args(tmp_path: Path) -> list[str | Path]:
    return [write_chats(tmp_path), "-p", write_policy(tmp_path), "-t", "builtin"]


def trained(row: dict[str, list[int]]) -> int:
    return sum(label != -100 for label in row["labels"])


def test_parquet_and_closing_table(args: list[str | Path], tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    ran = cli("apply", *args, "-o", out)
    assert ran.code == 0
    rows = pq.read_table(out).to_pylist()
    assert [1, 2, 3] == [row["row"] for row in rows]
    assert all(len(r["input_ids"]) == len(r["labels"]) == len(r["attention_mask"]) for r in rows)
    assert all(trained(row) for row in rows)
    words = [line.split() for line in ran.out.splitlines()]
    assert ["rows", "read", "3"] in words
    assert ["rows", "written", "3"] in words
    assert ["assistant", "eot", "4", "0", "100%"] in words


def test_without_row_numbers(args: list[str | Path], tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    assert 0 == cli("apply", *args, "-o", out, "--no-row-numbers").code
    assert ["input_ids", "labels", "attention_mask"] == pq.read_table(out).column_names


def test_a_run_that_leaves_no_row_says_so(args: list[str | Path], tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    ran = cli("apply", args[0], "-p", write_policy(tmp_path, "train tool\n"), "-t", "builtin", "-o", out)
    assert ran.code == 1
    assert "error[PE517]: none of 3 rows is left to write: 3 had nothing to train" in ran.err
    assert f"no row is left, so nothing was written to {out}" in ran.out
    # Nothing is in the way of the next try.
    assert [] == list(tmp_path.glob("*out*"))
    out.write_bytes(b"of before")
    ran = cli("apply", *args, "-o", out, "--overwrite", "--max-length", "2", "--truncate", "drop", "--format", "json")
    assert b"of before" == out.read_bytes()
    assert ["none of 3 rows is left to write: 3 too long"] == [
        d["message"] for d in ran.document["diagnostics"] if d["severity"] == "error"
    ]
    ran = cli(
        "apply", write_chats(tmp_path, ['{"messages": [{"role": "user"}]}'] * 2), *args[1:], "-o", out, "--overwrite"
    )
    assert "none of 2 rows is left to write: 2 failed\n  help: the errors above say what to do" in ran.err


def test_a_folder_without_rows_is_made_again(args: list[str | Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = cli("apply", args[0], "-p", write_policy(tmp_path, "train tool\n"), "-t", "builtin", "-o", f"{out}/")
    assert (1, ["_manifest.json"]) == (ran.code, [path.name for path in out.iterdir()])
    write_policy(tmp_path)
    assert 0 == cli("apply", *args, "-o", f"{out}/").code
    assert 3 == pq.read_table(out / "part-000000.parquet").num_rows
    # This one has rows, which are not replaced unless asked.
    assert "holds a finished run" in cli("apply", *args, "-o", f"{out}/").err


def test_json_summary_counts_the_file(args: list[str | Path], tmp_path: Path) -> None:
    ran = cli("apply", *args, "-o", tmp_path / "out.jsonl", "--format", "json")
    summary = ran.document["summary"]
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert (3, 3) == (summary["rows_in"], summary["rows_out"])
    assert sum(trained(row) for row in rows) == summary["tokens_trained"]
    assert sum(len(row["labels"]) for row in rows) == summary["tokens_trained"] + summary["tokens_masked"]


def test_stdin_compressed_output_and_limit(args: list[str | Path], tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl.gz"
    ran = cli("apply", "-", *args[1:], "-o", out, "--limit", "2", stdin=Path(args[0]).read_text())
    assert ran.code == 0
    assert 2 == len(gzip.decompress(out.read_bytes()).splitlines())


def test_rows_that_fail_are_told_and_the_others_written(tmp_path: Path) -> None:
    chats = write_chats(tmp_path, [CHATS[0], "{", '{"messages": [{"role": "user"}]}', '{"other": 1}', CHATS[1]])
    out = tmp_path / "out.parquet"
    ran = cli("apply", chats, "-p", write_policy(tmp_path), "-t", "builtin", "-o", out, "--format", "json")
    assert (1, "does not hold") == (ran.code, ran.document["verdict"])
    failed = [f["row"] for f in ran.document["summary"]["failures"]]
    assert 5 - len(failed) == ran.document["summary"]["rows_out"]
    assert {2, 4} <= set(failed)
    assert [(str(chats), n) for n in failed] == [
        (d["location"]["file"], d["location"]["line"]) for d in ran.document["diagnostics"]
    ]
    assert 5 - len(failed) == pq.read_table(out).num_rows


def test_strict_ends_at_the_first_failure(tmp_path: Path) -> None:
    chats = write_chats(tmp_path, [CHATS[0], "{", CHATS[1]])
    ran = cli("apply", chats, "-p", write_policy(tmp_path), "-t", "builtin", "-o", tmp_path / "out.parquet", "--strict")
    assert ran.code == 1
    assert f"{chats}:2" in ran.err
    assert not (tmp_path / "out.parquet").exists()
    assert 1 == pq.read_table(tmp_path / "out.partial.parquet").num_rows


def test_truncation_and_packing(args: list[str | Path], tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    assert cli("apply", *args, "-o", out, "--max-length", "12").code == 0
    assert 12 == max(len(r["labels"]) for r in pq.read_table(out).to_pylist())
    ran = cli("apply", *args, "-o", out, "--overwrite", "--max-length", "200", "--pack", "--format", "json")
    assert (3, 1) == (ran.document["summary"]["rows_out"], ran.document["summary"]["sequences"])
    assert "position_ids" in pq.read_table(out).column_names
    for option in (["--pack"], ["--truncate", "drop"]):
        ran = cli("apply", *args, "-o", tmp_path / "other.parquet", *option)
        assert ran.code == 2
        assert "--max-length" in ran.err


def test_output_that_exists(args: list[str | Path], tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    out.write_bytes(b"precious")
    ran = cli("apply", *args, "-o", out)
    assert ran.code == 2
    assert "--overwrite" in ran.err
    assert b"precious" == out.read_bytes()
    assert cli("apply", *args, "-o", out, "--overwrite").code == 0
    assert 3 == pq.read_table(out).num_rows


def test_full_disk(args: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writers.ParquetOutput, "_flush", full)
    ran = cli("apply", *args, "-o", tmp_path / "out.parquet")
    assert ran.code == 2
    assert "full" in ran.err
    assert [] == [p.name for p in tmp_path.iterdir() if "out" in p.name]


@pytest.mark.parametrize(
    ("number", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_keeps_what_is_finished(tmp_path: Path, number: signal.Signals, code: int, word: str) -> None:
    chats = tmp_path / "many.jsonl"
    line = write_chats(tmp_path, [CHATS[1]]).read_text()
    chats.write_text(line * 60_000)
    out = tmp_path / "out.jsonl"
    # A job in the background has SIGINT ignored, and its children inherit that; at a terminal they do not.
    program = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from policy_engine.cli.main import main; main()"
    )
    command = [
        sys.executable,
        "-c",
        program,
        "apply",
        str(chats),
        "-p",
        str(write_policy(tmp_path)),
        "-t",
        "builtin",
        "-o",
        str(out),
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(policy_engine.__file__).parents[1])}
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", env=environment
    )
    growing = Path(f"{tmp_path}/.out.jsonl.{running.pid}.tmp")
    for _ in range(1200):
        if growing.exists() and growing.stat().st_size:
            break
        assert running.poll() is None
        time.sleep(0.05)
    running.send_signal(number)
    _, err = running.communicate(timeout=60)
    assert code == running.returncode
    assert f"{word}; stopped; " in err
    assert "Traceback" not in err
    kept = (tmp_path / "out.partial.jsonl").read_text().splitlines()
    assert kept
    assert all(json.loads(row)["labels"] for row in kept)
    assert f"the {len(kept)} rows finished before" in err
    assert not out.exists()
    assert not growing.exists()


def test_a_folder_of_shards_and_resuming(args: list[str | Path], tmp_path: Path) -> None:
    out = f"{tmp_path / 'out'}/"
    assert 0 == cli("apply", *args, "-o", out).code
    assert (tmp_path / "out" / "_manifest.json").exists()
    refused = cli("apply", *args, "-o", out)
    assert 2 == refused.code
    assert "--resume" in refused.out + refused.err
    assert 0 == cli("apply", *args, "-o", out, "--resume").code
    other = cli("apply", args[0], "-p", "everything", "-t", "builtin", "-o", out, "--resume")
    assert 2 == other.code
    assert "the policy" in other.out + other.err
    assert 2 == cli("apply", *args, "-o", tmp_path / "a.parquet", "--resume").code


def test_warnings_of_the_policy_are_told(tmp_path: Path) -> None:
    policy = write_policy(tmp_path, "train assitant\ntrain eos after assistant\n")
    ran = cli("apply", write_chats(tmp_path), "-p", policy, "-t", "builtin", "-o", tmp_path / "out.parquet")
    assert "PE251" in ran.err
    assert "did you mean `assistant`?" in ran.err


@pytest.mark.parametrize("length", [4, 8])
def test_truncation_that_leaves_nothing_to_train_is_named(tmp_path: Path, length: int) -> None:
    chats = write_chats(tmp_path, [CHATS[0], CHATS[2], [{"role": "user", "content": "nobody answers"}]])
    arguments = ["apply", chats, "-p", write_policy(tmp_path), "-t", "builtin", "-o", tmp_path / "out.parquet"]
    arguments += ["--max-length", str(length), "--overwrite"]
    ran = cli(*arguments)
    assert ran.code == 1
    assert "1 had nothing to train, 2 left with nothing to train by truncation" in ran.err
    assert "help: give a larger --max-length, or another --truncate" in ran.err
    document = cli(*arguments, "--format", "json").document
    counts = {name: document["summary"][name] for name in ("rows_empty", "rows_cut_empty", "rows_truncated")}
    assert {"rows_empty": 1, "rows_cut_empty": 2, "rows_truncated": 0} == counts
    # Where the policy refuses empty rows, the row fails, and for the same reason.
    policy = write_policy(tmp_path, GOOD + "on empty error\n", name="strict.policy")
    ran = cli(*[policy if a == arguments[3] else a for a in arguments])
    assert f"chats.jsonl:1: error[PE516]: truncation to {length} tokens leaves nothing of the row to train" in ran.err
    assert "chats.jsonl:3: error[PE516]: nothing of the row is trained" in ran.err


@pytest.mark.parametrize(("options", "cut"), [((), 1), (("--truncate", "turn"), 0), (("--truncate", "keep_end"), 0)])
def test_answers_that_a_length_cuts_before_their_end_are_counted(
    tmp_path: Path, options: tuple[str, ...], cut: int
) -> None:
    long = [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "1 2 3 4 5 6 7 8 9 10 11 12"}]
    chats = write_chats(tmp_path, [CHATS[0], [*CHATS[2], *long], [*CHATS[2], *CHATS[1][3:]]])
    arguments = ["apply", chats, "-p", write_policy(tmp_path), "-t", "builtin", "-o", tmp_path / "out.jsonl"]
    arguments += ["--max-length", "36", "--overwrite", *options]
    document = cli(*arguments, "--format", "json").document
    assert cut == document["summary"]["answers_cut"]
    assert document["summary"]["rows_truncated"] == 1
    told = "1 answer cut before the end marker, so that nothing there teaches the model to stop"
    assert bool(cut) == (told in " ".join(cli(*arguments).out.split()))


def test_a_pair_cut_by_a_length_counts_each_answer(tmp_path: Path) -> None:
    row = {"prompt": CHATS[0][:1], "chosen": [CHATS[0][1]], "rejected": [{"role": "assistant", "content": "No " * 40}]}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    arguments = ["apply", tmp_path / "pairs.jsonl", "-p", write_policy(tmp_path), "-t", "builtin", "--format", "json"]
    ran = cli(*arguments, "-o", tmp_path / "out.jsonl", "--max-length", "24")
    assert ran.document["summary"]["answers_cut"] == 1


def test_a_defect_says_what_it_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def mask(self: object, batch: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("policy_engine.run.batches.BatchMasker.mask", mask)
    out = tmp_path / "out.parquet"
    ran = cli("apply", write_chats(tmp_path), "-p", "default", "-t", "builtin", "-o", out, "--format", "json")
    (found,) = [d for d in ran.document["diagnostics"] if d["code"] == "PE000"]
    assert f"`{out}` was not written, and no row was finished" in found["message"]
    assert 2 == ran.code


@pytest.mark.parametrize("backend", ["auto", "kitoken"])
def test_a_backend_that_was_asked_for_is_named(args: list[str | Path], tmp_path: Path, backend: str) -> None:
    pytest.importorskip("kitoken")
    ran = cli("apply", *args, "-o", tmp_path / "out.parquet", "--backend", backend)
    (line,) = ran.err.splitlines()
    assert (0, True) == (
        ran.code,
        line.startswith("ids from kitoken, which gave the tokenizer's on the texts of a check"),
    )
    document = cli("apply", *args, "-o", f"{tmp_path}/out/", "--backend", backend, "--format", "json").document
    assert ([line], "kitoken") == (document["notes"], document["summary"]["backend"])
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text(encoding="utf-8"))
    assert ("kitoken", "kitoken") == (manifest["options"]["backend"], manifest["summary"]["backend"])


def test_the_tokenizer_itself_needs_no_note(args: list[str | Path], tmp_path: Path) -> None:
    assert "" == cli("apply", *args, "-o", tmp_path / "out.parquet").err
    document = cli("apply", *args, "-o", tmp_path / "b.parquet", "--format", "json").document
    assert ([], "reference") == (document["notes"], document["summary"]["backend"])


def test_auto_says_why_no_fast_backend_serves(
    args: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChatTokenizer, "qualify_fast", lambda *_, **__: "the package x is not installed")
    ran = cli("apply", *args, "-o", tmp_path / "out.parquet", "--backend", "auto")
    assert "ids from the tokenizer itself: the package x is not installed\n" == ran.err


def test_auto_that_resumes_a_run_of_the_tokenizer_itself_says_so(
    args: list[str | Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ChatTokenizer, "qualify_fast", lambda *_, **__: pytest.fail("a fast backend was tried"))
    out = tmp_path / "out"
    assert "" == cli("apply", *args, "-o", f"{out}/").err
    resumed = cli("apply", *args, "-o", f"{out}/", "--backend", "auto", "--resume")
    said = f"ids from the tokenizer itself: the run in `{out}` began with them; `auto` is for a run that begins\n"
    assert (0, said) == (resumed.code, resumed.err)
    assert "reference" == json.loads((out / "_manifest.json").read_text(encoding="utf-8"))["options"]["backend"]
