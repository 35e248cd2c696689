"""Facts about a template, as opposed to a row.

Of Qwen3: the prompt after a user is `<|im_start|>assistant⏎`, the marker of an end is `<|im_end|>`. Of GLM-4.6: no
marker, but the openers `<|user|>` and `<|observation|>` end answers. `learn` finds them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from policy_engine.chat.label.markers import Markers
from policy_engine.core.source import common_prefix


@dataclass(frozen=True, kw_only=True)
class TemplateProfile:
    """Learned facts. Texts are scaffold only.

    >>> profile = TemplateProfile(prompts={"user": "<|im_start|>assistant\\n"})
    >>> profile.prompt("user") == profile.prompt("tool") == profile.prompt(None)
    True
    """

    prompts: Mapping[str, str] = field(default_factory=dict)
    """Generation prompt after a turn of a role."""
    openings: Mapping[str, str] = field(default_factory=dict)
    """Opening of a model turn after a turn of a role, up to its data."""
    user_opening: str = ""
    """Opening of a user turn in mid conversation."""
    marker: str | None = None
    """Marker that ends model turns; None for a template without one."""
    opener_ends: frozenset[str] = frozenset()
    """Markers of the next turn's opener that end a model turn (GLM: `<|user|>`, `<|observation|>`)."""
    late: str = ""
    """Text of a model turn that the turn after it opens with."""
    late_call: str = ""
    """The same after a turn with a call (Gemma 4: `<|tool_response>`)."""
    late_user: str = ""
    """The same after a user's turn."""
    closers: frozenset[str] = frozenset()
    """Closing tags of tags that open turns (`</user>`)."""
    early: str = ""
    """Beginning of a model turn's opening that the turn before it writes; empty where model turns write their own."""
    openers: frozenset[str] = frozenset()
    """Markers in what opens turns."""
    appended: str = ""
    """Beginning of a generation prompt that every conversation ends with, even if it was not asked for."""
    suffix: str = ""
    """Words that end every conversation, whoever spoke last (a judge's instructions)."""
    system: str = ""
    """Marker that opens a system turn after an answer."""
    varies: bool = False
    """True if the prompt after one user turn is not that after another, so that each has to be asked for."""
    flags: frozenset[str] = frozenset()
    """Words of messages that change the prompt (`/no_think`)."""

    def prompt(self, before: str | None) -> str:
        """The generation prompt after a turn of a role; after a role that was not tried, the user's."""
        # At the very start, too, the model answers as it would answer a user.
        return self.prompts.get(before or "user", self.prompts.get("user", ""))

    def opening(self, before: str | None) -> str:
        """The opening of a model turn after a turn of role `before`."""
        return self.openings.get(before or "user", self.openings.get("user", ""))


def has_word(messages: Sequence[Mapping[str, Any]], words: Iterable[str]) -> bool:
    """True if the text of a message has one of the words.

    >>> has_word([{"role": "user", "content": "Hi /no_think"}], ["/no_think"])
    True
    """
    for message in messages:
        content = message.get("content")
        entries = content if isinstance(content, list) else [{"text": content}]
        texts = [entry.get("text") for entry in entries if isinstance(entry, Mapping)]
        if any(isinstance(text, str) and word in text for text in texts for word in words):
            return True
    return False


def added_prompt(without: str, with_prompt: str, markers: Markers) -> str:
    """The generation prompt: the rest of a text with one, compared with the text without.

    >>> markers = Markers.of([], bos=None, eos=None)
    >>> added_prompt("<|user|>Hi", "<|user|>Hi<|assistant|>", markers)
    '<|assistant|>'
    >>> added_prompt("Hi<|return|>", "Hi<|end|><|assistant|>", markers)
    '<|end|><|assistant|>'
    """
    if with_prompt.startswith(without):
        return with_prompt[len(without) :]
    # The template ends its last turn differently once a prompt follows (`<|return|>` becomes `<|end|>`).
    return with_prompt[markers.back_to_boundary(with_prompt, common_prefix(with_prompt, without)) :]


def shared_end(first: str, later: str, markers: Markers) -> str:
    """The end that two openings share; no marker is cut.

    >>> markers = Markers.of([], bos=None, eos=None)
    >>> shared_end("<s>Be kind.<|user|>\\n", "<|end|><|user|>\\n", markers)
    '<|user|>\\n'
    """
    start = len(first) - common_prefix(first[::-1], later[::-1])
    return first[next((high for low, high in markers.spans(first) if low < start < high), start) :]
