"""Concrete values on which the tests of a policy come out as a plan wants.

`field_values` has the partition that the values come from. No value is trusted: each is checked by the engine's own
comparison before it is used.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import product
from typing import Any, Final

from policy_engine.lang.ast import Compare
from policy_engine.proof.model.field_values import FieldValues, Test
from policy_engine.rules.conditions.comparison import MISSING
from policy_engine.rules.conditions.conditions import test_of

Wanted = Callable[[str], bool]
"""A test that a string has to pass."""

Seed = str | tuple[str, str]
"""A string, or a regex with its flags."""

_WORDS: Final = ("Hello.", "a", "x1", "", " ", "0", "Yes", "\n")
_EXAMPLES: Final = 60
"""Strings of a regex that are tried."""


class Unrealised(Exception):
    """No value was found; there may be one."""


def value_for(values: FieldValues, assignment: Sequence[int]) -> Any:
    """A value of a field on which its tests come out as the assignment says, or MISSING.

    Raises `Unrealised` if no such value was found.
    """
    cell = values.cells[assignment[values.variable]]
    expected = values.expected(assignment)
    if cell.kind == "string":
        return find_string(*string_wanted(values, assignment))
    value: Any = cell.value
    if cell.kind == "list":
        # The shortest list that has what it must contain.
        value = [t.value for t, holds in expected if holds and isinstance(t, Compare) and t.op == "contains"]
    # A cell's own value fails where open tests are to hold that its kind cannot meet.
    if all(test_of(test)(value) == holds for test, holds in expected):
        return value
    raise Unrealised


def string_wanted(values: FieldValues, assignment: Sequence[int]) -> tuple[list[Wanted], list[Seed]]:
    """The tests that a string has to pass as a value of a field, and strings that may help.

    Tests on `segment.empty` are about the string being blank.
    """
    cell = values.cells[assignment[values.variable]]
    expected = values.expected(assignment)

    def answer(test: Test, text: str) -> bool:
        return test_of(test)(not text.strip() if test.field.path == ("empty",) else text)

    # Defaults bind test and answer: a lambda over the loop's variables would see their last values.
    wanted: list[Wanted] = [lambda s, t=test, h=holds: answer(t, s) == h for test, holds in expected]  # type: ignore[misc]
    if cell.blank is not None:
        # Segments that a plan makes have at least one character.
        wanted.append(lambda s: s != "" and (not s.strip()) == cell.blank)
    seeds = seeds_of(expected)
    return wanted, [cell.value, *seeds] if isinstance(cell.value, str) else seeds


def seeds_of(expected: Sequence[tuple[Test, bool]]) -> list[Seed]:
    """Strings and regexes that tests which are to hold name."""
    seeds: list[Seed] = []
    for test, holds in expected:
        if isinstance(test, Compare) and holds:
            if test.op == "matches":
                seeds.append((str(test.value), test.flags))
            elif isinstance(test.value, str):
                # A string that is `in "text"` is a piece of it; its first letter is the likeliest.
                seeds += [test.value] if test.op != "in" else [test.value, test.value[:1]]
                if test.op in ("<", ">"):
                    # Just above a bound, and just below it.
                    seeds += [test.value + "a", test.value[:-1]]
    return seeds


def find_string(
    wanted: Sequence[Wanted],
    seeds: Sequence[Seed],
    *,
    first: str = _WORDS[0],
    length: int | None = None,
) -> str:
    """A string that passes all tests; `first` if it does.

    With `length`, strings are also tried filled up to it. Raises `Unrealised` if no such string was found.

    >>> find_string([lambda text: len(text) > 6, lambda text: "4" in text], ["4"])
    '4Hello.'
    >>> find_string([lambda text: text.endswith("?")], [("[a-z]+[?]", "")])
    'a?'
    """

    def fits(text: str) -> bool:
        return all(test(text) for test in wanted)

    texts = [seed for seed in seeds if isinstance(seed, str)]
    patterns = [seed for seed in seeds if not isinstance(seed, str)]
    # Plain words first: they read well in a report, and Hypothesis is slow to start.
    for candidate in (first, *_plain(texts, patterns)):
        for text in _sized(candidate, length):
            if fits(text):
                return text
    # A regex is searched anywhere, so other text may be around what it matches.
    around = ("", *texts, *_WORDS)
    for pattern, flags in patterns:
        for example in examples(pattern, flags):
            for before, after in (("", ""), *product(around, repeat=2)):
                for text in _sized(before + example + after, length):
                    if fits(text):
                        return text
    raise Unrealised


def _plain(texts: Sequence[str], patterns: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Words, what the policy names, all of that in a row, and two side by side."""
    # A regex without operators is met by its own text; most that people write are close to that.
    bare = [re.sub(r"\\([^\w\s])", r"\1", p).strip("^$") for p, _ in patterns]
    named = [*texts, *bare]
    yield from _WORDS
    yield from named
    if named:
        yield " ".join(named)
        yield "".join(named)
        for a, b in product((*named, *_WORDS), repeat=2):
            yield a + b


