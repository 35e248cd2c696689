"""Conversations for encoders, in which every word says whose it is: `Qu3w1z` is a word of message 3.

Of each conversation: the ids are those that the encoder itself gives, all words of answers are trained, and no word of
anybody else is, under a policy that trains answers and their ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import io
import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from policy_engine.chat.encoders.encoded_template import openai_message
from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import AttributionError, PolicyEngineError, TemplateError, UnrenderedError
from policy_engine.data.conversation import Conversation
from policy_engine.mask.masker import Masker
from policy_engine.proof.load_policy import policy_from_text
from policy_engine.testing.choices import Choices
from tests.support.encoder_files import encoder_folder
from tests.support.mistral_files import tekken_of
from tests.support.renderer_tokenizers import renderer

POLICY: Final = "train turn of assistant\ntrain eos after assistant\nnever train user\nnever train tool\n"
_WORD: Final = re.compile(r"Qu(\d+)w\d+z")
_CONTROL: Final = (
    "[INST]", "[/INST]", "</s>", "<s>", "[TOOL_CALLS]", "[/TOOL_RESULTS]", "<|end|>", "<|start|>assistant",
    "<|return|>", "<|call|>", "<|channel|>final<|message|>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>", "<think>",
    "</think>", "<|im_end|>",
)  # fmt: skip
_LETTERS: Final = (
    "naïve",
    "日本語",
    "🙂🏽",
    "e\u0301",
    "a\\b",
    '"quoted"',
    "tab\there",
    "line\nbreak",
    "{x}",
    "\u00a0",
    "  ",
)


class Telling:
    """Writes one conversation."""

    def __init__(self, choices: Choices, quoted: Sequence[str]) -> None:
        self._choices = choices
        self._quoted = quoted
        self._count = 0

    def words(self, turn: int, *, most: int = 4) -> str:
        """Some words of a message, with control tokens and rare letters between them."""
        made = []
        for _ in range(self._choices.integer(1, most)):
            self._count += 1
            made.append(f"Qu{turn}w{self._count}z")
            if self._choices.chance(20):
                made.append(self._choices.pick(self._quoted))
            if self._choices.chance(20):
                made.append(self._choices.pick(_LETTERS))
        return " ".join(made)

    def wider(self, content: str, turn: int, role: str) -> Any:
        """The content with blanks around it, thinking in front of it, or as a list of parts."""
        if role == "assistant" and self._choices.chance(30):
            blank = self._choices.pick(["", "\n", "\n\n", " "])
            content = f"{blank}<think>{blank}{self.words(turn)}{blank}</think>{blank}{content}"
        if self._choices.chance(30):
            content = (
                self._choices.pick([" ", "\n", "\t", "\n\n"]) + content + self._choices.pick(["", " ", "\n", "\n \n"])
            )
        if self._choices.chance(15):
            return [{"type": "text", "text": content}]
        return content

    def arguments(self, turn: int) -> Any:
        made: dict[str, Any] = {"city": self.words(turn, most=2)}
        if self._choices.chance(50):
            made |= {"days": self._choices.integer(0, 99), "deep": {"list": [self.words(turn, most=1), True, None]}}
        return made

    def result(self, turn: int) -> str:
        if self._choices.chance(40):
            return f'{{"t": {self._choices.integer(0, 40)}, "s": "Qu{turn}w{self._choices.integer(1000, 9999)}z"}}'
        return self.words(turn)


def told(
    choices: Choices,
    *,
    calls: bool = True,
    system: bool = True,
    reasoning: bool = False,
    kimi: bool = False,
    wide: bool = False,
) -> Conversation:
    """A conversation of up to four questions, with tools where `calls`; ids of calls as Kimi has them with `kimi`.

    With `wide`, contents may be lists of parts, have blanks around them and thinking in them, and arguments are JSON
    text that somebody else wrote.
    """
    write = Telling(choices, _CONTROL)
    messages: list[dict[str, Any]] = []

    def say(role: str, **fields: Any) -> None:
        if wide and "content" in fields:
            fields["content"] = write.wider(fields["content"], len(messages), role)
        messages.append({"role": role, **fields})

    if system and choices.chance(50):
        say("system", content=write.words(0))
    tools = calls and choices.chance(50)
    for _ in range(choices.integer(1, 4)):
        say("user", content=write.words(len(messages)))
        if tools and choices.chance(60):
            turn = len(messages)
            ids = [f"id{turn:03d}{n:04d}" for n in range(choices.integer(1, 2 if calls else 1))]
            named = [f"f_Qu{turn}w{choices.integer(100, 999)}z" for _ in ids]
            if kimi:
                ids = [f"functions.{name}:{n}" for n, name in enumerate(named)]
            made = [
                {"id": i, "type": "function", "function": {"name": name, "arguments": write.arguments(turn)}}
                for i, name in zip(ids, named)
            ]
            if wide and choices.chance(50):
                for call in made:
                    call["function"]["arguments"] = json.dumps(
                        call["function"]["arguments"], indent=choices.pick([None, 1])
                    )
            thought = {"reasoning_content": write.words(turn)} if reasoning and choices.chance(60) else {}
            beside = {"content": write.words(turn)} if wide and choices.chance(30) else {}
            say("assistant", tool_calls=made, **thought, **beside)
            for i, name in zip(ids, named):
                say("tool", tool_call_id=i, name=name, content=write.result(len(messages)))
        turn = len(messages)
        thought = {"reasoning_content": write.words(turn)} if reasoning and choices.chance(60) else {}
        say("assistant", content=write.words(turn), **thought)
    return Conversation(messages=tuple(messages), tools=(_TOOL,) if tools else None)


_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

OwnIds = Callable[[Conversation], list[int]]


@functools.cache
def _mistral(version: str) -> tuple[ChatTokenizer, OwnIds]:
    from mistral_common.protocol.instruct.request import ChatCompletionRequest
    from mistral_common.protocol.instruct.validator import ValidationMode
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    made = {
        "v1": MistralTokenizer.v1,
        "v2": MistralTokenizer.v2,
        "v3": MistralTokenizer.v3,
        "tekken": functools.partial(MistralTokenizer.v3, is_tekken=True),
        "v7": MistralTokenizer.v7,
        **{name: functools.partial(_later, name) for name in ("v11", "v13", "v15")},
    }[version]()
    own = MistralTokenizer.from_file(made.instruct_tokenizer.tokenizer.file_path, mode=ValidationMode.finetuning)

    def ids(conversation: Conversation) -> list[int]:
        tools = None if conversation.tools is None else list(conversation.tools)
        messages: list[Any] = list(conversation.messages)
        return list(own.encode_chat_completion(ChatCompletionRequest.from_openai(messages, tools)).tokens)

    return ChatTokenizer.from_encoder(made), ids


def _later(version: str) -> Any:
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    return MistralTokenizer.from_file(str(tekken_of(version)))


@functools.cache
def _code(mode: str) -> tuple[ChatTokenizer, OwnIds]:
    folder = encoder_folder(Path(tempfile.mkdtemp(prefix="policy-engine-test-encoder-")))
    made = load_tokenizer(folder, trust_encoder=True)
    spec = importlib.util.spec_from_file_location("encoding_ds", folder / "encoding" / "encoding_ds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def ids(conversation: Conversation) -> list[int]:
        messages: list[Any] = [openai_message(message) for message in conversation.messages]
        if conversation.tools:
            if messages[0]["role"] != "system":
                messages.insert(0, {"role": "system", "content": ""})
            messages[0] = {**messages[0], "tools": list(conversation.tools)}
        with contextlib.redirect_stdout(io.StringIO()):
            text = module.encode_messages(messages, thinking_mode=mode)
        return list(made.tokenizer(text, add_special_tokens=False)["input_ids"])

    return made, ids


@functools.cache
def _harmony(keeps: bool) -> tuple[ChatTokenizer, OwnIds]:
    import openai_harmony as harmony

    encoding = harmony.load_harmony_encoding(harmony.HarmonyEncodingName.HARMONY_GPT_OSS)
    role = harmony.Role

    def said(message: Any, names: dict[str, str]) -> list[Any]:
        text = message.get("content") or ""
        if message["role"] == "user":
            return [harmony.Message.from_role_and_content(role.USER, text)]
        if message["role"] == "tool":
            author = harmony.Author.new(role.TOOL, f"functions.{names[message['tool_call_id']]}")
            made = harmony.Message.from_author_and_content(author, text)
            return [made.with_recipient("assistant").with_channel("commentary")]
        found = []
        if "reasoning_content" in message:
            thought = harmony.Message.from_role_and_content(role.ASSISTANT, message["reasoning_content"])
            found.append(thought.with_channel("analysis"))
        for call in message.get("tool_calls", ()):
            names[call["id"]] = call["function"]["name"]
            arguments = json.dumps(call["function"]["arguments"], ensure_ascii=False)
            made = harmony.Message.from_role_and_content(role.ASSISTANT, arguments).with_channel("commentary")
            named = made.with_recipient(f"functions.{call['function']['name']}")
            found.append(named.with_content_type("<|constrain|>json"))
        if "tool_calls" not in message:
            found.append(harmony.Message.from_role_and_content(role.ASSISTANT, text).with_channel("final"))
        return found

    def ids(conversation: Conversation) -> list[int]:
        messages = list(conversation.messages)
        made = [harmony.Message.from_role_and_content(role.SYSTEM, harmony.SystemContent.new())]
        system = messages.pop(0)["content"] if messages[0]["role"] == "system" else None
        if system is not None or conversation.tools:
            content = harmony.DeveloperContent.new()
            content = content if system is None else content.with_instructions(system)
            described = [
                harmony.ToolDescription.new(f["name"], f["description"], parameters=f["parameters"])
                for f in (tool["function"] for tool in conversation.tools or ())
            ]
            content = content.with_function_tools(described) if described else content
            made.append(harmony.Message.from_role_and_content(role.DEVELOPER, content))
        names: dict[str, str] = {}
        made += [one for message in messages for one in said(message, names)]
        config = harmony.RenderConversationConfig(auto_drop_analysis=not keeps)
        return list(encoding.render_conversation_for_training(harmony.Conversation.from_messages(made), config))

    return ChatTokenizer.from_encoder(encoding), ids


@functools.cache
def _renderer(family: str) -> tuple[ChatTokenizer, OwnIds]:
    made = renderer(family)

    def ids(conversation: Conversation) -> list[int]:
        messages: list[Any] = [openai_message(message) for message in conversation.messages]
        return list(made.render_ids(messages, tools=list(conversation.tools) if conversation.tools else None))

    return ChatTokenizer.from_encoder(made), ids


FAMILIES: Final = (
    "deepseek-r1", "deepseek-v3", "deepseek-v4", "gemma4", "glm-4.5", "glm-5", "glm-5.1", "glm-5.3", "gpt-oss", "hy3",
    "inkling", "kimi-k2", "kimi-k2.5", "laguna-m.1", "laguna-s-2.1", "laguna-xs-2.1", "laguna-xs.2", "llama-3",
    "minimax-m2", "nemotron-3", "nemotron-3-ultra", "nemotron-3.5", "prime-qwen3", "qwen3", "qwen3-vl", "qwen3.5",
    "qwen3.6", "qwen3.8",
)  # fmt: skip
"""The families of renderers that can be made without a network."""


ENCODERS: Final[Mapping[str, tuple[Callable[[], tuple[ChatTokenizer, OwnIds]], dict[str, bool]]]] = {
    "mistral-v1": (functools.partial(_mistral, "v1"), {"calls": False}),
    "mistral-v2": (functools.partial(_mistral, "v2"), {"calls": False}),
    "mistral-v3": (functools.partial(_mistral, "v3"), {}),
    "mistral-tekken": (functools.partial(_mistral, "tekken"), {}),
    "mistral-v7": (functools.partial(_mistral, "v7"), {}),
    **{f"mistral-{name}": (functools.partial(_mistral, name), {}) for name in ("v11", "v13", "v15")},
    "code-chat": (functools.partial(_code, "chat"), {}),
    "code-thinking": (functools.partial(_code, "thinking"), {"reasoning": True}),
    "harmony-keeps": (functools.partial(_harmony, True), {"reasoning": True}),
    "harmony-drops": (functools.partial(_harmony, False), {"reasoning": True}),
    **{
        f"renderers-{family}": (
            functools.partial(_renderer, family),
            {"reasoning": True, "wide": True, "kimi": family.startswith("kimi")},
        )
        for family in FAMILIES
    },
}
"""Encoders by name: how each is made, and which conversations it takes."""


NEEDS: Final = {"mistral": "mistral_common", "harmony": "openai_harmony", "renderers": "renderers"}
"""Packages that encoders need, by the first word of their names."""


def available() -> list[str]:
    """The encoders whose packages are installed."""
    return [name for name in ENCODERS if importlib.util.find_spec(NEEDS.get(name.partition("-")[0], "policy_engine"))]


@functools.cache
def masker_of(name: str) -> Masker:
    """A masker that trains answers, on one of the encoders."""
    return Masker(policy_from_text(POLICY), ENCODERS[name][0]()[0])


def encoder_case(name: str, choices: Choices) -> tuple[str, str | None]:
    """One conversation: what it came to, and what is wrong, if anything is."""
    make, shape = ENCODERS[name]
    _, own = make()
    conversation = told(choices, **shape)
    if name.startswith("code"):
        conversation = dataclasses.replace(conversation, template_kwargs={"thinking_mode": name.partition("-")[2]})
    if name.startswith("harmony"):
        keeps = {"auto_drop_analysis": name == "harmony-drops"}
        conversation = dataclasses.replace(conversation, template_kwargs=keeps)
    try:
        row = masker_of(name).mask(conversation)
    except (TemplateError, AttributionError, UnrenderedError) as error:
        return f"{name} refused", None if _is_meant(error) else f"{name}: {error.message}"
    except PolicyEngineError as error:
        return f"{name} failed", f"{name}: {error.message}"
    expected = own(conversation)
    if expected != row.input_ids:
        return f"{name}", f"{name}: the ids are not the encoder's own: {row.input_ids[:40]} and {expected[:40]}"
    return name, _wrong_words(name, conversation, row)


def _is_meant(error: PolicyEngineError) -> bool:
    """True where the encoder itself refuses the conversation, or its text does not show whose it is."""
    said = (" refuses this conversation: ", "does not show whose", "never reached the text")
    return any(words in error.message for words in said)


def _wrong_words(name: str, conversation: Conversation, row: Any) -> str | None:
    text, tokens = row.chat.text, row.tokenized
    trained = bytearray(len(text))
    for start, end in zip(tokens.starts_T[row.mask.weights_T != 0], tokens.ends_T[row.mask.weights_T != 0]):
        trained[start:end] = b"\1" * (end - start)
    for match in _WORD.finditer(text):
        role = conversation.messages[int(match[1])]["role"]
        covered = trained[match.start() : match.end()]
        # A tool's name is printed with its result, too: there it is the result's.
        owner = next(s for s in row.chat.segments if s.start <= match.start() < s.end).turn
        if role == "assistant" and owner == int(match[1]) and not all(covered):
            return f"{name}: {match[0]} of the answer {match[1]} is not trained in {text!r}"
        if role != "assistant" and any(covered):
            return f"{name}: {match[0]} of message {match[1]} (`{role}`) is trained in {text!r}"
    reported = {lost.turn for lost in row.chat.unrendered}
    for turn, message in enumerate(conversation.messages):
        if message["role"] == "assistant" and turn not in reported:
            for word in set(_WORD.findall(str(message))):
                if int(word) == turn and f"Qu{turn}w" not in text:
                    return f"{name}: the words of answer {turn} are not in the text {text!r}"
    return None
