"""Results of systems that were run on a page's conversations.

`python -m benchmarks.peers models SYSTEM` runs them and keeps the results.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from scripts.models import trained
from scripts.models.facts import code
from scripts.models.families import Variant

RESULTS: Final = Path(__file__).parents[2] / "benchmarks" / "results" / "peers"
SYSTEMS: Final = ("axolotl", "trl", "unsloth")
_NAMES: Final = {"axolotl": "axolotl", "trl": "TRL", "unsloth": "unsloth_zoo"}


@functools.cache
def kept(system: str) -> Mapping[str, Any]:
    """The results of a system: its `release`, and `templates` by name and column."""
    found: Mapping[str, Any] = json.loads((RESULTS / f"models-{system}.json").read_text(encoding="utf-8"))
    return found


def corrected(row: Sequence[str], variant: Variant) -> Sequence[str]:
    """A row of the table with what a system itself did, where that is something else."""
    cells = []
    for column, cell in zip(trained.SYSTEMS, row[1:], strict=True):
        entry = next((e for s in SYSTEMS for c, e in kept(s)["templates"][variant.template].items() if c == column), {})
        if entry.get("verdict") == "refuses" and cell:
            cell = "×"
        elif row[0] in entry.get("more", ()):
            cell = "✓*" if cell == "–" else cell
        elif row[0] in entry.get("less", ()):
            cell = "not all*"
        cells.append(cell)
    return [row[0], *cells]


def sentences(variant: Variant) -> Iterator[str]:
    """A sentence for each system that does otherwise than its column; the last names the others."""
    equal = []
    for system in SYSTEMS:
        found = kept(system)
        for column, entry in found["templates"][variant.template].items():
            setting = " with `assistant_only_loss`" if column == "TRL, answers only" else ""
            name = f"{_NAMES[system]} {found['release']}{setting}"
            if entry["verdict"] == "equal":
                equal.append(name)
            else:
                yield f"{name} {_otherwise(entry, variant)}"
    if equal:
        yield f"{_listed(equal)}, run on this conversation: as in the table."


def _otherwise(entry: Mapping[str, Any], variant: Variant) -> str:
    if entry["verdict"] == "refuses":
        return f"refuses this conversation: “{entry['why']}”"
    if entry["verdict"] == "other text":
        theirs, template = code(entry["theirs"]) or "nothing more", code(entry["template"]) or "nothing more"
        return f"makes another text of this conversation: {theirs} where the template writes {template}."
    said = []
    if entry["more"]:
        said.append(f"also trains {_listed(entry['more'])}")
    if entry["less"]:
        where = f" (with {code(variant.eos)} as `eos_token`)" if "end marker of answers" in entry["less"] else ""
        said.append(f"does not train all tokens of the rows {_listed(entry['less'])}{where}")
    return f"{'. It '.join(said)}."


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
