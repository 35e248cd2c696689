"""The shipped policies: each opens with what it is for, checks without a finding, and passes its own tests."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from policy_engine.chat.loading import load_tokenizer
from policy_engine.data.dataset import DatasetSpec, PolicyTest, load_dataset_spec
from policy_engine.lang.check import check_text
from policy_engine.lang.format import format_policy
from policy_engine.lang.library import policies_folder, read_shipped, shipped
from policy_engine.lang.parse import parse
from policy_engine.mask.masker import Masker
from policy_engine.mask.policy_tests import marked_row
from policy_engine.rules.compile import compile_text


def cases() -> Iterator[tuple[str, DatasetSpec, PolicyTest]]:
    for name in shipped():
        spec = load_dataset_spec(policies_folder() / f"{name}.yaml")
        for test in spec.tests:
            yield name, spec, test


@pytest.mark.parametrize(("name", "spec", "test"), list(cases()), ids=lambda value: getattr(value, "name", value))
def test_own_tests(name: str, spec: DatasetSpec, test: PolicyTest) -> None:
    source = read_shipped(name)
    program = compile_text(source.text, name=source.name, schema=spec.to_schema())
    masker = Masker(program, load_tokenizer("builtin"))
    assert test.expect.rstrip("\n") == marked_row(masker.mask(test.conversation(spec.template_kwargs))).rstrip("\n")


def test_the_ends_of_turns_are_spelled_in_one_way() -> None:
    assert [] == [name for name in shipped() if re.search(r"\b(eos|eot|eod) after\b", read_shipped(name).text)]
    assert "train eos of assistant" in read_shipped("default").text


@pytest.mark.parametrize("name", shipped())
def test_each_has_tests_of_its_own(name: str) -> None:
    spec = load_dataset_spec(policies_folder() / f"{name}.yaml")
    assert spec.tests
    assert str(policies_folder() / f"{name}.policy") == spec.policy


@pytest.mark.parametrize("name", shipped())
def test_each_says_what_why_and_whose(name: str) -> None:
    text = read_shipped(name).text
    assert text.startswith("# ")
    assert "\n# Why: " in text
    assert "\n# Behaves like: " in text


@pytest.mark.parametrize("name", shipped())
def test_each_checks_without_a_finding_and_is_in_canonical_layout(name: str) -> None:
    source = read_shipped(name)
    assert check_text(source.text, name=source.name).warnings == ()
    assert source.text == format_policy(parse(source.text))
