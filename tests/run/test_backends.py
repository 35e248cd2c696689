"""A fast backend serves only as long as it gives the tokenizer's ids; what it wrote before that is made again."""

from __future__ import annotations

import pickle

import pyarrow.parquet as pq
import pytest

from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.chat.tokens import fast_backend, locator
from policy_engine.chat.tokens.fast_backend import BackendMismatch, is_sampled, stress_corpus
from policy_engine.core.errors import ConfigError, TokenizerError
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from tests.run.support import CARD, apply_dataset, chat, masker, write_lines
from tests.run.test_shards import contents_of
from tests.support.tokenizers import load

ROWS = [{"messages": chat(f"Question {n}", f"Answer {n}")} for n in range(30)]
PLANTED = "Answer 23"


class Planted:
    """The tokenizer itself, but for one text."""

    name = "planted"

    def __init__(self, tokenizer, wrong):
        self.tokenizer, self.wrong = tokenizer, wrong

    def encode_batch(self, texts):
        found = [self.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
        return [[*ids[:-1], 5] if self.wrong in text else ids for text, ids in zip(texts, found)]


@pytest.fixture
def planted(monkeypatch):
    """Every text is sampled; the backend is wrong in one row, which is past those that it has to qualify on."""
    backend = Planted(masker().tokenizer.tokenizer, PLANTED)
    monkeypatch.setattr(locator, "load_kitoken", lambda reference: backend)
    monkeypatch.setattr(locator, "is_sampled", lambda text: True)
    monkeypatch.setattr("policy_engine.run.backends.CHECKED_ROWS", 10)
    return backend


@pytest.mark.parametrize("name", ["out.parquet", "out/"])
def test_a_mismatch_makes_everything_again(tmp_path, planted, name):
    data = write_lines(tmp_path / "in.jsonl", ROWS)
    said = []
    options = {
        "backend": "auto",
        "say": said.append,
        "batch_size": 4,
        **({"span_bytes": 600} if name == "out/" else {}),
    }
    apply_dataset(data, masker(), f"{tmp_path}/{name}", **options)
    apply_dataset(data, masker(), tmp_path / "reference.parquet")
    assert pq.read_table(tmp_path / "reference.parquet").equals(contents_of(tmp_path / name))
    assert any("ids from planted" in text for text in said)
    told = next(text for text in said if "differs from the tokenizer" in text)
    assert PLANTED in told
    assert "made again" in told
    assert not list(tmp_path.glob("*.partial*"))


def test_what_does_not_qualify(tmp_path, planted):
    planted.wrong = "Answer 3"
    data = write_lines(tmp_path / "in.jsonl", ROWS)
    said = []
    apply_dataset(data, masker(), tmp_path / "out.parquet", backend="auto", say=said.append)
    assert "ids from the tokenizer itself" in said[-1]
    assert "on the data" in said[-1]
    with pytest.raises(TokenizerError, match="differs from"):
        apply_dataset(data, masker(), tmp_path / "b.parquet", backend="kitoken")
    with pytest.raises(ConfigError):
        apply_dataset(data, masker(), tmp_path / "b.parquet", backend="other")


def test_the_mismatch_names_the_text_and_both_ids(planted):
    tokenizer = masker().tokenizer.with_fast(planted)
    bound = Masker(compile_text(CARD), tokenizer)
    with pytest.raises(
        BackendMismatch, match=r"token \d+ of a text, near .*Answer 23.*, is \d+, and \d+ from the fast"
    ):
        bound(chat("q", PLANTED))


def test_kitoken_gives_the_ids_of_the_tokenizer(tmp_path):
    pytest.importorskip("kitoken")
    tokenizer = ChatTokenizer.from_transformers(load("qwen"), template=masker().tokenizer.templates["default"])
    bound = Masker(compile_text(CARD), tokenizer)
    backend = tokenizer.qualify_fast(["Hello"])
    assert not isinstance(backend, str), backend
    data = write_lines(tmp_path / "in.jsonl", ROWS)
    for name, wanted in (("a.parquet", "reference"), ("b.parquet", "kitoken")):
        apply_dataset(data, bound, tmp_path / name, backend=wanted)
    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "b.parquet"))
    again = pickle.loads(pickle.dumps(tokenizer.with_fast(backend)))
    assert backend.encode_batch(["Hi <|im_end|>"]) == again.fast.encode_batch(["Hi <|im_end|>"])


def test_samples_and_stress_texts_are_always_the_same():
    assert list(stress_corpus(["<|a|>"])) == list(stress_corpus(["<|a|>"]))
    sampled = [n for n in range(20_000) if is_sampled(f"text {n}")]
    assert 5 <= len(sampled) <= 50
    assert fast_backend.SAMPLED == 1_000
