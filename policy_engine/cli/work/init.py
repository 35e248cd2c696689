"""The dataset file and policy that `init` writes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.segments import WHOLE
from policy_engine.cli.accounts.data_findings import data_findings, opening_bos
from policy_engine.cli.accounts.init_survey import Survey, parts_in_order, survey
from policy_engine.cli.accounts.lost_notes import lost_note
from policy_engine.cli.files import exists, write_text_file
from policy_engine.cli.outcome import Exit, Outcome, diagnostics_of, grouped
from policy_engine.cli.work.inputs import STDIN
from policy_engine.cli.work.masked_rows import see_format
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import ConfigError, PolicyEngineError, RowError
from policy_engine.core.vocabulary import role_in_policy
from policy_engine.core.wording import counted
from policy_engine.data.conversation import Conversation
from policy_engine.data.dataset import DatasetSpec
from policy_engine.data.files.readers import read_rows
from policy_engine.data.formats import Format, named_format
from policy_engine.data.pairs import conversations_in
from policy_engine.data.role_spelling import DoubtfulRoles, RoleSpelling
from policy_engine.mask.evidence.written_calls import written_calls
from policy_engine.mask.unroll import unrolling_writes
from policy_engine.report.styles import BAD, DOUBT

_SAYS_TRAIN = ("train", "training", "trainable", "loss", "learn", "trained")
_SAYS_WEIGHT = ("weight", "loss_weight", "loss_scale")
_NAMED = (
    "instruction", "input", "output", "history", "prompt", "completion", "chosen", "rejected", "label",
)  # fmt: skip
"""Columns of the formats other than lists of messages."""
_NAME = re.compile(r"[A-Za-z_][\w]*(\.[A-Za-z_]\w*)*")


_WRITTEN: Final = (".policy", ".yaml", ".yml")
"""Endings of the two files; `-o chat.policy` names one of them, and is `-o chat`."""


def write_starter(
    data: str, tokenizer: str, template: str | None, *, out: Path | None, limit: int, overwrite: bool
) -> Outcome:
    """Looks at the first `limit` rows and writes PATH.yaml and PATH.policy.

    Raises ConfigError for standard input, DataError if one of them exists, RowError if no row can be read, and what
    reading and loading raise.
    """
    if data == STDIN:
        raise ConfigError("`init` reads the data more than once, which a pipe cannot give", help="write it to a file")
    base = Path(Path(data).name).with_suffix("") if out is None else out
    if out is not None and out.suffix in _WRITTEN:
        base = out.with_suffix("")
    policy_path, dataset_path = Path(f"{base}.policy"), Path(f"{base}.yaml")
    # Both before anything is loaded or written: no half of the pair.
    for path in (policy_path, dataset_path):
        if path.exists() and not overwrite:
            raise exists(path)
    tok = load_tokenizer(tokenizer, template=template, cache=True)
    _ = tok.template  # a missing or broken template is reported at once, not once per row
    _refuse_prepared(data, tokenizer)
    source = read_rows(data)
    format, rows = see_format(source, limit, DatasetSpec())
    failed: list[tuple[int, PolicyEngineError]] = []
    doubtful = DoubtfulRoles()
    found = survey(_conversations(rows, format, failed, doubtful), tok)
    doubtful.name_places(source.where)
    if not found.rows:
        first, error = failed[0]
        raise RowError(
            f"{error.message}; none of the {counted(len(failed), 'row')} of `{data}` can be read", help=error.help
        ).at(source.where(first))
    policy = policy_text(found, data, failed=len(failed), but=doubtful)
    write_text_file(policy_path, policy, overwrite=overwrite)
    names = {"tokenizer": _beside(tokenizer, base), "template": template and _beside(template, base)}
    write_text_file(dataset_path, dataset_text(found, data, policy_path.name, format, names), overwrite=overwrite)
    warnings = [
        *data_findings(
            [(lost.role, lost.field, lost.messages) for lost in found.lost],
            doubtful=tuple(doubtful.values()),
            quoted=found.quoted,
            printed=found.printed,
            bos=opening_bos(tok),
            tokenizer=tok,
        ),
        *(finding for _, finding in written_calls(None, found.calls)),
    ]
    warnings += grouped(
        replace(diagnostic, severity="warning")
        for number, error in failed
        for diagnostic in diagnostics_of(error, place=source.where(number))
    )
    warnings += [
        Diagnostic(
            code=first.code,
            severity="warning",
            message=f"{counted(count, 'row')} {'does not render' if count == 1 else 'do not render; the first'}: "
            f"{first.message}",
            help=first.help,
        )
        for kind, count in found.refused.most_common(5)
        for first in [found.first_refused[kind]]
    ]
    return Outcome(
        exit=Exit.FAILS if found.refused and sum(found.refused.values()) == found.rendered else Exit.HOLDS,
        diagnostics=tuple(warnings),
        data={
            "read_as": format.description,
            "rows": found.rows,
            "rows_failed": len(failed),
            "roles": dict(found.roles),
            "fields": dict(sorted(found.fields.items())),
            "parts": {role: parts_in_order(parts) for role, parts in found.parts.items()},
            "unrendered": [asdict(lost) for lost in found.lost],
            "wrote": [str(dataset_path), str(policy_path)],
        },
        head=(Text(format.description, style="dim"),),
        body=(
            Text(f"looked at {counted(found.rows, 'row')}: {_counts(found)}"),
            # Whole messages are warnings above.
            *(
                Text(lost_note(lost, unrolls=unrolling_writes(lost.field, tok, {})), style=DOUBT)
                for lost in found.lost
                if lost.field != WHOLE
            ),
            Text(f"wrote {dataset_path} and {policy_path}"),
            *_next(found, data, dataset_path, tokenizer),
        ),
    )


def _refuse_prepared(data: str, tokenizer: str) -> None:
    """Raises RowError if the data is tokenized already: there is no conversation to start from."""
    first = next(iter(read_rows(data)), (0, None))[1]
    if isinstance(first, Mapping) and "input_ids" in first:
        raise RowError(
            f"`{data}` is tokenized already, and `init` takes chats",
            help=f"`policy-engine audit {data} -t {tokenizer}` says what its labels train",
        )


def _next(found: Survey, data: str, dataset: Path, tokenizer: str) -> list[Text]:
    """The commands that come next; first what to do about rows that do not render."""
    refused = sum(found.refused.values())
    show = f"policy-engine show {data} --dataset {dataset}"
    if refused and refused == found.rendered:
        return [
            Text(f"next: {counted(refused, 'row')} looked at, and not one renders with this template", style=BAD),
            Text("      change the rows as the warnings above say, or name another template: --template FILE"),
        ]
    first = (
        f"next: {counted(refused, 'row')} {'does' if refused == 1 else 'do'} not render (above); then "
        if refused
        else "next: "
    )
    return [
        Text(first + show, style="bold"),
        Text(
            f"      policy-engine audit PREPARED -t {tokenizer} says what data that is prepared already trains", "dim"
        ),
    ]


def policy_text(found: Survey, data: str, *, failed: int = 0, but: Container[str] = ()) -> str:
    """A policy that trains the assistant, with comments on what was seen.

    No guard names the roles `but`, which are doubtful.

    >>> from collections import Counter
    >>> found = Survey(rows=1, roles=Counter(user=1, assistant=1))
    >>> policy_text(found, "chats.jsonl").splitlines()[-2:]
    ['# Asserted on every row.', 'never train user']
    """
    lines = [
        f"# Starter policy for {Path(data).name}. Seen in {counted(found.rows, 'row')}"
        + (f" ({failed} more failed):" if failed else ":"),
        f"#   roles: {_counts(found)}",
        *(f"#   parts of {role}: {', '.join(parts_in_order(parts))}" for role, parts in sorted(found.parts.items())),
        "",
        "# What the assistant writes: reasoning, text and tool calls, and the marker that ends its turn.",
        "train assistant",
    ]
    # Later rules decide, so the order keeps every choice of suggestions right: those that train come before those that
    # mask, those of parts before the ends, which may hang on them, and those of whole messages behind all.
    before_ends = []
    if "reasoning.text" in found.parts.get("assistant", ()):
        before_ends += ["", "# Uncomment to keep only the last turn's thinking:"]
        before_ends += ["# mask assistant.reasoning", "# train last assistant.reasoning"]
    if of_parts := _part_hints(found):
        before_ends += ["", "# Fields of parts that may say what to train; uncomment what is meant:", *of_parts]
    if before_ends:
        lines += [*before_ends, "", "# The marker, behind all that it may hang on."]
    lines += ["train eos of trained assistant" if of_parts else "train eos of assistant"]
    if of_messages := _message_hints(found):
        lines += ["", "# Fields of messages that may say what to train; uncomment what is meant:", *of_messages]
    # A guard for each other role: a later edit that trains one by mistake is refused.
    others = [role for role in sorted(found.roles) if role != "assistant" and role not in but]
    if others:
        lines += ["", "# Asserted on every row.", *(f"never train {role_in_policy(role)}" for role in others)]
    return "\n".join(lines) + "\n"


def dataset_text(found: Survey, data: str, policy: str, format: Format, names: dict[str, str | None]) -> str:
    """A dataset file for the format and fields that were seen; only what is not usual is named."""
    usual = named_format(format.kind)
    lines = [f"# How {Path(data).name} is read, and what its policy may ask about.", f"policy: {_scalar(policy)}"]
    for key, value in names.items():
        # A dataset file may not name a template outside its folder, so the line is written as a comment.
        if value and key == "template" and Path(value).parts[:1] == ("..",):
            lines += [f"# template: {value} is not below this folder: move it here, or give it with --template"]
        elif value:
            lines += [f"{key}: {_scalar(value)}"]
    lines += ["messages:", f"  format: {format.kind}"]
    columns = ["field", "role", "content"] if format.kind in ("messages", "sharegpt") else []
    columns += [n for n in _NAMED if getattr(format, n) != getattr(usual, n)]
    lines += [f"  {name}: {_scalar(getattr(format, name))}" for name in columns]
    lines += ["trained_roles: [assistant]"]
    # Only names that a policy can write; the column of messages itself is no field.
    fields = {n: t for n, t in found.fields.items() if _NAME.fullmatch(n) and n != f"sample.{format.field}"}
    # Content may be a string or a list of parts; a policy compares its text.
    fields |= {"message.content": "string"} if "message.content" in fields else {}
    lines += ["fields:", *(f"  {name}: {kind}" for name, kind in sorted(fields.items()))]
    lines += ["# template_kwargs: {enable_thinking: false}", "# tests:"]
    lines += [
        "#   - name: trains the answer",
        "#     messages: [{role: user, content: Hi}, {role: assistant, content: Hello}]",
    ]
    lines += ["#     expect: the rendered text, with what is trained in ⟦ ⟧"]
    return "\n".join(lines) + "\n"


def _conversations(
    rows: Iterator[tuple[int, Any]], format: Format, failed: list[tuple[int, PolicyEngineError]], roles: DoubtfulRoles
) -> Iterator[tuple[int, Conversation]]:
    spelling = RoleSpelling.of(format)
    for number, row in rows:
        try:
            if isinstance(row, PolicyEngineError):
                raise row
            for _, conversation in conversations_in(row, format):
                roles.add_roles((m["role"] for m in conversation.messages), spelling, number)
                yield number, conversation
        except PolicyEngineError as error:
            failed.append((number, error))


def _message_hints(found: Survey) -> list[str]:
    """Suggestions that mask or weigh whole turns, with their ends.

    >>> from collections import Counter
    >>> fields = {"message.train": "boolean", "message.weight": "number"}
    >>> _message_hints(Survey(rows=1, roles=Counter(assistant=1), fields=fields))
    ['# mask turn where message.train == false', '# scale turn by message.weight']
    """
    return [
        f"# mask turn where {name} == false" if kind == "boolean" else f"# scale turn by {name}"
        for name, kind in _saying_fields(found, "message")
    ]


def _part_hints(found: Survey) -> list[str]:
    """Suggestions that mask or weigh pieces of a turn: parts of its content, and spans."""
    hints = [
        f"# mask assistant where {name} == false" if kind == "boolean" else f"# scale assistant by {name}"
        for name, kind in _saying_fields(found, "part")
    ]
    if found.fields.get("message.training_detail") == "list":
        hints.append("# mask spans message.training_detail in assistant.text")
    return hints


def _saying_fields(found: Survey, scope: str) -> Iterator[tuple[str, str]]:
    """Flags and weights of a scope by their usual names, each with its type."""
    for name, kind in sorted(found.fields.items()):
        owner, _, key = name.partition(".")
        is_flag = key in _SAYS_TRAIN and kind == "boolean"
        if owner == scope and (is_flag or (key in (*_SAYS_TRAIN, *_SAYS_WEIGHT) and kind in ("integer", "number"))):
            yield name, kind


def _counts(found: Survey) -> str:
    return ", ".join(f"{role} ({count})" for role, count in found.roles.most_common())


def _scalar(value: str) -> str:
    """A YAML string: quoted, since a bare `no` or `null` is not a string.

    >>> _scalar("a: b"), _scalar("plain")
    ('"a: b"', '"plain"')
    """
    return json.dumps(value, ensure_ascii=False)


def _beside(path: str, base: Path) -> str:
    """A path as seen from the dataset file; a name that is no path stays as it is.

    >>> _beside("a-name-on-a-hub", Path("out/chats"))
    'a-name-on-a-hub'
    """
    return os.path.relpath(path, base.parent) if Path(path).exists() else path
