"""A tokenizer of one text's tokens gives the ids of the whole one, or is not made."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from benchmarks.corpus import real_conversations
from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.chat.tokens import cache, few_tokens, locator
from policy_engine.chat.tokens.cached import CachedTokenizer
from policy_engine.chat.tokens.check_texts import Risk
from policy_engine.chat.tokens.fast_backend import BackendMismatch
from policy_engine.chat.tokens.qualify import CheckedBackend
from tests.support import tokenizers as support

ODD = (
    "a", " ", "\n\n\n", "  two  spaces \t\n x", "'S 'll 12345 3.14", "漢字かな 한국어 Привет é ß", "👩‍👩‍👧 🙂",
    "<|im_start|>user\n<|im_end|><think>\n</think><|endoftext|> <|im_start", "#version: 0.2\na b\n", "\x85\u2028\x1c|",
    "=" * 300 + " " * 90 + "a" * 50,
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("few")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache.FOLDER_VARIABLE, str(made / "cache"))
        yield made


def proven(name: str, folder: Path, made: PreTrainedTokenizerFast | None = None) -> str:
    """The path of a tokenizer whose files in the cache a run has read before."""
    path = folder / name
    if not path.exists():
        (made or support.load(name)).save_pretrained(path)
        for _ in range(2):
            _ = load_tokenizer(str(path), cache=True).tokenizer.backend_tokenizer
    return str(path)


def kept(path: str) -> CachedTokenizer:
    found = load_tokenizer(path, cache=True).tokenizer
    assert isinstance(found, CachedTokenizer)
    return found


def texts() -> list[str]:
    rng = random.Random(5)
    real = ["\n".join(message["content"] for message in row["messages"]) for row in real_conversations(6)]
    mixed = ["".join(rng.choice(ODD)[: rng.randrange(20)] for _ in range(30)) for _ in range(8)]
    return [*ODD, *real, *mixed]


@pytest.mark.parametrize("name", ["qwen", "byte-trim"])
def test_ids_are_those_of_the_whole_tokenizer(name: str, folder: Path) -> None:
    own = kept(proven(name, folder))
    whole = own.backend_tokenizer
    made = {text: few_tokens.few_tokens(own, text) for text in texts()}
    ids = {text: few.encode(text) for text, few in made.items() if few is not None}
    assert ids == {text: whole.encode(text, add_special_tokens=False).ids for text in ids}
    assert len(ids) > 20


@pytest.mark.parametrize("name", ["byte-roberta", "byte-nfkc", "byte-lower", "metaspace-gemma", "wordpiece-cased"])
def test_other_kinds_of_tokenizers_are_not_cut_down(name: str, folder: Path) -> None:
    assert few_tokens.few_tokens(kept(proven(name, folder)), "Hello") is None


def test_texts_that_the_normalizer_changes_are_for_the_whole_tokenizer(folder: Path) -> None:
    own = kept(proven("qwen", folder))
    assert few_tokens.few_tokens(own, "\u00e9") is not None
    assert few_tokens.few_tokens(own, "e\u0301") is None


def test_bytes_without_a_token_are_for_the_whole_tokenizer(folder: Path) -> None:
    """It leaves them out, and merges what is beside them."""
    made = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    loaded = PreTrainedTokenizerFast(tokenizer_object=made, chat_template="{{ messages[0].content }}")
    own = kept(proven("gaps", folder, loaded))
    few = few_tokens.few_tokens(own, "ab")
    assert few is not None
    assert few.encode("ab") == own.backend_tokenizer.encode("axb").ids == [2]
    assert few_tokens.few_tokens(own, "axb") is None


@pytest.mark.parametrize(("raised", "is_left"), [("PanicException", True), ("Interrupted", False)])
def test_texts_that_panic_are_for_the_whole_tokenizer(
    raised: str, is_left: bool, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = type(raised, (BaseException,), {})

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(few_tokens, "few_tokens", fail)
    own = kept(proven("byte-trim", folder))
    if is_left:
        assert not few_tokens.gives_same(own, ["Hello"], [[1]])
        return
    with pytest.raises(error):
        few_tokens.gives_same(own, ["Hello"], [[1]])


def test_damaged_or_unproven_files_are_not_read(folder: Path) -> None:
    own = kept(proven("byte-trim", folder))

    def is_read() -> bool:
        own.all_tokens = None  # as in another process
        return few_tokens.few_tokens(own, "Hello") is not None

    assert is_read()
    own.entry.path("proven").unlink()
    assert not is_read()
    own.entry.set_proven()
    merges = own.entry.path("merges.txt")
    whole = merges.read_bytes()
    merges.write_bytes(whole + b"e h\n")
    assert not is_read()
    merges.write_bytes(whole)
    assert is_read()


class Own:
    """A backend that gives the ids of another tokenizer object of the same files, wrong ones from a text on."""

    name = "own"

    def __init__(self, backend: Any, wrong: str = "") -> None:
        self._backend = backend
        self._wrong = wrong

    def encode_batch(self, texts: Sequence[str]) -> list[Any]:
        found = [self._backend.encode(text, add_special_tokens=False).ids for text in texts]
        return [[*ids[:-1], 0] if text == self._wrong else ids for text, ids in zip(texts, found)]


def sampling(path: str, wrong: str = "") -> tuple[ChatTokenizer, CachedTokenizer]:
    whole = kept(path).backend_tokenizer
    checked = CheckedBackend(
        backend=Own(whole, wrong), risk=Risk(tokens=(), normalizes=True, whole=True, only_nfc=True)
    )
    made = load_tokenizer(path, cache=True).with_fast(checked)
    assert isinstance(made.tokenizer, CachedTokenizer)
    return made, made.tokenizer


def test_a_few_samples_do_not_load_the_tokenizer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = proven("byte-trim", folder)
    monkeypatch.setattr(locator, "is_sampled", lambda text, one_in=1: True)
    made, own = sampling(path)
    given = texts()[: few_tokens.MOST_TEXTS]
    made.locator.locate(given)
    assert not own.has_loaded
    made.locator.locate(["one more"])
    assert own.has_loaded


def test_a_sample_that_differs_is_told_by_the_whole_tokenizer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = proven("byte-trim", folder)
    monkeypatch.setattr(locator, "is_sampled", lambda text, one_in=1: True)
    made, own = sampling(path, wrong="It is wrong here.")
    with pytest.raises(BackendMismatch, match="from the fast backend"):
        made.locator.locate(["Hello", "It is wrong here."])
    assert own.has_loaded
