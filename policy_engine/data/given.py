"""Tools, documents, template arguments and media: all that is given beside the messages.

{"messages": […], "tools": "[{\"name\": \"f\"}]", "chat_template_kwargs": {"enable_thinking": false}}

Columns of images, videos and sounds beside the messages, put where the messages have a place for them.

A row of LLaVA, LLaMA-Factory, ms-swift or TRL, with a mark in the text or a content part without data:

    {"images": ["cat.png"], "messages": [{"role": "user", "content": "<image>What is it?"}]}
    {"images": ["cat.png"], "messages": [{"role": "user", "content": [{"type": "image"}, …]}]}

becomes a row whose parts hold the data:

    {"role": "user", "content": [{"type": "image", "image": "cat.png"}, {"type": "text", "text": "What is it?"}]}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from policy_engine.core.errors import MediaError
from policy_engine.core.vocabulary import MEDIA_TYPES, MediaKind
from policy_engine.core.wording import a_kind, counted
from policy_engine.data.formats import Format, column, message_list
from policy_engine.data.json_text import read_json
from policy_engine.data.refusal import DROP, keys_of, refuse, text_problem

_WHOLE: Final = "leave it out: labels are made for whole conversations"
_UNCUT: Final = "leave it out: ids are neither padded nor cut here; `apply --max-length` cuts rows"
_LISTS: Final = "leave it out: ids and labels come as lists or arrays"
_BESIDE: Final = "give it beside the messages: as a column of its own, or as the masker's own argument"
_TEMPLATE: Final = "say `template: FILE` in the dataset file, `--template FILE`, or `Masker(template=…)`"

APPLY_ARGUMENTS: Final[dict[str, str]] = {
    "conversation": _BESIDE, "conversations": _BESIDE, "messages": _BESIDE, "tools": _BESIDE, "documents": _BESIDE,
    "chat_template": _TEMPLATE,
    "add_generation_prompt": _WHOLE,
    "padding": _UNCUT, "truncation": _UNCUT, "max_length": _UNCUT,
    "tokenize": _LISTS, "return_tensors": _LISTS, "return_dict": _LISTS, "return_assistant_tokens_mask": _LISTS,
    "tokenizer_kwargs": "leave it out: the tokenizer is used as it is",
    "processor_kwargs": "leave it out: there is no processor",
    "load_audio_from_video": "leave it out: there is no processor",
}  # fmt: skip
"""Arguments of transformers' `apply_chat_template` that no template reads, with what to do instead.

Handed to the template as variables, they would do nothing, and the ids would not be those that transformers gives.
"""


FLAGS: Final = ("sanitize_control_tokens", "continue_final_message")
"""Arguments of `apply_chat_template` that are taken: they change the ids, and the masks go along."""


def flag_problem(name: str, value: Any) -> str | None:
    """The reason why a flag cannot have this value; None if it can.

    >>> flag_problem("continue_final_message", "thinking"), flag_problem("sanitize_control_tokens", 1)
    (None, '`sanitize_control_tokens` is a number; it takes true or false')
    """
    if value is None or isinstance(value, bool) or (name == "continue_final_message" and value and _is_text(value)):
        return None
    takes = "true, false or the name of a field" if name == "continue_final_message" else "true or false"
    return f"`{name}` is {a_kind(value) if value != '' else 'empty'}; it takes {takes}"


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def given_flags(given: Mapping[str, Any]) -> dict[str, Any]:
    """The flags among template arguments, as fields of a conversation.

    `given_flags({"continue_final_message": True})` is `{"continue_final_message": "content"}`. Raises RowError for a
    value of another type.

    >>> given_flags({"continue_final_message": True, "enable_thinking": False})
    {'continue_final_message': 'content'}
    """
    found: dict[str, Any] = {}
    for name in FLAGS:
        if name not in given:
            continue
        problem = flag_problem(name, given[name])
        if problem is not None:
            refuse(problem, "leave it out, or give it a value that it takes")
        # null is False, as for transformers.
        found[name] = given[name] or False
    if "continue_final_message" in found:
        field = found["continue_final_message"]
        found["continue_final_message"] = None if field is False else "content" if field is True else field
    return found


def template_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are the template's own.

    Flags, and arguments that change nothing, are left out. Raises RowError for one that would change the ids:
    `add_generation_prompt=True`, and not `=False`.

    >>> template_arguments({"enable_thinking": False, "tokenize": False, "continue_final_message": True})
    {'enable_thinking': False}
    """
    for name, help in APPLY_ARGUMENTS.items():
        if changes_ids(name, given.get(name)):
            refuse(f"`{name}` is an argument of `apply_chat_template`, not of the chat template", help)
    return {name: value for name, value in given.items() if name not in APPLY_ARGUMENTS and name not in FLAGS}


