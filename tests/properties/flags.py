"""Flags of `apply_chat_template`: ids equal transformers' own, whatever control tokens the data quotes.

Each template is asked with a tokenizer that has the template's own control tokens among its added ones: some are
special, some are not. A case renders one conversation under all three sets of flags.
"""

from __future__ import annotations

import copy
import functools
import random
import re
from typing import Any, Final

from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import AttributionError, PolicyEngineError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.checks.conformance_laws import badly_attributed
from policy_engine.testing.choices import Choices, RandomChoices
from policy_engine.testing.templates import installed_templates
from tests.properties.injection import hostile_conversation
from tests.support.tokenizers import load

TOKENIZERS: Final = ("builtin", "unigram-plain", "byte-strip", "qwen", "llama3", "mistral-v1", "deepseek")
_SMALL: Final = frozenset({"builtin", "unigram-plain", "byte-strip"})
"""Tokenizers that are copied in no time, and get the template's control tokens."""
SETS: Final[tuple[dict[str, Any], ...]] = (
    {"sanitize_control_tokens": True},
    {"continue_final_message": True},
    {"sanitize_control_tokens": True, "continue_final_message": True},
    {"continue_final_message": "reasoning_content"},
)
FOR_EACH: Final = 20
"""Conversations for each template."""
_CONTROL: Final = re.compile(r"<\|[a-z_]{1,24}\|>|</?[a-z_]{1,16}>|\[/?[A-Z_]{1,24}\]")


def flags_case(seed: int, number: int) -> tuple[str, str | None]:
    """What a case came to, and what is wrong: other ids than transformers', or data at the wrong place."""
    names = sorted(installed_templates())
    name = names[number // FOR_EACH % len(names)]
    tokenizer = _tokenizer(seed, name)
    choices = RandomChoices(f"flags:{seed}:{number}")
    conversation = _conversation(choices, tokenizer)
    found = [_compared(tokenizer, conversation, flags) for flags in SETS]
    problem = next((f"{name}, {flags}: {p}" for (_, p), flags in zip(found, SETS) if p is not None), None)
    outcomes = [outcome for outcome, _ in found]
    if "refused" in outcomes:
        return "refused", problem
    return ("equal" if "equal" in outcomes else "both refuse"), problem


def _conversation(choices: Choices, tokenizer: ChatTokenizer) -> Conversation:
    made = hostile_conversation(choices, tuple(map(str, tokenizer.tokenizer.added_tokens_decoder.values())))
    if not choices.chance(40):
        return made
    # White space at the end, and a content of parts: what decides how an open turn ends.
    *before, last = made.messages
    content: Any = last["content"] + choices.pick((" ", "\n\n", ""))
    if choices.chance(30):
        content = [{"type": "text", "text": content}]
    return Conversation(messages=(*before, {**last, "content": content}), tools=made.tools)


def _compared(tokenizer: ChatTokenizer, told: Conversation, flags: dict[str, Any]) -> tuple[str, str | None]:
    expected = _theirs(tokenizer, told, flags)
    try:
        conversation = Conversation(messages=told.messages, tools=told.tools, template_kwargs=flags)
        chat = tokenizer.template_for(conversation).render(conversation)
        ids = tokenizer.encode(chat).input_ids
    except AttributionError as error:
        return ("refused" if isinstance(expected, list) else "both refuse"), _unexpected(error)
    except PolicyEngineError as error:
        wrong = f"{type(error).__name__}: {error}; transformers gives ids" if isinstance(expected, list) else None
        return "both refuse", wrong
    if not isinstance(expected, list):
        return "equal", f"transformers raises {expected!r}"
    if ids != expected:
        at = next((i for i, (a, b) in enumerate(zip(ids, expected)) if a != b), min(len(ids), len(expected)))
        return "equal", f"token {at}: {ids[at : at + 4]} and transformers {expected[at : at + 4]} in {chat.text!r}"
    return "equal", _misplaced(chat, conversation)


def _misplaced(chat: RenderedChat, conversation: Conversation) -> str | None:
    return next(iter(badly_attributed(chat, conversation)), None)


def _unexpected(error: AttributionError) -> str | None:
    known = ("cannot be encoded as text", "cannot read this text", "cannot tell which characters")
    return None if any(said in str(error) for said in known) else f"AttributionError: {error}"


def _theirs(tokenizer: ChatTokenizer, told: Conversation, flags: dict[str, Any]) -> list[int] | Exception:
    try:
        found = tokenizer.tokenizer.apply_chat_template(
            [dict(message) for message in told.messages],
            tools=None if told.tools is None else list(told.tools),
            chat_template=tokenizer.templates["default"],
            tokenize=True,
            return_dict=False,
            **flags,
        )
    except Exception as error:
        return error
    return list(found)


@functools.lru_cache(maxsize=4)
def _tokenizer(seed: int, name: str) -> ChatTokenizer:
    pick = random.Random(f"{seed}:{name}")
    kind = pick.choice(TOKENIZERS)
    source = installed_templates()[name]
    own: Any = load_tokenizer("builtin").tokenizer if kind == "builtin" else load(kind)
    if kind in _SMALL:
        own = copy.deepcopy(own)
        known = set(map(str, own.added_tokens_decoder.values()))
        found = [token for token in dict.fromkeys(_CONTROL.findall(source)) if token not in known][:30]
        own.add_tokens(found[::2], special_tokens=True)
        own.add_tokens(found[1::2])
    return ChatTokenizer.from_transformers(own, template=source)
