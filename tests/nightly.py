"""Long runs of generated cases, on all cores, resumable.

    python -m tests.nightly agreement --count 100000 --seed 1 --resume agreement.json
    python -m tests.nightly parser --count 50000
    python -m tests.nightly format --count 50000
    python -m tests.nightly parity --count 50000
    python -m tests.nightly injection --count 100000
    python -m tests.nightly hostile --count 20000
    python -m tests.nightly proof --count 10000
    python -m tests.nightly diff --count 5000
    python -m tests.nightly dead --count 1000
    python -m tests.nightly neighbours --count 20000
    python -m tests.nightly neighbour-proofs --count 2000
    python -m tests.nightly backends --count 100000
    python -m tests.nightly given --count 12500
    python -m tests.nightly pieces
    python -m tests.nightly tags
    python -m tests.nightly encoders
    python -m tests.nightly flags
    python -m tests.nightly skeletons
    python -m tests.nightly identity

`agreement` compares the engine with the interpreter of `tests/oracle.py`; `parser` gives texts to the parser; `format`
prints and parses policies again; `parity` renders conversations with all bundled templates, beside transformers;
`injection` quotes control text in every message and looks for trained tokens that are not the model's; `hostile` grows
templates from Jinja's grammar over a user's data and looks for that data in trained tokens; `proof` and `diff` hold
proofs and comparisons of policies against twenty conversations each; `dead` takes rules called dead out of policies and
looks for the others deciding, in all conversations of up to five turns; `neighbours` and `neighbour-proofs` are
`agreement`, `proof` and `diff` with conditions that ask for other messages; `backends` compares ids and labels of the
fast backend with the tokenizer's own, over every tokenizer that qualifies; `given` gives ten other lists of ids for
each rendered text, and in one case of ten ids that spell something else; `pieces` renders conversations in which every
piece has a word of its own with all templates, and looks for words neither written nor reported as lost; `flags` gives
all templates conversations that quote control tokens, with `sanitize_control_tokens` and `continue_final_message`, and
compares ids with transformers'; `encoders` compares ids with those of each encoder that is installed, and looks for
words of others among trained tokens and for words of answers that are not trained (`make encoders-nightly` has them
all).

`skeletons` gives all templates rows of one shape, with texts that templates act on, and compares what a skeleton
replays with the full rendering of each row.

`identity` gives a hundred rows a case to every way that a run may take (a batch at once, replayed, each fast backend,
a tokenizer out of the cache; two workers over a file, two actors of Ray over a file) and compares ids, places, labels,
weights, rules and reasons with the plain way: row by row, in full, by the tokenizer itself, over eleven vocabularies.
Every second case has a hostile template. `make identity` runs it where Ray is installed; elsewhere the run says that no
file goes through Ray.

`tags` tags the templates of 786 models, counts why some cannot be, and compares the others with the policy on
conversations that tagging did not see.

Cases are made by the generators behind the Hypothesis strategies, on `RandomChoices(f"{kind}:{seed}:{number}")`:
a number names its case for ever, and `--case NUMBER` runs it alone. What is done is kept in the `--resume` file after
every chunk, so that a run that was stopped goes on where it was. A failing agreement is reduced by Hypothesis before it
is printed. Exit code 1 if any case failed, 2 if a process was killed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

from tests.properties.cases import CHUNKS, KINDS, explain, left_out, run_case

CHUNK = 250
"""Cases of one chunk, but for kinds in `CHUNKS`."""
MEMORY = 8 << 30
"""Address space a process may take: a case that needs more fails, and not the machine."""

Failure = tuple[int, str]


def limit_memory() -> None:
    """Called in each process before its first chunk. What needs more may lift it for a while, as Ray does."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def run_chunk(kind: str, seed: int, start: int, stop: int) -> tuple[Counter[str], list[Failure]]:
    """Runs cases `[start, stop)` of a kind; returns what they came to, and the failures. No case ends the run."""
    counts: Counter[str] = Counter()
    failures: list[Failure] = []
    for number in range(start, stop):
        try:
            outcome, problem = run_case(kind, seed, number)
        except Exception as error:
            outcome, problem = "raised", f"{type(error).__name__}: {error}"
        counts[outcome] += 1
        if problem is not None:
            failures.append((number, problem))
    return counts, failures


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.nightly", description=__doc__.split("\n")[0])
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--count", type=int, help="cases to run (default: the kind's own)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--resume", type=Path, metavar="FILE", help="where to keep what is done")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--case", type=int, help="run only this case, and print it whole")
    options = parser.parse_args(arguments)
    if options.case is not None:
        outcome, problem = run_case(options.kind, options.seed, options.case)
        print(explain(options.kind, options.seed, options.case), f"{outcome}: {problem}", sep="\n")
        return 1 if problem else 0
    return _run(options.kind, options.count or KINDS[options.kind], options)


def _run(kind: str, count: int, options: argparse.Namespace) -> int:
    state = _load(options.resume, kind, options.seed)
    chunks: dict[str, dict[str, Any]] = state["chunks"]
    size = state["chunk"]
    spans = [(at, min(at + size, count)) for at in range(0, count, size)]
    todo = [(start, stop) for start, stop in spans if chunks.get(str(start), {"stop": 0})["stop"] < stop]
    print(f"{kind}: seed {options.seed}, {count} cases, {len(spans) - len(todo)} chunks done before", flush=True)
    if left_out(kind) is not None:
        print(f"{kind}: {left_out(kind)}", flush=True)
    began = time.monotonic()
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=context, initializer=limit_memory) as pool:
        running = {pool.submit(run_chunk, kind, options.seed, *span): span for span in todo}
        try:
            for finished, future in enumerate(as_completed(running), 1):
                start, stop = running[future]
                counts, failures = future.result()
                chunks[str(start)] = {"stop": stop, "counts": counts, "failures": failures}
                _save(options.resume, state)
                for number, problem in failures:
                    print(f"FAILED {kind}:{options.seed}:{number}: {problem}", flush=True)
                if finished % 10 == 0 or finished == len(todo):
                    pace = finished * size / (time.monotonic() - began)
                    print(f"{finished}/{len(todo)} chunks, {pace:.0f} cases/s, {dict(_total(chunks))}", flush=True)
        except BrokenProcessPool:
            print(f"{kind}: a process was killed; run the same command again to go on", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            return 130
    failed = [failure for chunk in chunks.values() for failure in chunk["failures"]]
    for number, _ in failed[:3]:
        print(explain(kind, options.seed, number), flush=True)
    total = _total(chunks)
    print(f"{kind}: seed {options.seed}, {sum(total.values())} cases, {len(failed)} failed, {dict(total)}")
    return 1 if failed else 0


def _total(chunks: dict[str, dict[str, Any]]) -> Counter[str]:
    return sum((Counter(chunk["counts"]) for chunk in chunks.values()), Counter())


def _load(path: Path | None, kind: str, seed: int) -> dict[str, Any]:
    fresh: dict[str, Any] = {"kind": kind, "seed": seed, "chunk": CHUNKS.get(kind, CHUNK), "chunks": {}}
    if path is None or not path.exists():
        return fresh
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for key in ("kind", "seed", "chunk"):
        if state.get(key) != fresh[key]:
            sys.exit(f"{path} keeps a run with {key} {state.get(key)!r}, not {fresh[key]!r}: name another file")
    if "chunks" not in state:
        sys.exit(f"{path} was kept by another version of this command: name another file")
    return state


def _save(path: Path | None, state: dict[str, Any]) -> None:
    if path is not None:
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(state), encoding="utf-8")
        partial.replace(path)


if __name__ == "__main__":
    sys.exit(main())
