"""Tags a chat template: the same text, with `{% generation %}` around what a policy trains."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jinja2

from policy_engine.chat.reference import reference_environment
from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.variables import plain_message
from policy_engine.core.errors import AttributionError, PolicyEngineError, TemplateError
from policy_engine.core.wording import counted
from policy_engine.data.conversation import Conversation
from policy_engine.rules.program import Program
from policy_engine.tagging.blocks import BlockNode, read_tree
from policy_engine.tagging.compare_tagged import Wrong, same_tree, wrong_shape, wrong_shapes
from policy_engine.tagging.find_condition import ConditionFinder
from policy_engine.tagging.items import Items, normal, read_items, without_tags
from policy_engine.tagging.plan import RegionPlanner, Scope
from policy_engine.tagging.sums import printed_in_place
from policy_engine.tagging.tried_shapes import CONVERSATIONS, FURTHER, generated, has_thinking_twice
from policy_engine.tagging.untaggable import UntaggableError
from policy_engine.tagging.watch import TriedShape, Watched, decide, split_outputs, watch
from policy_engine.tagging.write import GENERATION, tagged_source

_MOST_TRIES = 5
"""Most times that a template is tagged again for generated conversations that show the tags wrong."""

_MOST_WRONG = 4
"""Most of these conversations that are added each time."""


@dataclass(frozen=True, kw_only=True)
class Tagged:
    """A tagged template, and the conversations on which it was compared with the policy.

    `source` writes the text of the template that was given, for every conversation.
    """

    source: str
    shapes: tuple[TriedShape, ...]
    refused: Mapping[str, str]
    """Conversations that the template itself refuses, by name, with its reasons."""
    examples: int
    """The number of conversations of `FURTHER` and generated ones on which it was compared too."""
    blocks: int
    """The number of `{% generation %}` tags."""
    unseen: tuple[int, ...]
    """Lines of the template whose text none of the conversations reached, so that nothing is known of it."""
    otherwise: tuple[str, ...] = ()
    """Conversations whose answers have thinking in a field and in their content too, and that the tags mask otherwise
    than the policy. They are not among `examples`."""


def tag_template(
    template: ChatTemplate,
    program: Program,
    conversations: Mapping[str, Conversation] = CONVERSATIONS,
    *,
    examples: int = 120,
) -> Tagged:
    """Writes a template again, with generation blocks around what a program trains.

    Tags that the template has already are replaced. Then two things are compared: the syntax trees of both templates,
    and transformers' mask with the program's decisions, character by character. The latter is done on `conversations`,
    on those of `FURTHER`, and on `examples` generated ones. Where tags can be right for all but answers that have their
    thinking twice, in a field and in the content, these are named in `otherwise`. Raises UntaggableError, with the
    reason, where tags cannot say what is trained.

    ```python
    from policy_engine import load_policy, load_tokenizer
    from policy_engine.tagging import tag_template

    tokenizer = load_tokenizer("my-model")
    tagged = tag_template(tokenizer.template, load_policy("default"))
    tokenizer.tokenizer.chat_template = tagged.source
    ```
    """
    if template.is_code:
        raise UntaggableError("the tokenizer renders chats by code, without a chat template", template.name)
    _check_policy(program)
    shapes, refused = _decided(template, program, conversations)
    others = _others(template, program, examples)
    # Content with thinking in it is one piece. Where a field has the thinking too, maybe no condition tells them apart.
    twice = tuple(shape for shape in others if has_thinking_twice(shape.conversation))
    once = tuple(shape for shape in others if not has_thinking_twice(shape.conversation))
    tagged = replace(_right_for(template, _tagged(template, shapes), shapes, once), refused=refused)
    wrong = wrong_shapes(template.source, tagged.source, twice, template.special_tokens)
    if not wrong:
        return replace(tagged, examples=len(others))
    with contextlib.suppress(UntaggableError):
        return replace(_right_for(template, tagged, shapes, others), refused=refused)
    return replace(tagged, otherwise=tuple(wrong))


def _right_for(
    template: ChatTemplate, tagged: Tagged, shapes: tuple[TriedShape, ...], others: tuple[TriedShape, ...]
) -> Tagged:
    """Tags a template again until the tags are right for `others` too.

    `tagged` is right for `shapes`. Raises UntaggableError.
    """
    known = shapes
    # Each try adds conversations on which tags were wrong; few are needed, since one tells of a kind.
    for number in range(_MOST_TRIES):
        if number:
            tagged = _tagged(template, known)
        wrong = wrong_shapes(template.source, tagged.source, others, template.special_tokens)
        if not wrong:
            return replace(tagged, shapes=shapes, examples=len(others))
        # Once more, with some of these among the conversations that the tags have to be right for.
        known = (*known, *(shape for shape in others if shape.name in list(wrong)[:_MOST_WRONG]))
    raise UntaggableError("tags are wrong for some conversations", next(iter(wrong.values())))


def _tagged(template: ChatTemplate, shapes: tuple[TriedShape, ...]) -> Tagged:
    environment = reference_environment()
    try:
        source = without_tags(read_items(normal(template.source), environment))
        in_place = printed_in_place(source, environment)
    except TemplateError as error:
        raise UntaggableError("the template's source cannot be taken apart", error.message) from error
    try:
        return _tagged_source(template, source, shapes, environment)
    except UntaggableError:
        # Sums that are assigned before they are printed cannot be cut, unless they are printed in place.
        if in_place is None:
            raise
        return _tagged_source(template, in_place, shapes, environment)


def _tagged_source(
    template: ChatTemplate, source: str, shapes: tuple[TriedShape, ...], environment: jinja2.Environment
) -> Tagged:
    try:
        items = read_items(source, environment)
        tree = read_tree(items)
        compiled = ChatTemplate(split_outputs(items)[0], special_tokens=template.special_tokens, name=template.name)
        watched = watch(items, compiled, shapes, template.name)
    except TemplateError as error:
        raise UntaggableError("the template's source cannot be taken apart", error.message) from error
    if watched.buffered is not None:
        raise UntaggableError(
            "trained text is collected by a `call`, `filter` or `block` block or a recursive loop before it is written",
            f"{watched.buffered[:60]!r}",
            help="transformers counts wrong inside such blocks; write the text outside of them",
        )

    def write(watched: Watched) -> str:
        finder = ConditionFinder(items, watched, environment, _render(template, shapes), _roles(template, shapes))
        planner = RegionPlanner(items, watched, finder)
        planner.body(tree, Scope())
        return tagged_source(items, planner.regions)

    tagged = write(watched)
    wrong = _wrong(template, source, tagged, shapes, environment)
    for strict in (1, 2):
        if wrong is not None and wrong.is_hollow:
            # Once more, with conditions where nothing is written, so that no block is empty there.
            tagged = write(watch(items, compiled, shapes, template.name, strict=strict))
            wrong = _wrong(template, source, tagged, shapes, environment)
    if wrong is not None:
        raise UntaggableError("transformers masks the tagged template otherwise", wrong.sentence)
    if GENERATION.search(tagged) is None:
        raise UntaggableError("trainers would not find the tags", "each has a `+`, to keep a line break")
    # `normal` drops the last line break; the file keeps its own.
    ending = template.source[len(template.source.rstrip("\r\n")) :]
    return Tagged(
        source=tagged + ending if not tagged.endswith("\n") else tagged,
        shapes=shapes,
        refused={},
        examples=0,
        blocks=tagged.count("endgeneration"),
        unseen=_unseen(items, tree, watched),
    )


def _check_policy(program: Program) -> None:
    help = "train on rows that `apply` or `Masker` makes: they say it exactly"
    if program.is_weighted:
        raise UntaggableError("the policy has weights, and a tag says trained or masked", help=help)
    for compiled, rule in zip(program.decider.rules, program.policy.rules, strict=True):
        said = f"`{rule.span.one_line}`"
        if rule.condition is not None:
            raise UntaggableError("a rule asks for fields of the data", said, help=help)
        if not compiled.is_whole:
            raise UntaggableError("a rule decides spans inside a text", said, help=help)


def _decided(
    template: ChatTemplate, program: Program, conversations: Mapping[str, Conversation]
) -> tuple[tuple[TriedShape, ...], dict[str, str]]:
    try:
        shapes, refused = decide(template, program, conversations)
    except AttributionError as error:
        raise UntaggableError("the policy trains text of unknown author", error.message, help=error.help) from error
    except PolicyEngineError as error:
        # `apply` refuses it too.
        help = error.help or "see with `policy-engine show` what the policy says of it"
        raise UntaggableError("the policy refuses a conversation", error.message, help=help) from error
    if not shapes:
        help = "see with `policy-engine template` which conversations it takes"
        raise UntaggableError("the template renders no conversation", next(iter(refused.values())), help=help)
    if not any(shape.trained_C.any() for shape in shapes):
        help = "see with `policy-engine show` what the policy trains"
        raise UntaggableError("nothing is trained", f"in {counted(len(shapes), 'conversation')}", help=help)
    return shapes, refused


def _others(template: ChatTemplate, program: Program, count: int) -> tuple[TriedShape, ...]:
    """Generated conversations that template and policy take, and what is trained of them."""
    found: list[TriedShape] = []
    for name, conversation in {**FURTHER, **generated(count)}.items():
        # What the policy itself refuses is no row to train on.
        with contextlib.suppress(PolicyEngineError):
            found += decide(template, program, {name: conversation})[0]
    return tuple(found)


def _roles(template: ChatTemplate, shapes: Sequence[TriedShape]) -> list[str]:
    roles = {str(message["role"]) for shape in shapes for message in shape.conversation.messages}
    # Roles of the model first: `role == 'assistant'` is the condition that most templates need.
    return sorted(roles, key=lambda role: (role not in template.model_roles, role))


def _render(template: ChatTemplate, shapes: Sequence[TriedShape]) -> Any:
    def render(compiled: jinja2.Template, number: int) -> None:
        conversation = shapes[number].conversation
        compiled.render(
            messages=list(map(plain_message, conversation.messages)),
            tools=None if conversation.tools is None else list(conversation.tools),
            documents=None,
            add_generation_prompt=False,
            **{**template.special_tokens, **conversation.template_kwargs},
        )

    return render


def _wrong(
    template: ChatTemplate, source: str, tagged: str, shapes: Sequence[TriedShape], environment: jinja2.Environment
) -> Wrong | None:
    if not same_tree(source, tagged, environment.parse):
        raise UntaggableError("tags would change the text")
    return wrong_shape(template.source, tagged, shapes, template.special_tokens)


def _unseen(items: Items, tree: Sequence[BlockNode], watched: Watched) -> tuple[int, ...]:
    """Lines that were never written, but for macros and the generation prompt."""
    written = set(_writing(items, tree))
    lines = set()
    for site in watched.sites:
        if site.written or (site.in_output, site.index) not in written:
            continue
        text = site.literal
        if site.in_output:
            lines.add(items.line(items.items[site.index].start))
        elif text is not None and text.strip():
            lines.add(items.line(items.gaps[site.index].start + len(text) - len(text.lstrip())))
    return tuple(sorted(lines))


def _writing(items: Items, nodes: Sequence[BlockNode]) -> Iterator[tuple[bool, int]]:
    """Outputs and gaps that write to the text, not into a macro or a `set` block."""
    for node in nodes:
        if node.kind in ("gap", "output"):
            yield node.kind == "output", node.first
        elif not any(token.text == "add_generation_prompt" for token in items.items[node.first].tokens):
            for body in node.bodies:
                yield from _writing(items, body)
