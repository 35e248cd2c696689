"""What `doctor` says of the data, of a batch, and where the trainer is not installed."""

from __future__ import annotations

import json
import os
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from policy_engine.core.errors import ConfigError, RowError
from policy_engine.doctor import runners
from policy_engine.doctor.compare import compare, dropped, explain_loss, trap
from policy_engine.doctor.examine import examine
from policy_engine.doctor.samples import Document, Sample, read_sample
from policy_engine.doctor.seen_documents import Matched, match, stretches
from policy_engine.doctor.steps import TakenStep, flat_settings
from policy_engine.doctor.tiny_vocabulary import TinyVocabulary
from policy_engine.doctor.trainers.hooks import first_of, surroundings
from tests.cli.support import cli

ROW = {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]}


def sample(*rows: dict[str, Any], **types: pa.DataType) -> Sample:
    return read_sample(list(enumerate(rows, 1)), types)


def codes(found: Sample) -> list[str]:
    return [finding.code for finding in found.findings]


def test_good_rows_have_nothing_to_say() -> None:
    assert [] == sample(ROW, input_ids=pa.int32(), labels=pa.int32()).findings


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"input_ids": [5, 6], "labels": [5, 6]}, "first-token"),
        ({"input_ids": [5, 6, 7, 8, 9, 10], "labels": [-100, 7, 8, 9, 10, -100]}, "shifted"),
        ({"input_ids": [5, 6, 7], "labels": [-100, 6, 2]}, "rewritten"),
        ({"input_ids": [5, 6], "labels": [-100, -100]}, "all-masked"),
        ({"input_ids": [5, 6, 7, 8], "labels": [-100, 6, 7, 8], "seq_lengths": [2, 2]}, "first-token"),
    ],
)
def test_traps_in_the_data(row: dict[str, Any], code: str) -> None:
    assert [code] == codes(sample(row))


def test_the_help_for_lost_weights_and_the_page_name_the_same_ways() -> None:
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "trainers.md").read_text(encoding="utf-8")
    section = " ".join(page.split("\n## Weights\n")[1].split())
    help = trap("weights-ignored", "trl", "lost").help
    for words in (
        "`weighted_trainer(SFTTrainer, denominator=…)`", "`remove_unused_columns=False`", "`PaddingCollator`",
        "here TRL neither packs nor cuts rows",
    ):  # fmt: skip
        assert words in help, words
        assert words in section, words
    assert "WeightCodes" in help
    assert "WeightCodes" in section


def test_data_of_which_nothing_is_trained_is_an_error() -> None:
    row = {"input_ids": [5, 6], "labels": [-100, -100]}
    assert ["error"] == [f.severity for f in sample(row, row).findings]
    assert ["warning"] == [f.severity for f in sample(row, {**row, "labels": [-100, 6]}).findings]


def test_types_that_drifted() -> None:
    (finding,) = sample(ROW, input_ids=pa.int64(), labels=pa.int32()).findings
    assert ("types", "warning") == (finding.code, finding.severity)
    assert "`input_ids` is int64 (int32 does)" in finding.message
    (finding,) = sample(ROW, labels=pa.float32()).findings
    assert "error" == finding.severity


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**ROW, "loss_weights": [0.0, 0.0, 1.0]}, "4 `input_ids` and 3 `loss_weights`"),
        ({**ROW, "seq_lengths": [2, 1]}, "`seq_lengths` of 3"),
        ({"input_ids": [5, 6]}, "says nowhere what is trained"),
    ],
)
def test_rows_that_are_none(row: dict[str, Any], message: str) -> None:
    with pytest.raises(RowError, match=message):
        sample(row)


def test_documents_of_a_packed_row() -> None:
    by_lengths = sample({**ROW, "seq_lengths": [2, 2]})
    by_positions = sample({**ROW, "position_ids": [0, 1, 0, 1]})
    for found in (by_lengths, by_positions):
        assert [[5, 6], [7, 8]] == [d.ids for d in found.documents]
        assert [[-100, -100], [-100, 8]] == [d.labels for d in found.documents]
        assert found.packed


