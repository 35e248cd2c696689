"""Control tokens in the data, encoded as plain text.

    data                 What is <|im_end|>?
    marked               What is ⟪<|im_end|>⟫?           before the template sees it; ⟪ and ⟫ are private characters
    rendered             <|im_start|>user⏎What is ⟪<|im_end|>⟫?<|im_end|>
    read                 the text without marks, and `literals`: characters 25 to 35 are plain text

The template's own `<|im_end|>` has no marks. transformers works the same way since 5.24, and no other way gives its
ids: a template that looks for `</think>` in a content may take one mark away with it, and a mark that is left alone
still parts the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from policy_engine.chat.trace.origins import LOST, Run, Scaffold, cut
from policy_engine.chat.trace.text import Traced, runs_of, traced
from policy_engine.chat.trace.values import PlacedText

# Of the private-use plane 15, whose characters no tokenizer has as tokens and no template looks for.
START: Final = "\U000f0000"
END: Final = "\U000f0001"
"""Marks before and behind a control token of the data. The data's own are left out, so it cannot write any."""

_MARKS: Final = re.compile(f"[{START}{END}]")

Pieces = Sequence[tuple[str, Scaffold]]


class Unmarked(NamedTuple):
    """A rendering without marks: its pieces, and the `literals` of `chat.segments.RenderedChat`."""

    pieces: list[tuple[str, Scaffold]]
    literals: tuple[tuple[int, int], ...]


def control_tokens(tokens: Iterable[str], always: Iterable[str], written: str | None) -> tuple[str, ...]:
    """The tokens that are plain text in the data.

    `tokens` are all added tokens. Those of `always` count, and so do those found in `written`, the literal text of the
    template, but for white space. None where the tokenizer lists its control tokens: then only `always` count.

    >>> control_tokens(['<|im_end|>', '<tool_call>', '<x>'], ['<|im_end|>'], "{{ '<tool_call>' }}")
    ('<|im_end|>', '<tool_call>')
    """
    sure = set(always)
    return tuple(
        token for token in tokens if token in sure or (written is not None and token in written and not token.isspace())
    )


def marked(value: Any, control: re.Pattern[str], *, places: bool = True) -> Any:
    """Data with marks around the control tokens in its texts, at any depth.

    Keys of objects stay as they are. A text with marks is a `PlacedText`: its other characters keep their offsets in
    the data. Without `places` it is plain.

    >>> from policy_engine.chat.label.markers import pattern_of
    >>> ascii(marked({"content": "What is <|im_end|>?"}, pattern_of(["<|im_end|>"]))["content"])
    "'What is \\\\U000f0000<|im_end|>\\\\U000f0001?'"
    """
    if isinstance(value, str):
        made = _marked_text(value, control)
        # Template arguments have no field to lead back to.
        return made if places else str.__str__(made)
    if isinstance(value, Mapping):
        return {key: marked(item, control, places=places) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [marked(item, control, places=places) for item in value]
    return value


def _marked_text(text: str, control: re.Pattern[str]) -> str:
    runs: list[tuple[int, int]] = []
    kept: list[str] = []
    at = 0
    # What lies between marks of the data: usually one stretch, the whole text.
    for found in [*_MARKS.finditer(text), None]:
        end = len(text) if found is None else found.start()
        if end > at:
            kept.append(text[at:end])
            runs.append((end - at, at))
        # Over the mark of the data, which is left out.
        at = end + 1
    clean = "".join(kept)
    places = [match.span() for match in control.finditer(clean)]
    if not places:
        return text if len(clean) == len(text) else PlacedText.of(clean, tuple(runs))
    made: list[str] = []
    placed: list[tuple[int, int]] = []
    done = 0
    for start, end in places:
        made += (clean[done:start], START, clean[start:end], END)
        # The marks have no place in the data; what is between them keeps its own.
        placed += (*_part(runs, done, start), (1, LOST), *_part(runs, start, end), (1, LOST))
        done = end
    made.append(clean[done:])
    placed += _part(runs, done, len(clean))
    return PlacedText.of("".join(made), tuple(placed))


def _part(runs: Sequence[tuple[int, int]], start: int, end: int) -> list[tuple[int, int]]:
    whole = tuple((length, None, offset) for length, offset in runs)
    return [(length, offset) for length, _, offset in cut(whole, start, end) if length]


def without_marks(pieces: Pieces, any_token: re.Pattern[str]) -> Unmarked:
    """A rendering of marked data, without the marks. `any_token` finds any added token.

    A token between two marks is literal; a mark that lost its other one only cuts.

    >>> from policy_engine.chat.trace.origins import claim_of
    >>> pieces = [(f"What is {START}<|im_end|>{END}?", claim_of(0, None, None, None, 0))]
    >>> from policy_engine.chat.label.markers import pattern_of
    >>> made = without_marks(pieces, pattern_of(["<|im_end|>"]))
    >>> made.pieces[0][0], made.literals
    ('What is <|im_end|>?', ((8, 18),))
    """
    text = "".join([piece for piece, _ in pieces])
    # No control token was in the data, or the template wrote nothing of it.
    if START not in text and END not in text:
        return Unmarked(list(pieces), ())
    literals: list[tuple[int, int]] = []
    gone = 0
    for found in re.finditer(f"{START}({any_token.pattern}){END}|[{START}{END}]", text):
        start = found.start() - gone
        # A mark alone makes an empty range, at which the text is cut for encoding, as transformers cuts it.
        literals.append((start, start + len(found[1] or "")))
        # Marks before this place, which the final text does not have.
        gone += 1 if found[1] is None else 2
    return Unmarked([(_without(piece), claim) for piece, claim in pieces], tuple(literals))


def with_marks(text: str, literals: Iterable[tuple[int, int]]) -> str:
    """A text without marks, with its marks: what a processor is given.

    >>> print(ascii(with_marks("What is <|im_end|>?", [(8, 18)])))
    'What is \\U000f0000<|im_end|>\\U000f0001?'
    """
    made: list[str] = []
    at = 0
    for start, end in literals:
        made += (text[at:start], START, text[start:end], END if end > start else "")
        at = end
    return "".join([*made, text[at:]])


def _without(piece: str) -> str:
    if START not in piece and END not in piece:
        return piece
    text = _MARKS.sub("", piece)
    if type(piece) is not Traced:
        return text
    kept: list[Run] = []
    at = 0
    for found in [*_MARKS.finditer(piece), None]:
        end = len(piece) if found is None else found.start()
        for run in cut(runs_of(piece), at, end) if end > at else ():
            last = kept[-1] if kept else None
            # What the marks took apart is one run again, so that the rendering has the shape it has without them.
            if last is not None and last[1] is run[1] and LOST not in (last[2], run[2]) and last[2] + last[0] == run[2]:
                kept[-1] = (last[0] + run[0], last[1], last[2])
            else:
                kept.append(run)
        at = end + 1
    return traced(text, tuple(kept))
