"""OpenAI's Harmony encoding, of the package openai-harmony: how gpt-oss is written.

    ChatTokenizer.from_encoder(load_harmony_encoding("HarmonyGptOss"))

A message of the data becomes one message of Harmony or several, which are encoded one by one:

    {"role": "assistant", "reasoning_content": "Look.", "tool_calls": [{… "weather" …}]}

    <|start|>assistant<|channel|>analysis<|message|>Look.<|end|>
    <|start|>assistant to=functions.weather<|channel|>commentary <|constrain|>json<|message|>{"city": "Rome"}<|call|>
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from policy_engine.chat.encoders.encoder_vocabulary import EncoderVocabulary
from policy_engine.chat.encoders.protocol import Chunk, other_ids, refusal, refuse_media
from policy_engine.chat.tokens.byte_lengths import ByteTable
from policy_engine.chat.variables import Inputs
from policy_engine.core.errors import PolicyEngineError, TemplateError, TokenizerError
from policy_engine.core.vocabulary import REASONING_ALIASES
from policy_engine.core.wording import first_line, install

_NAMED: Final = {"bos_token": "<|startoftext|>", "eos_token": "<|return|>", "pad_token": "<|endoftext|>"}
_ARGUMENTS: Final = ("reasoning_effort", "model_identity", "conversation_start_date", "knowledge_cutoff")
_TOOLS: Final = "builtin_tools"
_BUILTIN: Final = {"browser": "with_browser_tool", "python": "with_python_tool"}
_DROPS: Final = "auto_drop_analysis"

_Said = tuple[Any, "int | None", "int | None"]
"""A message of Harmony, the message of the data that it is of, and its tool call."""


class HarmonyEncoder:
    """Conversations as `render_conversation_for_training` of a `HarmonyEncoding` writes them."""

    gives_ids = True
    has_prompt = True
    normal = None
    words: frozenset[str] = frozenset()
    labels = frozenset({"channel", "content_type"})  # by which it chooses ends, and leaves thinking out

    def __init__(self, encoding: Any) -> None:
        self._encoding = encoding

    def __reduce__(self) -> tuple[Any, ...]:
        return load_harmony, (str(self._encoding.name),)

    @functools.cached_property
    def name(self) -> str:
        """The version of the package, and the encoding's name."""
        from importlib.metadata import version

        return f"openai-harmony {version('openai-harmony')} ({self._encoding.name})"

    @property
    def source(self) -> str:
        """The control tokens that it writes."""
        return "<|start|><|message|><|channel|><|constrain|><|end|><|call|><|return|>"

    @property
    def facts(self) -> Any:
        """The encoding's name and version."""
        return self.name

    @functools.cached_property
    def tokenizer(self) -> EncoderVocabulary:
        """The vocabulary: 200,000 pieces of text and a thousand control tokens."""
        inner = self._encoding._inner
        # The package lists its control tokens as texts only.
        control = {int(self._ids(text)[0]): text for text in sorted(self._encoding.special_tokens_set)}
        # Control tokens have the highest ids of the vocabulary.
        size = max(control) + 1
        known = set(control.values())
        return EncoderVocabulary(
            pieces=[bytes(inner.decode_bytes([i])) for i in range(size)],
            control=control,
            special_tokens_map={name: text for name, text in _NAMED.items() if text in known},
            encode=lambda text: list(self._encoding.encode(text, disallowed_special=())),
        )

    def _ids(self, control: str) -> list[int]:
        return list(self._encoding.encode(control, allowed_special="all"))

    @property
    def byte_table(self) -> ByteTable:
        """The bytes of each id."""
        return self.tokenizer.byte_table

    def chunks(self, inputs: Inputs, *, tinted: bool) -> list[Chunk]:
        """See `Encoder`; a chunk for each message of Harmony."""
        refuse_media(self.name, inputs.messages)
        known = (*_ARGUMENTS, _TOOLS, _DROPS)
        unknown = [name for name in inputs.kwargs if name not in known]
        if unknown:
            raise TemplateError(f"{self.name} has no argument `{unknown[0]}`", help=f"it takes {', '.join(known)}")
        try:
            return list(self._chunks(inputs))
        except PolicyEngineError:
            raise
        except Exception as error:  # pydantic's, and HarmonyError
            raise refusal(self.name, error) from error

    def _chunks(self, inputs: Inputs) -> Iterator[Chunk]:
        import openai_harmony as harmony

        said = list(_harmony_messages(inputs.messages, inputs.tools, inputs.kwargs))
        # With function tools the system message has a sentence more, on the channel of their calls.
        options = harmony.RenderOptions(conversation_has_function_tools=bool(inputs.tools))
        config = harmony.RenderConversationConfig(auto_drop_analysis=bool(inputs.kwargs.get(_DROPS, True)))
        conversation = harmony.Conversation.from_messages([message for message, _, _ in said])
        if inputs.prompt:
            whole = self._encoding.render_conversation_for_completion(conversation, harmony.Role.ASSISTANT, config)
        else:
            whole = self._encoding.render_conversation_for_training(conversation, config)
        at = 0
        for number, (message, turn, call) in enumerate(said):
            ids = list(self._encoding.render(message, options))
            # Message by message gives owners, the whole gives the truth; they differ in two known ways.
            if whole[at : at + len(ids)] != ids:
                last = number == len(said) - 1
                if last and whole[at : at + len(ids) - 1] == ids[:-1] and at + len(ids) == len(whole):
                    ids = list(whole[at:])  # the last answer ends with <|return|>
                elif message.channel == "analysis":
                    continue  # Harmony leaves thinking out once an answer follows
                else:
                    raise other_ids(self.name, "openai-harmony")
            yield from self._pieces(ids, turn, call, inputs.tools if _lists_tools(message) else None)
            at += len(ids)
        rest = list(whole[at:])
        if rest and not inputs.prompt:
            raise other_ids(self.name, "openai-harmony")
        if rest:
            yield Chunk(text=self._encoding.decode_utf8(rest), turn=None, ids=tuple(rest))

    def _pieces(
        self, ids: list[int], turn: int | None, call: int | None, tools: Sequence[Any] | None
    ) -> Iterator[Chunk]:
        text = self._encoding.decode_utf8(ids)
        # From the right: instructions of the data may have the same words.
        end = text.rfind("<|end|>")
        start = text.rfind("# Tools\n\n## functions\n") if tools else -1
        cut = self._cut(ids, text, start, end) if start >= 0 else None
        if cut is None:
            yield Chunk(text=text, turn=turn, call=call, ids=tuple(ids))
            return
        first, last = cut
        yield Chunk(text=text[:start], turn=turn, ids=tuple(ids[:first]))
        yield Chunk(text=text[start:end], turn=turn, ids=tuple(ids[first:last]), beside="tools")
        yield Chunk(text=text[end:], turn=turn, ids=tuple(ids[last:]))

    def _cut(self, ids: list[int], text: str, start: int, end: int) -> tuple[int, int] | None:
        """The tokens of the tools, if they begin and end at tokens."""
        starts: dict[int, int] = {}
        at = 0
        for number, i in enumerate(ids):
            starts[at] = number
            # In bytes, since a token may be a part of a character.
            at += len(self._encoding._inner.decode_bytes([i]))
        places = [starts.get(len(text[:place].encode())) for place in (start, end)]
        return None if places[0] is None or places[1] is None else (places[0], places[1])


