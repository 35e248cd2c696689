"""Ids that are given, put on rendered text, beside `encode_batch` of the same rows:

    python -m benchmarks.given

Rendering is in neither. The ids are the tokenizer's own, and others that spell the same text (`other ids`, half of the
tokens split). Every ratio is CPU time over that of `encode_batch` beside it, in interleaved pairs, with `encode_batch`
over itself as the control: median [quartiles]. The bar is 0.15.
"""

from __future__ import annotations

import argparse
import os
import random

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from benchmarks.corpus import CHATML, real_conversations
from benchmarks.pairs import compare

BAR = 0.15


def main() -> int:
    """The command. Exit code 1 if the bar does not hold."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.given", description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=60)
    parser.add_argument("--pairs", type=int, default=15)
    options = parser.parse_args()

    import numpy as np

    from policy_engine.chat.given.place import place_given
    from policy_engine.chat.given.token_bytes import token_bytes
    from policy_engine.chat.tokenizer import ChatTokenizer
    from policy_engine.data.conversation import Conversation
    from policy_engine.data.row_tokens import RowTokens
    from tests.support.tokenizers import load

    tokenizer = ChatTokenizer.from_transformers(load("qwen"), template=CHATML)
    rows = real_conversations(options.rows)
    chats = [tokenizer.template.render(Conversation(messages=tuple(row["messages"]))) for row in rows]
    own = [tokenizer.encode(chat).ids_T for chat in chats]
    table = token_bytes(tokenizer).tables[0]
    by_bytes = {piece: i for i, piece in enumerate(table.pieces) if piece and i not in table.added}
    pick = random.Random(1)

    def split(token: int) -> list[int]:
        piece = table.pieces[token]
        if piece is None or token in table.added or len(piece) < 2 or pick.random() < 0.5:
            return [token]
        at = pick.randrange(1, len(piece))
        parts = by_bytes.get(piece[:at]), by_bytes.get(piece[at:])
        return [token] if None in parts else [parts[0], parts[1]]  # type: ignore[list-item]

    other = [np.array([x for i in ids.tolist() for x in split(i)], np.int32) for ids in own]
    texts = [chat.text for chat in chats]
    backend = tokenizer.tokenizer.backend_tokenizer

    def place(ids: list[np.ndarray]) -> object:
        return [place_given(tokenizer, chat, RowTokens(ids_T=ids_T)) for chat, ids_T in zip(chats, ids)]

    found = compare(
        lambda: [e.ids for e in backend.encode_batch(texts, add_special_tokens=False)],
        {"own ids": lambda: place(own), "other ids": lambda: place(other)},
        pairs=options.pairs,
    )
    tokens = sum(map(len, own))
    print(f"{len(rows)} rows, {tokens:,} tokens of their own, {sum(map(len, other)):,} other")
    for name, ratio in found.items():
        bar = "" if name == "control" else f"  bar {BAR}: {'holds' if ratio.median <= BAR else 'does not hold'}"
        print(f"{name:10} {ratio}{bar}")
    return int(any(found[name].median > BAR for name in ("own ids", "other ids")))


if __name__ == "__main__":
    raise SystemExit(main())
