"""Dicts in, Arrow columns out, on one thread, beside the tokenizer alone:

    python -m benchmarks.columns bars        # long, short, reasoning, tools: each backend beside its baseline
    python -m benchmarks.columns bars --pool # the same, the tokenizer in a pool of one thread, not the calling one
    python -m benchmarks.columns bars --only real  # the cases whose name has that
    python -m benchmarks.columns least       # the same by the least time of several runs
    python -m benchmarks.columns skeletons   # rows replayed, and rendered in full, beside the baseline
    python -m benchmarks.columns turns       # by number of turns, 4 to 1,024
    python -m benchmarks.columns policies    # by number of rules, 1 to 200

Every ratio is CPU time over that of a baseline beside it, in interleaved pairs, with the baseline over itself as the
control: median [quartiles]. A bar holds if the median is below it plus half the control's distance between quartiles.
Each prints a table and keeps what it found as JSON in `--results`.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ["RAYON_NUM_THREADS"] = "1"
# Read by tokenizers at its first call. In a pool it is faster on the same core: the memory that it gets there is whole.
os.environ["TOKENIZERS_PARALLELISM"] = "true" if "--pool" in sys.argv else "false"

from benchmarks import results
from benchmarks.corpus import CHATML, POLICY, conversations, qwen3_template, real_conversations
from benchmarks.pairs import Ratio, compare, cpu_seconds

TURNS = (4, 16, 64, 256, 1024)
RULES = (1, 3, 10, 50, 200)


class Bench:
    """One template and one set of rows, in the Qwen vocabulary, with what is compared on them."""

    def __init__(self, template: str, rows: list[dict[str, Any]], *, fast: bool = True) -> None:
        from policy_engine.chat.tokenizer import ChatTokenizer
        from policy_engine.data.conversation import Conversation
        from tests.support.tokenizers import load

        self.tokenizer = ChatTokenizer.from_transformers(load("qwen"), template=template)
        self.source = template
        self.rows = rows
        self.texts = [self.tokenizer.template.render_plain(Conversation(messages=tuple(r["messages"]))) for r in rows]
        self.backends = {"reference": self.tokenizer}
        if not fast:
            return
        # After a full check, as in a run over much data: after a quick one more texts are left to the tokenizer.
        for name in ("kitoken", "gigatoken"):
            found = self.tokenizer.qualify_fast(self.texts, (name,), full=True)
            if isinstance(found, str) and name == "kitoken":
                raise SystemExit(found)
            if not isinstance(found, str):
                self.backends[name] = self.tokenizer.with_fast(found)

    def encode(self, texts: list[str] | None = None) -> object:
        """`encode_batch` of texts rendered before, ids pulled out."""
        backend = self.tokenizer.tokenizer.backend_tokenizer
        return [e.ids for e in backend.encode_batch(texts or self.texts, add_special_tokens=False)]

    def encode_fast(self) -> object:
        """The same without offsets."""
        backend = self.tokenizer.tokenizer.backend_tokenizer
        return [e.ids for e in backend.encode_batch_fast(self.texts, add_special_tokens=False)]

    def plain_and_encode(self) -> object:
        """transformers' render and the tokenizer, nothing masked."""
        from transformers.utils.chat_template_utils import render_jinja_template

        return self.encode([render_jinja_template([r["messages"]], chat_template=self.source)[0][0] for r in self.rows])

    def masking(self, backend: str, policy: str = POLICY) -> Any:
        """A function from the rows to an Arrow table."""
        from policy_engine.data.formats import named_format
        from policy_engine.mask.masker import Masker
        from policy_engine.rules.compile import compile_text
        from policy_engine.run.batches import BatchMasker
        from policy_engine.run.columns import schema_of, table_of

        masker = Masker(compile_text(policy), self.backends[backend])
        batches, schema = BatchMasker(masker, named_format("messages")), schema_of(masker)
        # Past the first rows, in which rules that decide nothing are looked for more closely.
        numbered = list(enumerate(self.rows, start=10_001))
        return lambda: table_of(batches.mask(numbered).rows, schema)


