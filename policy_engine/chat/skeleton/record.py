"""One recording: a template run on probes for the data of one conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jinja2
import jinja2.runtime

from policy_engine.chat.skeleton.probe import make, placed
from policy_engine.chat.skeleton.recording_environment import RecordingEnvironment
from policy_engine.chat.skeleton.shape import OPAQUE
from policy_engine.chat.skeleton.state import RecordingState
from policy_engine.chat.skeleton.tape import Probe, Refused, Tape
from policy_engine.chat.trace.environment import TracingEnvironment
from policy_engine.chat.trace.meter import start, stop
from policy_engine.chat.trace.origins import Scaffold
from policy_engine.chat.trace.text import Traced
from policy_engine.chat.trace.values import TracedDict, TracedFloat, TracedInt, TracedList, TracedMessage


@dataclass(frozen=True, kw_only=True)
class Recording:
    """The operations of a run, and the pieces that it wrote: text, or a probe."""

    tape: Tape
    pieces: list[tuple[Any, Scaffold]]


def record(
    environment: TracingEnvironment, code: Any, variables: Mapping[str, Any], now: datetime, seconds: float
) -> Recording:
    """Runs the template that `code` is compiled from. `variables` are those of a rendering.

    Raises Refused where the template does what is not replayed, or fails.
    """
    tape = Tape(make)
    recording = RecordingEnvironment(environment, tape)
    try:
        template = jinja2.Template.from_code(recording, code, recording.make_globals(None))
        messages = [_message(tape, message) for message in variables["messages"]]
        context: Any = template.new_context({**variables, "messages": messages})
        state = context.pe = RecordingState(recording, start(seconds), now)
        pieces: list[tuple[Any, Scaffold]] = []
        written: Any = template.root_render_func(context)
        for piece in written:
            for part in recording.operands(piece) if type(piece) is tuple else (piece,):
                if not isinstance(part, str | Probe):
                    raise tape.refuse(f"it writes a {type(part).__name__}")
                if isinstance(part, str) and " at 0x" in part:
                    raise tape.refuse("the address of an object, which is another one in each run")
                pieces.append((part, state.claim))
    except Exception as error:
        raise tape.refuse(f"{type(error).__name__}: {error}") from error
    finally:
        stop()
    for part, _ in pieces:
        if isinstance(part, Probe):
            tape.register_of(part, plain=True)  # a field that nothing asked for is read at the end
    if tape.refused is not None:
        raise Refused(tape.refused)
    return Recording(tape=tape, pieces=pieces)


def _message(tape: Tape, message: TracedMessage) -> TracedMessage:
    made = TracedMessage()
    made._o = message._o
    turn = message._o.turn
    assert turn is not None
    for name, value in message.items():
        made[name] = value if name == "role" else _probed(tape, value, turn, name)
    tape.places[id(made)] = (made, turn, (), message)
    return made


def _probed(tape: Tape, value: Any, turn: int, name: Any) -> Any:
    kind = type(value)
    if kind is Traced:
        origin: Any = value._r[0][1]
        return placed(tape, value, turn, origin.path)
    if kind is TracedInt or kind is TracedFloat:
        return placed(tape, value, turn, value._o.path)
    if kind is TracedDict and name == OPAQUE:
        return placed(tape, value, turn, value._o.path)
    made: Any
    if kind is TracedDict:
        made = TracedDict()
        for key, item in value.items():
            plain = str.__str__(key)
            made[key] = item if plain == "type" and type(item) is Traced else _probed(tape, item, turn, plain)
    elif kind is TracedList:
        made = TracedList(_probed(tape, item, turn, None) for item in value)
    else:
        return value
    made._o = value._o
    tape.places[id(made)] = (made, turn, value._o.path, value)
    return made
