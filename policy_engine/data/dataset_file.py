"""Reads and checks the YAML of a dataset file; every problem has its line.

data.yaml:2:9: error[PE503]: unknown format `sharegbt`
  help: did you mean `sharegpt`?
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, get_args

import yaml

from policy_engine.core.choices import OUTPUT_COLUMNS, PAIR_COLUMNS
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import DataError, DatasetFileError, RowError
from policy_engine.core.schema import FieldType
from policy_engine.core.source import Source, Span
from policy_engine.core.suggest import did_you_mean, file_meant
from policy_engine.core.wording import a_kind
from policy_engine.data.conversation import read_row
from policy_engine.data.formats import FORMAT_KINDS, named_format
from policy_engine.data.given import APPLY_ARGUMENTS, FLAGS, changes_ids, flag_problem
from policy_engine.data.yaml_text import compose_yaml, value_of

_KEYS: Final = (
    "policy", "tokenizer", "template", "messages", "pairs", "trained_roles", "fields", "template_kwargs",
    "carry", "tests",
)  # fmt: skip
_COLUMNS: Final = (
    "field", "role", "content", "tool_calls", "reasoning", "system", "instruction", "input", "output", "history",
    "prompt", "completion", "chosen", "rejected", "label", "tools", "documents", "images", "videos", "audios",
    "chat_template_kwargs", "input_ids", "prompt_ids", "completion_ids", "sampled", "ids",
)  # fmt: skip
_CHOICES: Final[Mapping[str, tuple[str, ...]]] = {"arguments": ("keep", "parse"), "content_as": ("keep", "parts")}
_OPTIONAL_COLUMNS: Final = (
    "system", "input", "history", "tools", "documents", "images", "videos", "audios", "chat_template_kwargs",
    "input_ids", "prompt_ids", "completion_ids", "sampled",
)  # fmt: skip
"""Columns that `null` switches off."""
_SCOPES: Final = ("message", "part", "call", "sample")
_TYPES: Final[tuple[str, ...]] = get_args(FieldType)
_FIX: Final = "fix the line; nothing was read from the file"
_UPDATE: Final = 'write `expect: ""`, and `policy-engine test FILE --update` fills it in'
_TEST_KEYS: Final = ("name", "messages", "tools", "documents", "chat_template_kwargs", "sample", "sampled", "expect")


def load_dataset_file(path: Path) -> dict[str, Any]:
    """The contents by the attributes of `DatasetSpec`, and of `PolicyTest` for `tests`.

    Raises DataError if the file cannot be read, and DatasetFileError with everything that is wrong in it.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"dataset file `{path}` does not exist", help=file_meant(path) or "check the path") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"dataset file `{path}` cannot be read: {error}", help="it has to be UTF-8 YAML") from None
    return _File(path, text).load()


