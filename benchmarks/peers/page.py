"""The step `page`: tables of docs/explanation/{peers,performance}.md from the other steps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.peers.known import KNOWN, Known, key_of
from benchmarks.peers.sampled_reasons import tables
from benchmarks.peers.systems import SYSTEMS

DOCS = Path(__file__).parents[2] / "docs" / "explanation"
TITLES = {
    "axolotl": "axolotl: `ChatTemplateStrategy`",
    "trl": "TRL: preparation of `SFTTrainer`",
    "transformers": "transformers: `return_assistant_tokens_mask`",
    "unsloth": "Unsloth: `train_on_responses_only`",
    "tinker": "tinker-cookbook: renderers, every `TrainOnWhat`",
    "renderers": "`renderers`: `build_training_sample`",
}


def write_pages(folder: Path, docs: Path = DOCS) -> int:
    """Writes what is between the markers of each page again."""
    _between(docs / "peers.md", "masks", "\n\n".join(_masks(folder)))
    sampled = results.load(folder, "sampled-renderers")
    if sampled is not None:
        _between(docs / "peers.md", "sampled", tables(sampled))
    _between(docs / "peers.md", "audit", _audit(folder))
    _between(docs / "performance.md", "peers", _speed(folder))
    return 0


def _between(page: Path, name: str, text: str) -> None:
    begin, end = f"<!-- {name}: written by benchmarks.peers page -->", f"<!-- {name}: end -->"
    before = page.read_text(encoding="utf-8")
    if begin not in before or end not in before:
        raise SystemExit(f"{page} has no place `{name}`")
    head, rest = before.split(begin)
    page.write_text(f"{head}{begin}\n{text}\n{end}{rest.split(end, 1)[1]}", encoding="utf-8")


def _masks(folder: Path) -> Iterator[str]:
    used: list[str] = []
    for system in SYSTEMS:
        found = results.load(folder, f"masks-{system}")
        if found is None:
            continue
        releases = ", ".join(f"{name} {release}" for name, release in found["releases"].items())
        yield f"### {TITLES[system]}\n\n{releases}; {found['count']} conversations for each setting and template."
        templates = list(dict.fromkeys(trial["template"] for trial in found["trials"]))
        rows: dict[tuple[str, str], dict[str, str]] = {}
        for trial in found["trials"]:
            name = f"`{trial['policy']}`" if trial["policy"] else _in_line(trial["policy_text"])
            rows.setdefault((trial["setting"], name), {})[trial["template"]] = _cell(trial, used)
        yield results.table(
            ["setting", "policy", *templates],
            [(f"`{s}`", p, *(cells.get(t, "–") for t in templates)) for (s, p), cells in rows.items()],
        )
    yield "### What the numbers stand for"
    yield results.table(["", "what differs", "whose", "why"], [_known(n, KNOWN[key]) for n, key in enumerate(used, 1)])


def _in_line(policy: str) -> str:
    lines = [line.split("  #")[0] for line in policy.splitlines() if line and not line.startswith("#")]
    return f"`{'; '.join(lines)}`".replace("|", "\\|")


def _cell(trial: dict[str, Any], used: list[str]) -> str:
    notes = []
    refused = {f"they refuse: {key}": count for key, count in trial["they_refuse"].items()}
    for key, count in {**trial["kinds"], **trial["other_ids"], **trial["we_refuse"], **refused}.items():
        name = key_of(key) or "not-explained"
        if name not in used:
            used.append(name)
        notes.append((used.index(name) + 1, count))
    merged: dict[int, int] = {}
    for number, count in notes:
        merged[number] = merged.get(number, 0) + count
    said = ", ".join(f"{count} ({number})" for number, count in sorted(merged.items()))
    return f"{trial['equal']}{'; ' + said if said else ''}"


def _known(number: int, known: Known) -> tuple[str, str, str, str]:
    issue = f" {known.issue}" if known.issue else ""
    return str(number), known.what, known.whose, f"{known.why}{issue}"


def _audit(folder: Path) -> str:
    found = results.load(folder, "audit")
    if found is None:
        return "Not run yet."
    rows = []
    for made in found["datasets"]:
        named = ", ".join(f"`{code}`" for code in made["smells"]) or "nothing"
        planted = f"`{made['fault']}`" if made["fault"] else "nothing"
        rows.append((made["system"], made["template"], made["why"], planted, named, made["breaches"]))
    return results.table(["made by", "template", "how", "planted", "named", "rows that break the policy"], rows)


def _speed(folder: Path) -> str:
    rows, machines = [], set()
    for system in SYSTEMS:
        found = results.load(folder, f"speed-{system}")
        if found is None:
            continue
        machines.add(re.sub(r", transformers [^,;]*|; load average.*", "", results.description(found)))
        cell = {name: f"{r['median']:.2f} [{r['low']:.2f}, {r['high']:.2f}]" for name, r in found["ratios"].items()}
        ours = [cell.pop("control"), cell.pop("ours, reference"), cell.pop("ours, kitoken")]
        releases = dict(found["releases"])
        first = True
        for name, ratio in cell.items():
            mark = f"{name} {next(iter(releases.values()))}" if first else name
            behind = found["ratios"][name]["median"]
            ahead = [f"{behind / found['ratios'][o]['median']:.2f}" for o in ("ours, reference", "ours, kitoken")]
            rows.append((mark, ratio, *ours, *ahead))
            first = False
    if not rows:
        return "Not run yet."
    head = ["system", "theirs", "control", "`reference`", "`kitoken`", "theirs / `reference`", "theirs / `kitoken`"]
    return "\n\n".join([*sorted(machines), results.table(head, rows)])
