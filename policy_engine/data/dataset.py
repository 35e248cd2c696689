"""Dataset files: a YAML that binds a policy to data.

messages: {field: dialogue, role: speaker, content: text, roles: {customer: user, agent: assistant}}
trained_roles: [assistant]
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from policy_engine.core.choices import PairColumns
from policy_engine.core.errors import ConfigError, DataError, PolicyEngineError
from policy_engine.core.schema import FieldType, Schema
from policy_engine.core.wording import counted
from policy_engine.data.conversation import Conversation, read_row, without_null_fields
from policy_engine.data.files.read_text import Numbered
from policy_engine.data.files.readers import Rows
from policy_engine.data.formats import (
    CALL_ROLE,
    Format,
    FormatKind,
    column,
    list_kind,
    named_format,
)
from policy_engine.data.given import given_documents, given_messages, given_tools
from policy_engine.data.pairs import PAIR_KINDS
from policy_engine.data.shapes.detect import detect_format, usual_names
from policy_engine.data.shapes.no_shape import no_pairs
from policy_engine.data.shapes.row_shape import LABELS, has_truth_value, shape_of
from policy_engine.data.shapes.unused import noted

LOOKED_AT: Final = 200
"""Rows that are looked at to find the format of a dataset."""
_log = logging.getLogger("policy_engine")
_LIST_KINDS: Final = ("messages", "sharegpt")


@dataclass(frozen=True, kw_only=True)
class PolicyTest:
    """A conversation, and its rendered text with the trained text in ⟦ ⟧.

    `row` has the conversation under `messages`, beside it `tools`, `documents` and whatever `sample.` conditions read.
    `line` is the test's line in its file.
    """

    name: str
    row: Mapping[str, Any]
    expect: str
    line: int
    sampled: tuple[int, ...] | None = None
    """Messages (from 0) whose body and end markers the model sampled, for policies that ask; None without marks."""

    def conversation(self, template_kwargs: Mapping[str, Any] | None = None) -> Conversation:
        """The test's conversation; its own `chat_template_kwargs` win over `template_kwargs`."""
        return read_row(self.row, named_format("messages", template_kwargs=dict(template_kwargs or {})))


