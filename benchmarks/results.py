"""Results of a benchmark: kept as JSON with the machine it ran on, shown in Markdown."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """The machine of a run, and the releases it used."""
    model = platform.machine()
    cpus = Path("/proc/cpuinfo")
    if cpus.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpus.read_text().splitlines() if line.startswith("model name")
        ]
        model = f"{names[0]} ({model})" if names else model
    releases = {}
    for package in ("tokenizers", "transformers", "kitoken", "numpy", "pyarrow", "ray"):
        try:
            releases[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
        "releases": releases,
    }


def description(found: dict[str, Any]) -> str:
    """The machine of a result, in a sentence."""
    m = found["machine"]
    releases = ", ".join(f"{name} {release}" for name, release in m["releases"].items())
    return f"{m['cpu']}, {m['cores']} cores, Python {m['python']}, {releases}; load average before the run {m['load']}"


def save(folder: Path, name: str, found: dict[str, Any]) -> None:
    """Writes `NAME.json` into a folder, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}.{os.getpid()}"
    partial.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / f"{name}.json")


def load(folder: Path, name: str) -> dict[str, Any] | None:
    """The file that `save` wrote; None if there is no such file."""
    path = folder / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def start() -> dict[str, Any]:
    """The beginning of a result: the command, to repeat it with, and the machine."""
    module = sys.modules["__main__"].__spec__
    name = "" if module is None else module.name.removesuffix(".__main__")
    options = shlex.join(sys.argv[1:])
    # Where it is kept does not matter to whoever repeats it.
    options = re.sub(r"\s*--(results|name)[ =]\S+", "", options)
    return {"command": f"python -m {name} {options}".strip(), "machine": machine()}


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines)
