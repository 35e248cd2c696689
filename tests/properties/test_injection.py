"""No character of a system prompt, user, tool result or tool schema is ever trained by the standing policy."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.properties.cases import explain, run_case

CHUNKS, CHUNK = 4, 250


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_hostile_data_is_nobody_elses(chunk: int) -> None:
    """1,000 generated conversations on real templates and tokenizers; `python -m tests.nightly injection` has more."""
    outcomes: Counter[str] = Counter()
    for number in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        outcome, problem = run_case("injection", 0, number)
        outcomes[outcome] += 1
        assert problem is None, f"{problem}\n{explain('injection', 0, number)}"
    assert outcomes["trained"] > 0.6 * CHUNK, outcomes
