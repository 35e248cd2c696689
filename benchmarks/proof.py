"""How long proofs take, over the number of rules: `python -m benchmarks.proof [--rules N,N,…] [--seeds N]`.

Three kinds of policies: without conditions; with conditions drawn from 12 that all rules share; with one condition of
its own for each rule. Every policy has three guards. Times are medians over the seeds, on a warm process; `prove`
includes witnesses. A cell says *undecided* where the limits of the proof end more than half of the runs.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

from policy_engine.lang.check import check
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.lang.parse import parse
from policy_engine.proof import compare, prove

RULES = (1, 5, 10, 20, 30, 50, 100, 200)
TARGETS = (
    "assistant", "assistant.text", "assistant.reasoning", "assistant.tool_call", "last assistant", "last 2 assistant",
    "first assistant", "eos after assistant", "user", "user.text", "tool", "system", "assistant after last user",
    "assistant right after tool", "assistant before first tool", "last user", "header", "assistant.eot", "critic.text",
    "empty_reasoning of assistant",
)  # fmt: skip
GUARDS = ("never train system", "always train eot of last assistant", "never train user.header")
SHARED = (
    *(f'message.tag{i} == "yes"' for i in range(6)), "message.train", "message.score > 0.5",
    "message.score < 0", "turn.index < 2", "sample.gold", "segment.empty",
)  # fmt: skip  # fmt: skip


def policy(kind: str, rules: int, seed: int) -> CheckedPolicy:
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
    text = "\n".join([*lines, *GUARDS])
    return check(parse(text, name="benchmark"))


def timed(run: Callable[[], object]) -> tuple[float, bool]:
    start = time.perf_counter()
    result = run()
    return 1000 * (time.perf_counter() - start), getattr(result, "undecided", None) is not None


def cell(runs: list[tuple[float, bool]]) -> str:
    median = statistics.median(ms for ms, _ in runs)
    return f"{median:8.1f}" + (" undecided" if 2 * sum(u for _, u in runs) > len(runs) else "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rules", default=",".join(map(str, RULES)))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    prove(policy("without conditions", 3, 0))
    for kind in ("without conditions", "12 shared conditions", "one condition a rule"):
        print(f"\n{kind}\n{'rules':>6} {'prove ms':>9} {'diff ms':>9}")
        for rules in map(int, options.rules.split(",")):
            policies = [policy(kind, rules, seed) for seed in range(options.seeds + 1)]
            proofs = [timed(lambda p=p: prove(p)) for p in policies[1:]]
            diffs = [timed(lambda a=a, b=b: compare(a, b)) for a, b in pairwise(policies)]
            print(f"{rules:>6} {cell(proofs)} {cell(diffs)}", flush=True)


if __name__ == "__main__":
    main()
