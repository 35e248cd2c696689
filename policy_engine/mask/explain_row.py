"""A whole row explained: one line a token."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from policy_engine.chat.segments import TokenizedChat
from policy_engine.core.vocabulary import Reason
from policy_engine.mask.token_mask import REASONS, TokenMask
from policy_engine.rules.conditions.comparison import excerpt
from policy_engine.rules.program import Program


@dataclass(frozen=True, kw_only=True)
class TokenLine:
    """One token and its decision.

    `rule` is the deciding rule's index, `place` and `rule_text` where it is written and what it says; None where no
    rule decides. `turn` and `role` are None for text that no message owns.
    """

    token: int
    token_id: int
    text: str
    turn: int | None
    role: str | None
    part: str
    weight: float
    reason: Reason
    rule: int | None
    place: str | None
    rule_text: str | None


@dataclass(frozen=True, kw_only=True)
class RowExplanation:
    """All tokens of a row, in order.

    `str` gives them as a table; `row.explain(token=N)` says more of one.
    """

    tokens: tuple[TokenLine, ...]

    def as_dict(self) -> dict[str, Any]:
        """The same as plain objects, lists and scalars, for JSON."""
        return asdict(self)

    def as_text(self) -> str:
        """The same as a table, one line a token.

        >>> from policy_engine.mask.masker import Masker
        >>> from policy_engine.rules.compile import compile_text
        >>> masker = Masker(compile_text("train assistant"), "builtin")
        >>> print(masker([{"role": "assistant", "content": "Yes."}]).explain().as_text())
        token    id  text            turn         part       weight  decided by
            0  4088  '<|im_start|>'  0 assistant  header     masked  (structural)
            1   305  'assistant'     0 assistant  header     masked  (no rule)
            2   198  '\\n'            0 assistant  header     masked  (no rule)
            3   965  'Yes'           0 assistant  text            1  <string>:1:1 train assistant
            4    13  '.'             0 assistant  text            1  <string>:1:1 train assistant
            5  4089  '<|im_end|>'    0 assistant  eot        masked  (no rule)
            6   198  '\\n'            0 assistant  separator  masked  (no rule)
        """
        head = ("token", "id", "text", "turn", "part", "weight", "decided by")
        rows = [head, *(_cells(line) for line in self.tokens)]
        widths = [max(len(row[i]) for row in rows) for i in range(len(head))]
        # Numbers are read from their last digit, words from their first.
        layout = [str.rjust if name in ("token", "id", "weight") else str.ljust for name in head]
        lines = ("  ".join(put(cell, w) for put, cell, w in zip(layout, row, widths, strict=True)) for row in rows)
        return "\n".join(line.rstrip() for line in lines)

    def __str__(self) -> str:
        return self.as_text()


def explain_row(program: Program, tokenized: TokenizedChat, mask: TokenMask) -> RowExplanation:
    """The rule that decided each token of a row, or the reason why no rule did."""
    chat, rules = tokenized.chat, program.policy.rules
    columns = zip(
        tokenized.input_ids,
        tokenized.starts_T.tolist(),
        tokenized.ends_T.tolist(),
        mask.weights_T.tolist(),
        mask.rules_T.tolist(),
        mask.reasons_T.tolist(),
        mask.segments_T.tolist(),
        strict=True,
    )
    lines = []
    for token, (token_id, start, end, weight, rule, reason, index) in enumerate(columns):
        # The segment of the token's first character; a token that straddles has others too.
        segment = chat.segments[index]
        span = rules[rule].span if rule >= 0 else None
        lines.append(
            TokenLine(
                token=token,
                token_id=token_id,
                text=chat.text[start:end],
                turn=segment.turn,
                role=chat.role(segment),
                part=segment.part,
                weight=weight,
                reason=REASONS[reason],
                rule=rule if rule >= 0 else None,
                place=None if span is None else str(span),
                rule_text=None if span is None else span.one_line,
            )
        )
    return RowExplanation(tokens=tuple(lines))


def _cells(line: TokenLine) -> tuple[str, ...]:
    # A dash, as message 0 is a turn.
    turn = "–" if line.turn is None else f"{line.turn} {line.role}"
    decided = f"({'no rule' if line.reason == 'default' else line.reason})"
    if line.rule is not None:
        decided = f"{line.place} {line.rule_text}"
    weight = f"{line.weight:g}" if line.weight else "masked"
    return str(line.token), str(line.token_id), excerpt(line.text), turn, line.part, weight, decided
