"""A real conversation from a plan, laid out as a rendered chat without any template."""

from __future__ import annotations

from typing import Any

from policy_engine.chat.segments import RenderedChat, Segment
from policy_engine.data.conversation import Conversation
from policy_engine.proof.model.world import World
from policy_engine.proof.witness.make_text import SegmentText, make_text
from policy_engine.proof.witness.make_turn import make_fields, make_turn
from policy_engine.proof.witness.neighbours import meet
from policy_engine.proof.witness.plans import Plan


def lay_out(world: World, plan: Plan, *, apart: bool = False) -> tuple[Conversation, RenderedChat, int]:
    """The conversation of a plan, its layout, and the index of the segment to look at.

    `apart` is that of `neighbours.meet`. Raises `Unrealised` where data and texts cannot be made to meet the plan
    together. What is made is not trusted yet: `witness` replays it.
    """
    meet(world, plan, apart=apart)
    out = _Writer(world.conditions.sampled)
    target = -1
    unowned = plan.unowned
    # A generation prompt comes last, all other text without an owner first.
    opener = unowned is not None and unowned.part == "generation_prompt"
    if unowned is not None and not opener:
        target = out.write(SegmentText(part=unowned.part, text=make_text(world, unowned), plan=unowned), None)
    messages: list[dict[str, Any]] = []
    for index, turn in enumerate(plan.turns):
        pieces = make_turn(world, turn, messages)
        parts = {piece.part for piece in pieces}
        # Scaffold that nobody planned, in ChatML's form.
        if "header" not in parts:
            out.write(SegmentText(part="header", text=f"<|im_start|>{messages[-1]['role']}\n"), index)
        for piece in pieces:
            number = out.write(piece, index)
            # By identity: the pieces of a turn were sorted by part.
            if index == plan.target and piece.plan is turn.segments[0]:
                target = number
        if "eot" not in parts:
            out.write(SegmentText(part="eot", text="<|im_end|>"), index)
        if "separator" not in parts:
            out.write(SegmentText(part="separator", text="\n"), index)
    if unowned is not None and opener:
        target = out.write(SegmentText(part=unowned.part, text=make_text(world, unowned), plan=unowned), None)
    sample: dict[str, Any] = {}
    make_fields(world, "sample", plan.assignment, sample)
    conversation = Conversation(messages=tuple(messages), sample=sample)
    chat = RenderedChat(
        text="".join(out.texts),
        segments=tuple(out.segments),
        messages=conversation.messages,
        sample=sample,
        generation_prompt=opener,
        sampled=None if world.conditions.sampled is None else tuple(out.sampled),
    )
    return conversation, chat, target


class _Writer:
    def __init__(self, sampled: int | None) -> None:
        self._variable = sampled
        self.sampled: list[tuple[int, int]] = []
        """The characters that are sampled, where the policy asks; scaffold that is not planned never is."""
        self.texts: list[str] = []
        self.segments: list[Segment] = []
        self._at = 0

    def write(self, piece: SegmentText, turn: int | None) -> int:
        """Writes a segment; returns its index."""
        end = self._at + len(piece.text)
        self.segments.append(
            Segment(
                start=self._at,
                end=end,
                part=piece.part,
                turn=turn,
                field=piece.field,
                # Text of a field is laid out as it is in the data, so offsets agree.
                field_exact=piece.field is not None,
                item=piece.item,
                call=piece.call,
            )
        )
        if self._variable is not None and piece.plan is not None and piece.plan.assignment[self._variable] == 1:
            self.sampled.append((self._at, end))
        self.texts.append(piece.text)
        self._at = end
        return len(self.segments) - 1