def changes_ids(name: str, value: Any) -> bool:
    """True if an argument of `apply_chat_template` with this value asks for other ids.

    >>> changes_ids("truncation", True), changes_ids("truncation", False), changes_ids("enable_thinking", True)
    (True, False, False)
    """
    # What asks for nothing is harmless: configurations often spell out every argument.
    return name in APPLY_ARGUMENTS and value is not None and value is not False and value != {}


def given_messages(given: Any) -> list[Any]:
    """The messages that a masker was called with: a list, or that as JSON text.

    Raises RowError for anything else.

    >>> given_messages('[{"role": "user", "content": "Hi"}]')
    [{'role': 'user', 'content': 'Hi'}]
    """
    what = "a conversation is a list of messages, each with a `role` and a `content`"
    # A mapping is iterable too: its keys would pass for messages, and the values of a row of pandas.
    if hasattr(given, "iloc") and all(isinstance(name, str) for name in given.keys()):  # noqa: SIM118
        given = given.to_dict()
    if isinstance(given, Mapping):
        refuse(
            f"the masker got an object with the keys {keys_of(given)}, not a list of messages",
            f"{what}: give it the row's column of messages; for a dataset say `map(masker.batch, batched=True)`",
        )
    # A `Dataset` is iterable too, by rows.
    if hasattr(given, "column_names"):
        refuse("the masker got a dataset, not a list of messages", "say `dataset.map(masker.batch, batched=True)`")
    if isinstance(given, str):
        found = message_list(given)
        if found is None:
            problem, help = text_problem(given)
            refuse(f"the masker got {problem}, not a list of messages", f"{help}; {what}")
        given = found
    if isinstance(given, bytes | bytearray):
        refuse("the masker got bytes, not a list of messages", f"decode them first; {what}")
    if not isinstance(given, Iterable):
        refuse(f"the masker got {a_kind(given)}, not a list of messages", what)
    return list(given)


def given_json(value: Any, name: str) -> Any:
    """Data, or data as JSON text; None for null, an empty text and an empty object.

    `given_json('[{"name": "f"}]', "column `tools`")` is a list. Raises RowError for text that is not JSON.

    >>> given_json('{"a": 1}', "tools")
    {'a': 1}
    """
    if isinstance(value, str):
        if not value.strip():
            return None
        try:
            value = read_json(value)
        except ValueError:
            problem, help = text_problem(value)
            refuse(f"{name} is {problem}", help)
    # Not an empty list: for tools it has a meaning of its own.
    return None if isinstance(value, str | dict) and not value else value