@dataclass(frozen=True, kw_only=True)
class Beside:
    """All that a call gives beside its messages, as `apply_chat_template` takes it."""

    tools: Sequence[Any] | None = None
    """Schemas or Python functions, or their JSON text."""
    documents: Sequence[Any] | None = None
    sample: Mapping[str, Any] | None = None
    """The row that the messages came from; None if there is no other."""
    media: Mapping[str, Any] = field(default_factory=dict)
    """Files by the name of their column: `images`, `videos` and `audios`."""
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """The contents of a dataset file.

    `policy`, `tokenizer` and `template` are names, or paths resolved against the file.
    """

    name: str = "<dataset>"
    """The file's path, for messages."""
    policy: str | None = None
    tokenizer: str | None = None
    template: str | None = None
    kind: FormatKind | None = None
    """Format of the rows; None where the data decides."""
    names: Mapping[str, Any] = field(default_factory=dict)
    """Columns, keys and roles of the data, by the attributes of `Format`; what is not named has its usual name."""
    trained_roles: frozenset[str] = frozenset({"assistant"})
    """Roles the model writes."""
    pairs: PairColumns | None = None
    """The trainer that rows of preferences make columns for: TRL's DPO, KTO or reward trainer.

    None is `dpo` for pairs, and `kto` for answers with a label."""
    fields: Mapping[str, FieldType] | None = None
    """Types of the fields that conditions may read, by dotted name (`message.train`, `sample.meta.source`)."""
    template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    carry: tuple[str, ...] = ()
    """Columns with a number for each given token, which go along beside the labels (float32)."""
    tests: tuple[PolicyTest, ...] = ()

    def to_schema(self) -> Schema:
        """The roles and fields that a policy for this data is checked against.

        >>> schema = DatasetSpec(names={"roles": {"customer": "user", "agent": "assistant"}}).to_schema()
        >>> sorted(schema.roles), sorted(schema.trained_roles)
        (['assistant', 'user'], ['assistant'])
        """
        # A call has no role: it becomes part of an assistant's message.
        roles = {role for role in self.names.get("roles", {}).values() if role != CALL_ROLE}
        return Schema(roles=frozenset(roles) | self.trained_roles, trained_roles=self.trained_roles, fields=self.fields)

    def format_of(self, rows: Iterable[Any], numbers: Sequence[int] = ()) -> Format:
        """The format of the data: as the file declares it, and for the rest as `rows` show it.

        `numbers` are those of the rows, to name the ones of another shape.

        Raises:
            ConfigError: nothing is declared and the rows have no known shape, or columns of preferences are asked for
                (`pairs`) and the rows are no preferences.

        >>> spec = DatasetSpec(names={"role": "speaker", "content": "text"})
        >>> spec.format_of([{"dialog": [{"speaker": "user", "text": "Hi"}]}]).description
        'read as `messages`, with what <dataset> declares'
        """
        names = {**self.names, "template_kwargs": dict(self.template_kwargs), "carry": self.carry}
        # Nothing is declared, so nothing can contradict what the rows show.
        if self.kind is None and not self.names:
            found = detect_format(rows, pairs=self.pairs is not None, numbers=numbers)
            return replace(found, template_kwargs=dict(self.template_kwargs), carry=self.carry)
        sample = list(rows)
        kind = self.kind or self._kind(sample)
        if self.pairs is not None and kind not in PAIR_KINDS:
            raise no_pairs(sample)
        names = {**usual_names(kind, sample, self.names), **names}
        if kind in ("messages", "sharegpt") and "field" not in names:
            names["field"] = self._list_column(sample, kind)
        # Names of columns and keys alone leave the format to the rows.
        how = "as" if self.kind else "with what"
        made = named_format(kind, description=f"read as `{kind}`, {how} {self.name} declares", **names)
        return noted(made, sample, declared={*self.names, *(["format"] if self.kind else [])})

    def format_of_messages(self, messages: list[Any]) -> Format:
        """The format of a list of messages that is given by itself.

        It has the file's keys and roles, if the file has lists of messages.
        """
        if self.kind in _LIST_KINDS or (self.kind is None and self.names):
            try:
                layout = replace(self, pairs=None).format_of([{self.names.get("field", "messages"): messages}])
            except ConfigError:
                pass  # these are no messages; reading them says what is wrong
            else:
                if layout.kind in _LIST_KINDS:
                    return layout
        return named_format("messages", template_kwargs=dict(self.template_kwargs))

    def read_given(self, messages: Any, beside: Beside) -> tuple[Conversation, Format]:
        """The conversation of messages that are given by themselves, and their format.

        Raises RowError for anything but a list of messages.

        >>> spec = DatasetSpec(names={"role": "speaker", "content": "text"})
        >>> spec.read_given([{"speaker": "user", "text": "Hi"}], Beside())[0].messages
        ({'role': 'user', 'content': 'Hi'},)
        """
        given = without_null_fields(given_messages(messages))
        layout = self.format_of_messages(given)
        row = {layout.field: given}
        # The row is made here, so its columns have the usual names, whatever those of the dataset are called.
        alone = replace(
            layout, tools=None, documents=None, system=None, images="images", videos="videos", audios="audios", carry=()
        )
        read = read_row({**row, **beside.media}, alone)
        made = replace(
            read,
            tools=given_tools(without_null_fields(beside.tools), "`tools`", functions=True),
            documents=given_documents(without_null_fields(beside.documents), "`documents`"),
            sample=row if beside.sample is None else beside.sample,
            template_kwargs={**read.template_kwargs, **beside.template_kwargs},
        )
        return made, layout

    def _kind(self, rows: list[Any]) -> FormatKind:
        # Named columns say which kind of rows they are of; the order matters, since preferences have a `prompt` too.
        if self.names.keys() & {"chosen", "rejected"}:
            return "preference"
        if "label" in self.names:
            return "unpaired_preference"
        if self.names.keys() & {"prompt", "completion"}:
            return self._kind_of_answers(rows)
        if self.names.keys() & {"instruction", "input", "output", "history"}:
            return "alpaca"
        # Which preferences the rows are is in their columns, not in the keys of their messages.
        if self.pairs is not None:
            return detect_format(rows, pairs=True).kind
        if self.names.keys() & {"role", "content"}:
            pair = self.names.get("role", "role"), self.names.get("content", "content")
            # Under ShareGPT's keys its authors are mapped to roles too.
            return "sharegpt" if pair == ("from", "value") else "messages"
        if "field" in self.names:
            kinds = Counter(
                kind
                for row in rows
                if isinstance(row, Mapping) and (kind := list_kind(column(row, self.names["field"]))) is not None
            )
            if not kinds:
                raise ConfigError(
                    f"{self.name}: column `{self.names['field']}` holds no messages in the "
                    f"{counted(len(rows), 'row')} looked at",
                    help="name the column of the messages under `messages: {field: …}`, and their `role` and `content`",
                )
            # A few broken rows must not decide.
            return kinds.most_common(1)[0][0]
        return detect_format(rows).kind

    def _kind_of_answers(self, rows: list[Any]) -> FormatKind:
        # The file names the prompt or its answer. Whether there are two answers, or one and a judgement, the other
        # columns show, as they do where nothing is named: else answers that are not wanted would be trained.
        layout = named_format("prompt_completion", **self.names)
        kinds: Counter[FormatKind] = Counter()
        for row in rows:
            if not isinstance(row, Mapping):
                continue
            has_answer = column(row, layout.completion) is not None
            if has_answer and any(has_truth_value(row, label) for label in LABELS):
                kinds["unpaired_preference"] += 1
            elif not has_answer and row.get("chosen") is not None and row.get("rejected") is not None:
                kinds["preference"] += 1
            else:
                kinds["prompt_completion"] += 1
        return kinds.most_common(1)[0][0] if kinds else "prompt_completion"

    def _list_column(self, rows: list[Any], kind: FormatKind) -> str:
        try:
            return detect_format(rows).field
        except ConfigError:
            # Renamed keys hide the messages from detection; reading each row then says what is missing.
            return named_format(kind).field


