"""Templates of processors: tested with media, and as lists of parts where they take no text."""

from __future__ import annotations

import dataclasses

import pytest

from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import ConfigError
from policy_engine.testing.conformance import check_template
from tests.support.pictures import processor


@pytest.mark.parametrize(("name", "fewest"), [("qwen2_vl", 19), ("llava_next", 12), ("idefics3", 12)])
def test_processors_are_tried_with_pictures(name: str, fewest: int) -> None:
    tokenizer = ChatTokenizer.from_processor(processor(name))
    report = check_template(tokenizer.template, tokenizer=tokenizer, examples=0)
    assert report.holds, report
    assert report["media"].checked >= fewest, report["media"]
    assert report["partition"].checked >= fewest


def test_a_template_that_doubles_pictures_is_named() -> None:
    doubled = processor("llava_next").chat_template.replace("<image>", "<image><image>")
    assert "<image><image>" in doubled
    tokenizer = ChatTokenizer.from_processor(processor("llava_next"), doubled)
    report = check_template(tokenizer.template, tokenizer=tokenizer, examples=0, properties=["media"])
    assert "does not apply" == report["media"].verdict
    assert "the processor raises for it" in report["media"].sentence


def test_without_a_processor_nobody_asks() -> None:
    tokenizer = dataclasses.replace(ChatTokenizer.from_processor(processor("qwen2_vl")), media=None)
    report = check_template(tokenizer.template, tokenizer=tokenizer, examples=0)
    assert "media" not in {p.name for p in report.properties}
    with pytest.raises(ConfigError, match="there is no property `media`"):
        check_template(tokenizer.template, tokenizer=tokenizer, examples=0, properties=["media"])
