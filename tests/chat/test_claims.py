"""The claim on text that grows piece by piece, beside the claim on the same text looked through from its start."""

from __future__ import annotations

import random
from datetime import datetime

import pytest

from policy_engine.chat.trace import claims
from policy_engine.chat.trace.claims import State, tagged
from policy_engine.chat.trace.meter import start, stop
from policy_engine.chat.trace.origins import Run, Unclaimed, claim_of, origin_at
from policy_engine.chat.trace.text import Traced, runs_of, traced


def piece(rng: random.Random) -> str:
    """Data, template text that nobody claimed, in two ways, or nothing."""
    turn = rng.randrange(3)
    own: list[Run] = [(1, origin_at(turn, ("content",)), turn), (1, Unclaimed(turn), 0), (1, None, 0)]
    return rng.choice((*(traced("x", (run,)) for run in own), "-", ""))


@pytest.mark.parametrize("seed", range(8))
def test_a_text_that_grows_is_claimed_as_one_that_is_new(seed: int) -> None:
    rng = random.Random(seed)
    state = State(start(60.0), datetime(2026, 1, 1))
    try:
        texts: list[str] = ["", ""]
        for _ in range(1500):
            state.claim = claim_of(rng.randrange(3), None, None, None, 0)
            at = rng.random() < 0.1
            # Mostly longer at the end; now and then at the start, cut, or another one.
            grown = texts[at] + piece(rng) if rng.random() < 0.95 else piece(rng) + texts[at][rng.randrange(3) :]
            made = state.tag(grown)
            assert (str(made), runs_of(made)) == (str(grown), runs_of(tagged(state.claim, grown)))
            texts[at] = made
        assert min(len(runs_of(text)) for text in texts) > claims._MANY
    finally:
        stop()


def test_runs_of_another_text_claim_nothing() -> None:
    claim, data = claim_of(1, None, None, None, 0), origin_at(0, ("content",))
    known: tuple[Run, ...] = ((1, data, 0), (1, data, 1))
    value = traced("ab-", ((1, data, 0), (1, None, 0), (1, None, 1)))
    made = tagged(claim, value, known)
    assert type(made) is Traced
    assert ((1, data, 0), (1, claim, 0), (1, claim, 1)) == made._r
