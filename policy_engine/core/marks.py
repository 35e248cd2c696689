"""What is trained of a text, written into the text."""

from __future__ import annotations

from collections.abc import Iterable


def marked(text: str, stretches: Iterable[tuple[int, int, float]], *, weights: bool = False) -> str:
    """The text with what is trained between ⟦ and ⟧, and with `weights` each weight after its stretch: `⟦Yes.×2⟧`.

    `stretches` are start, end and weight of tokens or pieces, in order of their starts. What no stretch covers goes on
    as the one before it.
    """
    out: list[str] = []
    at, before = 0, 0.0
    for start, end, weight in (*stretches, (len(text), len(text) + 1, 0.0)):
        now = float(weight) if weights else float(weight != 0)
        if now == before or start < at or end <= start:
            continue
        closing = (f"×{before:g}⟧" if weights else "⟧") if before else ""
        out.append(text[at:start] + closing + ("⟦" if now else ""))
        at, before = int(start), now
    return "".join(out) + text[at:]
