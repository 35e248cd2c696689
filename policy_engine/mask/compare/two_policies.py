"""Differences of two policies on the rows of a dataset, counted.

`diff --data` and the live page say the same:

one row is dropped under the old policy and written under the new one; 12 tokens of `assistant text` go from
masked to trained
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.source import Place
from policy_engine.core.vocabulary import Reason
from policy_engine.core.wording import counted
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.mask.compare.changes import ChangedTokens, changed_tokens
from policy_engine.mask.compare.fates import Fate, RowFates
from policy_engine.mask.row import MaskedRow


@dataclass(frozen=True, kw_only=True)
class RowChange:
    """One row that changes. `changed` is empty where only its fate does."""

    number: int
    place: Place
    old: Fate
    new: Fate
    changed: tuple[ChangedTokens, ...] = ()
    text: str = ""

    @property
    def tokens(self) -> int:
        """Number of its tokens that change."""
        return sum(change.tokens for change in self.changed)


@dataclass(kw_only=True)
class DataDiff(RowFates):
    """Counts over all rows, and the first `most` of those that change. `add` changes them."""

    tokens: int = 0
    tokens_more: int = 0
    tokens_less: int = 0
    tokens_other: int = 0
    places: dict[ChangedTokens, int] = field(default_factory=dict)
    """Tokens that change, by all that a change says apart from where it is."""
    listed: list[RowChange] = field(default_factory=list)

    @property
    def tokens_changed(self) -> int:
        """Number of tokens that get another weight."""
        return self.tokens_more + self.tokens_less + self.tokens_other

    def add(
        self, number: int, place: Place, old: MaskedRow | PolicyEngineError, new: MaskedRow | PolicyEngineError
    ) -> None:
        """Counts a row that was masked by both, from the same tokens."""
        fates = self.count(place, old, new)
        # Both have the same tokens, so either says how many.
        one = old if isinstance(old, MaskedRow) else new
        self.tokens += len(one.input_ids) if isinstance(one, MaskedRow) else 0
        change = RowChange(number=number, place=place, old=fates[0], new=fates[1])
        if isinstance(old, MaskedRow) and isinstance(new, MaskedRow):
            changed = changed_tokens(old, new)
            change = replace(change, changed=changed, text=old.chat.text)
            for tokens in changed:
                self._count(tokens)
        if change.changed or fates[0] != fates[1]:
            self.rows_changed += 1
            if len(self.listed) < self.most:
                self.listed.append(change)

    def _count(self, change: ChangedTokens) -> None:
        # A negative weight trains too, away from the token.
        old, new = abs(change.old_weight), abs(change.new_weight)
        if new > old:
            self.tokens_more += change.tokens
        elif new < old:
            self.tokens_less += change.tokens
        else:
            self.tokens_other += change.tokens
        # The same change in other rows is then an equal key.
        place = replace(change, token_start=0, token_end=0, start=0, end=0, turn=None)
        self.places[place] = self.places.get(place, 0) + change.tokens

    def by_count(self) -> list[tuple[ChangedTokens, int]]:
        """The places of change, those of most tokens first."""
        # By name among equal counts, so that two runs say the same.
        return sorted(self.places.items(), key=lambda item: (-item[1], str(item[0])))

    def in_words(self) -> str:
        """The counts in a sentence.

        `3 of 50 rows change; 12 of 4,000 tokens change: 12 trained more`

        >>> from policy_engine.rules.compile import compile_text
        >>> old, new = compile_text("train assistant"), compile_text("train everything")
        >>> DataDiff(old=old, new=new, most=1, rows=50, rows_changed=3, tokens=4000, tokens_more=12).in_words()
        '3 of 50 rows change; 12 of 4,000 tokens change: 12 trained more'
        """
        if not self.rows_changed:
            return f"none of {counted(self.rows - self.failed, 'row')} changes"
        shares = [
            f"{count:,} {what}"
            for count, what in (
                (self.tokens_more, "trained more"),
                (self.tokens_less, "trained less"),
                (self.tokens_other, "otherwise"),
            )
            if count
        ]
        of = f"{self.rows_changed:,} of {counted(self.rows, 'row')} {_change(self.rows_changed)}"
        tokens = f"{self.tokens_changed:,} of {counted(self.tokens, 'token')} {_change(self.tokens_changed)}"
        return f"{of}; {tokens}" + (f": {', '.join(shares)}" if shares else "")


def weight_in_words(weight: float) -> str:
    """A weight: `masked`, `trained` or `weight 0.5`.

    >>> [weight_in_words(weight) for weight in (0, 1, 0.5)]
    ['masked', 'trained', 'weight 0.5']
    """
    return "masked" if weight == 0 else "trained" if weight == 1 else f"weight {weight:g}"


def rule_in_words(policy: CheckedPolicy, rule: int | None, reason: Reason) -> str:
    """The rule that decides, with file and line, or why no rule does.

    >>> from policy_engine.lang.check import check_text
    >>> policy = check_text("train assistant", name="data/chat.policy")
    >>> rule_in_words(policy, 0, "rule"), rule_in_words(policy, None, "straddle")
    ('chat.policy:1 train assistant', '(straddle)')
    """
    if rule is None:
        return "(no rule)" if reason == "default" else f"({reason})"
    span = policy.rules[rule].span
    text = span.one_line
    return f"{Path(span.source.name).name}:{span.line} {text if len(text) <= 60 else text[:59] + '…'}"


def _change(count: int) -> str:
    return "changes" if count == 1 else "change"
