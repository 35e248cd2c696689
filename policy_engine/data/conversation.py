"""Conversations of any format, brought to one form.

{"prompt": "Hi", "completion": "Hello"}
Conversation(messages=({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}), …)
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, field, fields, replace
from reprlib import Repr
from typing import Any, Final

from policy_engine.core.errors import RowError
from policy_engine.core.source import Place
from policy_engine.core.wording import a_kind
from policy_engine.data.formats import Format, column
from policy_engine.data.given import (
    APPLY_ARGUMENTS,
    COLUMNS,
    FLAGS,
    USUAL,
    given_arguments,
    given_documents,
    given_flags,
    given_tools,
    template_arguments,
    with_columns,
)
from policy_engine.data.messages import read_list, read_messages, wrapped
from policy_engine.data.refusal import DROP, instead_of, refuse
from policy_engine.data.row_tokens import RowTokens
from policy_engine.data.token_columns import has_usual_ids, read_tokens, read_turns


@dataclass(frozen=True, kw_only=True, slots=True)
class Conversation:
    """OpenAI-style messages, whatever format they came in.

    Each message has a `role` (str), and `content` (str, list of parts, None or absent), `tool_calls`,
    `reasoning_content` … as in the data, any further keys kept. `sample` is the dataset row
    they came from (for `sample.` conditions).

    >>> Conversation(messages=({"role": "user", "content": "Hi"},))
    Conversation(messages=({'content': 'Hi', 'role': 'user'},))
    """

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] | None = None
    documents: tuple[Mapping[str, Any], ...] | None = None
    sample: Mapping[str, Any] = field(default_factory=dict)
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    """Columns with text for this conversation that it has no place for, such as a second system message."""
    sanitize_control_tokens: bool = False
    """Control tokens in the data are encoded as plain text, as transformers' argument of this name does."""
    continue_final_message: str | None = None
    """Field of the last message that stays open, without an end: transformers' argument of this name."""
    given: RowTokens | None = None
    """Token ids of the conversation, which are taken as they are; None where its text is tokenized."""

    def __post_init__(self) -> None:
        """Takes the two flags of `apply_chat_template` out of the template arguments.

        Raises RowError for template arguments that are other arguments of `apply_chat_template`.
        """
        # Most rows have none of them, and this runs for each row.
        if self.template_kwargs and not _NOT_THE_TEMPLATES.isdisjoint(self.template_kwargs):
            for name, value in given_flags(self.template_kwargs).items():
                object.__setattr__(self, name, value)
            object.__setattr__(self, "template_kwargs", template_arguments(self.template_kwargs))

    @property
    def has_flags(self) -> bool:
        """True if a flag of `apply_chat_template` is set."""
        return self.sanitize_control_tokens or self.continue_final_message is not None

    def until(self, turn: int) -> Conversation:
        """The messages before a turn, none of which is open.

        >>> chat = Conversation(messages=({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}))
        >>> chat.until(1)
        Conversation(messages=({'content': 'Hi', 'role': 'user'},))
        """
        is_whole = turn >= len(self.messages)
        # The open message is the last one, which a shorter conversation does not have.
        field = self.continue_final_message if is_whole else None
        return replace(self, messages=self.messages[:turn], continue_final_message=field)

    def __repr__(self) -> str:
        """The fields that are filled, long texts cut in the middle."""
        given = {f.name: value for f in fields(self) if (value := getattr(self, f.name))}
        return f"Conversation({', '.join(f'{name}={_SHORT.repr(value)}' for name, value in given.items())})"


_NOT_THE_TEMPLATES: Final = frozenset({*APPLY_ARGUMENTS, *FLAGS})


def _short() -> Repr:
    short = Repr()
    short.maxstring = short.maxother = 200
    short.maxdict = short.maxtuple = short.maxlist = 30
    # Deep enough for a content part of a message.
    short.maxlevel = 8
    return short


_SHORT: Final = _short()


