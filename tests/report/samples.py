"""Rows to show, masked by hand: what a view does with them needs no engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from policy_engine.chat.segments import Segment, TokenizedChat
from policy_engine.core.source import Source, Span
from policy_engine.lang.checked import CheckedPolicy, CheckedRule
from policy_engine.mask.token_mask import REASONS, TokenMask
from tests.support.chats import build_chat, tokens_at

TEXT = "# <b>why</b>\ntrain assistant; mask system,\n  user\n"
SOURCE = Source(name="my.policy", text=TEXT)


def policy() -> CheckedPolicy:
    """Two rules, the second over two lines."""
    train, mask = TEXT.index("train"), TEXT.index("mask")
    spans = {"train": (train, train + len("train assistant")), "mask": (mask, len(TEXT) - 1)}
    rules = tuple(
        CheckedRule(
            index=index,
            effect="train" if name == "train" else "mask",
            targets=(),
            condition=None,
            weight=1,
            span=Span(source=SOURCE, start=start, end=end),
        )
        for index, (name, (start, end)) in enumerate(spans.items())
    )
    return CheckedPolicy(rules=rules, guards=(), settings={}, roles=frozenset(), source=SOURCE)


def masked(
    messages: Sequence[dict[str, Any]],
    weight: Callable[[Segment], float] = lambda s: float(s.turn is not None and s.part == "text" and s.turn % 2),
    bounds: Callable[[str], list[tuple[int, int]]] = lambda text: [(i, i + 1) for i in range(len(text))],
) -> tuple[TokenizedChat, TokenMask]:
    """A chat with a token per character (or per `bounds`), each with the weight of its first character's segment."""
    chat = build_chat(messages)
    tokenized = tokens_at(chat, bounds(chat.text))
    starts = np.minimum(tokenized.starts_T, len(chat.text) - 1)
    segments = np.searchsorted([s.end for s in chat.segments], starts, side="right").astype(np.int32)
    weights = np.array([weight(chat.segments[i]) for i in segments], dtype=np.float32)
    reasons = np.where(weights != 0, REASONS.index("rule"), REASONS.index("default")).astype(np.int8)
    rules = np.where(weights != 0, 0, -1).astype(np.int16)
    return tokenized, TokenMask(weights_T=weights, rules_T=rules, reasons_T=reasons, segments_T=segments)
