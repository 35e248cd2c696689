"""One case, two readings: what the engine and the definitional interpreter say of a policy on a tokenized chat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from policy_engine.chat.segments import TokenizedChat
from policy_engine.core.errors import GuardError, PolicyCheckError, RowError
from policy_engine.lang import ast
from policy_engine.lang.format import format_policy
from policy_engine.lang.library import read_policy
from policy_engine.lang.parse import parse
from policy_engine.mask.apply_program import apply_program
from policy_engine.mask.token_mask import REASONS
from policy_engine.rules.compile import compile_text
from tests.oracle import Invalid, Oracle, RowFails


@dataclass(frozen=True)
class Outcome:
    """What became of a case: `kind` is `decided`, `row` (it fails), `guard` (one is broken) or `invalid` (the policy).

    `chars` are (weight, rule) per character; `tokens` (weight, rule, reason, segment) per token.
    """

    kind: str
    chars: Sequence[tuple[float, int]] = ()
    tokens: Sequence[tuple[float, int, str, int]] = ()
    never: frozenset[int] = frozenset()
    detail: str = ""


def read_shipped(use: ast.Use) -> ast.Policy:
    """The policy a `use` names, of the shipped library."""
    source = read_policy(use.name)
    return parse(source.text, name=source.name)


def engine_outcome(text: str, tokenized: TokenizedChat) -> Outcome:
    """What the engine says of a policy text."""
    try:
        program = compile_text(text)
    except PolicyCheckError as error:
        return Outcome("invalid", detail=str(error))
    chat = tokenized.chat
    try:
        decisions = program.decide(chat)
        mask = apply_program(program, tokenized)
    except GuardError as error:
        return Outcome("guard", detail=str(error))
    except RowError as error:
        return Outcome("row", detail=str(error))
    chars = [
        (piece.weight, -1 if piece.rule is None else piece.rule)
        for piece in decisions.pieces
        for _ in range(piece.start, piece.end)
    ]
    tokens = list(
        zip(
            mask.weights_T.tolist(),
            mask.rules_T.tolist(),
            [REASONS[r] for r in mask.reasons_T],
            mask.segments_T.tolist(),
        )
    )
    never = frozenset(c for start, end in decisions.never for c in range(start, end))
    return Outcome("decided", chars, tokens, never)


def oracle_outcome(policy: ast.Policy, tokenized: TokenizedChat) -> Outcome:
    """What the interpreter says of the policy's syntax tree."""
    chat = tokenized.chat
    ranges = list(zip(tokenized.starts_T.tolist(), tokenized.ends_T.tolist()))
    try:
        oracle = Oracle(policy, read_shipped)
        bare = oracle.decide(chat)
        if bare.broken:
            return Outcome("guard", detail=f"guards {bare.broken}")
        verdict = oracle.decide(chat, ranges)
    except Invalid as error:
        return Outcome("invalid", detail=str(error))
    except RowFails as error:
        return Outcome("row", detail=str(error))
    owner = [index for index, s in enumerate(chat.segments) for _ in range(s.start, s.end)]
    chars = [(char.weight, _rule(char.rule)) for char in verdict.chars]
    tokens = [
        (float(np.float32(token.weight)), _rule(token.rule), token.reason, owner[min(start, len(owner) - 1)])
        for token, (start, _) in zip(verdict.tokens, ranges)
    ]
    return Outcome("decided", chars, tokens, frozenset(verdict.never))


def _rule(rule: int | None) -> int:
    return -1 if rule is None else rule


def compare(policy: ast.Policy, tokenized: TokenizedChat) -> tuple[str, str | None]:
    """What a case came to, and how engine and interpreter differ on it: None if they agree.

    A policy whose guard breaks is compared once more without its guards, so that its decisions are compared too.
    """
    engine, oracle = engine_outcome(format_policy(policy), tokenized), oracle_outcome(policy, tokenized)
    if engine.kind != oracle.kind:
        return engine.kind, f"engine says {engine.kind} ({engine.detail}), oracle {oracle.kind} ({oracle.detail})"
    if engine.kind == "guard":
        rest = tuple(s for s in policy.statements if not isinstance(s, ast.Guard))
        if rest != policy.statements:
            return "guard", compare(replace(policy, statements=rest), tokenized)[1]
    if engine.kind != "decided":
        return engine.kind, None
    if engine.never != oracle.never:
        return "decided", f"never guards cover {sorted(engine.never ^ oracle.never)[:5]}… in one reading only"
    problem = _first("character", engine.chars, oracle.chars) or _first("token", engine.tokens, oracle.tokens)
    return "decided", problem


def _first(what: str, engine: Sequence[Any], oracle: Sequence[Any]) -> str | None:
    if len(engine) != len(oracle):
        return f"engine decides {len(engine)} {what}s, oracle {len(oracle)}"
    for index, (ours, theirs) in enumerate(zip(engine, oracle)):
        if ours != theirs:
            return f"{what} {index}: engine {ours}, oracle {theirs}"
    return None


def describe(policy: ast.Policy, tokenized: TokenizedChat) -> str:
    """A case in print: the policy, the messages, the segments, the tokens."""
    chat = tokenized.chat
    lines = ["--- policy", format_policy(policy), "--- messages", *(repr(m) for m in chat.messages)]
    lines += [f"--- sample {chat.sample!r}", "--- segments"]
    for i, s in enumerate(chat.segments):
        facts = f"field={s.field}+{s.field_start}{'' if s.field_exact else ' inexact'}" if s.field else ""
        lines.append(f"{i:3} [{s.start},{s.end}) turn={s.turn} {s.part} {facts} {chat.text[s.start : s.end]!r}")
    lines.append("--- tokens " + " ".join(f"{a}-{b}" for a, b in zip(tokenized.starts_T, tokenized.ends_T)))
    return "\n".join(lines)
