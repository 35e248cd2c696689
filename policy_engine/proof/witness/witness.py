"""Conversations from a region, replayed through the engine before they are reported."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from policy_engine.builtin import FOLDER
from policy_engine.chat.segments import RenderedChat
from policy_engine.core.errors import GuardError, PolicyEngineError
from policy_engine.lang.checked import CheckedGuard, CheckedPolicy
from policy_engine.proof.model.places import numbers
from policy_engine.proof.model.reachable import Possible
from policy_engine.proof.model.regions import Region
from policy_engine.proof.results import Witness
from policy_engine.proof.witness.find_values import Unrealised
from policy_engine.proof.witness.lay_out import lay_out
from policy_engine.proof.witness.plans import Assignment, Planner
from policy_engine.rules.compile import compile_policy
from policy_engine.rules.decisions import Piece

if TYPE_CHECKING:
    from policy_engine.chat.template import ChatTemplate

MAX_TRIES: Final = 40
"""Conversations that are built for one finding before it stays *possible*."""
MAX_ENTRIES: Final = 12
"""Cases of a region that are tried, several times each."""


class Claim(Protocol):
    """A finding that a conversation has to show."""

    def shown(self, chat: RenderedChat, segment: int) -> Piece | None:
        """The decision at a segment that shows it, or None. Raises what deciding the chat raises."""


class Breaks:
    """The guard is broken at the segment."""

    def __init__(self, policy: CheckedPolicy, guard: CheckedGuard) -> None:
        self._guard = guard
        # Without guards, so that the decision can be looked at; with only this one, as another may fail first.
        self._bare = compile_policy(replace(policy, guards=()))
        self._guarded = compile_policy(replace(policy, guards=(guard,)))

    def shown(self, chat: RenderedChat, segment: int) -> Piece | None:
        """See `Claim`."""
        wrong = [
            piece
            for piece in self._bare.decide(chat).pieces
            if piece.segment == segment and bool(piece.weight) == (self._guard.kind == "never")
        ]
        if not wrong:
            return None
        try:
            self._guarded.decide(chat)
        except GuardError:
            return wrong[0]
        return None


class Differs:
    """Two policies give different weights at the segment.

    The decision shown is the new policy's.
    """

    def __init__(self, old: CheckedPolicy, new: CheckedPolicy) -> None:
        self._old = compile_policy(replace(old, guards=()))
        self._new = compile_policy(replace(new, guards=()))

    def shown(self, chat: RenderedChat, segment: int) -> Piece | None:
        """See `Claim`."""
        old = [p for p in self._old.decide(chat).pieces if p.segment == segment]
        for piece in self._new.decide(chat).pieces:
            if piece.segment == segment and any(
                p.start < piece.end and piece.start < p.end and p.weight != piece.weight for p in old
            ):
                return piece
        return None


class Finder:
    """Looks for conversations in the regions of one world."""

    def __init__(self, possible: Possible) -> None:
        self._possible = possible
        self._world = possible.world
        self._planner = Planner(possible)
        asked = self._world.conditions.asks_for
        # The message next to a turn is often its result or its caller too, and cannot always be both.
        self._may_be_apart = {"next", "result"} <= asked or {"previous", "answer"} <= asked

    def find(self, regions: list[Region], claim: Claim) -> Witness | None:
        """A conversation from the regions, one a class of parts, that shows the claim, or None.

        >>> from policy_engine.lang.check import check_text
        >>> from policy_engine.proof.model.world import World
        >>> policy = check_text("train assistant; never train assistant.text")
        >>> possible = Possible(World([policy]))
        >>> found = Finder(possible).find(possible.regions, Breaks(policy, policy.guards[0]))
        >>> found.conversation.messages, found.text
        (({'role': 'assistant', 'content': '4.'},), '4.')
        """
        for part, point, index, assignment in islice(self._candidates(regions), MAX_TRIES):
            witness = self._realise(part, point, index, assignment, claim)
            if witness is not None:
                return witness
        return None

    def _candidates(self, regions: list[Region]) -> Iterator[tuple[str, int, int, Assignment]]:
        """Parts, points and assignments to try: those without conditions, then a few of each kind."""
        space, classes = self._world.space, self._world.classes
        for index, (region, possible) in enumerate(zip(regions, self._possible.regions, strict=True)):
            for free, points in region.items():
                # All that is possible at these points is in the region: no condition narrows it, so the first try
                # usually shows it.
                for point in islice(numbers(possible.get(free, 0) & points), 2):
                    yield classes[index].parts[0], point, index, space.pick(free)
        # A few cases of every class of parts, so that one large region does not use up all tries.
        entries = [
            (index, points, free) for index, region in enumerate(regions) for free, points in islice(region.items(), 4)
        ]
        rest = entries[:MAX_ENTRIES]
        for place in range(2):
            for _ in range(3):
                following = []
                for index, points, free in rest:
                    picked = space.pick(free)
                    for point in islice(numbers(points), place, place + 1):
                        yield classes[index].parts[0], point, index, picked
                    # Another assignment next time: what failed once fails again.
                    if (left := space.without(free, space.one(picked))) != space.empty:
                        following.append((index, points, left))
                rest = following

    def _realise(self, part: str, point: int, index: int, assignment: Assignment, claim: Claim) -> Witness | None:
        for apart in (False, True) if self._may_be_apart else (False,):
            try:
                plan = self._planner.plan(self._world.classes[index], part, point, assignment)
                conversation, chat, segment = lay_out(self._world, plan, apart=apart)
                piece = claim.shown(chat, segment)
            # A plan that cannot be made real, or a chat that the engine refuses, shows nothing; the next one may.
            except (Unrealised, PolicyEngineError):
                continue
            if piece is not None:
                break
        else:
            return None
        turn = chat.segments[segment].turn
        by_template = False
        try:
            rendered = builtin_template().render(conversation)
            for number, s in enumerate(rendered.segments):
                # Preferred where it shows the same: readers know what a template writes.
                if s.part == part and s.turn == turn and (found := claim.shown(rendered, number)) is not None:
                    chat, segment, piece, by_template = rendered, number, found, True
                    break
        except PolicyEngineError:
            pass  # some roles and layouts are not for this template
        return Witness(
            conversation=conversation,
            chat=chat,
            segment=segment,
            rule=piece.rule,
            weight=piece.weight,
            by_template=by_template,
        )


@lru_cache(maxsize=1)
def builtin_template() -> ChatTemplate:
    """The chat template that ships with the package."""
    # Imported here: a policy whose guards hold compiles without Jinja.
    from policy_engine.chat.template import ChatTemplate

    home = Path(FOLDER)
    config = json.loads((home / "tokenizer_config.json").read_text("utf-8"))
    tokens = {key: config[key] for key in ("bos_token", "eos_token", "pad_token") if isinstance(config.get(key), str)}
    # The template alone: a proof tokenizes nothing.
    return ChatTemplate((home / "chat_template.jinja").read_text("utf-8"), special_tokens=tokens)
