"""Options of a run: what does not fit is refused, and what decides the output is what a manifest keeps."""

from __future__ import annotations

import dataclasses
import json

import pytest

from policy_engine.core.errors import ConfigError, notes_of
from policy_engine.run.batches import BatchMasker
from policy_engine.run.run_options import RunOptions
from policy_engine.run.truncate import Truncation
from tests.run.support import apply_dataset, chat, masker, write_lines


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"packed": True}, "packing needs the length of a sequence"),
        ({"limit": 0}, "a limit of 0 rows leaves nothing"),
        ({"workers": 0}, "0 workers do nothing"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"span_bytes": -1}, "span_bytes is -1"),
        ({"backend": "other"}, "there is no backend `other`"),
    ],
)
def test_what_means_nothing_is_refused(given, said):
    with pytest.raises(ConfigError, match=said):
        RunOptions(**given)


HOW = {"overwrite", "resume", "workers", "backend"}
"""Options of how a run goes about it; the backend is kept beside the others, as the one that was found to serve."""


def test_the_manifest_keeps_every_option_that_decides_the_output(tmp_path):
    options = RunOptions(truncation=Truncation(max_length=40), packed=True, limit=2, strict=True)
    deciding = {field.name for field in dataclasses.fields(options)} - HOW
    assert deciding - {"truncation"} | {"max_length", "truncate"} == options.to_json().keys()
    data = write_lines(tmp_path / "in.jsonl", [{"messages": chat("q", "a")}] * 3)
    apply_dataset(data, masker(), f"{tmp_path}/out/", truncation=Truncation(max_length=40), packed=True, limit=2)
    kept = json.loads((tmp_path / "out" / "_manifest.json").read_text())["options"]
    expected = {**options.to_json(), "strict": False, "unrolled": False, "backend": "reference"}
    assert expected == kept


@pytest.mark.parametrize("name", ["out.jsonl", "out/"])
def test_a_defect_says_what_is_left(tmp_path, monkeypatch, name):
    real = BatchMasker.mask

    def mask(self, batch):
        if batch[0][0] > 4:
            raise ZeroDivisionError
        return real(self, batch)

    monkeypatch.setattr(BatchMasker, "mask", mask)
    data = write_lines(tmp_path / "in.jsonl", [{"messages": chat(f"q{n}", "a")} for n in range(8)])
    with pytest.raises(ZeroDivisionError) as caught:
        apply_dataset(data, masker(), f"{tmp_path}/{name}", batch_size=2, span_bytes=300)
    (note,) = notes_of(caught.value)
    if name == "out.jsonl":
        assert f"the 4 rows finished before are in `{tmp_path / 'out.partial.jsonl'}`" in note
        assert 4 == len((tmp_path / "out.partial.jsonl").read_text().splitlines())
    else:
        assert "whole shards" in note
        assert "--resume goes on from there" in note