def _sized(text: str, length: int | None) -> Iterator[str]:
    yield text
    if length is not None:
        if len(text) < length:
            yield text + "a" * (length - len(text))
            # Blanks too, for a text that has to be blank or must not match a regex about letters.
            yield text + " " * (length - len(text))
        elif text:
            yield text[:length]


@lru_cache(maxsize=256)
def examples(pattern: str, flags: str) -> tuple[str, ...]:
    """Strings that a regex matches, short ones first.

    Python's `re` takes the place of RE2; the tuple is empty for a regex that it refuses.

        >>> examples("yes|no", "")
        ('no', 'yes')
    """
    # `U` (RE2's ungreedy) changes which text is matched, not if any is.
    letters = "".join(f for f in flags if f in "ims")
    try:
        compiled = re.compile(f"(?{letters}){pattern}" if letters else pattern)
    except (re.error, OverflowError):
        return ()
    # In a thread of its own: Hypothesis refuses a test within a test, and a user's may load a policy.
    found = _apart(os.getpid()).submit(_generated, compiled).result()
    # Short ones are tried first, and by text, so that every process tries the same.
    return tuple(sorted(found, key=lambda s: (len(s), s)))


@lru_cache(maxsize=1)
def _apart(process: int) -> ThreadPoolExecutor:
    """The thread of a process in which examples are found."""
    # By process: a forked one has none of its parent's threads. One for all regexes:
    # Hypothesis collects garbage in each thread that is new to it, which takes seconds where a program holds much.
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="policy-engine-examples")


def _generated(pattern: re.Pattern[str]) -> set[str]:
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import strategies as st
    from hypothesis.errors import HypothesisException

    found: set[str] = set()
    try:

        @settings(
            max_examples=_EXAMPLES,
            database=None,
            # The same strings each time: a verdict must not depend on luck.
            derandomize=True,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(st.from_regex(pattern, fullmatch=True))
        def collect(text: str) -> None:
            found.add(text)

        collect()
    except (HypothesisException, ValueError):
        pass  # a regex it cannot generate from, or that no string matches
    return found


def put(data: dict[str, Any], path: Sequence[str | int], value: Any) -> None:
    """Sets a field of nested data, and makes the objects and lists on the way.

    MISSING removes the field. Raises `Unrealised` if the data has another kind of value on the way.

        >>> data = {}
        >>> put(data, ("labels", 1, "name"), "x")
        >>> data
        {'labels': [None, {'name': 'x'}]}
    """
    at: Any = data
    for step, below in zip(path, (*path[1:], None), strict=True):
        last = below is None
        if isinstance(step, int):
            if not isinstance(at, list) or (last and value is MISSING):
                if last and value is MISSING:
                    return
                raise Unrealised
            # A list is filled up to the index that the path asks for.
            at.extend(None for _ in range(step + 1 - len(at)))
        elif not isinstance(at, dict):
            if value is MISSING:
                return
            raise Unrealised
        if last:
            if value is not MISSING:
                at[step] = value
            elif isinstance(at, dict):
                at.pop(step, None)
            return
        inner = at[step] if isinstance(step, int) else at.get(step)
        if not isinstance(inner, (dict, list)):
            if value is MISSING:
                return
            # The next step says what is needed here: a number steps into a list.
            inner = at[step] = [] if isinstance(below, int) else {}
        at = inner
