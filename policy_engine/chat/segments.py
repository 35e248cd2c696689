"""A rendered conversation: text in segments that know their turn, part and source.

`<|im_start|>user⏎Hi<|im_end|>⏎` has four: header, text (copied from `content` of message 0), eot, separator.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from policy_engine.core.vocabulary import MediaKind
from policy_engine.core.wording import counted, field_path

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """Characters `[start, end)` of one turn, one part and one source.

    `core.facts.SegmentFacts` documents the fields.

    `line` is the template line that wrote the characters (from 1), where the template did and the line is known.
    `unknown` marks text that a template computed from message data in a way that keeps no owner.
    """

    start: int
    end: int
    part: str
    turn: int | None
    field: tuple[str | int, ...] | None = None
    field_start: int = 0
    field_exact: bool = False
    item: int | None = None
    call: int | None = None
    line: int | None = None
    unknown: bool = False

    @property
    def from_data(self) -> bool:
        """True if the characters come from the data (message, tool schema, document).

        >>> Segment(start=0, end=2, part="text", turn=0, field=("content",)).from_data
        True
        """
        return self.field is not None


WHOLE: Final = "message"
"""The name of a piece that is a whole message."""

LostKind = Literal["text", "call", "reasoning", "media", "message", "input", "argument", "other", "blanks"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Unrendered:
    """A piece of a conversation with something in it, of which no character reached the text.

    `path` leads to the highest value of which nothing was written: `("tool_calls", 1)` is the second of two calls,
    `("content", 0, "text")` a text part, `()` a whole message (kind `message`). `turn` is None for what is given beside
    the messages (kind `input`): `("tools", 0)`. The kind `argument` is a template argument that the template does not
    read, `other` a field that `core.vocabulary.MESSAGE_FIELDS` does not list, `blanks` white space at the end of a
    field that stays open (`continue_final_message`). With `cut`, other characters of the text at `path` were written.

    >>> Unrendered(turn=1, path=("tool_calls", 1), kind="call").field
    'tool_calls[1]'
    """

    turn: int | None
    path: tuple[str | int, ...]
    kind: LostKind
    cut: tuple[int, int] | None = None
    """The first characters `[start, end)` of the text that are not there; None where none of it is."""

    @property
    def field(self) -> str:
        """The piece in words: `tool_calls[1]`, `part of content`, `message`, `reasoning`."""
        return _field_of(self.kind, self.path, self.cut is not None)


@functools.lru_cache(maxsize=1 << 12)  # thousands of rows lose the same field
def _field_of(kind: LostKind, path: tuple[str | int, ...], is_cut: bool) -> str:
    # Thinking inside of a content has no field of its own to be named by.
    if kind == "reasoning" and path[:1] == ("content",) and len(path) != 2:
        return "reasoning"
    if kind == "argument":
        return f"template argument {path[0]}"
    if kind == "blanks":
        return f"white space at the end of {field_path(path)}"
    return f"{'part of ' if is_cut else ''}{field_path(path) or WHOLE}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Miswritten:
    """A field that the template writes, and not as it is meant.

    `letters`: it wants a list or an object, got text, and wrote that letter by letter. `quoted`: the arguments of a
    call are JSON text, and the template wrote that as a JSON string: `"{\\"q\\": 1}"` where `{"q": 1}` is meant.
    `printed`: a list or an object is written as Python prints it: `[{'type': 'text', …}]`.
    """

    turn: int
    path: tuple[str | int, ...]
    how: Literal["letters", "quoted", "printed"]

    @property
    def name(self) -> str:
        """The field, as reports name it: `content`, `arguments`; `message` for a whole message."""
        if self.path[-1:] == ("arguments",):
            return "arguments"
        return str(self.path[0]) if self.path else WHOLE


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class GivenTokens:
    """Tokens that came with a rendering: ids, and the characters `[start, end)` of each (int32)."""

    ids: tuple[int, ...]
    starts_T: npt.NDArray[np.int32]
    ends_T: npt.NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderedChat:
    """The rendering of one conversation; `segments` cover `text` in order, without gaps.

    >>> message = {"role": "user", "content": "Hi"}
    >>> RenderedChat(text="Hi", segments=(), messages=(message,), sample={})
    <RenderedChat: 2 characters of 1 messages (user)>
    """

    text: str
    segments: Sequence[Segment]
    messages: tuple[Mapping[str, Any], ...]
    sample: Mapping[str, Any]
    unrendered: tuple[Unrendered, ...] = ()
    miswritten: tuple[Miswritten, ...] = ()
    generation_prompt: bool = False
    """True if the text ends with an opener that nothing follows."""
    stays_open: bool = False
    """True if the last message stays open (`continue_final_message`), so that its end is not written."""
    literals: tuple[tuple[int, int], ...] = ()
    """Characters `[start, end)` of control tokens in the data that are encoded as plain text, in order.

    An empty range only cuts: no token goes over it. Filled under `sanitize_control_tokens`.
    """
    tokens: GivenTokens | None = field(default=None, repr=False, compare=False)
    """The tokens, where what rendered the chat gives ids (`chat.encoders`); else a tokenizer reads the text."""
    sampled: tuple[tuple[int, int], ...] | None = None
    """The characters of tokens that a model sampled, as ranges in order; None where the row does not say it."""

    def __repr__(self) -> str:
        # Eight roles show the beginning of a conversation of hundreds.
        roles = ", ".join(str(message.get("role")) for message in self.messages[:8])
        more = ", …" if len(self.messages) > 8 else ""
        return f"<RenderedChat: {len(self.text)} characters of {len(self.messages)} messages ({roles}{more})>"

    def segment_text(self, segment: Segment) -> str:
        """The characters of a segment.

        >>> chat = RenderedChat(text="Hi", segments=(), messages=(), sample={})
        >>> chat.segment_text(Segment(start=0, end=1, part="text", turn=0))
        'H'
        """
        return self.text[segment.start : segment.end]

    def role(self, segment: Segment) -> str | None:
        """Role of the message that owns a segment."""
        return None if segment.turn is None else str(self.messages[segment.turn]["role"])


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaTokens:
    """The tokens of one medium: `count` of them from token `first` on.

    `turn` and `item` are its message and content part (from 0). `source` is its path or URL as the data has it, None
    for bytes and objects; `width` and `height` (pixels) are an image's, upright.
    """

    kind: MediaKind
    turn: int
    item: int
    first: int
    count: int
    source: str | None = None
    width: int | None = None
    height: int | None = None

    @property
    def in_words(self) -> str:
        """The medium for people.

        >>> MediaTokens(kind="image", turn=0, item=0, first=4, count=391, source="cat.png").in_words
        '[image cat.png: 391 tokens]'
        """
        size = "" if self.width is None else f", {self.width} × {self.height}"
        name = "" if self.source is None else f" {self.source}"
        return f"[{self.kind}{name}{size}: {counted(self.count, 'token')}]"


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizedChat:
    """The tokens of a rendered chat, by one tokenization of its whole text.

    `starts_T` and `ends_T` (int32) are the characters `[start, end)` of each token in `chat.text`; both never decrease.
    Several tokens may share one character (byte-level pieces of it, each with that character's range), and a token may
    be zero wide (start == end).
    """

    chat: RenderedChat
    input_ids: list[int]
    starts_T: npt.NDArray[np.int32]
    ends_T: npt.NDArray[np.int32]
    columns: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    """Columns beside the ids, one number per token: a processor's `mm_token_type_ids` (int8), or those that a row with
    given ids carries along (float32)."""
    media: tuple[MediaTokens, ...] | None = None
    """Media of the conversation, in order; None if a tokenizer made the ids."""
    media_together: bool = False
    """True if the tokens of one medium would be others without the rest of them."""
    drifted: tuple[tuple[int, int], ...] = ()
    """Ranges of given tokens that spell something else than the messages; they are never trained."""
    _ids_T: npt.NDArray[np.int32] | None = field(default=None, init=False, repr=False, compare=False)

    def __repr__(self) -> str:
        return f"<TokenizedChat: {len(self.input_ids)} tokens of {self.chat!r}>"

    @classmethod
    def of(
        cls,
        chat: RenderedChat,
        input_ids: list[int],
        ids_T: npt.NDArray[np.int32],
        ranges: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]],
        **more: Any,
    ) -> TokenizedChat:
        """From ids that are known as an array too, so that the list is turned into one once."""
        made = cls(chat=chat, input_ids=input_ids, starts_T=ranges[0], ends_T=ranges[1], **more)
        # The dataclass is frozen. The array is not an argument: it has the same ids as the list.
        object.__setattr__(made, "_ids_T", ids_T)
        return made

    @classmethod
    def given(cls, chat: RenderedChat, tokens: GivenTokens) -> TokenizedChat:
        """From the tokens that came with a chat."""
        import numpy as np  # not above: proofs read segments, and have no tokens

        ids_T = np.asarray(tokens.ids, dtype=np.int32)
        return cls.of(chat, list(tokens.ids), ids_T, (tokens.starts_T, tokens.ends_T))

    @property
    def ids_T(self) -> npt.NDArray[np.int32]:
        """`input_ids` as an array."""
        if self._ids_T is None:
            import numpy as np  # here, since proofs need segments and no arrays

            object.__setattr__(self, "_ids_T", np.asarray(self.input_ids, dtype=np.int32))
        assert self._ids_T is not None
        return self._ids_T
