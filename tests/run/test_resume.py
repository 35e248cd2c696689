"""Runs that were killed and go on: every row once, and nothing goes on as something else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from pathlib import Path

import pytest

from benchmarks.checksum import canonical_checksum
from policy_engine.core.errors import ConfigError, DataError
from policy_engine.data.role_spelling import DoubtfulRole
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from policy_engine.run.manifest import counts_from_json, counts_to_json
from policy_engine.run.resume import Journal
from policy_engine.run.summary import Counts, Failure
from policy_engine.run.truncate import Truncation
from tests.run.support import CARD, apply_dataset, chat, masker, write_lines
from tests.run.test_shards import ROWS, rows_in, run

ROOT = Path(__file__).parents[2]


class Stop(Exception):
    pass


@pytest.fixture
def data(tmp_path):
    return write_lines(tmp_path / "in.jsonl", ROWS)


def stopped(data, folder, after, **options):
    """A run that ends after so many shards."""
    steps = []

    def step(progress):
        steps.append(progress)
        if len(steps) == after:
            raise Stop

    with pytest.raises(Stop):
        run(data, folder, progress=step, **options)


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.name.startswith("part-")}


@pytest.mark.parametrize("name", ["in.jsonl", "in.json"])
@pytest.mark.parametrize("after", [1, 3])
def test_a_resumed_run_ends_with_the_files_of_an_unbroken_one(tmp_path, monkeypatch, name, after):
    monkeypatch.setattr("policy_engine.run.folder.inline_spans", _small_inline)
    path = tmp_path / name
    path.write_text("\n".join(map(json.dumps, ROWS)) if name == "in.jsonl" else json.dumps(ROWS))
    unbroken = run(path, tmp_path / "whole")
    stopped(path, tmp_path / "out", after)
    made = contents(tmp_path / "out")
    resumed = run(path, tmp_path / "out", resume=True)
    assert contents(tmp_path / "whole") == contents(tmp_path / "out")
    assert made.items() <= contents(tmp_path / "out").items()
    assert {**unbroken.to_json(), "output": ""} == {**resumed.to_json(), "output": ""}


def _small_inline(numbered, rows):
    from policy_engine.run.input_spans import inline_spans

    return inline_spans(numbered, rows, size=9)


def test_what_was_left_by_a_kill_at_the_worst_moments(tmp_path, data):
    run(data, tmp_path / "whole")
    out = tmp_path / "out"
    stopped(data, out, 3)
    journal = out / "_progress.jsonl"
    # A shard renamed but not recorded, a line half written, a temporary file, a shard that was damaged.
    journal.write_bytes(journal.read_bytes()[:-40])
    (out / ".part-000009.parquet.123.tmp").write_bytes(b"half")
    (out / "part-000000.parquet").write_bytes(b"damaged")
    (out / "part-000999.parquet").write_bytes(b"of another cut")
    run(data, out, resume=True)
    assert contents(tmp_path / "whole") == contents(out)
    assert not list(out.glob(".*"))


def test_killed_before_anything_was_written(tmp_path, data):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "_progress.jsonl").write_bytes(b'{"half')
    run(data, tmp_path / "out", resume=True)
    assert 38 == rows_in(tmp_path / "out").num_rows


def test_without_resume_an_unfinished_run_is_not_touched(tmp_path, data):
    stopped(data, tmp_path / "out", 2)
    with pytest.raises(DataError, match="a run that is not finished") as caught:
        run(data, tmp_path / "out")
    assert "--resume" in caught.value.help
    run(data, tmp_path / "out", overwrite=True)
    with pytest.raises(DataError, match="a finished run"):
        run(data, tmp_path / "out")


def test_a_finished_run_resumes_to_itself(tmp_path, data):
    first = run(data, tmp_path / "out")
    made = contents(tmp_path / "out")
    assert first.to_json() == run(data, tmp_path / "out", resume=True).to_json()
    assert made == contents(tmp_path / "out")
    (tmp_path / "out" / "part-000001.parquet").unlink()
    with pytest.raises(DataError, match=r"part-000001\.parquet"):
        run(data, tmp_path / "out", resume=True)


TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<|im_end|>\n{% endfor %}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: {"masker": masker("train assistant")}, "the policy"),
        (lambda data: {"masker": Masker(compile_text(CARD), masker().tokenizer, template=TEMPLATE)}, "template"),
        (lambda data: {"truncation": Truncation(max_length=50)}, "`max_length`"),
        (lambda data: {"batch_size": 4}, "`batch_size`"),
        (lambda data: data.write_text(data.read_text() + json.dumps(ROWS[0])), "the input"),
    ],
)
def test_what_changed_is_refused_and_named(tmp_path, data, change, said):
    stopped(data, tmp_path / "out", 2)
    before = contents(tmp_path / "out")
    changed = change(data)
    options = changed if isinstance(changed, dict) else {}
    bound = options.pop("masker", masker())
    with pytest.raises(DataError, match="cannot go on") as caught:
        apply_dataset(
            data, bound, f"{tmp_path / 'out'}/", resume=True, **{"span_bytes": 1200, "batch_size": 3, **options}
        )
    assert said in caught.value.message
    assert before == contents(tmp_path / "out")


def test_another_tokenizer_is_refused(tmp_path, data):
    import transformers

    stopped(data, tmp_path / "out", 2)
    other = transformers.PreTrainedTokenizerFast(
        tokenizer_object=type(masker().tokenizer.tokenizer.backend_tokenizer).from_str(
            masker().tokenizer.tokenizer.backend_tokenizer.to_str()
        )
    )
    other.chat_template = masker().tokenizer.templates["default"]
    other.add_special_tokens({**masker().tokenizer.special_tokens, "additional_special_tokens": ["<|new|>"]})
    with pytest.raises(DataError, match="the tokenizer"):
        apply_dataset(
            data,
            Masker(compile_text(CARD), other),
            f"{tmp_path / 'out'}/",
            resume=True,
            span_bytes=1200,
            batch_size=3,
        )


def test_two_runs_into_one_folder(tmp_path, data):
    stopped(data, tmp_path / "out", 2)
    identity = json.loads((tmp_path / "out" / "_progress.jsonl").read_text().splitlines()[0])
    with (
        Journal.open(tmp_path / "out", identity, resume=True, overwrite=False),
        pytest.raises(DataError, match="another run is writing"),
    ):
        run(data, tmp_path / "out", resume=True)


def test_a_pipe_cannot_be_resumed(tmp_path, data):
    code = (
        "from tests.run.test_shards import run; from pathlib import Path\n"
        f"try: run('-', Path({str(tmp_path / 'out')!r}), resume=True)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, input=data.read_text(), capture_output=True, text=True, check=False
    )
    assert "ConfigError a run that reads a pipe cannot be resumed" in done.stdout, done.stderr


def test_counts_survive_json():
    counts = Counts(read=3)
    counts.trained["assistant", "text"] = 4
    counts.reasons["rule"] = 2
    counts.add_lost(Counter({("user", "name"): 2}), lambda _: (3, 9))
    counts.failures = [Failure(row=1, code="PE501", reason="x", place="a:1", help="mend it")]
    counts.doubtful_roles.add(DoubtfulRole(role="usr", meant="user", read_as="user", messages=2, row=1, place="a:1"))
    assert counts == counts_from_json(json.loads(json.dumps(counts_to_json(counts))))


SCRIPT = """
    import os, signal
    import policy_engine.run.folder as folder
    from pathlib import Path
    from tests.run.test_shards import run
    if __name__ == "__main__":
        print("ready", flush=True)
        run(Path({data!r}), Path({out!r}), resume=True, workers={workers}, span_bytes=20_000)
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_sigkill_in_the_middle(tmp_path, workers):
    """The moment is told by what stands in the journal, not by the clock."""
    data = write_lines(tmp_path / "in.jsonl", [{"messages": chat(f"q {n}", "word " * 100)} for n in range(600)])
    run(data, tmp_path / "whole", span_bytes=20_000)
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).format(data=str(data), out=str(tmp_path / "out"), workers=workers))
    options = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT)}, "stdout": subprocess.PIPE}
    journal = tmp_path / "out" / "_progress.jsonl"
    process = subprocess.Popen([sys.executable, str(script)], **options)
    while process.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 4):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert journal.exists()
    last = subprocess.run([sys.executable, str(script)], **options, check=False)
    assert 0 == last.returncode
    assert contents(tmp_path / "whole") == contents(tmp_path / "out")
    assert canonical_checksum(tmp_path / "whole") == canonical_checksum(tmp_path / "out")


def test_resuming_needs_a_folder(tmp_path, data):
    with pytest.raises(ConfigError):
        apply_dataset(data, masker(), tmp_path / "out.jsonl", resume=True)
