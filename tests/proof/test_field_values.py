"""The partition of a field's values: every value is in one cell, and its tests come out as the cell says."""

from __future__ import annotations

import threading
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from policy_engine.lang.ast import Compare, Field, Has, Truth
from policy_engine.proof.model import field_values
from policy_engine.proof.model.assignments import make_space
from policy_engine.proof.model.field_values import FieldValues, Test, ValueCell, values_of, weight_class
from policy_engine.proof.witness.find_values import Unrealised, examples, put, value_for
from policy_engine.rules.conditions import conditions
from policy_engine.rules.conditions.comparison import MISSING
from policy_engine.testing.expressions import PATTERNS, WORDS
from tests.proof.generate import HERE

DATA = Field(scope="message", path=("x",), span=HERE)
VALUES = (
    MISSING,
    None,
    True,
    False,
    0,
    1,
    2.5,
    -1,
    "",
    *WORDS,
    "zzz",
    "Hello yes",
    [],
    ["a"],
    ["gold", 1],
    {},
    {"a": 1},
)
LITERALS = (None, True, 1, 0.5, "", "gold", "a", "user")
compares = st.builds(
    lambda op, value: Compare(op=op, field=DATA, value=value, span=HERE),
    st.sampled_from(("==", "!=", "<", "<=", ">", ">=", "contains")),
    st.sampled_from(LITERALS),
)
isin = st.builds(
    lambda value: Compare(op="in", field=DATA, value=value, span=HERE),
    st.one_of(st.lists(st.sampled_from(LITERALS), max_size=3).map(tuple), st.sampled_from(("a gold thing", ""))),
)
matches = st.builds(lambda value: Compare(op="matches", field=DATA, value=value, span=HERE), st.sampled_from(PATTERNS))
tests = st.lists(
    st.one_of(compares, isin, matches, st.just(Has(field=DATA, span=HERE)), st.just(Truth(field=DATA, span=HERE))),
    min_size=1,
    max_size=4,
)


def placed(values: FieldValues) -> list[int]:
    """Variables for a partition, as `Conditions` would number them; their sizes."""
    values.variable = 0
    sizes = [len(values.cells)]
    for key in values.open_tests():
        values.free[key] = len(sizes)
        sizes.append(2)
    return sizes


@given(tests=tests, value=st.sampled_from(VALUES))
def test_some_assignment_answers_as_any_value_does(tests: list[Test], value: Any) -> None:
    values = values_of(("message", ("x",)), tests)
    space = make_space(placed(values))
    found = space.full
    for test in tests:
        holds = values.holds(space, field_values.test_key(test))
        found = space.both(found, holds) if conditions.test_of(test)(value) else space.without(found, holds)
    assert found != space.empty


@given(tests=tests, data=st.data())
def test_values_found_for_an_assignment_answer_as_it_says(tests: list[Test], data: st.DataObject) -> None:
    values = values_of(("message", ("x",)), tests)
    assignment = tuple(data.draw(st.integers(0, size - 1)) for size in placed(values))
    try:
        value = value_for(values, assignment)
    except Unrealised:
        return
    for test, holds in values.expected(assignment):
        assert conditions.test_of(test)(value) == holds


def test_cells_without_open_tests_have_a_value() -> None:
    ordered = [Compare(op="<", field=DATA, value=v, span=HERE) for v in ("b", "bb", 3)]
    values = values_of(("message", ("x",)), ordered)
    assert placed(values) == [len(values.cells)]
    for cell in range(len(values.cells)):
        value_for(values, [cell])


def test_weights_are_told_apart() -> None:
    values = values_of(("message", ("x",)), [], as_weight=True)
    assert {weight_class(cell) for cell in values.cells} == {"one", "zero", "number", "bad"}
    assert weight_class(ValueCell(kind="list")) == "bad"


def test_scopes_narrow_what_there_is() -> None:
    chars = Field(scope="turn", path=("chars",), span=HERE)
    counted = values_of(("turn", ("chars",)), [Compare(op=">", field=chars, value=1.5, span=HERE)])
    assert all(isinstance(cell.value, int) and cell.value >= 0 for cell in counted.cells)
    below = Field(scope="message", path=("content", "x"), span=HERE)
    assert [c.value for c in values_of(("message", ("content", "x")), [Has(field=below, span=HERE)]).cells] == [MISSING]


def test_examples_of_a_regex_match_it() -> None:
    import re

    for pattern in PATTERNS:
        assert examples(pattern, "")
        assert all(re.search(pattern, example) for example in examples(pattern, ""))
    assert examples(r"\pN", "") == ()


def test_fields_are_set_in_nested_data() -> None:
    data: dict[str, Any] = {"a": "text", "gone": 1}
    put(data, ("meta", "lang"), "en")
    put(data, ("labels", 1), "x")
    put(data, ("gone",), MISSING)
    put(data, ("no", "such"), MISSING)
    put(data, ("labels", 5), MISSING)
    assert data == {"a": "text", "meta": {"lang": "en"}, "labels": [None, "x"]}


@given(number=st.integers(0, 5))
def test_examples_can_be_asked_for_within_a_test_of_hypothesis(number: int) -> None:
    assert examples(f"nested{number}+", "")


def test_examples_of_a_regex_are_the_same_every_time() -> None:
    before = settings.get_current_profile_name()
    settings.load_profile("dev")  # whose own examples differ
    try:
        found = []
        for _ in range(2):
            examples.cache_clear()
            found.append(examples("[a-z]{5,20}", ""))
    finally:
        settings.load_profile(before)
    assert found[0] == found[1] != ()


def test_examples_are_made_in_one_thread() -> None:
    """Hypothesis collects garbage in each new one, which takes long in a large process."""
    threads = []
    for pattern in ("one thread", "the same thread"):
        examples(pattern, "")
        threads.append({t.ident for t in threading.enumerate() if t.name.startswith("policy-engine-examples")})
    assert threads[0] == threads[1]
    assert len(threads[0]) == 1
