"""Markers in template text: special tokens, and text of their shape.

`<|im_start|>user⏎` has the marker `<|im_start|>`, `[/INST]` is one, `###` is not. Shapes count because a template may
be used without its tokenizer.

Only scaffold is ever searched for markers, never message data.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_SHAPES = (
    r"<\|[^\s<>|]+\|>|<｜[^<>｜]+｜>|<\|[^\s<>|]+>|<[^\s<>|/]+\|>"
    r"|<<?/?[A-Za-z_][\w:.\-]*>>?|\[/?[A-Z_]+\]|\[/?[a-z]*[A-Z]+\]"
)
"""`<|x|>`, `<｜x｜>`, `<|x>`, `<x|>`, `<x>`, `</x>`, `<<x>>`, `[X]`, `[/X]`."""

# For templates that print it as text, or are used without their tokenizer.
_BOS = re.compile(
    r"\[gMASK\]\s?<sop>|<s>|<bos>|<BOS_TOKEN>|<\|begin_of_text\|>|<｜begin▁of▁sentence｜>|<\|startoftext\|>"
)

REASONING = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<unused94>thought", "<unused95>"),
    ("<|channel>thought", "<channel|>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<mm:think>", "</mm:think>"),
    ("<|think:start|>", "<|think:end|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<inner_thoughts>", "</inner_thoughts>"),
    ("◁think▷", "◁/think▷"),
)
"""Delimiters of thinking in public templates. A pair counts only where the template itself writes or splits at it."""


def delimiters_in(source: str) -> tuple[tuple[str, str], ...]:
    """The delimiters of thinking that a template's text has.

    >>> delimiters_in("{{ '<think>' }}{{ m.thought }}{{ '</think>' }}")
    (('<think>', '</think>'),)
    """
    return tuple(pair for pair in REASONING if pair[0] in source or pair[1] in source)


@dataclass(frozen=True, kw_only=True)
class Markers:
    """Finds markers in scaffold: the tokenizer's special and added tokens, and their shapes.

    >>> markers = Markers.of(["<|im_start|>", "<|im_end|>"], bos="<s>", eos="</s>")
    >>> text = "<|im_start|>user ### [/INST]"
    >>> [text[slice(*span)] for span in markers.spans(text)]
    ['<|im_start|>', '[/INST]']
    """

    pattern: re.Pattern[str]
    bos: str | None
    eos: str | None
    stops: frozenset[str] = frozenset()
    """Tokens at which the model is known to stop; a hint, mostly empty."""

    @classmethod
    def of(cls, tokens: Iterable[str], *, bos: str | None, eos: str | None, stops: Iterable[str] = ()) -> Markers:
        """Markers of a tokenizer; longer tokens win over those they contain."""
        # Tokens of blanks are no markers: they are in every text.
        known = sorted({t for t in tokens if t.strip()}, key=lambda t: (-len(t), t))
        alternatives = [re.escape(t) for t in known]
        return cls(pattern=re.compile("|".join([*alternatives, _SHAPES])), bos=bos, eos=eos, stops=frozenset(stops))

    def spans(self, text: str) -> list[tuple[int, int]]:
        """`[start, end)` of each marker, in order."""
        return [match.span() for match in self.pattern.finditer(text)]

    def texts(self, text: str) -> list[str]:
        """The markers of a text, in order.

        >>> Markers.of(["<|im_start|>"], bos=None, eos=None).texts("<|im_start|>user [/INST]")
        ['<|im_start|>', '[/INST]']
        """
        return [text[slice(*span)] for span in self.spans(text)]

    def back_to_boundary(self, text: str, at: int) -> int:
        """`at`, or the start of the marker that it cuts.

        >>> markers = Markers.of(["<|im_start|>", "<|im_end|>"], bos="<s>", eos="</s>")
        >>> markers.back_to_boundary("<|im_start|>user", 5), markers.back_to_boundary("<|im_start|>user", 14)
        (0, 14)
        """
        for start, end in self.spans(text):
            if start < at < end:
                return start
        return at

    def leading_bos(self, text: str) -> int:
        """Length of the begin-of-sequence marker that `text` opens with; 0 without one.

        >>> markers = Markers.of(["<|im_start|>", "<|im_end|>"], bos="<s>", eos="</s>")
        >>> markers.leading_bos("<s>Hi"), markers.leading_bos("<|begin_of_text|>Hi"), markers.leading_bos("Hi")
        (3, 17, 0)
        """
        if self.bos and text.startswith(self.bos):
            return len(self.bos)
        match = _BOS.match(text)
        return match.end() if match else 0


# Ends of a document in public tokenizers, for one whose `eos_token` is the end of a turn (`<|im_end|>`).
_DOCUMENT_ENDS = frozenset(
    {"</s>", "<eos>", "<|endoftext|>", "<|end_of_text|>", "<|end_text|>", "<｜end▁of▁sentence｜>", "<|eos|>"}
)


def ends_document(marker: str, eos: str | None) -> bool:
    """True if a marker after an end of turn ends the document.

    >>> ends_document("<|endoftext|>", None), ends_document("<|im_end|>", None)
    (True, False)
    """
    return marker == eos or marker in _DOCUMENT_ENDS


def is_closing_tag(marker: str) -> bool:
    """True if a marker closes a pair (`</tool_call>`, `[/INST]`): it ends a block, not a turn.

    >>> is_closing_tag("</tool_call>"), is_closing_tag("<|im_end|>")
    (True, False)
    """
    # `</s>` looks like a closing tag, and ends Llama 2's and Mistral's turns.
    return (marker.startswith("</") and marker != "</s>") or marker.startswith("[/")


def pattern_of(tokens: Iterable[str]) -> re.Pattern[str]:
    """A pattern that finds any of the tokens, the longest first; without tokens, nothing.

    >>> pattern_of(["<|a|>", "<|ab|>"]).findall("x<|ab|><|a|>")
    ['<|ab|>', '<|a|>']
    """
    # Longest first: `<|a|>` must not be found in `<|a|>b|>`. `(?!)` matches nothing, where an empty pattern would
    # match everywhere.
    return re.compile("|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or "(?!)")


def closing_tag(marker: str) -> str:
    """The tag that closes a tag of words; nothing for other markers.

    >>> closing_tag("<user>"), closing_tag("<|user|>"), closing_tag("</user>")
    ('</user>', '', '')
    """
    return f"</{marker[1:]}" if re.fullmatch(r"<[A-Za-z_][\w:.\-]*>", marker) else ""
