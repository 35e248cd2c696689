"""Draws `docs/assets/picture.svg`, a real masking: `python scripts/picture.py`.

Tokens, labels and decisions are those of a real masking, with the built-in tokenizer. The picture has its own colours
for a dark screen, and no font of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from pygments.token import Comment, Keyword, Name, Operator, _TokenType

from policy_engine import Masker, policy_from_text
from policy_engine.mask.row import MaskedRow
from policy_engine.report.lexer import PolicyLexer

PATH = Path(__file__).parents[1] / "docs" / "assets" / "picture.svg"
POLICY = """train assistant            # what the model wrote
train eos of assistant     # and where it stops
mask assistant.reasoning   # but not its thinking
never train user, tool     # proven for all chats
"""
CHAT: Final = (
    {"role": "user", "content": "Is it raining in Oslo?"},
    {
        "role": "assistant",
        "reasoning_content": "I look.",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Oslo"}}}],
    },
    {"role": "tool", "content": "rain"},
    {"role": "assistant", "content": "It is raining."},
)
WIDTH: Final = 680
_CHARACTER: Final = 7.8
"""Width of a character; `textLength` makes every font keep to it."""
_LINE: Final = 24
_LEFT: Final = 96
_STYLE = """
.card{fill:#fff;stroke:#d0d7de}.t{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;fill:#1f2328}
.s{font:12px system-ui,-apple-system,'Segoe UI',sans-serif;fill:#57606a}.on{fill:#c9efd6}.off{fill:#eaeef2}
.k{fill:#0550ae;font-weight:600}.n{fill:#8250df}.c{fill:#6e7781}
@media (prefers-color-scheme:dark){
.card{fill:#16191f;stroke:#3a3f4b}.t{fill:#e6e8ec}.s{fill:#a2a9b5}.on{fill:#1d5236}.off{fill:#2c313a}
.k{fill:#79b8ff}.n{fill:#d2a8ff}.c{fill:#9aa2ae}}
"""


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token: its text, its id and its label, -100 where it is masked."""

    text: str
    id: int
    label: int

    @property
    def trained(self) -> bool:
        """True if the token carries loss."""
        return self.label != -100


def masked() -> MaskedRow:
    """The conversation, masked."""
    return Masker(policy_from_text(POLICY), "builtin")(list(CHAT))


def tokens(row: MaskedRow) -> list[Token]:
    """The tokens of a row, each with its text."""
    spans = zip(row.tokenized.starts_T.tolist(), row.tokenized.ends_T.tolist(), row.input_ids, row.labels, strict=True)
    return [Token(text=row.chat.text[start:end], id=id, label=label) for start, end, id, label in spans]


def picture() -> str:
    """The picture's text."""
    row = masked()
    policy, y = _policy(38)
    chat, y = _chat(row, y + 34)
    labels, y = _labels(row, y + 30)
    height = y + 8
    said = "A policy of four lines, a conversation in which the tokens that it trains are green, and their labels."
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="t d">',
            f'<title id="t">A policy, and what it trains</title><desc id="d">{said}</desc>',
            f"<style>{_STYLE}</style>",
            f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="10"/>',
            *policy,
            *chat,
            *labels,
            "</svg>\n",
        ]
    )


def _policy(y: int) -> tuple[list[str], int]:
    out = [_caption(16, y - 16, "the policy, a text file")]
    for line in POLICY.splitlines():
        at = 16.0
        for _, kind, word in PolicyLexer().get_tokens_unprocessed(line):
            if word.strip():
                out.append(_text(at, y + 4, word, _colour(kind)))
            at += len(word) * _CHARACTER
        y += 20
    return out, y


def _chat(row: MaskedRow, y: int) -> tuple[list[str], int]:
    """The conversation, a row of boxes a line; the role is beside each turn's first line."""
    out = [_caption(16, y - 20, "what it trains of a conversation: the green tokens")]
    at, turn = float(_LEFT), -1
    for token, segment in zip(tokens(row), row.mask.segments_T.tolist(), strict=True):
        owner = row.chat.segments[segment].turn
        if owner is not None and owner != turn and at == _LEFT:
            turn = owner
            out.append(_caption(16, y, str(CHAT[turn]["role"])))
        text = token.text.replace("\n", "⏎")
        width = max(len(text), 1) * _CHARACTER + 4
        if at + width > WIDTH - 12:
            at, y = float(_LEFT), y + _LINE
        out.append(_box(at, y, width, trained=token.trained))
        out.append(_text(at + 2, y, text))
        at += width + 2
        if token.text.endswith("\n"):
            at, y = float(_LEFT), y + _LINE
    return out, y


def _labels(row: MaskedRow, y: int) -> tuple[list[str], int]:
    """The last answer's tokens with their ids and labels."""
    out = [_caption(16, y - 22, "and what the trainer gets: one label a token, -100 where there is no loss")]
    shown = _last_answer(tokens(row))
    for line, (name, cells) in enumerate(_columns(shown)):
        out.append(_caption(16, y + line * 20, name))
        at = float(_LEFT)
        for token, cell in zip(shown, cells, strict=True):
            width = _width(token)
            if line == 0:
                out.append(_box(at, y, width, trained=token.trained))
            out.append(_text(at + (width - len(cell) * _CHARACTER) / 2, y + line * 20, cell))
            at += width + 2
    return out, y + 52


def _last_answer(all_tokens: Sequence[Token]) -> Sequence[Token]:
    first = max(at for at, token in enumerate(all_tokens) if token.text == "<|im_start|>")
    return all_tokens[first:]


def _columns(shown: Sequence[Token]) -> Iterator[tuple[str, list[str]]]:
    yield "token", [token.text.replace("\n", "⏎") for token in shown]
    yield "input_ids", [str(token.id) for token in shown]
    yield "labels", [str(token.label) for token in shown]


def _width(token: Token) -> float:
    return max(len(token.text), len(str(token.id)), len(str(token.label))) * _CHARACTER + 4


def _colour(kind: _TokenType) -> str:
    if kind in Comment:
        return "c"
    return "k" if kind in Keyword or kind in Operator.Word else "n" if kind in Name else ""


def _box(x: float, y: float, width: float, *, trained: bool) -> str:
    kind = "on" if trained else "off"
    return f'<rect class="{kind}" x="{x:.1f}" y="{y - 14:.1f}" width="{width:.1f}" height="19" rx="3"/>'


def _text(x: float, y: float, text: str, colour: str = "") -> str:
    length = len(text) * _CHARACTER
    return (
        f'<text class="t {colour}" x="{x:.1f}" y="{y:.1f}" textLength="{length:.1f}" lengthAdjust="spacingAndGlyphs" '
        f'xml:space="preserve">{escape(text)}</text>'
    )


def _caption(x: float, y: float, text: str) -> str:
    return f'<text class="s" x="{x}" y="{y}">{escape(text)}</text>'


if __name__ == "__main__":
    PATH.write_text(picture(), encoding="utf-8")
