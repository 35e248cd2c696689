"""A fast backend serves only as long as it gives the tokenizer's ids; what it wrote before that is made again."""

from __future__ import annotations

import copy
import pickle
import random
import re
import subprocess
import sys
import unicodedata

import pyarrow.parquet as pq
import pytest

from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.chat.tokens import cache, fast_backend, locator, qualify
from policy_engine.chat.tokens.check_texts import Risk, full_check, quick_check, stress_corpus
from policy_engine.chat.tokens.fast_backend import BackendMismatch, is_sampled, load_backend
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
    monkeypatch.setattr(qualify, "load_backend", lambda name, definition, normalizes: backend)
    monkeypatch.setattr(qualify, "quick_check", lambda added: ["Hello"])
    monkeypatch.setattr(qualify, "_shipped", lambda *given: None)
    monkeypatch.setattr(locator, "is_sampled", lambda text, one_in=1: True)
    monkeypatch.setenv(cache.FOLDER_VARIABLE, "off")
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


def test_samples_and_texts_of_a_check_are_always_the_same():
    assert list(quick_check(["<|a|>"])) == list(quick_check(["<|a|>"]))
    assert set(stress_corpus(["<|a|>"])) <= set(quick_check(["<|a|>"]))
    sampled = [n for n in range(20_000) if is_sampled(f"text {n}")]
    assert 5 <= len(sampled) <= 50
    assert fast_backend.SAMPLED == 1_000


def test_a_full_check_looks_at_every_token_and_every_code_point():
    texts = set(full_check([b"tok", b"\xff", None]))
    assert "tok" in texts
    assert set("aéЖ漢\u0338\U0001f600") <= set("".join(texts))
    assert len(texts) > 140_000


def test_texts_at_risk_go_to_the_tokenizer(planted):
    """Also those that the backend would get wrong, so that no mismatch is found."""
    planted.wrong = "\u0338"
    checked = qualify.CheckedBackend(backend=planted, risk=Risk(tokens=("<think>",), normalizes=False, whole=True))
    tokenizer = masker().tokenizer.with_fast(checked)
    own = masker()(chat("q", "<think>\u0338 a"))
    assert own.input_ids == Masker(compile_text(CARD), tokenizer)(chat("q", "<think>\u0338 a")).input_ids
    with pytest.raises(BackendMismatch):
        Masker(compile_text(CARD), tokenizer)(chat("q", "x\u0338 a"))


class Counted(Planted):
    """Counts the texts that it is given."""

    form = b"form"

    def __init__(self, tokenizer, wrong):
        super().__init__(tokenizer, wrong)
        self.texts = 0

    def encode_batch(self, texts):
        self.texts += len(texts)
        return super().encode_batch(texts)


@pytest.mark.parametrize("wrong", ["never", "Hel"])
def test_a_verdict_is_kept(tmp_path, monkeypatch, wrong):
    """A second process neither checks again what passed, nor tries again what failed."""
    backend = Counted(masker().tokenizer.tokenizer, wrong)
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(qualify, "load_backend", lambda name, definition, normalizes: backend)
    monkeypatch.setattr(qualify, "PACKAGES", {"kitoken": lambda form: backend})
    monkeypatch.setattr(qualify, "full_check", lambda pieces: ["every", "token"])
    tokenizer = masker().tokenizer
    first = tokenizer.qualify_fast((), ["kitoken"], full=True)
    counted = backend.texts
    assert counted > 500
    assert tokenizer.known_fast() is None  # it was not read out of the cache, where verdicts are beside tokenizers
    again = tokenizer.qualify_fast(("Hi",), ["kitoken"], full=True)
    assert counted == backend.texts
    assert isinstance(first, str) == isinstance(again, str) == (wrong != "never")


def test_gigatoken_gives_the_ids_of_the_tokenizer_where_it_serves(tmp_path):
    """`<think>` before a mark that joins it is read by the tokenizer: gigatoken looks for it before it normalizes."""
    pytest.importorskip("gigatoken")
    tokenizer = ChatTokenizer.from_transformers(load("qwen"), template=masker().tokenizer.templates["default"])
    rows = [{"messages": chat(f"Q {n} é 漢字", f"<think>\u0338 a</think>{n}")} for n in range(5)] + ROWS
    found = tokenizer.qualify_fast((), ["gigatoken"])
    assert not isinstance(found, str), found
    assert found.encode_batch(["<think>\u0338 a"])[0].tolist() != load("qwen").encode("<think>\u0338 a")
    data = write_lines(tmp_path / "in.jsonl", rows)
    bound = Masker(compile_text(CARD), tokenizer)
    for name, wanted in (("a.parquet", "reference"), ("b.parquet", "gigatoken")):
        apply_dataset(data, bound, tmp_path / name, backend=wanted)
    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "b.parquet"))


