"""The decisions about each piece of a template's source, over conversations of many shapes.

ChatML's `{{ m.content + '<|im_end|>' + '⏎' }}` has three operands. The second is trained where the message is an
answer and masked elsewhere; the third is masked everywhere. A literal that is trained in part is cut there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import AttributionError, TemplateError
from policy_engine.data.conversation import Conversation
from policy_engine.rules.program import Program
from policy_engine.tagging.items import Items, operands_of


@dataclass(frozen=True, kw_only=True)
class TriedShape:
    """One conversation: its text, and the characters that the policy trains."""

    name: str
    conversation: Conversation
    text: str
    trained_C: npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class CutPlace:
    """A place where the source can be cut.

    Inside an output (`in_output`), `index` is its item and the place is `offset` characters into operand `operand`;
    else `index` is a gap, and the place is behind `offset` of its characters.
    """

    index: int
    offset: int
    operand: int = 0
    in_output: bool = False


@dataclass(frozen=True, kw_only=True)
class WatchedPiece:
    """A piece of the source that is trained or masked as a whole each time it is written.

    `decisions` has one entry for each time: None where nothing was written. `mixed` is a text that was trained in
    part, and cannot be cut in the source.
    """

    start: CutPlace
    end: CutPlace
    site: int
    text: str
    decisions: tuple[bool | None, ...]
    mixed: str | None = None


@dataclass(kw_only=True)
class Site:
    """An operand or a text of the source, and its places: shape and characters `[start, end)`."""

    index: int
    operand: int
    literal: str | None
    in_output: bool
    written: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Watched:
    """All that was seen: `gaps` and `outputs` have the atoms by gap and by item."""

    shapes: tuple[TriedShape, ...]
    sites: tuple[Site, ...]
    gaps: Mapping[int, tuple[WatchedPiece, ...]]
    outputs: Mapping[int, tuple[WatchedPiece, ...]]
    buffered: str | None
    """Trained text that a `call`, `filter` or `block` block or a recursive loop wrote."""
    split_source: str
    """The source with every operand in an output of its own."""
    strict: int


def decide(
    template: ChatTemplate, program: Program, conversations: Mapping[str, Conversation]
) -> tuple[tuple[TriedShape, ...], dict[str, str]]:
    """The shapes that the template renders, and why it does not render the others.

    Raises AttributionError where the policy trains text whose author is unknown.
    """
    shapes: list[TriedShape] = []
    refused: dict[str, str] = {}
    for name, conversation in conversations.items():
        try:
            chat = template.render(conversation, in_other_words=False)
        except TemplateError as error:
            refused[name] = error.message
            continue
        table = program.table(chat)
        trained_C = np.zeros(len(chat.text), dtype=np.bool_)
        for start, end, segment, weight in zip(table.starts, table.ends, table.segments, table.weights):
            if weight and chat.segments[segment].unknown:
                raise AttributionError(
                    f"the policy trains text that the template computed from the data, as in {chat.text[start:end]!r}"
                )
            trained_C[start:end] = bool(weight)
        shapes.append(TriedShape(name=name, conversation=conversation, text=chat.text, trained_C=trained_C))
    return tuple(shapes), refused


def split_outputs(items: Items) -> tuple[str, tuple[Site, ...]]:
    """The source with each operand in an output of its own, and its sites."""
    source: list[str] = []
    sites: list[Site] = []
    for index, item in enumerate(items.items):
        gap = items.gaps[index]
        source.append(items.source[gap.start : gap.end])
        if gap.text:
            sites.append(Site(index=index, operand=0, literal=gap.text, in_output=False))
        if item.kind != "output":
            source.append(items.source[item.start : item.end])
            continue
        own = operands_of(items.source, item.tokens)
        if len(own) == 1:
            source.append(items.source[item.start : item.end])
        else:
            source.append(f"{item.opening} " + " }}{{ ".join(operand.source for operand in own) + f" {item.closing}")
        sites += [
            Site(index=index, operand=number, literal=operand.literal, in_output=True)
            for number, operand in enumerate(own)
        ]
    last = items.gaps[-1]
    source.append(items.source[last.start : last.end])
    if last.text:
        sites.append(Site(index=len(items.items), operand=0, literal=last.text, in_output=False))
    return "".join(source), tuple(sites)


def watch(items: Items, template: ChatTemplate, shapes: Sequence[TriedShape], name: str, *, strict: int = 0) -> Watched:
    """Renders the shapes once more, and collects the decisions about each piece of the source.

    With `strict`, nothing that is written between masked texts counts as masked, for transformers trains a token
    around an empty block. With 2, loops and branches, which may write nothing, are not put into a block either.
    `template` is the source of `split_outputs`, compiled. Raises TemplateError, which calls it `name`, if it does not
    write the same text.
    """
    source, sites = split_outputs(items)
    buffered = None
    for number, shape in enumerate(shapes):
        at = 0
        for output, piece in template.pieces_by_output(shape.conversation):
            end = at + len(piece)
            if shape.text[at:end] != piece:
                raise TemplateError(f"{name} writes another text if its sums are taken apart")
            if output is None:
                if shape.trained_C[at:end].any():
                    buffered = buffered or piece
            else:
                sites[output].written.append((number, at, end))
            at = end
        if at != len(shape.text):
            raise TemplateError(f"{name} writes another text if its sums are taken apart")
    gaps: dict[int, tuple[WatchedPiece, ...]] = {}
    outputs: dict[int, tuple[WatchedPiece, ...]] = {}
    for number, site in enumerate(sites):
        atoms = _atoms(site, number, shapes, strict > 0)
        if site.in_output:
            outputs[site.index] = (*outputs.get(site.index, ()), *atoms)
        else:
            gaps[site.index] = atoms
    return Watched(
        shapes=tuple(shapes),
        sites=sites,
        gaps=gaps,
        outputs=outputs,
        buffered=buffered,
        split_source=source,
        strict=strict,
    )


def _atoms(site: Site, number: int, shapes: Sequence[TriedShape], is_strict: bool) -> tuple[WatchedPiece, ...]:
    decisions = [shapes[shape].trained_C[start:end] for shape, start, end in site.written]
    if site.literal is None:
        mixed = next(
            (
                shapes[shape].text[start:end]
                for (shape, start, end), own_C in zip(site.written, decisions)
                if own_C.any() and not own_C.all()
            ),
            None,
        )
        is_trained = any(own_C.any() for own_C in decisions)
        found = tuple(
            bool(own_C.any()) if len(own_C) else False if hollow else None
            for own_C, hollow in (
                (own_C, is_strict and is_trained and is_hollow(shapes[shape], start))
                for (shape, start, _), own_C in zip(site.written, decisions)
            )
        )
        return (_atom(site, number, 0, None, found, "", mixed),)
    size = len(site.literal)
    # A literal is cut wherever some conversation changes its mind inside it.
    changes = {0, size}
    for own_C in decisions:
        changes |= set((np.flatnonzero(own_C[1:] != own_C[:-1]) + 1).tolist())
    cuts = sorted(changes)
    return tuple(
        _atom(site, number, low, high, tuple(bool(own_C[low]) for own_C in decisions), site.literal[low:high], None)
        for low, high in pairwise(cuts)
    )


def is_hollow(shape: TriedShape, at: int) -> bool:
    """True if a token may reach over a place, and what is on both sides is masked.

    >>> from policy_engine.testing.shapes import SHAPES
    >>> shape = TriedShape(name="", conversation=SHAPES["one exchange"], text="so be it", trained_C=np.zeros(8, bool))
    >>> is_hollow(shape, 1), is_hollow(shape, 2)
    (True, False)
    """
    if not 0 < at < len(shape.text) or shape.trained_C[at - 1] or shape.trained_C[at]:
        return False
    # Pre-tokenizers split between letters, blanks and marks, and glue a blank to the word behind it.
    before, after = shape.text[at - 1], shape.text[at]
    return before == " " or _class(before) == _class(after)


def _class(character: str) -> int:
    return 0 if character.isspace() else 1 if character.isalnum() else 2


def _atom(
    site: Site,
    number: int,
    low: int,
    high: int | None,
    decisions: tuple[bool | None, ...],
    text: str,
    mixed: str | None,
) -> WatchedPiece:
    def place(operand: int, offset: int) -> CutPlace:
        return CutPlace(index=site.index, operand=operand, offset=offset, in_output=site.in_output)

    is_whole = site.in_output and (high is None or high == len(site.literal or ""))
    end = place(site.operand + 1, 0) if is_whole else place(site.operand, high or 0)
    start = place(site.operand, low)
    return WatchedPiece(start=start, end=end, site=number, text=text, decisions=decisions, mixed=mixed)