def given_tools(value: Any, name: str, *, functions: bool = False) -> tuple[Any, ...] | None:
    """Tool schemas: a list of them, or that as JSON text.

    An empty list stays one, as in transformers: Llama 3.1 writes other text for it than without tools. With
    `functions`, a list may also hold Python functions. Raises RowError for anything else.

    >>> given_tools('[{"name": "look"}]', "`tools`")
    ({'name': 'look'},)
    """
    found = given_json(value, name)
    if found is None:
        return None
    help = 'write a list of schemas: [{"type": "function", "function": {"name": …, "parameters": …}}]'
    if isinstance(found, str):
        problem, help = text_problem(value)
        refuse(f"{name} is {problem}, not a list of tool schemas", help)
    if not isinstance(found, Sequence) or isinstance(found, str):
        refuse(f"{name} is {a_kind(found)}, not a list of tool schemas", help)
    tools = []
    for index, tool in enumerate(found):
        # A class is callable, and is no function that a schema could be made of.
        if functions and isinstance(tool, Callable) and not isinstance(tool, type):  # type: ignore[arg-type]
            tools.append(tool)
            continue
        tool = tool if isinstance(tool, Mapping) else given_json(tool, f"{name}[{index}]")
        if not isinstance(tool, Mapping):
            refuse(f"{name}[{index}] is {a_kind(tool)}, not a tool schema", help)
        # Loose on purpose: each template reads its own form of a schema.
        if not ({"name", "function", "type"} & tool.keys()):
            refuse(f"{name}[{index}] is no tool schema: it has no `function` and no `name`", help)
        tools.append(tool)
    return tuple(tools)


def given_documents(value: Any, name: str) -> tuple[Mapping[str, Any], ...] | None:
    """Documents: a list of objects, or that as JSON text. Raises RowError for anything else.

    >>> given_documents('[{"title": "A", "text": "b"}]', "`documents`")
    ({'title': 'A', 'text': 'b'},)
    """
    found = given_json(value, name)
    if found is None:
        return None
    if not isinstance(found, list | tuple):
        refuse(f"{name} is {a_kind(found)}; it has to be a list of objects, or that as JSON text", DROP)
    for index, item in enumerate(found):
        if not isinstance(item, Mapping):
            refuse(f"{name}[{index}] is {a_kind(item)}, not an object", DROP)
    return tuple(found)


def given_arguments(row: Mapping[str, Any], name: str | None) -> Mapping[str, Any] | None:
    """A row's own template arguments.

    Raises RowError if they are not an object, or that as JSON text.
    """
    value = None if name is None else given_json(column(row, name), f"column `{name}`")
    if value is not None and value != [] and not isinstance(value, Mapping):
        refuse(f"column `{name}` is {a_kind(value)}; it has to be an object, or that as JSON text", DROP)
    return value or None


KINDS: Final[tuple[MediaKind, ...]] = ("image", "video", "audio")
MARKS: Final = re.compile(r"<(image|video|audio)>")
"""Marks in a message's text that stand for the next file of a column."""
USUAL: Final = ("images", "videos", "audios")
COLUMNS: Final = frozenset({*USUAL, *KINDS})
"""Columns that are looked at where a format names no others."""
_DATA_KEYS: Final = frozenset({"url", "path", "bytes", "base64"})


def with_columns(messages: list[dict[str, Any]], row: Mapping[str, Any], spec: Format) -> list[dict[str, Any]]:
    """The messages with the media of the row's columns in their content parts.

    A column that is absent or null changes nothing. Raises MediaError where a column has more or fewer files
    than the messages have places for them, and where both `images` and `image` have files.

    >>> message = {"role": "user", "content": "<image>What is it?"}
    >>> with_columns([message], {"images": ["cat.png"]}, Format(kind="messages"))[0]["content"]
    [{'type': 'image', 'image': 'cat.png'}, {'type': 'text', 'text': 'What is it?'}]
    """
    # Only kinds that have files: marks of the others are text.
    # An empty list says that the row has no files: a mark in the text then misses its own.
    given = {
        kind: (name, files)
        for kind in KINDS
        if (name := _name(row, spec, kind)) and ((files := _files(row, name)) or isinstance(column(row, name), list))
    }
    if not given:
        return messages
    places = dict.fromkeys(given, 0)
    waiting = {kind: iter(files) for kind, (_, files) in given.items()}

    def take(kind: MediaKind) -> Any:
        places[kind] += 1
        # Counting goes on past the last file, so that the error can say how many places there are.
        return next(waiting[kind], None)

    made = [_placed(message, take, given.keys()) for message in messages]
    for kind, (name, files) in given.items():
        if places[kind] != len(files):
            where = _mark_elsewhere(messages, f"<{kind}>") if places[kind] < len(files) else None
            if where is not None:
                raise MediaError(
                    f"column `{name}` has {counted(len(files), kind)}, and {where} has the mark `<{kind}>`, which is "
                    f"read only where the whole content of a message is text",
                    help=f'write a part of its own in its place: {{"type": "{kind}"}}, and the text in parts beside it',
                )
            raise MediaError(
                f"column `{name}` has {counted(len(files), kind)}, and the messages have "
                f"{counted(places[kind], 'place')} for them: `<{kind}>` in a text, "
                f"or a part of type `{kind}` without data",
                help="fix or drop the row; a column that is not for the messages is switched off in a dataset file: "
                f"`messages: {{{kind}s: null}}`",
            )
    return made


