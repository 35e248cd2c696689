"""Formats of rows, and the names of their columns and keys.

{"conversations": [{"from": "human", "value": "Hi"}]}     named_format("sharegpt"): field, role, content, roles
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeGuard, get_args

from policy_engine.core.suggest import nearest
from policy_engine.data.json_text import read_json

FormatKind = Literal[
    "messages", "sharegpt", "alpaca", "prompt_completion", "preference", "unpaired_preference", "turns"
]
FORMAT_KINDS: Final[tuple[FormatKind, ...]] = get_args(FormatKind)

CALL_ROLE: Final = "function_call"
"""A role map sends a ShareGPT author here to say that its value is a tool call, as JSON."""

SHAREGPT_ROLES: Final[dict[str, str]] = {
    "human": "user", "user": "user", "system": "system",
    "gpt": "assistant", "assistant": "assistant", "chatgpt": "assistant", "bing": "assistant", "bard": "assistant",
    "model": "assistant",
    "function_call": CALL_ROLE, "observation": "tool", "function_response": "tool", "tool": "tool",
}  # fmt: skip

USUAL_FIELDS: Final = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns")


@dataclass(frozen=True, kw_only=True)
class Format:
    """The places where a row keeps its conversation.

    `data.shapes.detect.detect_format` finds a format in data, a dataset file declares one.

    Names of columns may be dotted paths into nested objects. A name that is None is not looked for.
    """

    kind: FormatKind
    description: str = ""
    """One sentence that says what was detected or declared, and why, for the user to read."""
    unused: tuple[str, ...] = ()
    """Sentences on columns that look like tools, a system prompt or answers, and that nothing reads."""
    field: str = "messages"
    """Column of the message list (kinds `messages` and `sharegpt`)."""
    role: str = "role"
    content: str = "content"
    tool_calls: str = "tool_calls"
    reasoning: str | None = None
    """Key of a message that holds its reasoning, if it is none of `reasoning_content`, `reasoning` and `thinking`."""
    roles: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Roles that the template knows, by the data's name for the author; authors that are not listed keep their name."""
    system: str | None = None
    """Column whose text opens the conversation as a system message."""
    instruction: str = "instruction"
    input: str | None = "input"
    """Column whose text comes behind the instruction, or behind a prompt that is text."""
    output: str = "output"
    history: str | None = "history"
    """Column of earlier questions and answers, before the instruction or such a prompt."""
    prompt: str = "prompt"
    completion: str = "completion"
    chosen: str = "chosen"
    """Columns of a pair of answers (kind `preference`): the preferred one, and the other."""
    rejected: str = "rejected"
    label: str = "label"
    """Column that says whether an answer is wanted (kind `unpaired_preference`)."""
    tools: str | None = "tools"
    documents: str | None = "documents"
    images: str | None = "images"
    """Column of a row's images, put where its messages have `<image>` or a part without data; so the next two. `image`
    is taken where there is no `images`."""
    videos: str | None = "videos"
    audios: str | None = "audios"
    chat_template_kwargs: str | None = "chat_template_kwargs"
    input_ids: str | None = "input_ids"
    """Column of token ids that are given, so that the text is not tokenized; so the next two, which are joined. The
    names that trainers use are known: `data.token_columns` lists them."""
    prompt_ids: str | None = "prompt_ids"
    completion_ids: str | None = "completion_ids"
    sampled: str | None = "sampled"
    """Column that says which of the given tokens a model sampled, for all of them or those of the completion."""
    ids: str = "ids"
    """Key of a turn that holds its token ids (kind `turns`)."""
    carry: tuple[str, ...] = ()
    """Columns with a number for each given token, which go along beside the labels."""
    content_as: Literal["keep", "parts"] = "keep"
    """`parts` makes a list of one text part of a content that is text, for templates that take no other."""
    arguments: Literal["keep", "parse"] = "keep"
    """`parse` makes objects of arguments of calls that are the JSON text of one, as OpenAI's interface gives them."""
    template_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Template arguments of every row; a row's own column wins over them."""

    @property
    def parses_arguments(self) -> bool:
        """True if the arguments of calls are parsed."""
        return self.arguments == "parse"