class _File:
    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self.source = Source(name=str(path), text=text)
        self.problems: list[tuple[int, Diagnostic]] = []
        self.found: dict[str, Any] = {}

    def load(self) -> dict[str, Any]:
        try:
            root = compose_yaml(self.source.text)
            if root is not None:
                self._root(root)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            problem = getattr(error, "problem", None) or str(error)
            # Nothing of the file counts where it is no YAML, so this is reported alone.
            self.problems.clear()
            self._add(mark.index if mark else 0, f"not valid YAML: {problem}", "fix the line, or quote it")
        else:
            if root is None:
                self._add(0, "the dataset file is empty", f"its keys are {_listed(_KEYS)}")
        if self.problems:
            raise DatasetFileError(tuple(d for _, d in sorted(self.problems, key=lambda at: at[0])))
        return self.found

    def _root(self, root: yaml.Node) -> None:
        readers: dict[str, Callable[[yaml.Node], None]] = {
            "policy": self._path("policy"),
            "tokenizer": self._path("tokenizer"),
            "template": self._path("template"),
            "messages": self._messages,
            "pairs": self._pairs,
            "trained_roles": self._trained_roles,
            "fields": self._fields,
            "template_kwargs": self._template_kwargs,
            "carry": self._carry,
            "tests": self._tests,
        }
        for key, node in self._mapping(root, "the dataset file", _KEYS).items():
            # Each reader notes its problems and goes on, so that all are reported at once.
            readers[key](node)

    def _problem(self, node: yaml.Node, message: str, help: str | None = None) -> None:
        # Of what goes over several lines, the first is pointed at.
        start, end = node.start_mark.index, node.end_mark.index
        line_end = self.source.text.find("\n", start)
        self._add(start, message, help or _FIX, end if line_end < 0 else min(end, line_end))

    def _add(self, start: int, message: str, help: str, end: int | None = None) -> None:
        span = Span(source=self.source, start=start, end=start if end is None else end)
        found = Diagnostic(code=DatasetFileError.code, message=message, span=span, help=help)
        self.problems.append((start, found))

    def _mapping(self, node: yaml.Node, what: str, known: Iterable[str] | None) -> dict[str, yaml.Node]:
        """The value nodes of a mapping by key; unknown keys, and keys written twice, are problems."""
        if not isinstance(node, yaml.MappingNode):
            self._problem(node, f"{what} has to be a mapping, found {a_kind(value_of(node))}")
            return {}
        result: dict[str, yaml.Node] = {}
        for key_node, value_node in node.value:
            key = value_of(key_node)
            if not isinstance(key, str):
                self._problem(key_node, f"key `{key_node.value}` of {what} is {a_kind(key)}", "put it in quotes")
            elif known is not None and key not in known:
                self._problem(key_node, f"unknown key `{key}` in {what}", _meant(key, known))
            # YAML would take the last silently.
            elif key in result:
                self._problem(key_node, f"key `{key}` of {what} is written twice", "keep one of them")
            else:
                result[key] = value_node
        return result

    def _text(self, node: yaml.Node, what: str) -> str | None:
        value = value_of(node)
        if isinstance(value, str) and value:
            return value
        self._problem(node, f"{what} has to be text, found {a_kind(value) if value != '' else 'nothing'}")
        return None

    def _path(self, key: str) -> Callable[[yaml.Node], None]:
        def read(node: yaml.Node) -> None:
            text = self._text(node, f"`{key}`")
            if text is not None:
                # A tokenizer may be a folder anywhere, as models are; policy and template belong to the data.
                self.found[key] = text if key == "tokenizer" else self._confined(node, key, text)
                beside = self._beside(text)
                # A name that is no file here may be a shipped policy's or a hub's.
                if beside is not None and (beside.exists() or text.endswith((".policy", ".jinja"))):
                    self.found[key] = str(beside)

        return read

    def _beside(self, text: str) -> Path | None:
        try:
            beside = self.path.parent / text
            beside.resolve()
            beside.exists()
        except (OSError, ValueError, RuntimeError):  # a name that no file can have, or a template's text
            return None
        return beside

    def _confined(self, node: yaml.Node, key: str, text: str) -> str:
        """The name of a file; a problem if it leads out of the folder, or is a pipe or device."""
        beside = self._beside(text)
        # The text of a template, not the name of one.
        if "{" in text:
            return text
        if beside is None:
            self._problem(node, f"`{key}` is a name that no file can have", "name a file")
            return text
        home = self.path.parent.resolve()
        try:
            # Resolved first, so that a link cannot lead out.
            inside = beside.resolve().is_relative_to(home)
        except (OSError, RuntimeError):  # a circle of links
            inside = False
        if not inside and (beside.exists() or text.endswith((".policy", ".jinja"))):
            self._problem(
                node,
                f"`{key}` leads out of the folder of the dataset file",
                "move the file into the folder, or below it, or name it on the command line",
            )
        elif beside.exists() and not beside.is_file():
            self._problem(node, f"`{key}` is no file: `{text}`", "name a file")
        return text

    def _messages(self, node: yaml.Node) -> None:
        names: dict[str, Any] = {}
        for key, value_node in self._mapping(node, "`messages`", ("format", "roles", *_CHOICES, *_COLUMNS)).items():
            if key == "format":
                self._format(value_node)
            elif key == "roles":
                names["roles"] = self._roles(value_node)
            elif key in _CHOICES:
                names[key] = self._choice(value_node, key)
            # `null` says that there is no such column, which is not the same as not naming it.
            elif value_of(value_node) is None and key in _OPTIONAL_COLUMNS:
                names[key] = None
            else:
                names[key] = self._text(value_node, f"`messages: {key}`")
        self.found["names"] = names

    def _format(self, node: yaml.Node) -> None:
        value = value_of(node)
        if value in FORMAT_KINDS:
            self.found["kind"] = value
        else:
            self._problem(node, f"unknown format `{value}`", _meant(str(value), FORMAT_KINDS))

    def _pairs(self, node: yaml.Node) -> None:
        value = value_of(node)
        if value not in PAIR_COLUMNS:
            self._problem(node, f"unknown columns `{value}` for pairs", _meant(str(value), PAIR_COLUMNS))
        self.found["pairs"] = value

    def _choice(self, node: yaml.Node, key: str) -> str:
        value = value_of(node)
        if value not in _CHOICES[key]:
            values = " or ".join(f"`{choice}`" for choice in _CHOICES[key])
            self._problem(node, f"unknown value `{value}` of `messages: {key}`", f"write {values}")
        return str(value)

    def _roles(self, node: yaml.Node) -> dict[str, str]:
        pairs = self._mapping(node, "`messages: roles`", None)
        return {key: self._text(value, f"the role of `{key}`") or "" for key, value in pairs.items()}

    def _trained_roles(self, node: yaml.Node) -> None:
        value = value_of(node)
        if isinstance(value, list) and value and all(isinstance(role, str) and role for role in value):
            self.found["trained_roles"] = frozenset(value)
        else:
            self._problem(node, "`trained_roles` has to be a list of roles", "write `trained_roles: [assistant]`")

    def _carry(self, node: yaml.Node) -> None:
        value = value_of(node)
        if not isinstance(value, list) or not all(isinstance(name, str) and name for name in value):
            self._problem(node, "`carry` has to be a list of columns", "write `carry: [logprobs, advantages]`")
            return
        for name in value:
            # It would overwrite ids or labels in the output.
            if name in OUTPUT_COLUMNS:
                self._problem(node, f"`carry` names `{name}`, which the output has already", "rename the column")
        self.found["carry"] = tuple(dict.fromkeys(value))

    def _fields(self, node: yaml.Node) -> None:
        fields: dict[str, str] = {}
        for name, value_node in self._mapping(node, "`fields`", None).items():
            scope, _, rest = name.partition(".")
            kind = value_of(value_node)
            if scope not in _SCOPES or not rest:
                hint = _meant(scope, _SCOPES) if scope not in _SCOPES else f"write `{scope}.NAME`"
                self._problem(value_node, f"field `{name}` has to start with one of {_listed(_SCOPES)} and a dot", hint)
            elif kind not in _TYPES:
                self._problem(value_node, f"unknown type `{kind}` of field `{name}`", _meant(str(kind), _TYPES))
            else:
                fields[name] = str(kind)
        self.found["fields"] = fields

    def _template_kwargs(self, node: yaml.Node) -> None:
        pairs = self._mapping(node, "`template_kwargs`", None)
        for key, value in pairs.items():
            wrong = flag_problem(key, value_of(value)) if key in FLAGS else None
            if wrong is not None:
                self._problem(value, wrong)
            elif changes_ids(key, value_of(value)):
                what = f"`{key}` is an argument of `apply_chat_template`, not of the chat template"
                self._problem(value, what, APPLY_ARGUMENTS[key])
        self.found["template_kwargs"] = {key: value_of(value) for key, value in pairs.items()}

    def _tests(self, node: yaml.Node) -> None:
        if not isinstance(node, yaml.SequenceNode):
            self._problem(node, "`tests` has to be a list of tests")
            return
        tests = [self._test(item, number) for number, item in enumerate(node.value, start=1)]
        self.found["tests"] = [test for test in tests if test is not None]

    def _test(self, node: yaml.Node, number: int) -> dict[str, Any] | None:
        what = f"test {number}"
        before = len(self.problems)
        nodes = self._mapping(node, what, _TEST_KEYS)
        for key in ("messages", "expect"):
            # A misspelled key is reported already; that another one is missing follows from it.
            if key not in nodes and len(self.problems) == before:
                self._problem(node, f"{what} has no `{key}`", _UPDATE if key == "expect" else None)
        if len(self.problems) > before:
            return None
        values = {key: value_of(value) for key, value in nodes.items()}
        sample = values.get("sample") or {}
        if not isinstance(sample, dict):
            self._problem(nodes["sample"], f"`sample` of {what} has to be a mapping")
        sampled = values.get("sampled")
        count = len(values["messages"]) if isinstance(values.get("messages"), list) else 0
        if sampled is not None and not (
            # `type`, since `true` is an `int` to Python.
            isinstance(sampled, list) and all(type(n) is int and 0 <= n < count for n in sampled)
        ):
            self._problem(
                nodes["sampled"],
                f"`sampled` of {what} has to be a list of messages, by their numbers from 0",
                "write `sampled: [1]` for the second message",
            )
        for key in ("name", "expect"):
            if key in values and not isinstance(values[key], str):
                empty = key == "expect" and values[key] is None
                message = f"`{key}` of {what} has to be text, found {a_kind(values[key])}"
                self._problem(nodes[key], message, _UPDATE if empty else None)
        if len(self.problems) > before:
            return None
        row = {**sample, **{key: values[key] for key in _TEST_KEYS[1:5] if key in values}}
        try:
            # Read once now, so that a broken test has its line here and not in a run.
            read_row(row, named_format("messages"))
        except RowError as error:
            self._problem(nodes["messages"], f"{what}: {error.message}", error.help)
            return None
        name = values.get("name", what)
        made = {"name": name, "row": row, "expect": values["expect"], "line": node.start_mark.line + 1}
        return made if sampled is None else {**made, "sampled": tuple(sampled)}


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _meant(name: str, known: Iterable[str]) -> str:
    return did_you_mean(name, known) or f"known are {_listed(known)}"