def load_harmony(name: str = "HarmonyGptOss") -> HarmonyEncoder:
    """The encoder of one of Harmony's encodings.

    Raises TokenizerError if the package is missing, or its vocabulary cannot be had.
    """
    try:
        from openai_harmony import load_harmony_encoding
    except ImportError as error:
        raise TokenizerError(
            "Harmony is the package openai-harmony, which is not installed",
            help=install("harmony"),
        ) from error
    try:
        return HarmonyEncoder(load_harmony_encoding(name))
    except Exception as error:  # HarmonyError
        raise TokenizerError(
            f"openai-harmony has no vocabulary for `{name}`: {first_line(error)}",
            help="it fetches one; without a network, set TIKTOKEN_ENCODINGS_BASE to a folder with o200k_base.tiktoken",
        ) from error


def _lists_tools(message: Any) -> bool:
    return any(getattr(content, "tools", None) for content in message.content)


def _harmony_messages(
    messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None, kwargs: Mapping[str, Any]
) -> Iterator[_Said]:
    import openai_harmony as harmony

    role = harmony.Role
    new = harmony.Message.from_role_and_content
    given = {name: kwargs[name] for name in _ARGUMENTS if kwargs.get(name) is not None}
    if "reasoning_effort" in given:
        given["reasoning_effort"] = harmony.ReasoningEffort(str(given["reasoning_effort"]).capitalize())
    # Harmony's system message is of the model's maker; what users call system is its developer message.
    instructed = bool(messages) and messages[0].get("role") in ("system", "developer")
    system = harmony.SystemContent(**given)
    builtin = kwargs.get(_TOOLS) or ()
    for tool in (builtin,) if isinstance(builtin, str) else builtin:
        if tool not in _BUILTIN:
            raise ValueError(f"there is no built-in tool `{tool}`; known are {', '.join(_BUILTIN)}")
        system = getattr(system, _BUILTIN[tool])()
    yield new(role.SYSTEM, system), 0 if instructed else None, None
    described = [_described(tool) for tool in tools or ()]
    if described and not instructed:
        yield new(role.DEVELOPER, harmony.DeveloperContent.new().with_function_tools(described)), None, None
    names: dict[str, str] = {}
    for turn, message in enumerate(messages):
        kind, text = message.get("role"), _text(message)
        if message.get("channel") is not None or message.get("recipient") is not None:
            yield _own(message, text), turn, None
        elif kind in ("system", "developer"):
            content = harmony.DeveloperContent.new().with_instructions(text)
            content = content.with_function_tools(described) if described and turn == 0 else content
            yield new(role.DEVELOPER, content), turn, None
        elif kind == "user":
            yield new(role.USER, text), turn, None
        elif kind == "tool":
            # A result names its tool by the call that it answers, or by itself.
            name = names.get(str(message.get("tool_call_id"))) or message.get("name")
            if not name:
                raise ValueError(f"the result in message {turn} names no tool, and answers no call")
            author = harmony.Author.new(role.TOOL, f"functions.{name}")
            made = harmony.Message.from_author_and_content(author, text)
            yield made.with_recipient("assistant").with_channel("commentary"), turn, None
        elif kind == "assistant":
            yield from _answer(message, text, turn, names)
        else:
            raise ValueError(f"Harmony has no role `{kind}`")


