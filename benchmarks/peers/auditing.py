"""The step `audit`: the verb over prepared datasets, without and with a policy."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

from benchmarks import results
from policy_engine.cli.app import run


def run_audit(folder: Path, into: Path) -> int:
    """Audits every dataset; 1 if a planted fault is not named, or clean data has a fault."""
    cases = sorted(folder.glob("*/*/case.json"))
    if not cases:
        raise SystemExit(
            f"there is no dataset in `{folder}`: make them with `python -m benchmarks.peers datasets SYSTEM`"
        )
    found: dict[str, Any] = {**results.start(), "datasets": []}
    wrong = 0
    for case in cases:
        facts = json.loads(case.read_text(encoding="utf-8"))
        # What is odd is found without a policy; only the rows that break one need it.
        alone, told = audit(case.parent, None), audit(case.parent, facts["policy"])
        smells = [smell["code"] for smell in alone["smells"]]
        good = facts["fault"] in smells if facts["fault"] else not smells and not told["breaches"]
        good = good and smells == [smell["code"] for smell in told["smells"]]
        wrong += not good
        best = [p["policy"] for p in told["presets"] if p["share"] == 1.0]
        entry = {**facts, "rows": told["rows"], "recovered": told["recovered"], "smells": smells,
                 "breaches": len(told["breaches"]), "explained_by": best, "holds": good}  # fmt: skip
        found["datasets"].append(entry)
        said = ", ".join(smells) or "nothing"
        print(f"{'ok ' if good else 'NOT'} {facts['system']} {facts['name']}: planted {facts['fault'] or 'nothing'}, "
              f"named {said}, {entry['breaches']} rows break `{facts['policy']}`, {told['recovered']} of "
              f"{told['rows']} found again", flush=True)  # fmt: skip
    faults = {d["fault"] for d in found["datasets"] if d["fault"]}
    print(f"{len(faults)} kinds of fault, {wrong} of {len(cases)} datasets judged wrongly")
    results.save(into, "audit", found)
    return 1 if wrong else 0


def audit(place: Path, policy: str | None) -> dict[str, Any]:
    """The findings of the command line about a dataset, compared with a policy if one is given."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        compared = [] if policy is None else ["-p", policy]
        given = [str(place / "prepared"), "-t", str(place / "tokenizer"), *compared]
        code = run(["audit", *given, "--format", "json"])
    document = json.loads(out.getvalue())
    if code not in (0, 1):
        raise SystemExit(f"audit of `{place}` could not answer: {document}")
    told: dict[str, Any] = document.get("data", document)
    return told
