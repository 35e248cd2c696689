"""The list of mutants that mean the same is read after hours of mutation testing: it can be read, and is true today."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parent.parent


def test_entries_have_a_reason_and_name_lines_that_stand_in_their_file() -> None:
    entries = yaml.safe_load((ROOT / "tests" / "mutation_equivalent.yaml").read_text(encoding="utf-8"))
    assert entries
    for entry in entries:
        assert {"file", "line", "mutant", "why"} == set(entry)
        text = " ".join((ROOT / entry["file"]).read_text(encoding="utf-8").split())
        assert " ".join(entry["line"].split()) in text, (
            f"{entry['file']} has no line `{entry['line']}`: remove the entry, or change it"
        )
