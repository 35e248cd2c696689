"""The manifest of a folder of shards: what it was made with and what is in it, as JSON.

It is written beside the shards, and compared on resume.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

import pyarrow as pa

from policy_engine._version import __version__
from policy_engine.data.role_spelling import DoubtfulRole, DoubtfulRoles
from policy_engine.lang.format import format_policy
from policy_engine.lang.parse import parse
from policy_engine.mask.evidence.tokens_in_data import ControlTokenRows
from policy_engine.mask.masker import Masker
from policy_engine.run.input_spans import InputFile
from policy_engine.run.summary import Counts, Failure

FORMAT: Final = 1
"""Version of the layout of manifests."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One output file and the stretch of input rows it was made from.

    `file` is its name in the folder; None where no row of the stretch is written. `rows` is the number of rows in the
    file. `first_row` and `last_row` are the numbers of the first and last input row that was read (0 without rows).
    `bytes` and `sha256` are the size and hash of the file.
    """

    index: int
    file: str | None
    rows: int
    first_row: int
    last_row: int
    bytes: int
    sha256: str
    counts: Counts

    def to_json(self) -> dict[str, Any]:
        """The shard as JSON values."""
        return {**{f.name: getattr(self, f.name) for f in fields(self)}, "counts": counts_to_json(self.counts)}

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Shard:
        """Reads back what `to_json` gave.

        Raises KeyError, TypeError or ValueError for anything else.
        """
        return Shard(**{**data, "counts": counts_from_json(data["counts"])})


# The fields of Counts whose values are records; the rest are numbers, counters and plain lists.
_RECORDS: Final[dict[str, Any]] = {"failures": Failure, "doubtful_roles": DoubtfulRole}


def counts_to_json(counts: Counts) -> dict[str, Any]:
    """Counts as JSON values; keys that are pairs become lists.

    >>> counts_to_json(Counts(trained=Counter({("assistant", "text"): 9})))["trained"]
    [[['assistant', 'text'], 9]]
    """
    made: dict[str, Any] = {}
    for field in fields(counts):
        value = getattr(counts, field.name)
        if isinstance(value, Counter):
            # Sorted: the same run writes the same manifest, byte by byte.
            made[field.name] = [[list(k) if isinstance(k, tuple) else k, n] for k, n in sorted(value.items())]
        elif field.name == "lost_rows":
            made[field.name] = [[list(k), numbers] for k, numbers in sorted(value.items())]
        elif isinstance(value, ControlTokenRows):
            made[field.name] = asdict(value)
        elif field.name in _RECORDS:
            made[field.name] = [asdict(f) for f in (value.values() if isinstance(value, dict) else value)]
        else:
            made[field.name] = value
    return made


def counts_from_json(data: Mapping[str, Any]) -> Counts:
    """Reads back what `counts_to_json` gave.

    >>> counts_from_json(counts_to_json(Counts(read=2))) == Counts(read=2)
    True
    """
    made: dict[str, Any] = {}
    for field in fields(Counts):
        value = data[field.name]
        if field.name in _RECORDS:
            records = [_RECORDS[field.name](**record) for record in value]
            is_by_role = field.name == "doubtful_roles"
            made[field.name] = DoubtfulRoles({r.role: r for r in records}) if is_by_role else records
        elif field.name == "lost_rows":
            made[field.name] = {tuple(k): numbers for k, numbers in value}
        elif field.name == "control":
            made[field.name] = ControlTokenRows(**value)
        elif isinstance(value, list):
            made[field.name] = Counter({tuple(k) if isinstance(k, list) else k: n for k, n in value})
        else:
            made[field.name] = value
    return Counts(**made)


def identity_of(
    masker: Masker, schema: pa.Schema, *, files: Sequence[InputFile], reading: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """All that decides what a run writes, as JSON values.

    `reading` is how rows are read, in words.
    """
    tokenizer = masker.tokenizer
    policy = masker.program.policy.source
    # Without paths: a data set that was moved is the same data set.
    digest = hashlib.sha256(json.dumps([[f.size, f.sha256] for f in files]).encode()).hexdigest()
    return {
        "format": FORMAT,
        "version": __version__,
        "policy": {
            "name": policy.name,
            "fingerprint": masker.program.fingerprint,
            # For people, laid out in one way; what a resumed run compares is the fingerprint.
            "text": format_policy(parse(policy.text, name=policy.name)),
        },
        "tokenizer": {
            "name": tokenizer.name,
            # Apart from the templates, so that an error can name which of the two changed.
            "fingerprint": dataclasses.replace(tokenizer, templates={}, model_roles=frozenset()).fingerprint,
        },
        "template": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in tokenizer.templates.items()},
        "reading": {
            "rows": reading,
            "roles": sorted(tokenizer.model_roles),
            # Through JSON and back, so that it compares equal to what a manifest has: tuples become lists.
            "template_kwargs": json.loads(json.dumps(masker.dataset.template_kwargs, sort_keys=True, default=repr)),
        },
        "input": {"files": [asdict(file) for file in files], "digest": digest},
        "schema": [{"name": field.name, "type": str(field.type)} for field in schema],
        "options": dict(options),
    }


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """The differences between two identities, each in a few words.

    Empty if a run of one may go on as the other.
    """
    found = []
    if old.get("format") != new["format"] or old.get("version") != new["version"]:
        found.append(f"policy-engine is version {new['version']}, it was {old.get('version')}")
    if old["policy"]["fingerprint"] != new["policy"]["fingerprint"]:
        found.append(f"the policy (`{new['policy']['name']}`, it was `{old['policy']['name']}`)")
    if old["tokenizer"]["fingerprint"] != new["tokenizer"]["fingerprint"]:
        found.append(f"the tokenizer (`{new['tokenizer']['name']}`, it was `{old['tokenizer']['name']}`)")
    if old["template"] != new["template"]:
        found.append("the chat template")
    if old["reading"] != new["reading"]:
        found.append("how rows are read (the dataset file, or the roles the model writes)")
    found += _input_changes(old["input"]["files"], new["input"]["files"])
    for name in sorted({*old["options"], *new["options"]}):
        before, now = old["options"].get(name), new["options"].get(name)
        if before != now:
            found.append(f"the option `{name}` ({_shown(now)}, it was {_shown(before)})")
    # Last, and alone: whatever changed above may have changed the columns too, and is the better reason.
    if not found and old["schema"] != new["schema"]:
        found.append("the columns of the output")
    return found


def _input_changes(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[str]:
    if len(old) != len(new):
        return [f"the input ({len(new)} files, it was {len(old)})"]
    # A file that was moved is the same file.
    return [
        f"the input (`{now['path']}` has other contents)"
        for before, now in zip(old, new)
        if (before["size"], before["sha256"]) != (now["size"], now["sha256"])
    ]


def _shown(value: Any) -> str:
    return "not given" if value is None else f"`{json.dumps(value)}`"
