"""Tokenizers out of the cache are the real ones, and what is damaged or of somebody else's hand is not read."""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models

from policy_engine import Masker, policy_from_text
from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.chat.tokens import cache, keep, load
from policy_engine.chat.tokens.cached import COMPACT, CachedTokenizer, cached, in_own_thread, load_compact
from policy_engine.chat.tokens.keep import compact_form, kept_files
from tests.support import tokenizers as support

CARD = "train assistant; mask system, user; train eos after assistant"
TEXTS = (
    "Hello,  world\n\n 12345\t<|im_start|>user\n<|im_end|>", "  two  spaces ", "e\u0301 é \u0915\u093c \u2126",
    "👩\u200d👩\u200d👧 漢字かな ▁under▁", "</s><s>[INST] x", "",
)  # fmt: skip
NAMES = ("llama3", "mistral-v1", "wordpiece-lower", "metaspace-gemma", "byte-trim")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokenizers"


@pytest.fixture
def saved(folder: Path, tmp_path: Path) -> Callable[[str], str]:
    def save(name: str) -> str:
        support.load(name).save_pretrained(tmp_path / name)
        return str(tmp_path / name)

    return save


def never(_: object) -> Any:
    pytest.fail("the tokenizer was loaded again")


def facts(tok: ChatTokenizer) -> list[Any]:
    """All that policy-engine reads of a tokenizer."""
    located = []
    for found in tok.locator.locate(list(TEXTS)):
        if isinstance(found, Exception):
            located.append([str(found)])
        else:
            ids, _, (starts, ends) = found
            located.append([list(ids), starts.tolist(), ends.tolist()])
    inner = tok.tokenizer
    return [
        located, tok.fingerprint, tok.special_tokens, tok.prefix_ids, dict(tok.templates), inner.pad_token_id,
        {i: (str(t), t.special, t.lstrip, t.rstrip) for i, t in inner.added_tokens_decoder.items()},
        [tok.decode_token(i) for i in range(200)],
    ]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_cached_tokenizer_is_the_real_one(
    name: str, saved: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(name)
    real = load_tokenizer(path)
    first = load_tokenizer(path, cache=True)
    assert first.tokenizer.has_loaded
    assert "real" not in vars(first.tokenizer)
    monkeypatch.setattr(load, "load_transformers", never)
    second = load_tokenizer(path, cache=True)
    assert isinstance(second.tokenizer, CachedTokenizer)
    assert facts(real) == facts(first) == facts(second)
    assert facts(real) == facts(pickle.loads(pickle.dumps(second)))


def test_rows_are_masked_alike(saved: Callable[[str], str]) -> None:
    path = saved("byte-roberta")
    chat = [{"role": "user", "content": "Two, é?"}, {"role": "assistant", "content": "<think>\nHm.\n</think>\n\nFour."}]
    load_tokenizer(path, cache=True)
    rows = [Masker(policy_from_text(CARD), load_tokenizer(path, cache=kept))(chat) for kept in (False, True)]
    assert rows[0].input_ids == rows[1].input_ids
    assert rows[0].labels == rows[1].labels


@pytest.mark.parametrize("name", ["llama3", "byte-roberta"])
def test_vocabulary_and_merges_make_the_same_backend(name: str, saved: Callable[[str], str], folder: Path) -> None:
    path = saved(name)
    real = load_tokenizer(path, cache=True).tokenizer.real
    (entry,) = folder.iterdir()
    assert {"meta.json", "lengths.npy", "pieces.bin", *COMPACT} == {file.name for file in entry.iterdir()}
    kept = load_tokenizer(path, cache=True).tokenizer
    assert real.backend_tokenizer.to_str() == kept.backend_tokenizer.to_str()


def bpe(*merges: tuple[str, str]) -> Tokenizer:
    tokens = dict.fromkeys(token for a, b in merges for token in (*a, *b, a, b, a + b))
    return Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, list(merges)))


@pytest.mark.parametrize(
    "merges",
    [
        [('"', "]"), ("]", ","), ("],", "["), (",", "["), ('"]', ",["), (",", '"'), ('"', ',"'), ("[", '",')],
        [("\\", '"'), ('\\"', ","), ("\\", "n"), ("\\n", "\\"), ("ï", "\u2028")],
        [("a", ","), (",", "a"), (",", ","), ("]", ","), ("],", "[")],
        [],
    ],
)
def test_merges_of_punctuation(merges: list[tuple[str, str]], tmp_path: Path) -> None:
    backend = bpe(*merges)
    files = compact_form(backend, backend.to_str().encode())
    assert files is not None
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    made = load_compact(tmp_path, [])
    assert made is not None
    assert backend.to_str() == made.to_str()


@pytest.mark.parametrize("pair", [("a", " "), ("\n", "b"), ("a", "\r"), ("\x01", "a"), ("#version", "s")])
def test_merges_that_fit_no_lines(pair: tuple[str, str]) -> None:
    backend = Tokenizer(models.BPE({pair[0]: 0, pair[1]: 1, "".join(pair): 2}, [pair]))
    assert compact_form(backend, backend.to_str().encode()) is None