def column(row: Mapping[str, Any], name: str) -> Any:
    """The value under a column name or a dotted path; None if it is not there.

    >>> column({"meta": {"chat": [1]}}, "meta.chat")
    [1]
    """
    # The whole name first: a column may have a dot in its own name.
    if name in row:
        return row[name]
    if "." not in name:
        return None
    value: Any = row
    for step in name.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return None
        value = value[step]
    return value


OTHER_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "field": USUAL_FIELDS,
    "role": ("role", "from", "speaker", "author", "sender"),
    "content": ("content", "value", "text", "message", "body", "parts"),
    "prompt": ("prompt", "instruction", "question", "input", "query", "problem", "user", "human"),
    "completion": ("completion", "response", "output", "answer", "reply", "solution", "assistant"),
    "instruction": ("instruction", "prompt", "question", "query"),
    "output": ("output", "response", "completion", "answer"),
    "chosen": ("chosen", "preferred", "accepted", "win"),
    "rejected": ("rejected", "dispreferred", "lose"),
    "label": ("label", "kto_tag", "desirable", "wanted"),
}
"""The data's name of a column or a key, by the attribute of `Format` that names it."""


def key_meant(option: str, name: str, keys: Iterable[Any]) -> str | None:
    """The key that is likely meant by `name`: one like it, else a usual name for `option`.

    `key_meant("content", "content", ["role", "contnt"])` is `contnt`.

    >>> key_meant("content", "content", ["role", "contnt"]), key_meant("role", "role", ["speaker", "text"])
    ('contnt', 'speaker')
    """
    # JSON has no other keys, YAML and Python have.
    given = [key for key in keys if isinstance(key, str) and key != name]
    return nearest(name, given) or next((key for key in OTHER_NAMES.get(option, ()) if key in given), None)


def role_of(message: Any, format: Format) -> str | None:
    """The role that a message of the data is read as; None if it names no author.

    >>> role_of({"from": "human"}, named_format("sharegpt"))
    'user'
    """
    role = message.get(format.role) if isinstance(message, Mapping) else None
    return format.roles.get(role, role) if isinstance(role, str) else None


def message_list(value: Any) -> Sequence[Any] | None:
    """The list that a column of messages holds, as it is or as JSON text; None if it is neither.

    >>> message_list('[{"role": "user"}]')
    [{'role': 'user'}]
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = read_json(value)
        except ValueError:
            return None
    return value if isinstance(value, list | tuple) else None


def list_kind(value: Any) -> FormatKind | None:
    """The kind of messages that a column's value is a list of; None if it is not such a list.

    >>> list_kind([{"from": "human", "value": "Hi"}])
    'sharegpt'
    """
    # The first message that says it: a broken one before it does not hide the kind.
    for message in message_list(value) or ():
        if isinstance(message, Mapping):
            if isinstance(message.get("ids"), list | tuple) and "role" in message:
                return "turns"
            if isinstance(message.get("role"), str):
                return "messages"
            if isinstance(message.get("from"), str) and "value" in message:
                return "sharegpt"
    return None


def is_broken_list(value: Any) -> TypeGuard[str]:
    """True for text that begins like a JSON list and is not one.

    >>> is_broken_list("[{'role': 'user'}]"), is_broken_list("[]"), is_broken_list("Hi")
    (True, False, False)
    """
    return isinstance(value, str) and value.lstrip().startswith("[") and message_list(value) is None


def named_format(kind: FormatKind, **names: Any) -> Format:
    """A format by kind, with the names that kind usually has where no name is given.

    >>> named_format("sharegpt").role
    'from'
    """
    if kind == "sharegpt":
        usual: dict[str, Any] = {"field": "conversations", "role": "from", "content": "value", "system": "system"}
        # A dataset file adds to the usual authors, or changes what one of them means.
        names["roles"] = {**SHAREGPT_ROLES, **names.get("roles", {})}
        names = {**usual, **names}
    elif kind == "turns":
        names = {"field": "turns", **names}
    elif kind == "alpaca":
        names = {"system": "system", **names}
    elif kind != "messages":
        # Only rows of Alpaca's make a question of several columns by themselves.
        names = {"system": "system", "input": None, "history": None, **names}
        if (names.get("role"), names.get("content")) == ("from", "value"):
            names["roles"] = {**SHAREGPT_ROLES, **names.get("roles", {})}
    return Format(kind=kind, **names)
