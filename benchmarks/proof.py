"""Times of proofs by number of rules.

    python -m benchmarks.proof [--rules N,N,…] [--seeds N]

Three kinds of policies: without conditions; with conditions drawn from 12 that all rules share; with one condition of
its own for each rule. Every policy has three guards. Times are medians of CPU time over the seeds, on a warm process;
`prove` includes witnesses. A cell says *undecided* where the limits of the proof end more than half of the runs. Last
comes what loading a policy of 30 rules takes before it is proven, and what sending it to another process does.
"""

from __future__ import annotations

import argparse
import pickle
import random
import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from policy_engine.lang.check import check
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.lang.parse import parse
from policy_engine.proof.policy_diff import compare
from policy_engine.proof.policy_proof import prove
from policy_engine.rules.compile import compile_policy

RULES = (1, 5, 10, 20, 30, 50, 100, 200)
TARGETS = (
    "assistant", "assistant.text", "assistant.reasoning", "assistant.tool_call", "last assistant", "last 2 assistant",
    "first assistant", "eos after assistant", "user", "user.text", "tool", "system", "assistant after last user",
    "assistant right after tool", "assistant before first tool", "last user", "header", "assistant.eot", "critic.text",
    "empty_reasoning of assistant",
)  # fmt: skip
GUARDS = ("never train system", "always train eot of last assistant", "never train user.header")
KINDS = ("without conditions", "12 shared conditions", "one condition a rule")
SHARED = (
    *(f'message.tag{i} == "yes"' for i in range(6)), "message.train", "message.score > 0.5",
    "message.score < 0", "turn.index < 2", "sample.gold", "segment.empty",
)  # fmt: skip


def text_of(kind: str, rules: int, seed: int) -> str:
    rng = random.Random(f"{kind}/{rules}/{seed}")
    lines = []
    for number in range(rules):
        line = f"{rng.choice(('train', 'train', 'mask'))} {rng.choice(TARGETS)}"
        if kind == "12 shared conditions" and rng.random() < 0.6:
            line += f" where {rng.choice(SHARED)}"
            if rng.random() < 0.3:
                line += f" and not {rng.choice(SHARED)}"
        if kind == "one condition a rule":
            line += f" where message.tag{number}"
        lines.append(line)
    return "\n".join([*lines, *GUARDS])


def policy(kind: str, rules: int, seed: int) -> CheckedPolicy:
    return check(parse(text_of(kind, rules, seed), name="benchmark"))


def loading(seeds: int) -> None:
    """Medians over the policies of 30 rules of every kind: to a program, and through a pickle."""
    names = ("parse", "check", "compile", "pickle", "unpickle")
    times: dict[str, list[float]] = {name: [] for name in names}
    for text in (text_of(kind, 30, seed) for kind in KINDS for seed in range(seeds)):
        made: Any = text
        for name, step in zip(names, (parse, check, compile_policy, pickle.dumps, pickle.loads)):
            start = time.process_time()
            made = step(made)
            times[name].append(1000 * (time.process_time() - start))
    medians = {name: statistics.median(found) for name, found in times.items()}
    print(f"\n30 rules, ms: {', '.join(f'{name} {ms:.1f}' for name, ms in medians.items())}")
    print(f"parse + check + compile {sum(medians[name] for name in names[:3]):.1f}")


def timed(run: Callable[[], object]) -> tuple[float, bool]:
    start = time.process_time()
    result = run()
    return 1000 * (time.process_time() - start), getattr(result, "undecided", None) is not None


def cell(runs: list[tuple[float, bool]]) -> str:
    median = statistics.median(ms for ms, _ in runs)
    return f"{median:8.1f}" + (" undecided" if 2 * sum(u for _, u in runs) > len(runs) else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", default=",".join(map(str, RULES)))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    prove(policy("without conditions", 3, 0))
    for kind in KINDS:
        print(f"\n{kind}\n{'rules':>6} {'prove ms':>9} {'diff ms':>9}")
        for rules in map(int, options.rules.split(",")):
            policies = [policy(kind, rules, seed) for seed in range(options.seeds + 1)]
            proofs = [timed(lambda p=p: prove(p)) for p in policies[1:]]
            diffs = [timed(lambda a=a, b=b: compare(a, b)) for a, b in pairwise(policies)]
            print(f"{rules:>6} {cell(proofs)} {cell(diffs)}", flush=True)
    loading(4 * options.seeds)


if __name__ == "__main__":
    main()