def read_row(row: Any, spec: Format, number: int | None = None) -> Conversation:
    """The conversation of one dataset row.

    Messages keep every key the row has; a key whose value is null stays, so that `has message.KEY` tells null from
    absent (rendering leaves it out, as transformers does). `number` (from 1) opens the text of an error.

    Raises:
        RowError: the row does not have the shape that `spec` says, with the place and what is there.

    >>> from policy_engine.data.formats import named_format
    >>> read_row({"prompt": "Hi", "completion": "Yes."}, named_format("prompt_completion")).messages
    ({'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Yes.'})
    """
    try:
        return _read(row, spec)
    except RowError as error:
        if number is None:
            raise
        raise error.at(Place(file=None, number=number)) from None


def without_null_fields(value: Any) -> Any:
    """`value` without the object keys whose value is null, at any depth.

    For rows that went through Arrow structs, where every object has every key of its column and null means absent.
    The content of a message stays even if it is null, so that a message without text differs from one of unknown shape.

    >>> without_null_fields([{"role": "user", "content": None, "name": None}])
    [{'role': 'user', 'content': None}]
    """
    if isinstance(value, Mapping):
        kept = null_key_kept(value)
        return {key: without_null_fields(item) for key, item in value.items() if item is not None or key == kept}
    if isinstance(value, list | tuple):
        return [without_null_fields(item) for item in value]
    return value


def null_key_kept(keys: Container[str]) -> str | None:
    """The key that keeps a null where Arrow's nulls are dropped: the content of a message.

    `null_key_kept(["role", "content"])` is `content`, and `null_key_kept(["from", "value"])` is `value`.

    >>> null_key_kept(["role", "content"]), null_key_kept(["from", "value"]), null_key_kept(["id"])
    ('content', 'value', None)
    """
    if "role" in keys:
        return "content"
    return "value" if "from" in keys else None


def _read(row: Any, spec: Format) -> Conversation:
    if isinstance(row, list):
        # A row of JSON Lines may be the bare list of messages.
        row = {"messages": row}
    if not isinstance(row, Mapping):
        refuse(f"the row is {a_kind(row)}, not an object", DROP)
    if spec.kind == "turns":
        messages, tokens = read_turns(row, spec)
        return Conversation(messages=tuple(messages), sample=row, given=tokens)
    # `preference` and its like are missing there.
    reader = _READERS.get(spec.kind)
    if reader is None:
        refuse(
            "rows of preferences hold two answers, or one and whether it is wanted, and not one conversation",
            "give them to `masker.batch`, `apply` or `show`, which take them",
        )
    return conversation_of(row, spec, reader(row, spec))


def conversation_of(row: Mapping[str, Any], spec: Format, messages: list[dict[str, Any]]) -> Conversation:
    """Messages of a row with its media, system message, tools, documents and arguments.

    Raises RowError where a column has another shape.
    """
    # Media are rare, and finding out that there is no column takes no look at the messages.
    if not COLUMNS.isdisjoint(row) or (spec.images, spec.videos, spec.audios) != USUAL:
        messages = with_columns(messages, row, spec)
    given = read_tokens(row, spec) if has_usual_ids(row) or _names_ids(spec) else None
    unused = () if spec.system is None else _put_system_first(messages, row, spec.system)
    if not messages:
        refuse("the conversation has no messages", DROP)
    if spec.content_as == "parts":
        messages = [_with_parts(message) for message in messages]
    tools = None if spec.tools is None else given_tools(column(row, spec.tools), f"column `{spec.tools}`")
    # ShareGPT's tools are bare functions, which templates written for OpenAI's form cannot read.
    if tools is not None and spec.kind != "messages":
        tools = tuple(wrapped(tool) for tool in tools)
    documents = column(row, spec.documents) if spec.documents is not None else None
    kwargs = given_arguments(row, spec.chat_template_kwargs)
    return Conversation(
        messages=tuple(messages),
        tools=tools,
        documents=given_documents(documents, f"column `{spec.documents}`"),
        sample=row,
        # Rows without arguments of their own share one object.
        template_kwargs={**spec.template_kwargs, **kwargs} if kwargs else spec.template_kwargs,
        unused=unused,
        given=given,
    )


def _names_ids(spec: Format) -> bool:
    names = (spec.input_ids, spec.prompt_ids, spec.completion_ids)
    return names != ("input_ids", "prompt_ids", "completion_ids") or bool(spec.carry)


