"""Compares a tagged template with the original, by syntax tree and in transformers.

The tree without generation blocks has to be the original's tree, but for outputs that were cut in two and `if` tags
with the same text on both sides. So the text is the same for every conversation, not only for those that were tried.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import jinja2
import numpy as np
from jinja2 import nodes

from policy_engine.chat.reference import reference_generation, reference_mask, reference_text
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.mask.apply_program import mask_tokens, straddle_of
from policy_engine.mask.token_mask import REASONS
from policy_engine.rules.program import Program
from policy_engine.tagging.untaggable import UntaggableError
from policy_engine.tagging.watch import TriedShape, is_hollow


def same_tree(first: str, second: str, parse: Callable[[str], nodes.Template]) -> bool:
    """True if two templates write the same text for any conversation, by their syntax trees.

    >>> same_tree("{{ 'a' + b }}", "{{ 'a' }}{{ '' + b }}", jinja2.Environment().parse)
    True
    """
    try:
        return _body(parse(first).body) == _body(parse(second).body)
    except jinja2.TemplateSyntaxError:
        return False


def _body(body: Sequence[nodes.Node]) -> tuple[Any, ...]:
    found: list[Any] = []
    for part in _parts(body):
        # Texts side by side are one, however many outputs and gaps they come from.
        if part[0] == "text" and found and found[-1][0] == "text":
            found[-1] = ("text", found[-1][1] + part[1])
        elif part != ("text", ""):
            found.append(part)
    return tuple(found)


def _parts(body: Sequence[nodes.Node]) -> Iterator[tuple[Any, ...]]:
    for node in body:
        if isinstance(node, nodes.CallBlock) and _is_generation(node):
            yield from _body(node.body)
        elif isinstance(node, nodes.Output):
            for child in node.nodes:
                yield from _operands(child)
        # `{% if c %}{% generation %}X{% endgeneration %}{% else %}X{% endif %}` writes X, whatever `c` is.
        elif isinstance(node, nodes.If) and not node.elif_ and node.else_ and _body(node.body) == _body(node.else_):
            yield from _body(node.body)
        else:
            yield (type(node).__name__, tuple(_field(name, value) for name, value in node.iter_fields()))


def _is_generation(node: nodes.CallBlock) -> bool:
    call = node.call.node
    return isinstance(call, nodes.ExtensionAttribute)


def _field(name: str, value: Any) -> Any:
    if isinstance(value, list) and name in ("body", "else_", "elif_"):
        return name, _body(value)
    if isinstance(value, list):
        return name, tuple(_field("", item) for item in value)
    if isinstance(value, nodes.Node):
        return name, (type(value).__name__, tuple(_field(n, v) for n, v in value.iter_fields()))
    return name, value


def _operands(node: nodes.Node) -> Iterator[tuple[Any, ...]]:
    if isinstance(node, nodes.TemplateData):
        yield "text", node.data
    elif isinstance(node, nodes.Const) and isinstance(node.value, str):
        yield "text", node.value
    # Only a sum with a text in it is known to add texts; others may add numbers or lists.
    elif isinstance(node, nodes.Add) and _has_text(node):
        yield from _operands_of_sum(node)
    elif isinstance(node, nodes.Concat):
        for child in node.nodes:
            yield from _operands(child)
    else:
        yield ("value", _field("", node))


def _operands_of_sum(node: nodes.Node) -> Iterator[tuple[Any, ...]]:
    if isinstance(node, nodes.Add):
        yield from _operands_of_sum(node.left)
        yield from _operands_of_sum(node.right)
    else:
        yield from _operands(node)


def _has_text(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Add):
        return _has_text(node.left) or _has_text(node.right)
    return isinstance(node, nodes.Const) and isinstance(node.value, str)


class Wrong(NamedTuple):
    """A difference, in a sentence; `is_hollow` if an empty block may train the token around it."""

    sentence: str
    is_hollow: bool = False


def wrong_shapes(source: str, tagged: str, shapes: Sequence[TriedShape], special: Mapping[str, Any]) -> dict[str, str]:
    """The conversations that transformers renders or masks otherwise, each with the difference."""
    found = ((shape.name, wrong_shape(source, tagged, [shape], special)) for shape in shapes)
    return {name: wrong.sentence for name, wrong in found if wrong is not None}


def wrong_shape(source: str, tagged: str, shapes: Sequence[TriedShape], special: Mapping[str, Any]) -> Wrong | None:
    """The first conversation that transformers renders or masks otherwise, or None."""
    for shape in shapes:
        try:
            text, spans = reference_generation(tagged, shape.conversation, special_tokens=special)
        except Exception as error:
            return Wrong(f"{shape.name}: the tagged template raises in transformers: {error}")
        if text != shape.text:
            # Not the tags' fault: the original already differs.
            if reference_text(source, shape.conversation, special_tokens=special) != shape.text:
                return Wrong(f"{shape.name}: transformers renders the original template otherwise than this engine")
            return Wrong(f"{shape.name}: the tagged template renders another text")
        own_C = np.zeros(len(text), dtype=np.bool_)
        for start, end in spans:
            own_C[start:end] = True
        differ = np.flatnonzero(own_C != shape.trained_C)
        if len(differ):
            at = int(differ[0])
            side = "trains" if own_C[at] else "masks"
            return Wrong(f"{shape.name}: transformers {side} {text[at : at + 40]!r}, and the policy does not")
        hollow = [start for start, end in spans if start == end and is_hollow(shape, start)]
        if hollow:
            place = text[max(0, hollow[0] - 20) : hollow[0] + 20]
            return Wrong(f"{shape.name}: a block is empty inside {place!r}", is_hollow=True)
        if any(following[0] < last[1] for last, following in pairwise(spans)):
            return Wrong(f"{shape.name}: blocks are not in order")
    return None


@dataclass(frozen=True, kw_only=True)
class TokenCheck:
    """The number of tokens on which both masks were compared, and those that straddle.

    A token that reaches over the border of a block is trained by transformers. `straddling` has them by conversation;
    the policy decides them by `on straddle`.
    """

    tokens: int
    straddling: Mapping[str, tuple[str, ...]]


def check_tokens(tokenizer: ChatTokenizer, program: Program, tagged: str, shapes: Sequence[TriedShape]) -> TokenCheck:
    """Compares the tagged template's mask in transformers with the program's, token by token.

    The first token of a row is left out: no loss is ever counted there. Raises UntaggableError for another difference
    than at tokens that straddle.
    """
    tokens = 0
    straddling: dict[str, tuple[str, ...]] = {}
    straddle = straddle_of(program)
    for shape in shapes:
        chat = tokenizer.template_for(shape.conversation).render(shape.conversation, in_other_words=False)
        ours = tokenizer.encode(chat)
        # `error` would refuse the row here; what is asked is where tokens straddle.
        mask = mask_tokens(program.table(chat), ours, straddle="mask" if straddle == "error" else straddle)
        ids, theirs = reference_mask(tokenizer.tokenizer, tagged, shape.conversation)
        if ids != ours.input_ids:
            raise UntaggableError("transformers gives the tagged template other ids", shape.name)
        tokens += len(ids)
        over: list[str] = []
        for at in range(1, len(ids)):
            if bool(theirs[at]) == bool(mask.weights_T[at]):
                continue
            text = chat.text[int(ours.starts_T[at]) : int(ours.ends_T[at])]
            if REASONS[int(mask.reasons_T[at])] != "straddle":
                raise UntaggableError("transformers masks a token otherwise", f"{shape.name}: {text!r}")
            over.append(text)
        if over:
            straddling[shape.name] = tuple(over)
    return TokenCheck(tokens=tokens, straddling=straddling)
