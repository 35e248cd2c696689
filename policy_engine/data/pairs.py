"""Rows of preferences: two answers to one prompt, or one answer and whether it is wanted.

    {"prompt": [{"role": "user", "content": "Hi"}], "chosen": [{…"Hello"}], "rejected": [{…"What?"}]}
    Pair(chosen=Conversation(Hi, Hello), rejected=Conversation(Hi, What?), shared=1)

    {"prompt": "Hi", "completion": "Hello", "label": true}
    Judged(conversation=Conversation(Hi, Hello), shared=1, label=True)

The columns are those of TRL's datasets for its DPO, reward and KTO trainers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from policy_engine.core.wording import a_kind
from policy_engine.data.conversation import Conversation, check_no_input, conversation_of, question_of, read_row
from policy_engine.data.formats import Format, FormatKind, column, key_meant, message_list
from policy_engine.data.messages import read_list
from policy_engine.data.refusal import DROP, how_to_name, instead_of, refuse, text_problem

PAIR_KINDS: Final[frozenset[FormatKind]] = frozenset({"preference", "unpaired_preference"})
"""Formats whose rows `read_judged` reads."""

Messages = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two conversations that begin with the same `shared` messages, and one is preferred."""

    chosen: Conversation
    rejected: Conversation
    shared: int


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A conversation whose messages from `shared` on are wanted (`label`) or not."""

    conversation: Conversation
    shared: int
    label: bool


def read_judged(row: Any, spec: Format) -> Pair | Judged:
    """The pair, or the judged answer, of one dataset row.

    Text is a user's message in the prompt, and the model's in an answer. Without a prompt, the messages that both
    answers begin with are the prompt; of a judged conversation, and of one with the other answer as text, these are
    all messages but the last.

    Raises RowError where the row has another shape, both answers are the same, or they have no prompt in common.

    >>> from policy_engine.data.formats import named_format
    >>> row = {"prompt": "Hi", "chosen": "Hello", "rejected": "What?"}
    >>> pair = read_judged(row, named_format("preference"))
    >>> pair.shared, pair.rejected.messages[1]
    (1, {'role': 'assistant', 'content': 'What?'})
    """
    if not isinstance(row, Mapping):
        refuse(f"the row is {a_kind(row)}, not an object", DROP)
    return _read_pair(row, spec) if spec.kind == "preference" else _read_label(row, spec)


def conversations_in(row: Any, spec: Format) -> tuple[tuple[str, Conversation], ...]:
    """The conversations of a row of any format, each with its side.

    The side is `chosen`, `rejected`, or empty. Raises what `read_row` and `read_judged` raise.
    """
    if spec.kind not in PAIR_KINDS:
        return (("", read_row(row, spec)),)
    made = read_judged(row, spec)
    if isinstance(made, Judged):
        return (("", made.conversation),)
    return (("chosen", made.chosen), ("rejected", made.rejected))


def _read_pair(row: Mapping[str, Any], spec: Format) -> Pair:
    columns = (("chosen", spec.chosen), ("rejected", spec.rejected))
    answers = {name: _messages(row, option, name, spec, "assistant") for option, name in columns}
    chosen, rejected = answers[spec.chosen], answers[spec.rejected]
    prompt = _prompt(row, spec)
    if prompt is None and isinstance(rejected, str) and len(chosen) > 1 and not isinstance(chosen, str):
        # ms-swift's: text that another answer than the conversation's last message would be.
        prompt, chosen = chosen[:-1], chosen[-1:]
    if prompt is None and (isinstance(chosen, str) or isinstance(rejected, str)):
        name = spec.chosen if isinstance(chosen, str) else spec.rejected
        meant = key_meant("prompt", spec.prompt, row)
        refuse(
            f"`{name}` is text, and no column `{spec.prompt}` says what it answers",
            f"rename `{meant}` to `{spec.prompt}` in the data, or name it in a dataset file: `messages: {{format: "
            f"preference, prompt: {meant}}}`"
            if meant is not None
            else "add the prompt, or write both answers as lists of messages that begin with it",
        )
    if column(row, spec.prompt) is None:
        check_no_input(row, spec)
    sides = [_said(chosen), _said(rejected)]
    # Some data repeats the prompt in both answers (UltraFeedback), some has it apart.
    if prompt is None or all(_opens(side, prompt) for side in sides):
        shared = _shared(*sides)
        if not shared:
            refuse(
                f"`{spec.chosen}` and `{spec.rejected}` begin with different messages, and there is no column "
                f"`{spec.prompt}`: they have no prompt in common",
                "add the prompt, or begin both with its messages",
            )
    else:
        shared = len(prompt)
        sides = [[*prompt, *side] for side in sides]
    # A loss on their difference would be 0, or noise.
    if sides[0] == sides[1]:
        refuse(f"`{spec.chosen}` and `{spec.rejected}` are the same, so neither is preferred", "drop the row")
    for side, name in zip(sides, (spec.chosen, spec.rejected)):
        if len(side) == shared:
            refuse(f"`{name}` has no message behind the prompt", "add the answer, or drop the row")
        _check_open(prompt, side[shared], spec)
    # A copy of each list: a system message is put in front of it.
    made = [conversation_of(row, spec, list(side)) for side in sides]
    # A system message from a column makes the prompt one message longer.
    return Pair(chosen=made[0], rejected=made[1], shared=shared + len(made[0].messages) - len(sides[0]))


def _read_label(row: Mapping[str, Any], spec: Format) -> Judged:
    label = column(row, spec.label)
    # CSV files and some exports write 0 and 1.
    if not isinstance(label, bool) and label not in (0, 1):
        found, help = instead_of(label, "label", spec.label, row)
        refuse(f"column `{spec.label}` is {found}; it has to be true or false: is the answer wanted?", help)
    prompt = _prompt(row, spec)
    answer = _said(_messages(row, "completion", spec.completion, spec, "assistant"))
    if not answer:
        refuse(f"`{spec.completion}` has no message", "add the answer, or drop the row")
    if prompt is None:
        if len(answer) == 1:
            refuse(f"column `{spec.prompt}` is missing", how_to_name("prompt", spec.prompt, row, "column"))
        check_no_input(row, spec)
        # A whole conversation, of which LLaMA-Factory judges the last message too.
        prompt, answer = answer[:-1], answer[-1:]
        if answer[0].get("role") in ("user", "tool", "system"):
            refuse(f"`{spec.completion}` ends with no answer, but with a message of `{answer[0]['role']}`", DROP)
    _check_open(prompt, answer[0], spec)
    made = conversation_of(row, spec, [*prompt, *answer])
    return Judged(conversation=made, shared=len(made.messages) - len(answer), label=bool(label))


def _prompt(row: Mapping[str, Any], spec: Format) -> Messages | None:
    """The messages of the prompt; None if the row has no prompt."""
    if column(row, spec.prompt) is None:
        return None
    found = _messages(row, "prompt", spec.prompt, spec, "user")
    if isinstance(found, str):
        return question_of(row, spec, found)
    check_no_input(row, spec)
    return found


def _check_open(prompt: Messages | None, answer: Mapping[str, Any], spec: Format) -> None:
    """Refuses a prompt that ends with an answer: no other answer follows one."""
    if prompt and prompt[-1].get("role") == answer.get("role") == "assistant":
        refuse(
            f"column `{spec.prompt}` ends with an answer (`assistant`), which another answer cannot follow",
            f"take the answer out of `{spec.prompt}`, or drop the row; conversations that are no preferences belong in "
            "a file of their own",
        )


def _said(answer: str | Messages) -> Messages:
    return [{"role": "assistant", "content": answer}] if isinstance(answer, str) else answer


def _messages(row: Mapping[str, Any], option: str, name: str, spec: Format, role: str) -> str | Messages:
    """Text as it is, and a list of messages, or a single one, as messages."""
    value = column(row, name)
    if isinstance(value, Mapping):
        value = [value]
    found = message_list(value)
    # An answer that is text may be a JSON list of numbers; only a list of objects is messages.
    if found is not None and not (isinstance(value, str) and not all(isinstance(item, Mapping) for item in found)):
        return read_list(found, spec, name)
    if not isinstance(value, str):
        reason, help = instead_of(value, option, name, row)
        refuse(f"column `{name}` is {reason}; it has to be text of the {role}, or a list of messages", help)
    # No answer begins so; it is a list of messages that does not parse.
    if value.lstrip().startswith('[{"'):
        problem, help = text_problem(value)
        refuse(f"column `{name}` is {problem}", help)
    return value


def _opens(messages: Messages, prompt: Messages) -> bool:
    """True if an answer's messages repeat the prompt, or do behind a system message.

    >>> user, answer = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}
    >>> _opens([{"role": "system", "content": "Be brief."}, user, answer], [user]), _opens([answer], [user])
    (True, False)
    """
    if messages[: len(prompt)] == prompt:
        return True
    # The system message may be in the answers alone.
    first = [message for message in messages[:2] if message.get("role") != "system"][:1]
    return len(prompt) == 1 and first == prompt


def _shared(first: Messages, second: Messages) -> int:
    """The number of messages that both begin with."""
    pairs = zip(first, second)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
