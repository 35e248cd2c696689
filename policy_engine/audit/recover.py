"""Conversations behind prepared token ids, found again by the template's own structure.

The template is rendered once with words of our own to learn how turns of each role open and end. A row's text is taken
apart at these places, rendered again, and believed only if text and ids come out as they were.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from policy_engine.audit.media_rows import Folded, MediaRows
from policy_engine.chat.given.place import place_given
from policy_engine.chat.segments import TokenizedChat
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import PolicyEngineError, or_none
from policy_engine.data.conversation import Conversation
from policy_engine.data.row_tokens import RowTokens, sampled_marks, token_ids


@dataclass(frozen=True, kw_only=True)
class TurnMarks:
    """Opening and ending of a role's turns in a template; either may be empty.

    >>> from policy_engine.chat.loading import load_tokenizer
    >>> [mark.opening for mark in Recoverer(load_tokenizer("builtin")).marks if mark.role == "user"]
    ['<|im_start|>user\\n']
    """

    role: str
    opening: str
    ending: str


class Recoverer:
    """Finds conversations in the ids of one tokenizer and template."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        self._media = None if tokenizer.media is None else MediaRows(tokenizer=tokenizer)
        self.marks, self._added = _learn(tokenizer, self._media)
        self._turn = _pattern(self.marks)
        openings = [re.escape(mark.opening) for mark in self.marks if mark.opening]
        # `(?!)` matches nothing: a template without openings has no turns to find.
        self._opening = re.compile("|".join(openings) or r"(?!)")
        named = [re.escape(str(token)) for token in tokenizer.special_tokens.values() if isinstance(token, str)]
        self._markers = re.compile("|".join(named) or r"(?!)")
        added = sorted(
            {str(token) for token in tokenizer.tokenizer.added_tokens_decoder.values()}, key=len, reverse=True
        )
        self._blank_behind = re.compile(f"({'|'.join(map(re.escape, added)) or '(?!)'}) ")

    def recover(
        self, input_ids: Sequence[int], media: Sequence[Mapping[str, Any]] | None = None
    ) -> TokenizedChat | None:
        """The tokenized chat whose ids these are; None if no rendering gives the same ids.

        `media` is the row's column of that name, if it has one.

        >>> from policy_engine.chat.loading import load_tokenizer
        >>> tokenizer = load_tokenizer("builtin")
        >>> chat = tokenizer.template.render(Conversation(messages=({"role": "user", "content": "Hi"},)))
        >>> Recoverer(tokenizer).recover(tokenizer.encode(chat).input_ids).chat.messages
        ({'role': 'user', 'content': 'Hi'},)
        """
        decoded = self._tokenizer.tokenizer.decode(list(input_ids), skip_special_tokens=False)
        # Vocabularies of SentencePiece put a blank in front of text behind a control token, and decode it too.
        for text in dict.fromkeys((decoded, self._blank_behind.sub(r"\1", decoded))):
            folded = None if self._media is None else self._media.fold(text, input_ids, media)
            for messages in self._readings(text if folded is None else folded.text):
                chat = self._rendered(Conversation(messages=tuple(messages)), input_ids, folded)
                if chat is not None:
                    return chat
        return None

    def exactly(
        self, conversation: Conversation, input_ids: Sequence[int], sampled: Sequence[Any] | None = None
    ) -> TokenizedChat | None:
        """The tokenized source, if these are its ids, or the first of them (a truncated row).

        Other ids that spell the same text, as a rollout's may, are taken as well. `sampled` are the row's marks of
        tokens that a model sampled.
        """
        chat = encoded(self._tokenizer, conversation)
        if chat is None:
            return None
        if sampled is None and (found := _if_equal(chat, input_ids)) is not None:
            return found
        return self._spelled(chat, input_ids, sampled)

    def _spelled(
        self, chat: TokenizedChat, input_ids: Sequence[int], sampled: Sequence[Any] | None = None
    ) -> TokenizedChat | None:
        try:
            given = RowTokens(
                ids_T=token_ids(list(input_ids), "input_ids"),
                sampled_T=None if sampled is None else sampled_marks(list(sampled), "sampled"),
            )
            return place_given(self._tokenizer, chat.chat, given)
        except PolicyEngineError:
            return None

    def _rendered(
        self, conversation: Conversation, input_ids: Sequence[int], folded: Folded | None
    ) -> TokenizedChat | None:
        if self._media is None or folded is None:
            own = encoded(self._tokenizer, conversation)
            if own is None:
                return None
            if (equal := _if_equal(own, input_ids)) is not None:
                return equal
            found = self._spelled(own, input_ids)
            if found is None:
                return None
            # A marker that somebody wrote letter by letter reads like a turn that ends, and is not one.
            marks = self._marked(found)
            return found if self._marked(own)[: len(marks)] == marks else None
        chat = self._media.render(conversation.messages)
        made = None if chat is None else or_none(self._tokenizer.encode_written, chat, folded.written)
        return None if made is None else _if_equal(made, input_ids)

    def _marked(self, chat: TokenizedChat) -> list[tuple[int, int]]:
        """Ids of special and added tokens, each with the place where it starts."""
        marks = self._tokenizer.tokenizer.added_tokens_decoder
        return [(i, int(start)) for i, start in zip(chat.input_ids, chat.starts_T) if i in marks]

    def _readings(self, text: str) -> list[list[dict[str, Any]]]:
        """The ways to take a text apart into messages, likeliest first."""
        first = self._opening.search(text)
        if first is None:
            return []
        messages: list[dict[str, Any]] = []
        at = first.start()
        while at < len(text):
            match = self._turn.match(text, at)
            # What is behind the last turn stays out; the comparison of ids decides if that was right.
            if match is None or match.end() == at:
                break
            group = str(match.lastgroup)
            messages.append({"role": self.marks[int(group[1:])].role, "content": match[group]})
            at = match.end()
        readings = [messages]
        if messages and messages[0]["role"] == "system":
            # If the same ids come out without it, it is the system prompt that the template writes by itself.
            readings.insert(0, messages[1:])
        elif before := self._markers.sub("", text[: first.start()]):
            # A template without an opening for system messages writes them as they are, before the first turn.
            readings.append([{"role": "system", "content": before}, *messages])
        return [better for reading in readings if reading for better in (*self._without_added(reading), reading)]

    def _without_added(self, messages: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        """The messages without text that the template writes before a content in some places only.

        That is thinking that is empty: left in the content, it would be taken for the data's.
        """
        made = [
            {
                **message,
                "content": next((c[len(a) :] for a in self._added.get(message["role"], ()) if c.startswith(a)), c),
            }
            for message in messages
            for c in (message["content"],)
        ]
        return [made] if made != messages else []


def encoded(tokenizer: ChatTokenizer, conversation: Conversation) -> TokenizedChat | None:
    """A conversation's tokens; None if the template or the tokenizer refuses it."""
    return or_none(lambda: tokenizer.encode(tokenizer.render(conversation)))


def _if_equal(chat: TokenizedChat, input_ids: Sequence[int]) -> TokenizedChat | None:
    ids = list(input_ids)
    if chat.input_ids == ids:
        return chat
    # A truncated row: its text is the start of the conversation's.
    if ids and chat.input_ids[: len(ids)] == ids:
        return TokenizedChat(
            chat=chat.chat, input_ids=ids, starts_T=chat.starts_T[: len(ids)], ends_T=chat.ends_T[: len(ids)]
        )
    return None


def _learn(tokenizer: ChatTokenizer, media: MediaRows | None) -> tuple[list[TurnMarks], dict[str, list[str]]]:
    """The marks of each role's turns, and the text between an opening and the content.

    That text is by role, where the template writes some there, longest first.
    """
    marks: dict[str, TurnMarks] = {}
    before: dict[str, set[str]] = {}
    plain = [
        ("system", "QQsys"),
        ("user", "QQone"),
        ("assistant", "QQtwo"),
        ("user", "QQthree"),
        ("assistant", "QQfour"),
    ]
    call = {"id": "callid001", "type": "function", "function": {"name": "look_up", "arguments": {"q": "QQq"}}}
    tools: list[dict[str, Any]] = [
        {"role": "user", "content": "QQone"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "QQres", "tool_call_id": "callid001", "name": "look_up"},
        {"role": "assistant", "content": "QQtwo"},
        {"role": "user", "content": "QQthree"},
    ]
    # Without the system message first: a template that writes it into the user's turn opens that turn in another way.
    tries: list[list[dict[str, Any]]] = [
        [{"role": role, "content": content} for role, content in plain[1:]],
        [{"role": role, "content": content} for role, content in plain],
        tools,
    ]
    for messages in tries:
        plainly = Conversation(messages=tuple(messages))
        chat = or_none(tokenizer.render, plainly) if media is None else media.render(messages)
        if chat is None:
            continue
        for turn, message in enumerate(messages):
            own = [s for s in chat.segments if s.turn == turn]
            data = [s for s in own if s.field is not None and s.field[0] == "content"]
            if data:
                written = "".join(chat.segment_text(s) for s in own if s.end <= data[0].start)
                before.setdefault(message["role"], set()).add(written)
            # The last turn may end in another way than those before it, so its ending is not learned.
            if not data or message["role"] in marks or (turn == len(messages) - 1 and len(messages) > 2):
                continue
            marks[message["role"]] = TurnMarks(
                role=message["role"],
                opening="".join(chat.segment_text(s) for s in own if s.part == "header" and s.end <= data[0].start),
                ending="".join(chat.segment_text(s) for s in own if s.start >= data[-1].end),
            )
    added = {
        role: sorted(
            (b[len(mark.opening) :] for b in before[role] if b.startswith(mark.opening)), key=len, reverse=True
        )
        for role, mark in marks.items()
    }
    # A turn that begins with a medium may open in another way: `User:<image>` and `User: Hello`.
    other = [
        replace(mark, opening=opening)
        for role, mark in (marks if media is not None else {}).items()
        for opening in (() if media is None else dict.fromkeys(media.openings(role)))
        if opening and opening != mark.opening
    ]
    return [*marks.values(), *other], {role: [text for text in texts if text] for role, texts in added.items()}


def _pattern(marks: Sequence[TurnMarks]) -> re.Pattern[str]:
    """One turn: its opening, its content as a group named by the mark, and its ending.

    A turn without an ending goes on to the next opening. Blanks before an opening are a decoder's.

    >>> _pattern([TurnMarks(role="user", opening="<u>", ending="</u>")]).match("<u>Hi</u>")["r0"]
    'Hi'
    """
    openings = [re.escape(mark.opening) for mark in marks if mark.opening]
    until_next = f"(?=\\s?(?:{'|'.join(openings)})|\\Z)"
    turns = []
    # Longest opening first: `<|im_start|>assistant` before a role whose opening is the start of it.
    for i in sorted(range(len(marks)), key=lambda i: -len(marks[i].opening)):
        mark = marks[i]
        if mark.opening or mark.ending:
            lead = rf"\s?{re.escape(mark.opening)}" if mark.opening else ""
            follow = until_next if mark.opening and (not mark.ending or all(m.opening for m in marks)) else ""
            turns.append(f"{lead}(?P<r{i}>(?s:.*?)){_ending(mark.ending)}{follow}")
    return re.compile("|".join(turns) or r"(?!)")


def _ending(ending: str) -> str:
    # The last turn may lack the blanks that separate turns, and a truncated row its end marker.
    core = ending.rstrip()
    return f"(?:{re.escape(ending)}|{re.escape(core)}\\Z|\\Z)" if ending else ""


def source_of(row: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The messages a prepared row still carries beside its ids, if any.

    >>> source_of({"messages": [{"role": "user", "content": "Hi"}], "input_ids": [1]})
    [{'role': 'user', 'content': 'Hi'}]
    """
    messages = row.get("messages") or row.get("conversations")
    if isinstance(messages, list) and messages and all(isinstance(m, Mapping) for m in messages):
        return [dict(m) for m in messages]
    return None
