"""The table of rules and the tokens that each decided: it ends `apply`, `show` and `audit`.

rule  tokens  policy
   1      13  train assistant            my.policy:1
   2       0  mask assistant.reasoning   my.policy:2  what it selects does not occur
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath

from rich.text import Text

from policy_engine.lang.checked import CheckedRule
from policy_engine.report.plain_table import PlainTable
from policy_engine.report.styles import DOUBT
from policy_engine.report.visible import one_line


def rule_table(
    rules: Sequence[CheckedRule],
    tokens: Mapping[int | None, int],
    *,
    notes: Mapping[int, str] | None = None,
    style: Callable[[int], str] = lambda index: "",
) -> PlainTable:
    """Rules in the order of the policy, with the tokens that each decided.

    `tokens` counts by rule index, None for tokens that no rule decided; `notes` says of rules why they decided nothing;
    `style` gives a rule its colour by index.

    A `scale` rule decides no token, so that its count is left open.
    """
    table = PlainTable()
    table.add_column("rule", justify="right")
    table.add_column("tokens", justify="right")
    table.add_column("policy")
    table.add_column("")
    table.add_column("")
    for rule in rules:
        count = tokens.get(rule.index, 0)
        scales = rule.effect == "scale"
        note = (notes or {}).get(rule.index, "")
        table.add_row(
            Text(f"{rule.index + 1}", style=style(rule.index)),
            Text("–" if scales else f"{count:,}", style="" if count else "dim"),
            Text(one_line(rule.span.one_line, 100), style=style(rule.index)),
            Text(f"{PurePath(rule.span.source.name).name}:{rule.span.line}", style="dim"),
            Text(note, style=DOUBT),
        )
    table.add_row("", f"{tokens.get(None, 0):,}", Text("(no rule: masked)", style="dim"), "", "")
    return table
