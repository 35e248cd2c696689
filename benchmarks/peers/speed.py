"""The cost of each system beside ours on the same rows, in the same run.

CPU time of one thread as a share of `encode_batch` over the texts rendered before, ids pulled out, in interleaved
pairs. Conversations have about 1,600 tokens in the Qwen vocabulary, ChatML; ours ends with labels, as theirs does.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.corpus import conversations
from benchmarks.pairs import Ratio, compare
from benchmarks.peers.cases import CHATML_CASE
from benchmarks.peers.chats import Row
from benchmarks.peers.systems import SYSTEMS
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.data.conversation import Conversation
from policy_engine.data.formats import named_format
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_file
from policy_engine.run.batches import BatchMasker
from policy_engine.run.columns import schema_of, table_of

BASE = "`encode_batch`"
REFERENCE, FAST = "ours, reference", "ours, kitoken"


def run_speed(system: str, rows: int, pairs: int, folder: Path) -> int:
    """Measures a system, prints a table and keeps it."""
    module = importlib.import_module(SYSTEMS[system])
    policy, template, theirs = module.timed(CHATML_CASE)
    found = results.start()
    found["releases"] = {name: importlib.metadata.version(name) for name in module.RELEASES}
    data = conversations(rows, turns=5, words=85)
    tokenizer = CHATML_CASE.ours(template)
    ratios = measure(tokenizer, policy, data, theirs, pairs=pairs)
    found["ratios"] = {name: vars(ratio) for name, ratio in ratios.items()}
    best = min(ratios[name].median for name in theirs)
    found["reference ahead by"] = best / ratios[REFERENCE].median
    found["kitoken ahead by"] = best / ratios[FAST].median
    results.save(folder, f"speed-{system}", found)
    print(results.table(["work", f"CPU time over {BASE}"], [(name, str(ratio)) for name, ratio in ratios.items()]))
    print(f"ahead by {found['reference ahead by']:.2f} (reference) and {found['kitoken ahead by']:.2f} (kitoken)")
    return 0


def measure(
    tokenizer: ChatTokenizer,
    policy: str,
    data: Sequence[Row],
    theirs: dict[str, Callable[[Sequence[Row]], object]],
    *,
    pairs: int,
) -> dict[str, Ratio]:
    """Ratios of `control`, ours by each backend, and each of theirs, to the tokenizer alone."""
    texts = [tokenizer.template.render_plain(Conversation(messages=tuple(row["messages"]))) for row in data]
    backend = tokenizer.tokenizer.backend_tokenizer
    works: dict[str, Callable[[], object]] = {}
    fast = tokenizer.qualify_fast(texts)
    if isinstance(fast, str):
        raise SystemExit(f"kitoken does not qualify: {fast}")
    program, layout = compile_file(policy), named_format("messages")
    numbered: list[tuple[int, Any]] = list(enumerate(data, start=1))
    for name, chosen in ((REFERENCE, tokenizer), (FAST, tokenizer.with_fast(fast))):
        masker = Masker(program, chosen)
        batches, schema = BatchMasker(masker, layout), schema_of(masker)
        works[name] = lambda b=batches, s=schema: table_of(b.mask(numbered).rows, s)
    works |= {name: lambda w=work: w(data) for name, work in theirs.items()}
    return compare(lambda: [e.ids for e in backend.encode_batch(texts, add_special_tokens=False)], works, pairs=pairs)
