"""A policy's text with each rule marked, and the tokens that each rule decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from policy_engine.core.source import Source
from policy_engine.lang.checked import CheckedPolicy, CheckedRule
from policy_engine.report.html.escape import escaped, hue
from policy_engine.report.row_facts import OtherWeight, Totals
from policy_engine.report.visible import one_line

_NOTES = (
    ("trained", "trained", "a rule gives it weight"),
    ("masked", "masked", "a rule or the default"),
    ("straddle", "straddle", "mixes two decisions or two messages"),
    ("structural", "structural", "first of the row, or generation prompt"),
    ("truncated", "truncated", "cut off"),
    ("drift", "drift", "given ids that do not spell the messages"),
)
_ALWAYS = ("trained", "masked")
_WEIGHTS: dict[OtherWeight, str] = {"less": "weight below 1", "more": "weight above 1", "neg": "negative weight"}


def sources_of(policy: CheckedPolicy) -> list[Source]:
    """The policy's own text first, then those of the policies it uses, each once."""
    found = {policy.source.name: policy.source}
    for rule in policy.rules:
        found.setdefault(rule.span.source.name, rule.span.source)
    return list(found.values())


def policy_section(source: Source, rules: Sequence[CheckedRule]) -> str:
    """A policy's text, each rule in a span of its own.

    A rule that is used twice is there once and has both numbers.
    """
    by_place: dict[tuple[int, int], list[int]] = {}
    for rule in rules:
        if rule.span.source.name == source.name:
            by_place.setdefault((rule.span.start, rule.span.end), []).append(rule.index)
    out, at = [], 0
    for (start, end), indexes in sorted(by_place.items()):
        # Rules do not overlap in one text; a place inside another would break the spans apart.
        if start < at:
            continue
        numbers = " ".join(str(i) for i in indexes)
        out.append(escaped(source.text[at:start]))
        out.append(
            f"<span class='rule' style='--hue:{hue(indexes[0])}' data-rules='{numbers}'>"
            f"{escaped(source.text[start:end])}</span>"
        )
        at = end
    out.append(escaped(source.text[at:]))
    lines = "".join(f"<li>{line or ' '}</li>" for line in _split("".join(out).rstrip("\n")))
    return f"<section class='policy'><h2>{escaped(source.name)}</h2><ol>{lines}</ol></section>"


def _split(markup: str) -> list[str]:
    """Markup by lines: a rule over several lines is closed at each end and opened again.

    >>> _split("<span class='rule'>train\\n  user</span>")
    ["<span class='rule'>train</span>", "<span class='rule'>  user</span>"]
    """
    lines, opening = [], ""
    for line in markup.split("\n"):
        text = opening + line
        last_open, last_close = line.rfind("<span"), line.rfind("</span>")
        # The tag stays open over the line's end: each line is a list item, and a span cannot cross two.
        if last_open > last_close:
            opening = line[last_open : line.index(">", last_open) + 1]
        elif last_close >= 0:
            opening = ""
        lines.append(text + "</span>" if opening else text)
    return lines


def rule_section(
    rules: Sequence[CheckedRule], totals: Totals, *, keys: str = "", notes: Mapping[int, str] | None = None
) -> str:
    """The table of rules with the tokens each decided, and what the colours mean.

    `notes` says of rules why they decided nothing; `keys` are further legends.
    """
    notes = notes or {}
    rows = "".join(
        f"<tr class='pick' style='--hue:{hue(r.index)}' data-rules='{r.index}' tabindex='0'>"
        f"<td><i></i>{r.index + 1}</td>"
        f"<td>{'–' if r.effect == 'scale' else f'{totals.rules[r.index]:,}'}</td>"
        f"<td><code>{escaped(one_line(r.span.one_line, 120))}</code>"
        f"{f'<small>{escaped(notes[r.index])}</small>' if r.index in notes else ''}</td></tr>"
        for r in rules
    )
    rows += f"<tr><td></td><td>{totals.rules[None]:,}</td><td>no rule: masked</td></tr>"
    keys_of_effects = "".join(
        f"<li><b class='t {name}'>{label}</b> {text}"
        f"{f' · {totals.reasons[name]:,}' if totals.reasons[name] else ''}</li>"  # type: ignore[index]
        for name, label, text in _NOTES
        if name in _ALWAYS or totals.reasons[name]  # type: ignore[index]
    )
    keys_of_weights = "".join(
        f"<li><b class='t trained {name}'>{label}</b> · {totals.weights[name]:,}</li>"
        for name, label in _WEIGHTS.items()
        if totals.weights[name]
    )
    return (
        "<section class='legend'><h2>Rules and the tokens they decided</h2>"
        f"<table><thead><tr><th>rule</th><th>tokens</th><th>text</th></tr></thead><tbody>{rows}</tbody></table>"
        f"<ul>{keys_of_effects}{keys_of_weights}</ul>{keys}</section>"
    )
