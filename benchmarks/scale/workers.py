"""Two processes against one, beside what the tokenizer itself gains from a second core."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.corpus import CHATML, conversations, write_lines
from benchmarks.results import table
from benchmarks.scale.runs import Run, go, tokenizer_threads

BAR = 0.95
_TEXTS = 1_500
_LONGER = {"reference": 1, "kitoken": 2, "gigatoken": 8}
"""Times that a backend gets the input, so that the rows of a fast one take as long as those of a slow one."""
_SETTINGS = {"1 process": (1, 1), "2 processes": (2, 1), "1 process, 2 tokenizer threads": (1, 2)}


def measure(
    folder: Path,
    *,
    megabytes: float,
    repeats: int,
    backends: list[str],
    kept: dict[str, Any] | None,
    keep: Callable[[dict[str, Any]], None],
) -> dict[str, Any]:
    """Rows per second of each setting, from two runs, so that the time of the start cancels out.

    What was measured before (`kept`) counts among the repeats if backends and input are the same; `keep` gets every
    state.
    """
    inputs = {}
    for backend in backends:
        small, large = folder / f"small-{backend}.jsonl", folder / f"large-{backend}.jsonl"
        longer = megabytes * _LONGER[backend]
        inputs[backend] = (small, large, write_lines(large, longer) - write_lines(small, longer / 6))
    state: dict[str, Any] = {
        "megabytes": megabytes,
        "tokenizer gain": [],
        "rows per second": {backend: {name: [] for name in _SETTINGS} for backend in backends},
    }
    if kept is not None and kept["megabytes"] == megabytes and kept["rows per second"].keys() == set(backends):
        state = kept
    for n in range(len(state["rows per second"][backends[0]]["1 process"]), repeats):
        # Either order, since a machine is not equally fast all the time.
        for _ in range(2):
            state["tokenizer gain"].append(_tokenizer_seconds(1) / _tokenizer_seconds(2))
            second = _tokenizer_seconds(2)
            state["tokenizer gain"].append(_tokenizer_seconds(1) / second)
        for backend, (small, large, rows) in inputs.items():
            for name, (workers, threads) in _SETTINGS.items():
                took = []
                for data in (small, large):
                    out = f"{folder}/{data.stem}-{backend}-{workers}-{threads}-{n}/"
                    run = Run(data=str(data), out=out, workers=workers, threads=threads, backend=backend)
                    took.append(go(run).seconds)
                pace = rows / (took[1] - took[0])
                state["rows per second"][backend][name].append(pace)
                print(f"{backend}, {name}: {pace:,.0f} rows a second", flush=True)
        state["shares"] = {b: _share(state["rows per second"][b], state["tokenizer gain"]) for b in backends}
        keep(state)
    return state


def _share(pace: dict[str, list[float]], gains: list[float]) -> float:
    """The gain of two processes, as a share of what the tokenizer gains."""
    gain = statistics.median(pace["2 processes"]) / statistics.median(pace["1 process"])
    return gain / statistics.median(gains)


def show(found: dict[str, Any]) -> str:
    """The table."""
    own = statistics.median(found["tokenizer gain"])
    rows = []
    for backend, pace in found["rows per second"].items():
        base = statistics.median(pace["1 process"])
        for name, values in pace.items():
            median = statistics.median(values)
            gain = median / base
            rows.append((backend, name, f"{median:,.0f}", f"{gain:.2f}", f"{gain / own:.2f}"))
    head = ("backend", "run", "rows a second", "gain", "share of the tokenizer's own gain")
    return f"The tokenizer alone gains {own:.2f} from a second thread.\n\n{table(head, rows)}"


def met(found: dict[str, Any]) -> bool:
    """True if two processes with the tokenizer itself gain enough."""
    return found["shares"].get("reference", BAR) >= BAR


def _tokenizer_seconds(threads: int) -> float:
    """Wall time of one `encode_batch` of rendered texts, in a process of its own."""
    command = [sys.executable, "-c", "from benchmarks.scale.workers import _tokenize; _tokenize()"]
    environment = {**os.environ, **tokenizer_threads(threads)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def _tokenize() -> None:
    from policy_engine.chat.tokenizer import ChatTokenizer
    from policy_engine.data.conversation import Conversation
    from tests.support.tokenizers import load

    tokenizer = ChatTokenizer.from_transformers(load("qwen"), CHATML)
    rows = conversations(_TEXTS, turns=5, words=85)
    texts = [tokenizer.template.render_plain(Conversation(messages=tuple(row["messages"]))) for row in rows]
    backend = tokenizer.tokenizer.backend_tokenizer
    took = []
    for _ in range(4):
        start = time.perf_counter()
        _ = [e.ids for at in range(0, _TEXTS, 256) for e in backend.encode_batch(texts[at : at + 256])]
        took.append(time.perf_counter() - start)
    print(statistics.median(took[1:]))
