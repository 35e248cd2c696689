"""Masks of other systems, installed from PyPI, beside the shipped policies, token by token:

    python -m benchmarks.peers masks SYSTEM     # generated conversations, every setting, every template
    python -m benchmarks.peers speed SYSTEM     # CPU time beside ours, on the same rows
    python -m benchmarks.peers models SYSTEM    # the conversations that docs/models shows: axolotl, trl, unsloth
    python -m benchmarks.peers datasets SYSTEM  # prepared datasets, clean and with planted faults, for `audit`
    python -m benchmarks.peers audit            # what `policy-engine audit` says of them
    python -m benchmarks.peers page             # the tables of docs/explanation/{peers,performance}.md

SYSTEM is one of axolotl, trl, transformers, unsloth, tinker, renderers; each runs in the environment of its own that
`make peers` makes (transformers in TRL's). What is found is kept as JSON in `--results`.

`masks` ends with 1 if a difference is not explained in `benchmarks/peers/known.py`, `audit` if a planted fault is not
named or clean data has one.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Before anything that tokenizes is imported: timing is of one thread.
os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from benchmarks import results
from benchmarks.peers.systems import SYSTEMS

RESULTS = results.RESULTS / "peers"


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=["masks", "speed", "datasets", "models", "audit", "page"])
    parser.add_argument("system", nargs="?", choices=sorted(SYSTEMS))
    parser.add_argument("--count", type=int, default=500, help="conversations for each setting and template")
    parser.add_argument("--rows", type=int, default=40, help="conversations that are timed")
    parser.add_argument("--pairs", type=int, default=20, help="interleaved pairs")
    parser.add_argument("--data", type=Path, default=Path(".peers"), help="folder of the prepared datasets")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    if (asked.system is None) == (asked.step in ("masks", "speed", "datasets", "models")):
        parser.error("masks, speed, datasets and models take a SYSTEM, the others do not")
    # Imported here: each step needs what only its own environment has.
    if asked.step == "masks":
        from benchmarks.peers.masks import run_masks

        return run_masks(asked.system, asked.count, asked.results)
    if asked.step == "speed":
        from benchmarks.peers.speed import run_speed

        return run_speed(asked.system, asked.rows, asked.pairs, asked.results)
    if asked.step == "datasets":
        from benchmarks.peers.datasets import write_datasets

        return write_datasets(asked.system, asked.data)
    if asked.step == "models":
        from benchmarks.peers.families import run_models

        return run_models(asked.system, asked.results)
    if asked.step == "audit":
        from benchmarks.peers.auditing import run_audit

        return run_audit(asked.data, asked.results)
    from benchmarks.peers.page import write_pages

    return write_pages(asked.results)


if __name__ == "__main__":
    sys.exit(main())
