"""What is read of a `tokenizer.json` before others read it: shorter merges, other patterns, and its added tokens."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer

from policy_engine.chat.tokens import fast_backend, load
from policy_engine.chat.tokens.cached import VOCABULARY
from policy_engine.chat.tokens.definition import added_tokens, plain_definition, short_merges
from policy_engine.chat.tokens.fast_backend import KitokenBackend
from policy_engine.chat.tokens.keep import compact_form
from policy_engine.chat.tokens.load import load_transformers
from policy_engine.chat.tokens.pipeline import read_pipeline
from policy_engine.core.errors import TokenizerError
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


@pytest.mark.parametrize("pretty", [False, True])
def test_added_tokens_are_those_of_the_file(pretty: bool) -> None:
    own = load_by_name("qwen").backend_tokenizer
    found = added_tokens(own.to_str(pretty=pretty).encode())
    assert found is not None
    assert repr({i: AddedToken(**token) for i, token in found.items()}) == repr(own.get_added_tokens_decoder())


_TOKEN: dict[str, Any] = {"id": 0, "content": "a"}


@pytest.mark.parametrize(
    "definition",
    [
        {"model": {"type": "BPE"}, "added_tokens": [_TOKEN]},
        {"added_tokens": [_TOKEN], "model": {"vocab": {"added_tokens": 0}}},
        {"added_tokens": [_TOKEN, {"id": 0, "content": "b"}], "model": {}},
        {"added_tokens": [{"content": "a"}], "model": {}},
        {"other": {"a": 1, "model": {}}, "added_tokens": [_TOKEN]},
        {"a": 1, "model": {}},
    ],
)
def test_added_tokens_that_are_left_to_transformers(definition: dict[str, Any]) -> None:
    assert added_tokens(json.dumps(definition).encode()) is None


@pytest.mark.parametrize("name", ["qwen", "llama3", "deepseek", "tekken", "byte-roberta", "byte-strip"])
def test_a_vocabulary_at_hand_gives_the_same_pipeline(name: str) -> None:
    backend = load_by_name(name).backend_tokenizer
    files = compact_form(backend, backend.to_str().encode())
    assert files is not None
    own, given = read_pipeline(backend), read_pipeline(backend, files[VOCABULARY])
    assert own.table is not None
    assert given.table is not None
    assert (own.table.pieces, own.table.added) == (given.table.pieces, given.table.added)
    assert (own.drops, own.stripping, own.affixes) == (given.drops, given.stripping, given.affixes)


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The options of each call of transformers, which loads as it does."""
    calls: list[dict[str, Any]] = []
    real = AutoTokenizer.from_pretrained

    def spied(name: str, *, local_files_only: bool, **options: Any) -> Any:
        calls.append({key: Path(v).read_bytes() if key == "tokenizer_file" else v for key, v in options.items()})
        return real(name, local_files_only=local_files_only, **options)

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", spied)
    return calls


def facts_of(tokenizer: Any) -> list[Any]:
    """All that transformers made of a folder."""
    options = sorted((name, repr(v)) for name, v in tokenizer.init_kwargs.items() if name != "tokenizer_file")
    return [
        *(type(tokenizer), tokenizer.backend_tokenizer.to_str(), options, tokenizer.special_tokens_map),
        *(repr(tokenizer.added_tokens_decoder), tokenizer.name_or_path, tokenizer.chat_template),
    ]


@pytest.mark.parametrize("older", [False, True])
@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("name", ["metaspace-first", "wordpiece-cased"])
def test_transformers_makes_the_same_of_what_was_read_before(
    name: str, listed: bool, older: bool, tmp_path: Path, given: list[dict[str, Any]]
) -> None:
    load_by_name(name).save_pretrained(tmp_path)
    file, config = tmp_path / "tokenizer.json", tmp_path / "tokenizer_config.json"
    added = added_tokens(file.read_bytes())
    if listed:
        config.write_text(json.dumps({**json.loads(config.read_text()), "added_tokens_decoder": added}))
    if older:
        (tmp_path / "special_tokens_map.json").write_text('{"extra_special_tokens": ["<more>"]}')
    found = load_transformers(tmp_path)
    short = short_merges(file.read_bytes())
    expected = {} if listed or older else {"added_tokens_decoder": added}
    assert given == [expected | ({} if short is None else {"tokenizer_file": short})]
    plain = AutoTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
    assert facts_of(found) == facts_of(plain)


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
    assert [{k: v for k, v in options.items() if k == "tokenizer_file"} for options in given] == (
        [{}] if names_files else [{"tokenizer_file": b"{}"}, {}]
    )
    assert found.encode("Hi") == load_by_name("metaspace-first").encode("Hi")


def test_a_folder_that_cannot_be_loaded_is_tried_once(tmp_path: Path, given: list[dict[str, Any]]) -> None:
    load_by_name("metaspace-first").save_pretrained(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": ["own.Own", None]}}))
    with pytest.raises(TokenizerError, match="contains custom code") as error:
        load_transformers(tmp_path)
    assert f"from the folder `{tmp_path}`: " in error.value.message
    assert "policy-engine-" not in error.value.message
    assert 1 == len(given)


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
