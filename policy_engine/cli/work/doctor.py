"""`doctor`: rows for a batch, one step of the trainer, and the account of it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import yaml
from rich.console import RenderableType
from rich.text import Text

from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.cli.options import Named
from policy_engine.cli.outcome import Exit, Outcome, diagnostics_of
from policy_engine.cli.records import DoctorOptions
from policy_engine.cli.work.inputs import MaskerInputs, load_inputs, media_options
from policy_engine.cli.work.masked_rows import masked_rows
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import ConfigError, DataError, GuardError, PolicyEngineError
from policy_engine.core.source import Place
from policy_engine.core.wording import counted
from policy_engine.data.files.read_arrow import schema_in
from policy_engine.data.files.readers import read_rows
from policy_engine.doctor.examination import Examination
from policy_engine.doctor.examine import examine
from policy_engine.doctor.media_batch import compare_media, has_media, without_media
from policy_engine.doctor.runners import check_names, runner_of
from policy_engine.doctor.samples import Sample, read_sample
from policy_engine.importers.imported import read_config
from policy_engine.mask.row import MEDIA_COLUMN, MaskedRow
from policy_engine.report.plain_table import PlainTable
from policy_engine.report.styles import BAD, GOOD
from policy_engine.run.backends import backend_verdict
from policy_engine.run.columns import schema_of

MOST_TOKENS: Final = 16_384
"""Rows are taken until there are so many tokens, so that long rows need no large machine; one row always."""


def ask(data: str, named: Named, step: DoctorOptions) -> Outcome:
    """Takes the step. The answer is no if labels, weights or order do not survive."""
    runner_of(step.trainer)  # what is not installed is reported before anything is loaded
    settings = _settings(step)
    try:
        sample, tokenizer, failed = _sample(data, named, step.rows)
    except GuardError as error:  # the answer to a policy, as where its guards are proven not to hold
        return Outcome(exit=Exit.FAILS, diagnostics=diagnostics_of(error))
    # Media are compared apart: the step itself runs on text, since features of pictures need the model.
    of_media = compare_media(sample, tokenizer) if has_media(sample) else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a trainer's warnings are about the hardware and its own future
        found = examine(
            without_media(sample),
            step.trainer,
            settings=settings,
            collator=step.collator,
            denominator=step.denominator,
            tokenizer=None if tokenizer is None else tokenizer.tokenizer,
        )
    if of_media is not None:
        count = sum(len(row.get(MEDIA_COLUMN) or ()) for row in sample.rows)
        found = replace(found, findings=(*of_media, *found.findings), checked={**found.checked, "media": count})
    backend = None if tokenizer is None else _backend(tokenizer, sample)
    findings = tuple(
        Diagnostic(code="PE702", severity=f.severity, message=f"{f.message} [{f.code}]", help=f.help)
        for f in found.findings
    )
    return Outcome(
        exit=Exit.HOLDS if found.holds else Exit.FAILS,
        diagnostics=(*failed.told, *findings),
        data={**_data(found, backend), "rows_failed": failed.count, "rows_empty": failed.empty},
        body=_body(found, backend),
    )


def _settings(step: DoctorOptions) -> dict[str, Any]:
    settings = {} if step.config is None else read_config(step.config)
    keys: list[str] = []
    for given in step.set_ or ():
        key, equals, value = given.partition("=")
        if not equals or not key:
            raise ConfigError(f"`--set {given}` has no value", help="write --set KEY=VALUE")
        keys.append(key)
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ConfigError(f"the value of `--set {given}` is no YAML", help="quote it") from None
    # A configuration file may also hold what a training script reads for itself; what is given here is the trainer's.
    check_names(step.trainer, keys)
    return settings


def _sample(data: str, named: Named, count: int) -> tuple[Sample, ChatTokenizer | None, _Failed]:
    rows = read_rows(data)
    # The first row tells which kind of data it is: preferences, masked rows, or chats.
    first = next(rows)
    if isinstance(first[1], PolicyEngineError):
        raise first[1]
    if isinstance(first[1], Mapping) and {"chosen_ids", "completion_labels"} & first[1].keys():
        raise _preferences(data)
    if isinstance(first[1], Mapping) and _is_masked(first[1], named):
        media = media_options(named)
        # Not by `load_chat_tokenizer`: masked rows need no template, and a tokenizer may be without one.
        tokenizer = None if named.tokenizer is None else load_tokenizer(named.tokenizer, template=named.template)
        if tokenizer is not None and media is not None:
            tokenizer = tokenizer.with_media(media)
        # A collator makes tensors by the types of the columns; Parquet and Arrow declare them, JSON does not.
        types = _item_types(rows.files[0]) if rows.files else {}
        return read_sample(_enough(chain([first], rows), count), types), tokenizer, _Failed()
    # `load_inputs` and `masked_rows` read the data again, from the start.
    if data == "-":
        raise ConfigError("chats cannot be masked here from a pipe", help="write them to a file, or `apply` first")
    if named.tokenizer is None and named.dataset is None:
        raise ConfigError(
            f"`{data}` is not tokenized",
            help="give it masked (`apply … -o masked.parquet`), or name a policy and a tokenizer with -p and -t",
        )
    inputs = load_inputs(named, prove=True)
    failed = _Failed()
    schema = schema_of(inputs.masker, row_numbers=False)
    types = {f.name: f.type.value_type for f in schema if f.name != MEDIA_COLUMN}
    taken = _enough(_trained_rows(data, inputs, failed), count)
    if not taken:
        raise _nothing_to_train(data, failed)
    return read_sample(taken, types), inputs.masker.tokenizer, failed


def _is_masked(row: Mapping[str, Any], named: Named) -> bool:
    """True if a row says what is trained.

    A rollout has token ids too, and what it says of them is which were sampled.
    """
    if "input_ids" not in row:
        return False
    return "labels" in row or (named.policy is None and named.dataset is None)


def _preferences(data: str) -> ConfigError:
    return ConfigError(
        f"`{data}` has preferences, and doctor takes its step with trainers of single answers",
        help="`policy_engine.adapters.preference` leads preferences into TRL's trainers; give doctor rows of messages",
    )


def _trained_rows(data: str, inputs: MaskerInputs, failed: _Failed) -> Iterator[tuple[int, dict[str, Any]]]:
    """Rows with something to train, by number; `failed` takes account of the others."""
    for row in masked_rows(data, inputs, limit=None, numbers=(), say=lambda text: None):
        if row.side:
            raise _preferences(data)
        if isinstance(row.result, MaskedRow):
            if not row.result.is_empty:
                columns = {n: c if n == MEDIA_COLUMN else c.tolist() for n, c in row.result.arrays().items()}
                yield row.number, columns
            failed.empty += row.result.is_empty
        else:
            failed.count += 1
            # A broken guard is the worse news: it stays "the first", whichever row came before.
            if failed.first is None or (
                isinstance(row.result, GuardError) and not isinstance(failed.first[1], GuardError)
            ):
                failed.first = (row.place, row.result)


@dataclass(kw_only=True)
class _Failed:
    """Rows that are not in the batch, of those read until it was full.

    `count` failed, `empty` have nothing to train.
    `first` is the first that failed, or the first that breaks a guard if one does."""

    count: int = 0
    empty: int = 0
    first: tuple[Place, PolicyEngineError] | None = None

    @property
    def told(self) -> tuple[Diagnostic, ...]:
        """That there are such rows, and why the first one failed."""
        if self.first is None:
            return ()
        place, error = self.first
        left_out = "1 row fails and is" if self.count == 1 else f"{counted(self.count, 'row')} fail and are"
        message = f"{left_out} left out of the batch; the first: {error.message}"
        return (Diagnostic(code=error.code, severity="warning", message=message, help=error.help, place=place),)


def _nothing_to_train(data: str, failed: _Failed) -> PolicyEngineError:
    if failed.first is None:
        return DataError(f"no row of `{data}` has anything to train", help="look at it with `policy-engine show`")
    place, error = failed.first
    if isinstance(error, GuardError):
        return GuardError(f"{place}: {error.message}", help=error.help)
    return DataError(f"no row of `{data}` can be trained on; {place}: {error.message}", help=error.help)


def _enough(rows: Iterator[tuple[int, Any]], count: int) -> list[tuple[int, Any]]:
    taken: list[tuple[int, Any]] = []
    tokens = 0
    for number, row in islice(rows, count):
        if isinstance(row, PolicyEngineError):
            raise row
        tokens += len(row.get("input_ids") or ())
        if taken and tokens > MOST_TOKENS:
            break
        taken.append((number, row))
    return taken


def _item_types(file: Path) -> dict[str, pa.DataType]:
    """The types of the items of list columns, where the file declares them.

    >>> _item_types(Path("chats.jsonl"))
    {}
    """
    if file.suffix not in (".parquet", ".arrow"):
        return {}
    lists = (f for f in schema_in(file) if pa.types.is_list(f.type) or pa.types.is_large_list(f.type))
    return {f.name: f.type.value_type for f in lists}


def _backend(tokenizer: ChatTokenizer, sample: Sample) -> str:
    texts = [tokenizer.tokenizer.decode(d.ids, skip_special_tokens=False) for d in sample.documents]
    return backend_verdict(tokenizer, texts)


def _data(found: Examination, backend: str | None) -> dict[str, Any]:
    return {
        "trainer": found.trainer,
        "trainer_version": found.version,
        "rows": found.rows,
        "documents": found.documents,
        "tokens": found.tokens,
        "trained": found.trained,
        "loss": found.loss,
        "loss_by_hand": found.by_hand,
        "checked": dict(found.checked),
        "settings": {key: repr(value) for key, value in found.settings.items()},
        "settings_left_out": list(found.left_out),
        "traps": [asdict(finding) for finding in found.findings],
        "backend": backend,
    }


def _body(found: Examination, backend: str | None) -> tuple[RenderableType, ...]:
    name = f"{found.trainer} {found.version}".rstrip()
    parts: list[RenderableType] = [
        Text(
            f"{name}: a batch of {counted(found.rows, 'row')} "
            f"({counted(found.documents, 'document')}, {counted(found.tokens, 'token')}, "
            f"{found.trained:,} trained)"
        )
    ]
    if found.settings:
        parts.append(Text("settings: " + ", ".join(f"{k}={v!r}" for k, v in found.settings.items()), style="dim"))
    if found.left_out:
        parts.append(Text(f"not about batch and loss, left out: {', '.join(found.left_out)}", style="dim"))
    if found.loss is not None and found.by_hand is not None:
        parts += [Text(""), _table(found)]
    parts.append(Text(""))
    parts.append(
        Text("labels, weights and order survive", style=GOOD)
        if found.holds
        else Text("labels, weights or order do not survive", style=BAD)
    )
    if backend is not None:
        parts.append(Text(backend, style="dim"))
    return tuple(parts)


def _table(found: Examination) -> PlainTable:
    bad = {f.code for f in found.findings if f.severity == "error"}
    checks = {
        "documents of the batch": {"joined", "ids-changed", "cut"},
        "ids": {"ids-changed"},
        "labels": {"labels-ignored", "labels-changed", "pad-masked", "shifted", "rewritten"},
        "weights": {"weights-ignored"},
        "positions": {"positions"},
        "carried": {"carried-changed"},
        "media": {"media"},
    }
    table = PlainTable()
    table.add_column("compared with the data")
    table.add_column("", justify="right")
    table.add_column("")
    for name, codes in checks.items():
        count = found.checked.get(name, 0)
        if count or codes & bad:
            wrong = bool(codes & bad)
            table.add_row(name, f"{count:,}", Text("differ", style=BAD) if wrong else Text("equal", style=GOOD))
    # If labels or ids differ from the data's, a loss that differs is not reported as well; it is still shown in
    # red.
    equal = not bad & {"loss", "joined", "labels-ignored", "labels-changed", "pad-masked", "ids-changed", "cut"}
    difference = abs((found.loss or 0) - (found.by_hand or 0))
    table.add_row(
        "loss",
        f"{found.loss:.6f}",
        Text(f"by hand {found.by_hand:.6f}, difference {difference:.0e}", style=GOOD if equal else BAD),
    )
    return table
