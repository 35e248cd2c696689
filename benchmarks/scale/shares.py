"""CPU time of each step of a run with workers: `python -m benchmarks.scale.shares`.

The main process of a run into one file cuts lines, sends them, takes Arrow streams back and writes Parquet; workers
read and mask the rows. The least of several rounds, so that other work on the machine counts little.
"""

from __future__ import annotations

import json
import os
import pickle
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "true"

from benchmarks.corpus import CHATML, POLICY, conversations
from benchmarks.results import table

_ROWS = 1_024
_ROUNDS = 6


def measure() -> dict[str, dict[str, float]]:
    """Microseconds a row by backend and step, rows of 1,780 tokens."""
    from policy_engine.chat.tokenizer import ChatTokenizer
    from policy_engine.data.formats import named_format
    from policy_engine.mask.masker import Masker
    from policy_engine.rules.compile import compile_text
    from policy_engine.run.batches import BatchMasker, TableMasker
    from policy_engine.run.columns import schema_of
    from tests.support.tokenizers import load

    own = ChatTokenizer.from_transformers(load("qwen"), CHATML)
    backends = {"reference": own}
    for name in ("kitoken", "gigatoken"):
        fast = own.qualify_fast([], (name,), full=True)
        if not isinstance(fast, str):
            backends[name] = own.with_fast(fast)
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "rows.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in conversations(_ROWS, turns=5, words=87)))
        for name, tokenizer in backends.items():
            masker = Masker(compile_text(POLICY), tokenizer)
            work = TableMasker(BatchMasker(masker, named_format("messages")), schema_of(masker))
            rounds = [_round(data, work, Path(folder) / "out.parquet") for _ in range(_ROUNDS)]
            found[name] = {step: min(each[step] for each in rounds) for step in rounds[0]}
    return found


def _round(data: Path, work: Any, output: Path) -> dict[str, float]:
    from policy_engine.data.files.readers import batched, read_rows
    from policy_engine.run.writers import ParquetOutput

    took: dict[str, float] = {}

    def timed(step: str, do: Callable[..., Any], *given: Any) -> Any:
        start = time.process_time()
        made = do(*given)
        took[step] = took.get(step, 0.0) + 1e6 * (time.process_time() - start) / _ROWS
        return made

    out = ParquetOutput(output, work._schema)
    batches = batched(iter(read_rows(data, unread=True)), 256)
    while (batch := timed("cut lines", next, batches, None)) is not None:
        sent = timed("send", pickle.dumps, batch, pickle.HIGHEST_PROTOCOL)
        made = timed("mask", work, timed("receive", pickle.loads, sent))
        answer = timed("answer", pickle.dumps, made, pickle.HIGHEST_PROTOCOL)
        timed("write", out.write, timed("take", pickle.loads, answer).table)
    timed("write", out.finish)
    return took


def show(found: dict[str, dict[str, float]]) -> str:
    """The table; the gain is what two free cores allow."""
    rows = []
    for name, took in found.items():
        one = took["cut lines"] + took["mask"] + took["write"]
        main = took["cut lines"] + took["send"] + took["take"] + took["write"]
        workers = took["receive"] + took["mask"] + took["answer"]
        gain = one / max(main, (main + workers) / 2)
        rows.append((name, f"{one:.0f}", f"{main:.0f}", f"{workers:.0f}", f"{gain:.2f}"))
    return table(("backend", "one process", "main process", "two workers together", "gain at most"), rows)


if __name__ == "__main__":
    print(show(measure()))