def leave_a_merge_out(monkeypatch: pytest.MonkeyPatch) -> None:
    cut = keep.vocabulary_and_merges

    def without_a_merge(text: bytes) -> tuple[bytes, bytes]:
        vocabulary, merges = cut(text) or (b"", b"")
        return vocabulary, merges[: merges.rindex(b"\n", 0, -1) + 1]

    monkeypatch.setattr(keep, "vocabulary_and_merges", without_a_merge)


def test_the_thread_that_loads_does_not_ask_for_the_real_tokenizer(
    saved: Callable[[str], str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python 3.10 and 3.11 have one lock for it, and a thread that has it may wait for the one that loads."""
    path = saved("byte-roberta")
    leave_a_merge_out(monkeypatch)
    load_tokenizer(path, cache=True)
    (entry,) = folder.iterdir()
    threads = []

    def load_real(name: str) -> Any:
        threads.append(threading.current_thread())
        return load.load_transformers(name)

    own = cached(entry.name, path, load_real)
    assert own is not None
    assert own.backend_tokenizer is not None
    assert threads == [threading.current_thread()]


def test_files_that_make_another_backend_give_no_ids(
    saved: Callable[[str], str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run that first reads vocabulary and merges compares, and keeps the whole file where they differ."""
    path = saved("byte-roberta")
    expected = facts(load_tokenizer(path))
    leave_a_merge_out(monkeypatch)
    for files in (COMPACT, COMPACT, ("tokenizer.json",), ("tokenizer.json",)):
        tok = load_tokenizer(path, cache=True)
        (entry,) = folder.iterdir()
        assert {*files} == {file.name for file in entry.iterdir()} & {*COMPACT, "tokenizer.json", "proven"}
        if tok.tokenizer.has_loaded:
            continue  # the first run, which has the tokenizer of transformers
        assert expected == facts(tok)


def test_files_are_proven_once(saved: Callable[[str], str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved("byte-roberta")
    expected = facts(load_tokenizer(path, cache=True))
    (entry,) = folder.iterdir()
    assert not (entry / "proven").exists()
    assert expected == facts(load_tokenizer(path, cache=True))
    assert (entry / "proven").exists()
    monkeypatch.setattr(CachedTokenizer, "backend_digest", property(never))
    kept = cached(entry.name, path, never)
    assert kept is not None
    assert kept.backend_tokenizer.encode(TEXTS[0]).ids == load_tokenizer(path).tokenizer.encode(TEXTS[0])


def test_tokens_that_share_an_id_are_not_kept() -> None:
    """No file has both, and that of a merge may be the one that is missing."""
    backend = bpe(("a", "b"), ("b", "a"))
    assert {*COMPACT} == (kept_files(backend, backend.to_str().encode()) or {}).keys()
    shared = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 1}, [("a", "b")]))
    assert kept_files(shared, shared.to_str().encode()) is None
    unmerged = Tokenizer(models.BPE({"a": 0, "b": 1, "c": 1}, []))
    assert kept_files(unmerged, unmerged.to_str().encode()) is None


@pytest.mark.parametrize("damaged", [False, True])
def test_rows_are_never_truncated(damaged: bool, folder: Path, saved: Callable[[str], str]) -> None:
    path = Path(saved("byte-roberta"))
    definition = json.loads((path / "tokenizer.json").read_text())
    definition["truncation"] = {"max_length": 3, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    (path / "tokenizer.json").write_text(json.dumps(definition))
    tok = load_tokenizer(path, cache=True)
    expected = facts(tok)
    if damaged:
        (entry,) = folder.iterdir()
        (entry / COMPACT[0]).unlink()
        tok = load_tokenizer(path, cache=True)
    else:
        assert tok.tokenizer(TEXTS[0], truncation=True, max_length=2)["input_ids"]
    assert expected == facts(tok)


def test_pieces_outlast_their_entry(folder: Path, saved: Callable[[str], str]) -> None:
    path = saved("byte-trim")
    expected = facts(load_tokenizer(path, cache=True))
    kept = load_tokenizer(path, cache=True)
    pipeline, _ = kept.tokenizer.pipeline, kept.tokenizer.backend_tokenizer
    shutil.rmtree(folder)
    assert pipeline is not None
    assert expected == facts(kept)


def test_added_tokens_with_other_ids_are_not_read(saved: Callable[[str], str], folder: Path) -> None:
    load_tokenizer(saved("byte-roberta"), cache=True)
    (entry,) = folder.iterdir()
    kept = cached(entry.name, "", never)
    assert kept is not None
    added = kept.added_tokens_decoder
    assert load_compact(entry, added.items()) is not None
    assert load_compact(entry, [(i + 1, token) for i, token in added.items()]) is None


def test_special_tokens_that_are_split_stay_so(folder: Path, saved: Callable[[str], str]) -> None:
    path = Path(saved("byte-roberta"))
    config = path / "tokenizer_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"split_special_tokens": True}))
    first, second = (load_tokenizer(path, cache=True) for _ in range(2))
    text = "".join(map(str, first.tokenizer.added_tokens_decoder.values()))
    assert len(first.tokenizer.added_tokens_decoder) < len(first.locator.locate([text])[0][0])
    assert first.locator.locate([text])[0][0] == second.locator.locate([text])[0][0]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("meta.json", "wordpiece-lower"),
        *((file, "metaspace-gemma") for file in ("tokenizer.json", "lengths.npy", "pieces.bin")),
        *((file, "byte-trim") for file in COMPACT),
    ],
)
@pytest.mark.parametrize("damage", [b"", b"{}", None])
def test_a_damaged_entry_is_not_believed(
    file: str, name: str, damage: bytes | None, folder: Path, saved: Callable[[str], str]
) -> None:
    path = saved(name)
    expected = facts(load_tokenizer(path, cache=True))
    (entry,) = folder.iterdir()
    if damage is None:
        (entry / file).unlink()
    else:
        (entry / file).write_bytes(damage)
    assert expected == facts(load_tokenizer(path, cache=True))


