"""Marks in a text around the characters that are trained: `2 + 2? ⟦4.⟧`."""

from __future__ import annotations

from collections.abc import Iterable


def marked(text: str, ranges: Iterable[tuple[int, int, float]], *, weights: bool = False) -> str:
    """The text with all that is trained between ⟦ and ⟧.

    `ranges` are start, end and weight of tokens or segments, in order of their starts. A character that is in no range
    has the weight of the character before it. With `weights`, the weight is written too.

        >>> marked("2 + 2? 4.", [(0, 7, 0.0), (7, 9, 2.0)])
        '2 + 2? ⟦4.⟧'
        >>> marked("2 + 2? 4.", [(0, 7, 0.0), (7, 9, 2.0)], weights=True)
        '2 + 2? ⟦4.×2⟧'
    """
    out: list[str] = []
    at, before = 0, 0.0
    # A last range of weight 0 closes what is open.
    for start, end, weight in (*ranges, (len(text), len(text) + 1, 0.0)):
        # Without weights, all that is trained counts as one: neighbours of weights 1 and 2 get one pair of marks.
        now = float(weight) if weights else float(weight != 0)
        # Tokens without characters, and tokens that share the character before, open nothing.
        if now == before or start < at or end <= start:
            continue
        closing = (f"×{before:g}⟧" if weights else "⟧") if before else ""
        out.append(text[at:start] + closing + ("⟦" if now else ""))
        at, before = int(start), now
    return "".join(out) + text[at:]
