"""A `tokenizer.json` with shorter merges or other patterns is the same tokenizer, and takes less to read or to use."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer

from policy_engine.chat.tokens import fast_backend, load
from policy_engine.chat.tokens.definition import plain_definition, short_merges
from policy_engine.chat.tokens.fast_backend import KitokenBackend
from policy_engine.chat.tokens.load import load_transformers
from tests.support.tokenizers import load as load_by_name


def bpe(*merges: tuple[str, str], more: tuple[str, ...] = ()) -> Tokenizer:
    tokens = dict.fromkeys(token for a, b in merges for token in (*a, *b, a, b, a + b))
    return Tokenizer(models.BPE({token: i for i, token in enumerate([*more, *tokens])}, list(merges)))


@pytest.mark.parametrize("pretty", [False, True])
@pytest.mark.parametrize(
    "merges",
    [
        [('"', "]"), ("]", ","), ("],", "["), (",", "["), ('"]', ",["), (",", '"'), ('"', ',"'), ("[", '",')],
        [("\\", '"'), ('\\"', ","), ("\\", "n"), ("\\n", "\\"), ("\\", "u"), ("ï", "\u2028")],
        [("a", ","), (",", "a"), (",", ","), ("]", ","), ("],", "["), ("\n", "\t")],
        [("mer", "ges")],
    ],
)
def test_short_merges_are_the_same_tokenizer(merges: list[tuple[str, str]], pretty: bool) -> None:
    own = bpe(*merges, more=("merges", "vocab"))
    text = own.to_str(pretty=pretty)
    short = short_merges(text.encode())
    assert short is not None
    assert len(short) < len(text.encode())
    assert [*map(" ".join, merges)] == json.loads(short)["model"]["merges"]
    assert own.to_str() == Tokenizer.from_str(short.decode()).to_str()


@pytest.mark.parametrize("pair", [("a", " "), ("\x01", "a"), ("#version", "s")])
def test_merges_that_fit_no_short_form(pair: tuple[str, str]) -> None:
    own = Tokenizer(models.BPE({pair[0]: 0, pair[1]: 1, "".join(pair): 2}, [pair]))
    assert short_merges(own.to_str().encode()) is None


@pytest.mark.parametrize(
    "model",
    [
        {"vocab": {"a": 0}, "merges": []},
        {"vocab": {"a": 0, "aa": 1}, "merges": ["a a"]},
        {"merges": [["a", "a"]], "vocab": {"a": 0, "aa": 1}},
        {"vocab": {"a": 0, "aa": 1}, "merges": [["a", "a"], "a a"]},
        {"vocab": {"a": 0, "aa": 1}, "merges": [["a", "a", "a"]]},
        {"vocab": {"merges": 0}},
    ],
)
def test_other_forms_are_left_as_they_are(model: dict[str, Any]) -> None:
    assert short_merges(json.dumps({"model": {"type": "BPE", **model}}).encode()) is None


def test_kitoken_makes_the_same_of_both(monkeypatch: pytest.MonkeyPatch) -> None:
    text = load_by_name("byte-roberta").backend_tokenizer.to_str().encode()
    of_short = KitokenBackend.of(text).form
    given: list[bytes] = []
    monkeypatch.setattr(fast_backend, "short_merges", given.append)
    assert of_short == KitokenBackend.of(text).form
    assert given == [text]


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of each call of transformers, which loads as it does."""
    calls: list[dict[str, Any]] = []
    real = AutoTokenizer.from_pretrained

    def spied(name: str, **options: Any) -> Any:
        calls.append({key: Path(value).read_bytes() for key, value in options.items() if key == "tokenizer_file"})
        return real(name, **options)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", spied)
    return calls


def test_transformers_reads_the_shorter_file(tmp_path: Path, given: list[dict[str, Any]]) -> None:
    load_by_name("metaspace-first").save_pretrained(tmp_path)
    found = load_transformers(tmp_path)
    assert given == [{"tokenizer_file": short_merges((tmp_path / "tokenizer.json").read_bytes())}]
    plain = AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
    assert found.backend_tokenizer.to_str() == plain.backend_tokenizer.to_str()
    assert found.name_or_path == str(tmp_path)


@pytest.mark.parametrize("names_files", [False, True])
def test_a_folder_is_read_plainly_where_the_shorter_file_does_not_serve(
    names_files: bool, tmp_path: Path, given: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_by_name("metaspace-first").save_pretrained(tmp_path)
    config = tmp_path / "tokenizer_config.json"
    if names_files:
        config.write_text(json.dumps({**json.loads(config.read_text()), "fast_tokenizer_files": ["tokenizer.json"]}))
    else:
        monkeypatch.setattr(load, "short_merges", lambda text: b"{}")
    found = load_transformers(tmp_path)
    assert given == ([{}] if names_files else [{"tokenizer_file": b"{}"}, {}])
    assert found.encode("Hi") == load_by_name("metaspace-first").encode("Hi")


def test_a_tokenizer_is_read_where_its_shorter_copy_cannot_be_written(
    tmp_path: Path, given: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_by_name("metaspace-first").save_pretrained(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "no folder"))
    assert load_transformers(tmp_path).encode("Hi") == load_by_name("metaspace-first").encode("Hi")
    assert given == [{}]


def splits_of(definition: bytes) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = json.loads(definition)["pre_tokenizer"]["pretokenizers"]
    return [step for step in steps if step["type"] == "Split"]


@pytest.mark.parametrize("name", ["qwen", "qwen3.5", "llama4", "tekken"])
def test_patterns_that_look_ahead_cut_text_at_the_same_places_as_those_that_do_not(name: str) -> None:
    definition = load_by_name(name).backend_tokenizer.to_str().encode()
    before, after = (splits_of(plain_definition(definition, looks_ahead=looks)) for looks in (True, False))
    assert [len(before), len(after)] == [1, 2]
    assert not any("(?!" in step["pattern"]["Regex"] for step in after)

    def cutter(steps: list[dict[str, Any]]) -> pre_tokenizers.PreTokenizer:
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Split(Regex(step["pattern"]["Regex"]), "isolated") for step in steps]
        )

    one, two = cutter(before), cutter(after)
    short = itertools.chain(itertools.product("aA's1!/ \t\n\u0301", repeat=3), itertools.product("a1! \t\n", repeat=4))
    for text in [
        *map("".join, short),
        Path(__file__).read_text("utf-8"),
        "  x\u00a0 1\t\t(\u3000\u3000'll  \r\n \t42 \t",
    ]:
        assert one.pre_tokenize_str(text) == two.pre_tokenize_str(text), text


def test_other_patterns_stay_as_they_are() -> None:
    definition = load_by_name("deepseek").backend_tokenizer.to_str().encode()
    assert plain_definition(definition, looks_ahead=False) == plain_definition(definition)