def _answer(message: Mapping[str, Any], text: str, turn: int, names: dict[str, str]) -> Iterator[_Said]:
    import openai_harmony as harmony

    def new(text: str, channel: str) -> Any:
        return harmony.Message.from_role_and_content(harmony.Role.ASSISTANT, text).with_channel(channel)

    thought = next((message[key] for key in REASONING_ALIASES if message.get(key)), None)
    if thought:
        yield new(str(thought), "analysis"), turn, None
    calls = message.get("tool_calls") or ()
    # A message of calls alone has no final text; one without calls has one, if an empty one.
    if text or not calls:
        yield new(text, "commentary" if calls else "final"), turn, None
    for number, call in enumerate(calls):
        function = call["function"]
        names[str(call.get("id"))] = str(function["name"])
        made = new(str(function.get("arguments", "{}")), "commentary")
        yield made.with_recipient(f"functions.{function['name']}").with_content_type("<|constrain|>json"), turn, number


def _own(message: Mapping[str, Any], text: str) -> Any:
    """A message that names its channel or recipient itself, as Harmony's own data does."""
    import openai_harmony as harmony

    author = harmony.Author(role=harmony.Role(message["role"]), name=message.get("name"))
    made = harmony.Message.from_author_and_content(author, text)
    for key in ("channel", "recipient", "content_type"):
        if message.get(key) is not None:
            setattr(made, key, str(message[key]))
    return made


def _text(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join([str(part.get("text", "")) for part in content if isinstance(part, Mapping)])
    return "" if content is None else str(content)


def _described(tool: Any) -> Any:
    import openai_harmony as harmony

    function = tool.get("function", tool)
    return harmony.ToolDescription.new(
        function["name"], function.get("description") or "", parameters=function.get("parameters")
    )
