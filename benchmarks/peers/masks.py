"""The step `masks`: every trial of a system, its differences named by what explains them."""

from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.peers.known import explain, is_known
from benchmarks.peers.systems import SYSTEMS
from benchmarks.peers.trial import Compared, Trial, compare


def run_masks(system: str, count: int, folder: Path) -> int:
    """Runs the trials, prints a line for each, and keeps them. 1 if something is not explained."""
    module = importlib.import_module(SYSTEMS[system])
    found = results.start()
    found["releases"] = {name: importlib.metadata.version(name) for name in module.RELEASES}
    found["count"] = count
    found["trials"] = []
    unexplained = 0
    for trial in module.trials(count):
        compared = compare(trial, explain)
        found["trials"].append(entry(trial, compared))
        unknown = [kind for kind in [*compared.kinds, *compared.other_ids, *compared.we_refuse] if not is_known(kind)]
        unexplained += len(unknown)
        print(said(trial, compared), flush=True)
        for kind in unknown:
            print(f"    NOT EXPLAINED: {kind}, first in row {compared.seeds[kind]}", flush=True)
    results.save(folder, f"masks-{system}", found)
    return 1 if unexplained else 0


def entry(trial: Trial, compared: Compared) -> dict[str, Any]:
    """A trial as it is kept."""
    named = trial.policy.isidentifier()
    return {
        "system": trial.system,
        "setting": trial.setting,
        "template": trial.case,
        "policy": trial.policy if named else None,
        "policy_text": None if named else trial.policy,
        # Not `asdict`: it makes a new Counter of the pairs, which counts them.
        **{name: dict(value) if isinstance(value, dict) else value for name, value in vars(compared).items()},
    }


def said(trial: Trial, compared: Compared) -> str:
    """A trial in a line."""
    counts = {
        "equal": compared.equal,
        "differ": compared.differ,
        "other ids": compared.other_ids.total(),
        "they refuse": compared.they_refuse.total(),
        "we refuse": compared.we_refuse.total(),
    }
    facts = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    why = {**compared.kinds, **compared.other_ids, **compared.we_refuse, **compared.they_refuse}
    return f"{trial.system} {trial.setting}, {trial.case}: {facts}" + (
        f" ({', '.join(f'{kind}: {n}' for kind, n in why.items())})" if why else ""
    )
