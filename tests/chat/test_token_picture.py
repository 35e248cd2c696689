"""The tokens in the docstring of `policy_engine.chat.tokens` are those of the built-in tokenizer."""

from __future__ import annotations

from policy_engine import load_tokenizer
from policy_engine.chat import tokens
from policy_engine.chat.segments import RenderedChat


def test_the_example_is_true() -> None:
    chat = RenderedChat(text="Yes, naïve 🙂<|im_end|>", segments=(), messages=(), sample={})
    found = load_tokenizer("builtin").encode(chat)
    assert tokens.__doc__ is not None
    lines = [line.split() for line in tokens.__doc__.splitlines() if line.startswith("    ") and " to " in line]
    drawn = [(int(line[0]), int(line[-3]), int(line[-1])) for line in lines]
    assert list(zip(found.input_ids, found.starts_T.tolist(), found.ends_T.tolist())) == drawn
