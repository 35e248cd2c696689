"""Where tokenizers come from, and what is said when one does not."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from policy_engine import builtin
from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.chat.tokens import load
from policy_engine.core.errors import TemplateError, TokenizerError
from policy_engine.data.conversation import Conversation
from tests.support import tokenizers

CHAT = Conversation(messages=({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(builtin.FOLDER / name, tmp_path)
    return tmp_path


def ids(tok: ChatTokenizer) -> list[int]:
    return tok.encode(tok.template.render(CHAT)).input_ids


def test_folder_file_and_name_are_the_same_tokenizer(folder: Path) -> None:
    expected = ids(load_tokenizer("builtin"))
    assert expected == ids(load_tokenizer(folder))
    assert expected == ids(load_tokenizer(str(folder)))
    assert expected == ids(load_tokenizer(folder / "tokenizer.json"))
    assert expected == ids(load_tokenizer("builtin", template=builtin.TEMPLATE))


def test_a_template_in_tokenizer_config_is_found(folder: Path) -> None:
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = "{% for m in messages %}{{ m.content }}{% endfor %}"
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").unlink()
    assert "HiHello!" == load_tokenizer(folder).template.render(CHAT).text


def test_a_folder_with_tokenizer_json_alone_needs_a_template(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    assert ids(load_tokenizer("builtin")) == ids(load_tokenizer(folder))
    (folder / "chat_template.jinja").unlink()
    loaded = load_tokenizer(folder)
    with pytest.raises(TokenizerError, match="has no chat template") as error:
        loaded.template  # noqa: B018
    assert "--template" in str(error.value)
    assert ids(load_tokenizer("builtin")) == ids(load_tokenizer(folder, template=builtin.TEMPLATE))


def test_a_bare_tokenizer_json_takes_a_template_file_or_text(folder: Path) -> None:
    bare = folder / "sub" / "my.json"
    bare.parent.mkdir()
    shutil.copy(folder / "tokenizer.json", bare)
    text = builtin.template_text()
    packed = folder / "chat_template.json"
    packed.write_text(json.dumps({"chat_template": text}))
    expected = ids(load_tokenizer("builtin"))
    for template in (builtin.TEMPLATE, str(builtin.TEMPLATE), text, packed):
        assert expected == ids(load_tokenizer(bare, template=template))


def test_a_template_by_its_name() -> None:
    tok = tokenizers.load("byte-trim")
    named = ChatTokenizer(tokenizer=tok, templates={"a": "A", "b": "B"})
    with pytest.raises(TokenizerError, match="several chat templates") as error:
        named.template  # noqa: B018
    assert "one of `a`, `b`" in str(error.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nope.json", "there is no file or folder `nope.json`"),
        ("./nope", "there is no file or folder `./nope`"),
        ("a/b/c", "there is no file or folder `a/b/c`"),
        ("", "."),
    ],
)
def test_a_path_that_is_not_there(name: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TokenizerError, match=message) as error:
        load_tokenizer(name)
    assert error.value.help


def test_what_is_not_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "notes.txt").write_text("hello")
    for name in ("empty", "list.json", "broken.json", "notes.txt"):
        with pytest.raises(TokenizerError) as error:
            load_tokenizer(tmp_path / name)
        assert name in str(error.value)
        assert error.value.help


def test_templates_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="cannot read the chat template"):
        load_tokenizer("builtin", template=tmp_path / "none.jinja")
    (tmp_path / "latin.jinja").write_bytes(b"\xff\xfe")
    with pytest.raises(TokenizerError, match="not UTF-8"):
        load_tokenizer("builtin", template=tmp_path / "latin.jinja")
    (tmp_path / "x.json").write_text('{"a": 1}')
    with pytest.raises(TokenizerError, match="holds no chat template"):
        load_tokenizer("builtin", template=tmp_path / "x.json")
    with pytest.raises(TemplateError, match="does not compile"):
        load_tokenizer("builtin", template="{% for").template  # noqa: B018


def test_a_template_file_is_named_in_its_errors(tmp_path: Path) -> None:
    (tmp_path / "b.jinja").write_text("\n{% for")
    given = load_tokenizer("builtin", template=tmp_path / "b.jinja")
    other = load_tokenizer("builtin").with_template(tmp_path / "b.jinja")
    for loaded in (given, other, pickle.loads(pickle.dumps(given)), given.with_model_roles(["user"])):
        with pytest.raises(TemplateError, match=r"b\.jinja:2 does not compile: "):
            loaded.template  # noqa: B018
    with pytest.raises(TemplateError, match="chat template of builtin does not compile at line 1: "):
        load_tokenizer("builtin", template="{% for").template  # noqa: B018


def test_a_hub_that_cannot_be_reached_is_said_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> None:
        time.sleep(60)

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_session", lambda: SimpleNamespace(head=hang))
    monkeypatch.setattr(load, "REACH_SECONDS", 0.1)
    with pytest.raises(TokenizerError, match=r"cannot be reached \(no answer within 0\.1 seconds") as error:
        load_tokenizer("nobody-at-all/no-such-model")
    assert "builtin" in str(error.value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(TokenizerError, match="HF_HUB_OFFLINE is set"):
        load_tokenizer("nobody-at-all/no-such-model")


def test_objects_that_are_no_tokenizers() -> None:
    with pytest.raises(TokenizerError, match="not a transformers tokenizer"):
        ChatTokenizer.from_transformers(object())
    with pytest.raises(TokenizerError, match="tokenizer_object"):
        ChatTokenizer.from_transformers(tokenizers.load("byte-trim").backend_tokenizer)
    processor = SimpleNamespace(tokenizer=1, apply_chat_template=print)
    with pytest.raises(TokenizerError, match=r"pass processor\.tokenizer"):
        ChatTokenizer.from_transformers(processor)


def test_bpe_dropout_is_refused() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    random = Tokenizer(models.BPE(vocab={"a": 0}, merges=[], dropout=0.1))
    with pytest.raises(TokenizerError, match=r"dropout 0\.1"):
        ChatTokenizer.from_transformers(PreTrainedTokenizerFast(tokenizer_object=random))


def test_tokens_added_later_are_noticed() -> None:
    import copy

    tok = copy.deepcopy(tokenizers.load("byte-trim"))
    chat_tok = ChatTokenizer.from_transformers(tok)
    before = chat_tok.encode(chat_tok.template.render(CHAT)).input_ids
    assert before
    tok.add_tokens(["Hello!"])
    with pytest.raises(TokenizerError, match="gained tokens"):
        chat_tok.encode(chat_tok.template.render(CHAT))
    assert before != ids(ChatTokenizer.from_transformers(tok))


def test_it_pickles_and_the_copy_does_the_same() -> None:
    for name in ("byte-trim", "metaspace-always", "wordpiece-lower"):
        chat_tok = ChatTokenizer.from_transformers(tokenizers.load(name))
        copy = pickle.loads(pickle.dumps(chat_tok))
        assert ids(chat_tok) == ids(copy)
        assert chat_tok.fingerprint == copy.fingerprint


def test_the_fingerprint_tells_what_decides_the_ids() -> None:
    tok = load_tokenizer("builtin")
    other = tok.with_template("{{ messages }}")
    assert tok.fingerprint != other.fingerprint
    assert tok.fingerprint == load_tokenizer(builtin.FOLDER).fingerprint
    tok.tokenizer("x", truncation=True, max_length=2)
    assert tok.fingerprint == load_tokenizer("builtin").fingerprint


def test_a_second_begin_of_sequence_is_diagnosed() -> None:
    twice = ChatTokenizer.from_transformers(tokenizers.load("mistral-v1"))
    assert (1,) == twice.prefix_ids
    found = twice.double_bos(twice.times_bos(twice.encode(twice.template.render(CHAT)).input_ids))
    assert found is not None
    assert "`<s>`" in found.message
    once = twice.with_template("{{ messages[0].content }}")
    assert 0 == once.times_bos(once.encode(once.template.render(CHAT)).input_ids)
    assert once.double_bos(0) is None
    none = load_tokenizer("builtin")
    assert () == none.prefix_ids
    assert 0 == none.times_bos(none.encode(none.template.render(CHAT)).input_ids)


def test_tokens_decode_for_people() -> None:
    tok = load_tokenizer("builtin")
    found = tok.encode(tok.template.render(CHAT))
    assert found.chat.text == "".join(tok.decode_token(i) for i in found.input_ids)
    spaced = ChatTokenizer.from_transformers(tokenizers.load("mistral-v2"))
    spaced_ids = spaced.tokenizer(" hello\n", add_special_tokens=False)["input_ids"]
    assert "hello\n" == "".join(spaced.decode_token(i) for i in spaced_ids).strip(" ")


def test_transformers_is_imported_only_when_a_tokenizer_is_loaded() -> None:
    code = (
        "import sys; import policy_engine.chat.loading as t; assert 'transformers' not in sys.modules; "
        "assert 'tokenizers' not in sys.modules; t.load_tokenizer('builtin'); assert 'transformers' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
