"""Dicts in, Arrow columns out, against `encode_batch`, by backend: `python -m benchmarks.columns [--rows N]`.

One thread; CPU time as a share of the baseline beside it, over interleaved pairs: median [quartiles].
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from benchmarks.pairs import compare
from benchmarks.pipeline import CHATML, POLICY, Bench, _qwen3, _rows


def run(rows: int, pairs: int) -> dict[str, Any]:
    """The table, as JSON-able data; printed on the way."""
    from policy_engine.chat.formats import named_format
    from policy_engine.data.batches import BatchMasker
    from policy_engine.data.columns import schema_of, table_of
    from policy_engine.mask.masker import Masker
    from policy_engine.rules.load import policy_from_text

    cases = {
        "ChatML, long": (CHATML, _rows(rows, turns=5, words=85)),
        "ChatML, short": (CHATML, _rows(rows * 3, turns=1, words=75)),
        "Qwen3, reasoning": (_qwen3(), _rows(rows, turns=5, words=75, kind="reasoning")),
        "Qwen3, tools": (_qwen3(), _rows(rows, turns=5, words=75, kind="tools")),
    }
    found: dict[str, Any] = {}
    for name, (template, data) in cases.items():
        bench = Bench(template, data)
        fast = bench.tokenizer.qualify_fast(bench.texts)
        works: dict[str, Any] = {"plain render + encode": bench.plain_and_encode}
        for label, backend in (("reference", None), ("kitoken", fast)):
            if isinstance(backend, str):
                print(f"{label}: {backend}")
                continue
            masker = Masker(policy_from_text(POLICY), bench.tokenizer.with_fast(backend))
            batches = BatchMasker(masker, named_format("messages"))
            numbered = list(enumerate(data, start=1))
            works[label] = lambda b=batches, m=masker, n=numbered: table_of(b.mask(n).rows, schema_of(m))
        ratios = compare(bench.encode, works, pairs=pairs)
        print(f"{name}: " + ", ".join(f"{work} {ratio}" for work, ratio in ratios.items()))
        found[name] = {work: vars(ratio) for work, ratio in ratios.items()}
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--json")
    options = parser.parse_args()
    found = run(options.rows, options.pairs)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    main()
