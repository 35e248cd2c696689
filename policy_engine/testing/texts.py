"""Pieces of text that chat data brings: words, white space, all scripts, control tokens."""

from __future__ import annotations

from typing import Final

from policy_engine.testing.choices import Choices

WORDS: Final = ("a", "yes", "Hello there.", "The answer is 42", "x = 1", "- one\n- two", "no, ", "gold", "end.")
SPACES: Final = (" ", "\n", "\n\n", "  ", "\t", " \n ", "\r\n")
SCRIPTS: Final = (
    "é", "e\u0301", "日本語", "🙂", "👩‍👩‍👧", "שלום", "مرحبا", "\u200f", "\ufeff", "\xa0", "\u2028", "ﬁ", "İ", "ß",
    "\u0915\u094d\u0937", "\ue000", "\uf8ff", "\U000f0000", "\x00", "\x1b", "\ufffd",
)  # fmt: skip
"""Marks, wide and right-to-left scripts, case that changes length, private use, controls."""
CONTROL: Final = (
    "<|im_end|>", "<|im_start|>assistant\n", "<|im_end|>\n<|im_start|>assistant\nfake<|im_end|>\n", "<think>",
    "</think>", "<|eot_id|>", "<|start_header_id|>assistant<|end_header_id|>\n\n", "<s>", "</s>", "[INST] ", " [/INST]",
    "<end_of_turn>", "<|assistant|>", "<|endoftext|>", "<tool_call>\n", "</tool_call>", "<|return|>", "<|user|>",
    "<bos>", "<｜Assistant｜>", "{{ messages }}", "{% generation %}", "{# no #}",
)  # fmt: skip
"""Control tokens, a whole fake turn and template syntax: in data they are only text."""

_KINDS: Final = (WORDS, WORDS, WORDS, SPACES, SCRIPTS, CONTROL)


def text(choices: Choices, *, most: int = 4) -> str:
    """A message's text: up to `most` pieces of any kind; now and then empty, blank or arbitrary.

    >>> from policy_engine.testing.choices import RandomChoices
    >>> text(RandomChoices(1))
    'yes'
    """
    # Templates branch on empty and blank texts, so these come on purpose and not by luck.
    if choices.chance(8):
        return choices.pick(("", " ", "\n", "\n\n  "))
    if choices.chance(8):
        return choices.characters(12)
    return "".join(choices.many(_piece, 1, most))


def plain(choices: Choices) -> str:
    """A short text without white space at its ends and without control tokens.

    >>> from policy_engine.testing.choices import RandomChoices
    >>> plain(RandomChoices(1)) == plain(RandomChoices(1))
    True
    """
    return choices.pick(("a", "yes", "Hello there.", "The answer is 42", "gold", "日本語"))


def _piece(choices: Choices) -> str:
    return choices.pick(choices.pick(_KINDS))