Case = tuple[Callable[[], Bench], str, dict[str, float]]
"""A maker of the bench, the name of its baseline, and bars by backend."""


def cases_of(rows: int) -> dict[str, Case]:
    """The kinds of conversations."""
    limits = {"reference": 0.95, "kitoken": 0.30, "gigatoken": 0.10}
    qwen3 = qwen3_template()
    return {
        "ChatML, 1,600 tokens": (lambda: Bench(CHATML, conversations(rows, turns=5, words=85)), "encode", limits),
        "ChatML, 300 tokens": (
            lambda: Bench(CHATML, conversations(rows * 4, turns=1, words=75)),
            "render + encode",
            {"reference": 1.05, "kitoken": 0.55},
        ),
        **{
            f"Qwen3, {kind}": (
                lambda kind=kind: Bench(qwen3, conversations(rows, turns=5, words=75, kind=kind)),
                "encode",
                limits,
            )
            for kind in ("reasoning", "tools")
        },
        "ChatML, real text": (lambda: Bench(CHATML, real_conversations(rows)), "encode", limits),
        "Qwen3, thinking in content": (
            lambda: Bench(qwen3, real_conversations(rows, thinking=True)),
            "encode",
            limits,
        ),
        "ChatML, 8,000 tokens": (
            lambda: Bench(CHATML, conversations(max(1, rows // 5), turns=25, words=85)),
            "encode",
            {},
        ),
    }


def bars(rows: int, pairs: int, only: str = "") -> dict[str, Any]:
    """Each backend beside its baseline, by kind of conversation; `only` names some."""
    return {"pairs": pairs, "rows": rows, "cases": _each(_bar, rows, pairs, only)}


def _bar(name: str, rows: int, pairs: int) -> dict[str, Any]:
    make, baseline, limits = cases_of(rows)[name]
    bench = make()
    works: dict[str, Any] = {backend: bench.masking(backend) for backend in bench.backends}
    works["encode, no offsets"] = bench.encode_fast
    if baseline == "encode":
        works["render + encode"] = bench.plain_and_encode
    ratios = compare(bench.encode if baseline == "encode" else bench.plain_and_encode, works, pairs=pairs)
    print(f"{name}, over {baseline}: " + ", ".join(f"{work} {ratio}" for work, ratio in ratios.items()), flush=True)
    return {"baseline": baseline, "bars": limits, "ratios": {work: vars(ratio) for work, ratio in ratios.items()}}


def least(rows: int, pairs: int, only: str = "") -> dict[str, Any]:
    """The least time of several runs of each backend over the baseline's least.

    On a machine with other work it says more than pairs do of the machine alone: other programs push what a run needs
    out of the caches between the two halves of a pair.
    """
    return {"runs": pairs, "rows": rows, "cases": _each(_least, rows, pairs, only)}


def _least(name: str, rows: int, pairs: int) -> dict[str, Any]:
    make, baseline, limits = cases_of(rows)[name]
    bench = make()
    works: dict[str, Any] = {"base": bench.encode if baseline == "encode" else bench.plain_and_encode}
    works |= {backend: bench.masking(backend) for backend in bench.backends}
    times = {}
    for work, do in works.items():
        for _ in range(4):
            do()
        times[work] = min(cpu_seconds(do) for _ in range(pairs))
    ratios = {backend: times[backend] / times["base"] for backend in bench.backends}
    micros = {work: 1e6 * time / len(bench.rows) for work, time in times.items()}
    print(f"{name}, over {baseline}: {ratios}", flush=True)
    return {"baseline": baseline, "bars": limits, "least": ratios, "microseconds": micros}


def _each(step: Callable[[str, int, int], dict[str, Any]], rows: int, pairs: int, only: str) -> dict[str, Any]:
    """A step for each kind of conversations, in a process of its own.

    After other kinds the memory that a tokenizer gets is in pieces, and its calls take longer.
    """
    found = {}
    for name in [name for name in cases_of(rows) if only in name]:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            found[name] = alone.submit(step, name, rows, pairs).result()
    return found


def show_least(found: dict[str, Any]) -> str:
    """The table."""
    rows = []
    for name, case in found["cases"].items():
        cells = [f"{ratio:.3f} ({case['microseconds'][backend]:.0f} µs)" for backend, ratio in case["least"].items()]
        rows.append([name, f"{case['baseline']} ({case['microseconds']['base']:.0f} µs)", *cells])
    return results.table(("conversations", "baseline", "`reference`", "`kitoken`", "`gigatoken`"), rows)


def show_bars(found: dict[str, Any]) -> str:
    """The table."""
    # Results that are older than a backend have no column of it.
    kept = {name for case in found["cases"].values() for name in case["ratios"]}
    backends = [name for name in ("reference", "kitoken", "gigatoken") if name in kept]
    rows = []
    for name, case in found["cases"].items():
        ratios = {work: Ratio(**ratio) for work, ratio in case["ratios"].items()}
        cells = [name, case["baseline"], ratios["control"]]
        for backend in backends:
            if backend not in ratios:
                cells.append("")
                continue
            limit = case["bars"].get(backend)
            verdict = "" if limit is None else f", bar {limit}" if _holds(ratios, backend, limit) else f", OVER {limit}"
            cells.append(f"{ratios[backend]}{verdict}")
        rows.append([*cells, ratios["encode, no offsets"], ratios.get("render + encode", "the baseline")])
    shown = (f"`{name}`" for name in backends)
    head = ("conversations", "baseline", "control", *shown, "encode without offsets", "render + encode")
    return results.table(head, rows)


def _holds(ratios: dict[str, Ratio], work: str, limit: float) -> bool:
    control = ratios["control"]
    return ratios[work].median <= limit + (control.high - control.low) / 2


def turns(pairs: int) -> dict[str, Any]:
    """Milliseconds a row by number of turns of constant length, by backend, and the exponent."""
    found: dict[str, Any] = {"ms": {}, "exponents": {}}
    seconds: dict[str, dict[int, float]] = {}
    for count in TURNS:
        bench = Bench(CHATML, conversations(max(1, 512 // count), turns=count // 2, words=20))
        works = {"encode": bench.encode, **{backend: bench.masking(backend) for backend in bench.backends}}
        for name, work in works.items():
            # The first 16 rows are rendered in other words too, and the second of a shape is recorded.
            for _ in range(20 // len(bench.rows) + 2):
                work()
            best = statistics.median(cpu_seconds(work) for _ in range(pairs))
            seconds.setdefault(name, {})[count] = best / len(bench.rows)
    for name, by_turns in seconds.items():
        found["ms"][name] = {str(count): 1000 * value for count, value in by_turns.items()}
        found["exponents"][name] = math.log(by_turns[TURNS[-1]] / by_turns[TURNS[0]]) / math.log(TURNS[-1] / TURNS[0])
    return found


def show_turns(found: dict[str, Any]) -> str:
    """The table."""
    head = ("turns", *found["ms"])
    rows = [[count, *(f"{by[str(count)]:.2f}" for by in found["ms"].values())] for count in TURNS]
    rows.append(["exponent", *(f"{value:.3f}" for value in found["exponents"].values())])
    # A tokenizer may take more than twice the time for twice the text: what is ours is what comes on top.
    encode = found["exponents"]["encode"]
    rows.append(["exponent over encode's", *(f"{value - encode:+.3f}" for value in found["exponents"].values())])
    return f"Milliseconds a row.\n\n{results.table(head, rows)}"


def policy_of(rules: int, kind: str) -> str:
    """A policy of that many rules: `parts` name parts of roles, `conditions` compare fields."""
    plain = ["train assistant", "train eos after assistant", "mask system, user"]
    # Two of three ask already, so that what is measured is their number.
    lines = plain[: min(rules, 3 if kind == "parts" else 1)]
    for n in range(rules - len(lines)):
        if kind == "parts":
            lines.append(f"mask {('user', 'system', 'tool', 'assistant.reasoning', 'header')[n % 5]}")
        elif n % 2:
            lines.append(f'mask assistant where message.tag == "t{n}" and turn.index > {n % 7}')
        else:
            lines.append(f'mask assistant where message.content contains "unseen {n}"')
    return "\n".join(lines)


def skeletons(rows: int, pairs: int) -> dict[str, Any]:
    """Rows replayed, and rendered in full, by the tokenizer itself, beside encoding alone."""
    cases = {
        "ChatML, 1,600 tokens": (CHATML, conversations(rows, turns=5, words=85)),
        "Qwen3, tools": (qwen3_template(), conversations(rows, turns=5, words=75, kind="tools")),
        "Qwen3, thinking in content": (qwen3_template(), real_conversations(rows, thinking=True)),
    }
    found: dict[str, Any] = {"rows": rows, "pairs": pairs, "ratios": {}}
    for name, (template, made) in cases.items():
        bench = Bench(template, made, fast=False)
        bench.backends["in full"] = bench.tokenizer.with_skeletons(False)
        works = {work: bench.masking(backend) for work, backend in (("replayed", "reference"), ("in full", "in full"))}
        for work in (*works.values(), *works.values()):
            work()  # the first 16 rows are rendered in other words too, and a shape is recorded at its second row
        found["ratios"][name] = {work: vars(ratio) for work, ratio in compare(bench.encode, works, pairs=pairs).items()}
    return found


def show_skeletons(found: dict[str, Any]) -> str:
    """The table."""
    rows = [[name, *(Ratio(**ratio) for ratio in ratios.values())] for name, ratios in found["ratios"].items()]
    return results.table(("conversations", "control", "replayed", "in full"), rows)


def policies(rows: int, pairs: int) -> dict[str, Any]:
    """Policies of more rules over one of three of the same kind, whole pipeline."""
    bench = Bench(CHATML, conversations(rows, turns=5, words=85))
    found: dict[str, Any] = {"rows": rows, "pairs": pairs, "ratios": {}}
    for backend in bench.backends:
        for kind in ("parts", "conditions"):
            base = bench.masking(backend, policy_of(3, kind))
            works = {str(n): bench.masking(backend, policy_of(n, kind)) for n in RULES}
            ratios = compare(base, works, pairs=pairs)
            found["ratios"][f"{backend}, {kind}"] = {name: vars(ratio) for name, ratio in ratios.items()}
            print(f"{backend}, {kind}: " + ", ".join(f"{n} {ratio}" for n, ratio in ratios.items()), flush=True)
    return found


def show_policies(found: dict[str, Any]) -> str:
    """The table."""
    rows = [[name, *(Ratio(**ratio) for ratio in ratios.values())] for name, ratios in found["ratios"].items()]
    return results.table(("backend, rules", "control", *(f"{n} rules" for n in RULES)), rows)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.columns", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("step", choices=["bars", "least", "skeletons", "turns", "policies"])
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--only", default="", help="bars: the cases whose name has this text")
    parser.add_argument("--pool", action="store_true", help="the tokenizer in a pool of one thread")
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args()
    opening = results.start()
    if options.step == "bars":
        found = bars(options.rows, options.pairs, options.only)
        text = show_bars(found)
    elif options.step == "least":
        found = least(options.rows, options.pairs, options.only)
        text = show_least(found)
    elif options.step == "skeletons":
        found = skeletons(options.rows, options.pairs)
        text = show_skeletons(found)
    elif options.step == "turns":
        found = turns(max(5, options.pairs // 2))
        text = show_turns(found)
    else:
        found = policies(options.rows, options.pairs)
        text = show_policies(found)
    found = {**opening, **found}
    chosen = [options.step, *(["pool"] if options.pool else []), *options.only.split()]
    results.save(options.results, "-".join(["columns", *chosen]), found)
    print(f"\n{text}\n\n{results.description(found)}")


if __name__ == "__main__":
    sys.exit(main())
