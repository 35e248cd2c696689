"""No text of a user is trained, whatever a template computes from it."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.properties.cases import run_case

CHUNKS, CHUNK = 4, 100


@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_hostile_templates_train_no_text_of_a_user(chunk: int) -> None:
    """400 generated templates; `python -m tests.nightly hostile` has 20,000."""
    outcomes: Counter[str] = Counter()
    for number in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        outcome, problem = run_case("hostile", 0, number)
        outcomes[outcome] += 1
        assert problem is None, problem
    # Else the templates raise before they write anything, and the test sees nothing.
    assert outcomes["whole"] + outcomes["refused"] > 0.6 * CHUNK, outcomes
