"""Other ids of the same texts get the same characters decided, and a planted drift is reported at its token."""

from __future__ import annotations

from collections import Counter

from tests.properties.cases import PLANTED, explain, run_case


def test_given_ids() -> None:
    """100 cases, 40 of them with a drift; `python -m tests.nightly given` has more."""
    numbers = [*(n for n in range(67) if n % PLANTED), *range(1000, 1000 + 40 * PLANTED, PLANTED)]
    outcomes: Counter[str] = Counter()
    for number in numbers:
        outcome, problem = run_case("given", 0, number)
        outcomes[outcome] += 1
        assert problem is None, f"{problem}\n{explain('given', 0, number)}"
    assert outcomes["other ids"] > 30
    assert outcomes["drift"] >= 25