def _with_parts(message: Mapping[str, Any]) -> dict[str, Any]:
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else {**message}


def _put_system_first(messages: list[dict[str, Any]], row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """Opens the conversation with a column's text; returns the column if that is not used."""
    system = column(row, name)
    if system is not None and not isinstance(system, str):
        refuse(
            f"column `{name}` is {a_kind(system)}; a system message is text",
            "write text, or say in a dataset file that the column is not one: `messages: {system: null}`",
        )
    if not system:
        return ()
    if messages and messages[0]["role"] == "system":
        # A copy of the message that is there anyway loses nothing.
        return (name,) if system.strip() and messages[0].get("content") != system else ()
    messages.insert(0, {"role": "system", "content": system})
    return ()


def _read_alpaca(row: Mapping[str, Any], spec: Format) -> list[dict[str, Any]]:
    asked = question_of(row, spec, _text(row, "instruction", spec.instruction))
    return [*asked, {"role": "assistant", "content": _text(row, "output", spec.output)}]


def question_of(row: Mapping[str, Any], spec: Format, instruction: str) -> list[dict[str, Any]]:
    """The messages of a question that is text: those of `history`, then the instruction.

    The text of `input` is behind the instruction. Raises RowError where one of the two columns has another shape.

    >>> from policy_engine.data.formats import named_format
    >>> question_of({"input": "2+2?"}, named_format("alpaca"), "Add.")
    [{'role': 'user', 'content': 'Add.\\n2+2?'}]
    """
    messages: list[dict[str, Any]] = []
    history = None if spec.history is None else column(row, spec.history)
    if history is not None:
        if not isinstance(history, list | tuple):
            refuse(
                f"column `{spec.history}` is {a_kind(history)}; it has to be a list of [question, answer] pairs",
                DROP,
            )
        for i, pair in enumerate(history):
            if not (isinstance(pair, list | tuple) and len(pair) == 2 and all(isinstance(text, str) for text in pair)):
                refuse(f"`{spec.history}[{i}]` is not a [question, answer] pair of texts", DROP)
            messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    has_input = spec.input is not None and column(row, spec.input) is not None
    given = _text(row, "input", spec.input or "") if has_input else ""
    # As LLaMA-Factory joins them; an empty `input` adds no line.
    question = "\n".join(text for text in (instruction, given) if text)
    return [*messages, {"role": "user", "content": question}]


def check_no_input(row: Mapping[str, Any], spec: Format) -> None:
    """Raises RowError for what goes with a question that is text.

    For rows whose question is in a list of messages.
    """
    for option, name in (("input", spec.input), ("history", spec.history)):
        given = None if name is None else column(row, name)
        if given.strip() if isinstance(given, str) else isinstance(given, list | tuple) and given:
            refuse(
                f"the question is in a list of messages, and what `{name}` holds has no place in it",
                f"put it into the messages, or say in a dataset file that it is not meant: `messages: {{{option}: "
                "null}`",
            )


def _text(row: Mapping[str, Any], option: str, name: str) -> str:
    value = column(row, name)
    if not isinstance(value, str):
        found, help = instead_of(value, option, name, row)
        refuse(f"column `{name}` is {found}; it has to be text", help)
    return value


def _read_pair(row: Mapping[str, Any], spec: Format) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    for option, name in (("prompt", spec.prompt), ("completion", spec.completion)):
        value = column(row, name)
        if isinstance(value, Mapping):
            value = [value]
        if isinstance(value, list | tuple):
            if option == "prompt":
                check_no_input(row, spec)
            messages += read_list(value, spec, name)
        elif isinstance(value, str):
            messages += (
                question_of(row, spec, value) if option == "prompt" else [{"role": "assistant", "content": value}]
            )
        else:
            found, help = instead_of(value, option, name, row)
            refuse(f"column `{name}` is {found}; it has to be text or a list of messages", help)
    return messages


_READERS: Final[dict[str, Callable[[Mapping[str, Any], Format], list[dict[str, Any]]]]] = {
    "messages": read_messages,
    "sharegpt": read_messages,
    "alpaca": _read_alpaca,
    "prompt_completion": _read_pair,
}
