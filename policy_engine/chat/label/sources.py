"""The text of a rendering as bits with one source each, and the turn that each belongs to.

`'<|im_start|>' + message.role + '⏎' + message.content` becomes four bits: two literals, a role and content. All are
of the message that the loop held.
"""

from __future__ import annotations

from collections.abc import Sequence

from policy_engine.chat.trace.origins import LOST, UNKNOWN, Origin, Scaffold, Unclaimed, claim_of
from policy_engine.chat.trace.text import runs_of
from policy_engine.core.source import common_prefix
from policy_engine.core.vocabulary import LABEL_FIELDS


class Bit:
    """Characters `[start, end)` from one source; zero-wide for empty data.

    `turn` is the owner, `written_in` the turn that was being written, `origin` the data's field or None for scaffold.
    `adopted` marks scaffold written outside loops that went to the data on its left. `beside` is `tools` or
    `documents` for scaffold around those, which no message owns.
    """

    # Slots: a rendering has hundreds of these.
    __slots__ = (
        "adopted",
        "beside",
        "branch",
        "call",
        "end",
        "item",
        "line",
        "offset",
        "origin",
        "start",
        "turn",
        "written_in",
    )

    def __init__(
        self, start: int, end: int, origin: Origin | None, offset: int, claim: Scaffold, line: int | None
    ) -> None:
        self.start = start
        self.end = end
        self.origin = origin
        self.offset = offset
        self.turn = claim.turn
        # Kept apart from `turn`, which labelling may change.
        self.written_in = claim.turn
        self.call = claim.call
        self.item = claim.item
        self.branch = claim.branch
        self.line = line
        self.beside: str | None = None
        self.adopted = False

    @property
    def is_data(self) -> bool:
        """True if an author wrote the characters: data, but not a field that names its message."""
        origin = self.origin
        return origin is not None and origin is not UNKNOWN and not is_label(origin)


def is_label(origin: Origin) -> bool:
    """True if a field names a message (`role`, `name`, ids); its author did not write it.

    >>> from policy_engine.chat.trace.origins import origin_at
    >>> is_label(origin_at(0, ("role",))), is_label(origin_at(0, ("content",)))
    (True, False)
    """
    path = origin.path
    return origin.turn is not None and len(path) == 1 and path[0] in LABEL_FIELDS


def flatten(pieces: Sequence[tuple[str, Scaffold]]) -> list[Bit]:
    """One bit per run, with owners of data and claimed text set; unclaimed text has `turn` None.

    >>> from policy_engine.chat.trace.origins import origin_at
    >>> from policy_engine.chat.trace.text import traced
    >>> claim = claim_of(0, None, None, None, 0)
    >>> pieces = [("<|user|>", claim), (traced("Hi", ((2, origin_at(0, ("content",)), 0),)), claim)]
    >>> [(bit.start, bit.end, bit.is_data) for bit in flatten(pieces)]
    [(0, 8, False), (8, 10, True)]
    """
    bits: list[Bit] = []
    at = 0
    for piece, claim in pieces:
        runs = runs_of(piece)
        inside: set[int | None] | None = None
        for length, origin, offset in runs:
            kind = type(origin)
            if kind is Scaffold and claim.turn is not None and origin.turn != claim.turn:  # type: ignore[union-attr]
                # Claimed in a macro or an assignment for another message. It stays that message's only beside data of
                # it: a macro that looks something up in other messages writes for the one that calls it.
                if inside is None:
                    inside = {o.turn for _, o, _ in runs if type(o) is Origin}
                if origin.turn not in inside:  # type: ignore[union-attr]
                    line = origin.line  # type: ignore[union-attr]
                    origin = claim_of(claim.turn, claim.call, claim.item, line, claim.branch)
            # Data has a bit even where it is empty: it marks the place where the field would be.
            if kind is Origin:
                bits.append(_data_bit(at, length, origin, offset, claim))  # type: ignore[arg-type]
            elif length:
                if kind is Scaffold:
                    bits.append(Bit(at, at + length, None, LOST, origin, origin.line))  # type: ignore[arg-type,union-attr]
                else:
                    # Text that no loop variable claimed: its owner is found in `own_unclaimed`.
                    line = origin.line if kind is Unclaimed else None  # type: ignore[union-attr]
                    bits.append(Bit(at, at + length, None, LOST, claim, line))
            at += length
    return bits


def _data_bit(at: int, length: int, origin: Origin, offset: int, claim: Scaffold) -> Bit:
    bit = Bit(at, at + length, origin, offset, claim, None)
    if origin is UNKNOWN:
        return bit
    path = origin.path
    in_call = len(path) > 1 and path[0] == "tool_calls" and isinstance(path[1], int)
    foreign = claim.turn is not None and origin.turn is not None and claim.turn != origin.turn
    if is_label(origin):
        # A role names the message that is being written, also where it is another's.
        bit.turn = claim.turn if claim.turn is not None else origin.turn
    elif foreign and in_call and "arguments" not in path and "parameters" not in path:
        # A tool's name or a call's id printed in the turn of its result names that result.
        bit.turn = claim.turn
    else:
        bit.turn = origin.turn
        bit.call = path[1] if in_call else None  # type: ignore[assignment]
        bit.item = path[1] if len(path) > 1 and path[0] == "content" and isinstance(path[1], int) else None
    return bit


def own_unclaimed(bits: Sequence[Bit], branch_parents: Sequence[int]) -> None:
    """Give text that no binding claimed to the message whose data it adjoins, in place.

    The side that shares more of the `if` branches wins; of equal sides the left. Before all data, text belongs to the
    data on its right only if that was written outside loops too, in this branch or one inside it; else it is preamble.
    """
    ancestors = [_ancestors(branch, branch_parents) for branch in range(len(branch_parents))]
    left: Bit | None = None
    lefts: list[Bit | None] = []
    for bit in bits:
        lefts.append(left)
        if bit.is_data:
            left = bit
    right: Bit | None = None
    # From the right, so that the nearest data on both sides is known for each bit.
    for bit, before in zip(reversed(bits), reversed(lefts), strict=True):
        if bit.is_data:
            right = bit
        elif bit.turn is None and bit.origin is None:
            side = _side(bit, before, right, ancestors)
            if side is not None:
                bit.turn = side.turn
                bit.written_in = side.turn
                bit.adopted = side is before
                if side.turn is None and side.origin is not None:
                    bit.beside = str(side.origin.path[0])


def _ancestors(branch: int, parents: Sequence[int]) -> tuple[int, ...]:
    chain = [branch]
    while branch:
        branch = parents[branch]
        chain.append(branch)
    return tuple(reversed(chain))


def _side(bit: Bit, left: Bit | None, right: Bit | None, ancestors: Sequence[tuple[int, ...]]) -> Bit | None:
    own = ancestors[bit.branch]
    attach_right = (
        right is not None and right.written_in is None and bit.branch in ancestors[right.branch] and right is not left
    )
    if left is None:
        return right if attach_right else None
    if right is not None and attach_right:
        closer = common_prefix(own, ancestors[right.branch]) > common_prefix(own, ancestors[left.branch])
        # What introduces tools after a message, in the branch that writes the tools and not in the message's.
        introduces = right.turn is None and right.branch == bit.branch != left.branch
        return right if closer or introduces else left
    return left