def test_an_entry_that_others_can_write_is_not_read(folder: Path, saved: Callable[[str], str]) -> None:
    path = saved("wordpiece-lower")
    load_tokenizer(path, cache=True)
    (entry,) = folder.iterdir()
    assert 0 == (entry.stat().st_mode | folder.stat().st_mode) & 0o077
    entry.chmod(0o777)
    # It has the backend of the real tokenizer, of which the entry is made again.
    assert load_tokenizer(path, cache=True).tokenizer.has_loaded
    assert not load_tokenizer(path, cache=True).tokenizer.has_loaded


def test_another_file_is_another_entry(folder: Path, saved: Callable[[str], str]) -> None:
    path = Path(saved("wordpiece-lower"))
    load_tokenizer(path, cache=True)
    (path / "chat_template.jinja").write_text("{{ messages[0].content }}")
    changed = load_tokenizer(path, cache=True)
    assert {"default": "{{ messages[0].content }}"} == changed.templates
    assert 2 == len(list(folder.iterdir()))


def test_the_cache_keeps_a_number_of_entries(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MOST_ENTRIES", 2)
    for number in range(4):
        cache.keep(f"entry{number}", {}, {"a": bytes([number])})
        assert cache.find("entry0") is not None  # used, so it is not the next one to go
    assert 2 == len(cache.entries())
    assert cache.find("entry0") is not None
    assert 2 == cache.clear()
    assert [] == cache.entries()


def test_a_cache_that_cannot_be_written_is_passed_over(
    folder: Path, saved: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved("wordpiece-lower")
    folder.parent.write_text("a file where the folder should be")
    assert not isinstance(load_tokenizer(path, cache=True).tokenizer, CachedTokenizer)
    monkeypatch.setenv(cache.FOLDER_VARIABLE, "off")
    assert not isinstance(load_tokenizer(path, cache=True).tokenizer, CachedTokenizer)
    assert cache.cache_folder() is None


def test_what_the_cache_does_not_know_the_real_tokenizer_answers(saved: Callable[[str], str]) -> None:
    path = saved("wordpiece-lower")
    real = load_tokenizer(path).tokenizer
    load_tokenizer(path, cache=True)
    kept = load_tokenizer(path, cache=True).tokenizer
    ids = kept("hello world")["input_ids"]
    assert real("hello world")["input_ids"] == ids
    assert real.decode(ids) == kept.decode(ids)
    assert len(real) == len(kept)
    with pytest.raises(AttributeError):
        _ = kept.no_such_attribute


def test_an_entry_that_goes_away_leaves_the_real_tokenizer(folder: Path, saved: Callable[[str], str]) -> None:
    path = saved("wordpiece-lower")
    load_tokenizer(path, cache=True)
    kept = load_tokenizer(path, cache=True)
    pickled = pickle.dumps(kept)
    shutil.rmtree(folder)
    assert facts(load_tokenizer(path)) == facts(pickle.loads(pickled))


def test_memory_is_given_back_before_a_tokenizer_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What earlier work left free, and what loading needs, would be in memory at once."""
    done: list[str] = []
    monkeypatch.setattr("policy_engine.chat.tokens.cached.give_back", lambda: done.append("give back"))
    in_own_thread(lambda: done.append("load"))
    assert done == ["give back", "load", "give back"]


def test_one_thread_that_stays_loads_all_tokenizers() -> None:
    """Its memory is in pieces, and goes to the next thread once it has ended: the tokenizer's own."""
    threads = [in_own_thread(threading.current_thread) for _ in range(2)]
    assert threads[0] is threads[1]
    assert threads[0].is_alive()
    assert threads[0] is not threading.current_thread()
    # Loading may load another tokenizer.
    assert in_own_thread(lambda: in_own_thread(threading.current_thread)) is threads[0]
    with ThreadPoolExecutor(1) as other:
        assert other.submit(in_own_thread, threading.current_thread).result(timeout=30) is threads[0]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python 3.12's, of forks beside threads
@pytest.mark.skipif(not hasattr(os, "fork"), reason="a system without fork")
def test_a_forked_process_loads_with_a_thread_of_its_own() -> None:
    in_own_thread(int)
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply_async(in_own_thread, (int,)).get(timeout=30) == 0