class SeenFormats:
    """The formats of batches of rows: each shape of a batch's first row is looked at once.

    Batches of another dataset have columns or messages of another shape.

    >>> seen = SeenFormats(DatasetSpec())
    >>> seen.of([{"chats": [{"from": "human", "value": "Hi"}]}]).field, seen.kind
    ('chats', 'sharegpt')
    """

    def __init__(self, spec: DatasetSpec) -> None:
        self._spec = spec
        self._found: dict[Any, Format] = {}

    @property
    def kind(self) -> FormatKind | None:
        """The kind of the newest format; None before the first."""
        return next((format.kind for format in reversed(self._found.values())), None)

    def of(self, rows: Sequence[Mapping[str, Any]]) -> Format:
        """The format of a batch, which has at least one row.

        Raises what `DatasetSpec.format_of` raises.
        """
        shape = tuple(rows[0]), shape_of(without_null_fields(rows[0]))
        found = self._found.get(shape) if shape[1] is not None else None
        if found is None:
            found = self._detect(rows, shape)
        # At the end, where `kind` looks for the dataset that is at hand.
        self._found.pop(shape, None)
        self._found[shape] = found
        return found

    def _detect(self, rows: Sequence[Mapping[str, Any]], shape: tuple[tuple[str, ...], Any]) -> Format:
        try:
            found = self._spec.format_of([without_null_fields(row) for row in rows])
        except ConfigError:
            # No row of the batch has a shape. In a dataset that was read before, reading them says what is wrong.
            known = [format for (columns, _), format in self._found.items() if columns == shape[0]]
            if shape[1] is not None or not known:
                raise
            return known[-1]
        if all(found != known for known in self._found.values()):
            _log.info("%s", found.description)
        return found


def load_dataset_spec(path: str | Path) -> DatasetSpec:
    """Reads a dataset file.

    Raises:
        DataError: the file cannot be read.
        DatasetFileError: keys or values that mean nothing, all of them at once, each with its line.
    """
    # Imported here: YAML takes as long to import as 200 rows to read.
    from policy_engine.data.dataset_file import load_dataset_file

    found = load_dataset_file(Path(path))
    tests = tuple(PolicyTest(**test) for test in found.pop("tests", ()))
    return DatasetSpec(name=str(path), tests=tests, **found)


def dataset_spec_of(dataset: DatasetSpec | str | Path | None) -> DatasetSpec:
    """A dataset file given by its path, or read already; without one, nothing is declared.

    Raises ConfigError for anything else, and what `load_dataset_spec` raises.

    >>> dataset_spec_of(None) == DatasetSpec()
    True
    """
    if dataset is None:
        return DatasetSpec()
    if isinstance(dataset, str | Path):
        return load_dataset_spec(dataset)
    if isinstance(dataset, DatasetSpec):
        return dataset
    raise ConfigError(
        f"a Masker takes the path of a dataset file as `dataset`, not {type(dataset).__name__}",
        help='say dataset="chats.yaml"; rows go into `masker.batch`',
    )


def format_seen(first: Iterable[Numbered], source: Rows, spec: DatasetSpec) -> Format:
    """The format that a dataset file declares, or that the first rows show.

    Raises ConfigError if they have no known shape; DataError if no row could be read, with the first row's problem.
    Both have the place of the first row.
    """
    first = list(first)
    bad = [(number, row) for number, row in first if isinstance(row, PolicyEngineError)]
    good = [(number, row) for number, row in first if not isinstance(row, PolicyEngineError)]
    if bad and not good:
        number, error = bad[0]
        more = "" if len(bad) == 1 else f"; the {len(bad) - 1} after it could not be read either"
        raise DataError(f"{error.message}{more}", help=error.help).at(source.where(number))
    try:
        return spec.format_of([row for _, row in good], [number for number, _ in good])
    except ConfigError as error:
        raise error.at(source.where(first[0][0])) from None