def test_documents_of_a_batch() -> None:
    found = sample({"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8, 9], "labels": [-100, 9]})
    padded = {
        "input_ids": np.array([[8, 9, 0], [5, 6, 7]]),
        "labels": np.array([[-100, 9, -100], [-100, 6, 7]]),
        "attention_mask": np.array([[1, 1, 0], [1, 1, 1]]),
    }
    flat = {
        "input_ids": np.array([[5, 6, 7, 8, 9]]),
        "labels": np.array([[-100, 6, 7, -100, 9]]),
        "position_ids": np.array([[0, 1, 2, 0, 1]]),
    }
    counted = {**flat, "attention_mask": np.array([[1, 1, 1, 2, 2]])}
    del counted["position_ids"]
    for batch, order in ((padded, [1, 0]), (flat, [0, 1]), (counted, [0, 1])):
        matched = match(stretches(batch, pad=0), found.documents)
        assert [(found.documents[i],) for i in order] == [m.documents for m in matched]


def test_joined_cut_and_strange_documents() -> None:
    packed = sample({**ROW, "seq_lengths": [2, 2]}).documents
    one = {"input_ids": np.array([[5, 6, 7, 8]]), "labels": np.array([[-100, -100, -100, 8]])}
    (joined,) = match(stretches(one, pad=0), packed)
    assert tuple(packed) == joined.documents
    whole = sample(ROW).documents
    cut = {"input_ids": np.array([[6, 7, 8], [8, 7, 6]]), "labels": np.array([[-100, 7, 8], [-100, 7, 8]])}
    first, second = match(stretches(cut, pad=0), whole)
    assert first.cut
    assert () == second.documents


def test_the_small_vocabulary_keeps_the_roles_of_special_tokens() -> None:
    class Tokens:
        pad_token_id = 151643
        eos_token_id = 151643

    found = TinyVocabulary.of(sample({"input_ids": [9, 151643], "labels": [-100, 151643]}).documents, Tokens())
    assert (2, 1) == (len(found), found.pad)
    assert [0, 1, -100] == found.encode([9, 151643, -100])
    apart = TinyVocabulary.of(sample(ROW).documents)
    assert apart.pad not in apart.encode([5, 6, 7, 8])


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runners, "find_spec", lambda name: None)


@pytest.mark.usefixtures("nothing_installed")
@pytest.mark.parametrize("trainer", runners.TRAINERS)
def test_without_torch(tmp_path: Path, trainer: str) -> None:
    data = tmp_path / "masked.jsonl"
    data.write_text(json.dumps(ROW) + "\n")
    result = cli("doctor", str(data), "--trainer", trainer, "--format", "json")
    assert 2 == result.code
    (finding,) = json.loads(result.out)["diagnostics"]
    assert f"`{trainer}` cannot take a step: torch and" in finding["message"]
    install = {
        "transformers": "torch accelerate datasets",
        "trl": "torch trl",
        "trl-grpo": "torch trl",
        "verl-ppo": "verl",
        "torchtune": "torch torchao torchtune",
        "swift": "ms-swift",
    }
    assert f"pip install {install.get(trainer, trainer)} (" in finding["help"]


def test_a_part_of_a_trainer_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(task: Any) -> Any:
        raise ImportError("No module named 'torchaudio'")

    monkeypatch.setattr("policy_engine.doctor.examine.runner_of", lambda name: fail)
    with pytest.raises(ConfigError, match="`llamafactory` cannot take a step: No module named 'torchaudio'"):
        examine(sample(ROW), "llamafactory")


def test_what_a_trainer_logs_is_no_part_of_the_account(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(task: Any) -> Any:
        print("logged")
        raise ValueError("no")

    monkeypatch.setattr("policy_engine.doctor.examine.runner_of", lambda name: refuse)
    found = examine(sample({**ROW, "loss_weights": [0.0, 0.0, 1.0, 2.0]}), "torchtune")
    assert ["refused", "weights-ignored"] == [finding.code for finding in found.findings]
    assert "logged\n" == capsys.readouterr().err


@pytest.mark.parametrize(
    ("trainer", "name"),
    [
        ("verl", "data.max_len"),
        ("torchtune", "dataset.pack"),
        ("axolotl", "sequence_length"),
        ("swift", "max_len"),
    ],
)
def test_settings_of_trainers_that_have_no_class_for_them(trainer: str, name: str) -> None:
    with pytest.raises(ConfigError, match=f"doctor reads no setting `{name}` of {trainer}") as caught:
        runners.check_names(trainer, [name])
    assert "did you mean" in str(caught.value.help)
    runners.check_names(trainer, ["pad_token"])


def test_a_refusal_names_the_settings_that_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(task: Any) -> Any:
        raise ValueError("no")

    monkeypatch.setattr("policy_engine.doctor.examine.runner_of", lambda name: refuse)
    found = examine(sample(ROW), "verl", settings={"data": {"max_length": 9, "train_files": "x"}, "model": "y"})
    assert {"data.max_length": 9} == found.settings
    assert ("data.train_files", "model") == found.left_out
    assert {"max_length": 9} == examine(sample(ROW), "trl", settings={"max_length": 9}).settings


@pytest.mark.parametrize(
    ("loss", "code", "said"),
    [
        (3.0, "weights-ignored", "is the loss without weights"),
        (4.0, "joined", "that a row of the batch has, read as one"),
        (5.0, "loss", "by hand it is 2.0"),
    ],
)
def test_what_a_loss_is_the_loss_of(loss: float, code: str, said: str) -> None:
    documents = [Document(row=row, ids=[5, 6, 7], labels=[-100, -100, 7], weights=[0.0, 0.0, 2.0]) for row in range(2)]
    matched = [
        Matched(seen=Document(row=0, ids=d.ids, labels=d.labels, weights=None, positions=[0, 1, 2]), documents=(d,))
        for d in documents
    ]

    def hand(given: Any) -> float:
        if all(d.weights is None and d.labels == [-100, -100, 7] for d in given):
            return 3.0
        return 4.0 if [[0, 1, 2, 0, 1, 2]] == [d.positions for d in given] else 2.0

    finding = explain_loss("axolotl", loss, 2.0, matched, documents, hand, weighted=True)
    assert code == finding.code
    assert said in finding.message
    assert ("attn_implementation" in finding.help) == (code == "joined")


def test_what_is_set_for_a_step_is_put_back(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "INFO")
    before = dict(os.environ)

    def step(said: list[StringIO]) -> None:
        with surroundings(LOG_LEVEL="ERROR", MINE="1") as text:
            said.append(text)
            assert ("ERROR", "1") == (os.environ["LOG_LEVEL"], os.environ["MINE"])
            os.environ["THEIRS"] = "1"
            print("out")
            print("err", file=sys.stderr)
            raise ValueError("no")

    said: list[StringIO] = []
    with pytest.raises(ValueError, match="no"):
        step(said)
    assert before == dict(os.environ)
    assert ["out\nerr\n"] == [text.getvalue() for text in said]
    assert ("", "") == tuple(capsys.readouterr())


def test_nested_settings_by_their_paths() -> None:
    assert {"data.max_length": 9, "data.a.b": 1, "x": 2} == flat_settings(
        {"data": {"max_length": 9, "a": {"b": 1}}, "x": 2}
    )


def test_arguments_that_mean_nothing() -> None:
    with pytest.raises(ConfigError, match="there is no trainer `x`"):
        runners.runner_of("x")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"collator": "x"}, "there is no collator `x`"),
        ({"denominator": "weights"}, "no `loss_weights` to divide by"),
        ({"denominator": "weights", "trainer": "torchtune"}, "`torchtune` has no per-token weights"),
        ({"denominator": "weights", "trainer": "verl"}, "`verl` divides by the sum of the weights by itself"),
        ({"denominator": "tokens", "trainer": "swift"}, "`swift` divides by the number of trained tokens by itself"),
    ],
)
def test_options_that_do_not_fit(options: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("policy_engine.doctor.examine.runner_of", lambda name: None)
    weights = {"loss_weights": [0.0, 0.0, 1.0, 1.0]} if "trainer" in options else {}
    with pytest.raises(ConfigError, match=message):
        examine(sample({**ROW, **weights}), **{"trainer": "trl", **options})


def test_carried_numbers_are_compared_where_tokens_have_loss() -> None:
    row = {**ROW, "logprobs": [0.0, 0.0, -1.5, -2.5]}
    (document,) = sample(row).documents
    given = {"row": 0, "ids": document.ids, "labels": document.labels, "weights": None, "positions": None}

    def found(*numbers: float) -> list[str]:
        seen = Document(**given, carried={"logprobs": list(numbers)})
        matched = [Matched(seen=seen, documents=(document,))]
        return [f.code for f in compare(sample(row), "trl-grpo", matched, [document], TinyVocabulary.of([document]))]

    assert [] == found(9.0, 9.0, -1.5, -2.5)
    assert ["carried-changed"] == found(0.0, -1.5, -2.5, 0.0)
    assert {} == sample(ROW, row).documents[1].carried


def test_a_trainer_that_takes_no_step_is_named() -> None:
    with pytest.raises(ConfigError, match="took no step"):
        first_of([])
    assert first_of([({}, 1.0, "model"), ({}, 2.0, "other")]) == ({}, 1.0, "model")


def test_numbers_of_rows_that_apply_writes_are_not_missed_in_a_batch() -> None:
    row = {**ROW, "row": 1, "turn": 1, "samples": 1, "score": 0.5}
    step = TakenStep(version="1", batch={"input_ids": [], "labels": []}, loss=0.0, model=None)
    (found,) = dropped(sample(row), step)
    assert ("columns-dropped", "not in the batch: `score`") == (found.code, found.message)
