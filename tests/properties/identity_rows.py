"""Templates and rows of `identity` cases.

own        the vocabulary's own template
grown      grown from Jinja's grammar over a user's data, as in `hostile.py`: cut, printed, counted, compared letter by
           letter; many are refused, for some rows or for all
mechanism  ways to write a template, one each: slices, macros, namespaces, loops over words, dates, thinking in content
installed  one of 786 models

Rows are of a few shapes, which are replayed, with texts that templates act on and the tokenizer's own tokens in them;
one in five quotes control tokens in every message.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Final

from policy_engine.data.conversation import Conversation
from policy_engine.testing.choices import RandomChoices
from policy_engine.testing.templates import installed_templates
from tests.properties import skeletons
from tests.properties.hostile import hostile_template
from tests.properties.injection import hostile_conversation
from tests.support.templates import mechanism_templates

HOSTILE: Final = ("grown", "mechanism", "installed")
"""Kinds of templates that are not the vocabulary's own."""
_SHAPES: Final = 4
_SCRIPTS: Final = ((0x20, 0x7E), (0xC0, 0x24F), (0x300, 0x36F), (0x4E00, 0x4EFF), (0x600, 0x6FF), (0x1F300, 0x1F5FF))
_BY_CHANCE: Final = ("random", "lipsum")
"""Words of templates that write another text each time."""


def template_of(kind: str, key: str) -> str:
    """The source of a hostile template. It writes the same whenever it is run, but for the date."""
    rng, choices = random.Random(key), RandomChoices(key)
    if kind == "mechanism":
        return rng.choice(sorted(mechanism_templates().values()))
    if kind == "installed":
        return rng.choice(list(installed_templates().values()))
    while True:
        source, _ = hostile_template(choices)
        if not any(word in source for word in _BY_CHANCE):
            return source


def rows_of(kind: str, key: str, added: Sequence[str], count: int) -> list[Conversation]:
    """Rows for a template of a kind; `added` are the tokenizer's own tokens."""
    rng, choices = random.Random(key), RandomChoices(key)
    quoting = 0 if kind == "grown" else count // 5
    rows = [hostile_conversation(choices, tuple(added)) for _ in range(quoting)]
    shapes = rng.sample(skeletons.SHAPES, _SHAPES)
    row = skeletons.conversation(rng, shapes[0])
    for number in range(count - quoting):
        if kind == "grown":
            row = skeletons.hostile_row(rng)  # of the form that these templates read
        elif number % ((count - quoting) // _SHAPES + 1):
            row = dataclasses.replace(row, messages=skeletons.varied(rng, row.messages))
        else:
            row = skeletons.conversation(rng, shapes.pop())
        rows.append(_with_token(rng, row, added) if rng.random() < 0.3 else row)
    rng.shuffle(rows)
    return rows


def _with_token(rng: random.Random, row: Conversation, added: Sequence[str]) -> Conversation:
    """The row with other words in its last message, a token of the vocabulary among them."""
    last = row.messages[-1]
    if not isinstance(last.get("content"), str):
        return row
    words = f"{_words(rng)}{rng.choice(('', *added))}{_words(rng)}"
    return dataclasses.replace(row, messages=(*row.messages[:-1], {**last, "content": words}))


def _words(rng: random.Random) -> str:
    first, last = rng.choice(_SCRIPTS)
    return "".join(chr(rng.randint(first, last)) for _ in range(rng.randrange(40)))
