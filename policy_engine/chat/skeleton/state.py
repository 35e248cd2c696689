"""The claims of a recorded template, which follow the origins of the data behind probes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from policy_engine.chat.skeleton.probe import Number, Text, has_data
from policy_engine.chat.skeleton.tape import Probe
from policy_engine.chat.trace.claims import Buffer, State, tagged
from policy_engine.chat.trace.origins import Scaffold
from policy_engine.chat.trace.values import origin_of

if TYPE_CHECKING:
    from policy_engine.chat.skeleton.recording_environment import RecordingEnvironment


class RecordingState(State):
    """The claims of a recording."""

    __slots__ = ("_environment",)

    def __init__(self, environment: RecordingEnvironment, *args: Any) -> None:
        super().__init__(*args)
        self._environment = environment

    def _seen(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        tape = self._environment.tape
        lists = [value for value in values[1:] if isinstance(tape.concrete(value), list)]
        if lists and isinstance(values[0], Number):
            raise tape.refuse("a place in a list that the data says")
        for value in values:
            if isinstance(value, Probe):
                if not value.is_cut:
                    tape.test("origin", _origin_key, value)
            elif type(value) is dict and has_data(value):
                tape.test("origin", _origin_key, value)
        return tuple(map(tape.concrete, values))

    def bind(self, saved: Scaffold, values: tuple[Any, ...]) -> bool:
        return super().bind(saved, self._seen(values))

    def assign(self, values: tuple[Any, ...]) -> None:
        super().assign(self._seen(values))

    def enter(self, saved: Scaffold, values: tuple[Any, ...]) -> None:
        super().enter(saved, self._seen(values))

    def claimed(self, value: Any) -> Any:
        if isinstance(value, Text):
            return value if self.claim.turn is None or isinstance(value.value, Markup) else self.tag(value)
        return super().claimed(value)

    def tag(self, value: Any) -> Any:
        if not isinstance(value, Text):
            return super().tag(value)
        if value.is_cut:
            return value  # all of it is data
        claim = self.claim
        key = f"tag {claim.turn} {claim.call} {claim.item} {claim.branch}"
        return self._environment.tape.step(key, functools.partial(tagged, claim), value)

    def buffer(self) -> Buffer:
        made = RecordingBuffer()
        made.state = self
        made.environment = self._environment
        return made


class RecordingBuffer(Buffer):
    """The pieces of a block in a recording."""

    environment: RecordingEnvironment

    def append(self, piece: Any) -> None:
        parts = self.environment.operands(piece) if type(piece) is tuple else (piece,)
        for part in parts:
            is_markup = isinstance(part.value if isinstance(part, Probe) else part, Markup)
            list.append(self, part if is_markup else self.state.tag(part))


def _origin_key(value: Any) -> Any:
    found = origin_of(value)
    return None if found is None else (found.turn, found.path)