def _name(row: Mapping[str, Any], spec: Format, kind: MediaKind) -> str | None:
    """The column of a kind: as the format names it, or `image` where there is no `images`."""
    name: str | None = getattr(spec, f"{kind}s")
    if name is None or name != f"{kind}s":
        return name
    if kind not in row:
        return None if column(row, name) is None else name
    if not _files(row, name):
        # An empty list says that there are no files, where nothing else names some.
        return kind if _files(row, kind) or column(row, name) is None else name
    if _files(row, kind):
        raise MediaError(
            f"the row has files in column `{name}` and in column `{kind}`",
            help=f"remove or rename one of them, or say in a dataset file that `{kind}` is meant: "
            f"`messages: {{{name}: {kind}}}`",
        )
    return name


def _mark_elsewhere(messages: Iterable[Mapping[str, Any]], mark: str) -> str | None:
    """The first place that has a mark, but for contents that are text; None without one.

    >>> _mark_elsewhere([{"role": "user", "content": [{"type": "text", "text": "<image>What?"}]}], "<image>")
    'messages[0].content[0].text'
    """
    for turn, message in enumerate(messages):
        for field, value in message.items():
            if not isinstance(value, str) or field != "content":
                found = _path_of(value, mark, f"messages[{turn}].{field}")
                if found is not None:
                    return found
    return None


def _path_of(value: Any, mark: str, path: str) -> str | None:
    if isinstance(value, str):
        return path if mark in value else None
    inner: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        inner = ((f"{path}.{key}", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        inner = ((f"{path}[{at}]", item) for at, item in enumerate(value))
    return next((found for place, item in inner if (found := _path_of(item, mark, place)) is not None), None)


def _files(row: Mapping[str, Any], name: str) -> list[Any]:
    value = column(row, name)
    if value is None:
        return []
    if isinstance(value, list | tuple):
        # A null is no file.
        return [item for item in value if item is not None]
    return [value] if value != "" else []


def _placed(message: dict[str, Any], take: Any, kinds: Any) -> dict[str, Any]:
    content = message.get("content")
    if isinstance(content, str):
        if not any(match.group(1) in kinds for match in MARKS.finditer(content)):
            return message
        return {**message, "content": list(_split(content, take, kinds))}
    if not isinstance(content, list | tuple):
        return message
    return {**message, "content": [_filled(part, take, kinds) for part in content]}


def _split(text: str, take: Any, kinds: Any) -> Iterator[dict[str, Any]]:
    read = 0
    for match in MARKS.finditer(text):
        kind = match.group(1)
        if kind not in kinds:
            continue
        # No empty text part between two marks.
        if match.start() > read:
            yield {"type": "text", "text": text[read : match.start()]}
        yield {"type": kind, kind: take(kind)}
        read = match.end()
    if read < len(text):
        yield {"type": "text", "text": text[read:]}


def _filled(part: Any, take: Any, kinds: Any) -> Any:
    if not isinstance(part, Mapping):
        return part
    kind = MEDIA_TYPES.get(str(part.get("type")))
    # A part with its own data takes no file of the column.
    has_data = any(part.get(key) is not None for key in (*_DATA_KEYS, str(part.get("type")), kind))
    if kind is None or kind not in kinds or has_data:
        return part
    return {**part, "type": kind, kind: take(kind)}