def test_gigatoken_imports_no_awkward():
    """Its `encode_batch` does, which takes 55 MB and a third of a run of 300 rows."""
    pytest.importorskip("gigatoken")
    script = (
        "import sys; from policy_engine.chat.loading import load_tokenizer; "
        "from policy_engine.chat.tokens.fast_backend import load_backend; "
        "tokens = load_tokenizer('builtin').locator; backend = load_backend('gigatoken', tokens.definition); "
        "found = backend.encode_batch(['Hi 世界!', '', 'Hi<|im_end|>']); "
        "assert [ids.tolist() for ids in found] == tokens.call(['Hi 世界!', '', 'Hi<|im_end|>'])[0], found; "
        "assert {str(ids.dtype) for ids in found} == {'int32'}, found; print('awkward' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=540)
    assert ran.stdout == "False\n"


@pytest.mark.parametrize(
    ("text", "composes", "other", "quick"),
    [
        ("Grüße, 世界", False, False, False),
        ("नमस्ते", False, True, True),
        ("e\u0301", True, True, True),
        ("\u212b", True, True, True),
        ("<think>\u0338", True, True, True),
        ("\U0002fffe", True, True, True),
    ],
)
def test_text_in_normal_form_is_no_risk_after_a_full_check(text, composes, other, quick):
    """Where normal form C is all that the normalizer makes; no Unicode will know U+2FFFE."""
    facts = {"tokens": ("<think>",), "normalizes": True}
    risks = [Risk(**facts, whole=True, only_nfc=True), Risk(**facts, whole=True), Risk(**facts, whole=False)]
    assert [composes, other, quick] == [risk.of(text) for risk in risks]


@pytest.mark.parametrize("tokens", [("<think>", "[INST]", "|"), ("<|x|>", "#"), ("｜a｜", "<b>")])
def test_marks_beside_added_tokens_are_a_risk(tokens):
    """Found by their bytes, as a search for each token finds them."""
    rng = random.Random(7)
    risk = Risk(tokens=tokens, normalizes=False, whole=True)
    other = "[^\x00-\x7f]"
    edges = [f"{re.escape(token)}{other}|{other}{re.escape(token)}" for token in tokens]
    parts = (*tokens, "é", "中", "🙂", "<", ">", "|", "#", "]", "a", " ")
    texts = ["".join(rng.choices(parts, k=5)) for _ in range(2_000)]
    found = [risk.of(text) for text in texts]
    assert [any(re.search(edge, text) for edge in edges) for text in texts] == found
    assert {True, False} == set(found)


@pytest.mark.parametrize("name", ["kitoken", "gigatoken"])
def test_ids_of_texts_that_are_no_risk(name):
    """Scripts whose marks compose, in normal form C, beside added tokens."""
    locator = ChatTokenizer.from_transformers(load("qwen")).locator
    rng = random.Random(5)
    scripts = ((0x900, 0x97F), (0x600, 0x6FF), (0x370, 0x3FF), (0x1E00, 0x1FFF), (0x1100, 0x11FF))
    blocks = [[c for c in map(chr, range(a, b + 1)) if unicodedata.category(c) != "Cn"] for a, b in scripts]
    made = ["".join(rng.choices(rng.choice(blocks), k=20)) + rng.choice(("", "<think>", " a'b")) for _ in range(2_000)]
    risk = Risk(tokens=("<think>",), normalizes=True, whole=True, only_nfc=locator.subject.only_nfc)
    texts = [text for text in (unicodedata.normalize("NFC", text) for text in made) if not risk.of(text)]
    assert len(texts) > 500
    backend = load_backend(name, locator.subject.definition)
    assert locator._difference(texts, backend.encode_batch(texts)) is None


@pytest.mark.parametrize(("added", "normalizes"), [("<x>", False), ("<e\u0301>", True)])
def test_a_backend_goes_without_a_normalizer_that_changes_none_of_its_texts(monkeypatch, added, normalizes):
    """One that makes normal form C, of an added token too, is needed for finding that token."""
    pytest.importorskip("kitoken")
    monkeypatch.setenv(cache.FOLDER_VARIABLE, "off")
    tokenizer = copy.deepcopy(load("qwen"))
    tokenizer.add_tokens([added])
    locator = ChatTokenizer.from_transformers(tokenizer).locator
    found = qualify.qualify(locator.subject, "kitoken", ["Grüße 世界 नमस्ते"], full=False)
    assert not isinstance(found, str), found
    assert bool(found.backend._encoder.config()["normalization"]) == normalizes
    texts = ["Grüße, 世界", "don't", f"a {added} b"]
    assert [text for text in texts if found.risk.of(text)] == texts[2:] * normalizes
    texts = texts[: 2 if normalizes else 3]
    assert locator._difference(texts, found.encode_batch(texts)) is None
