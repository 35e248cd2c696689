"""The one place that prints.

Text of data, policies and file names never steers a terminal or a build log:

role "a\\x1b[2J"           →    a␛[2J
role "a\\n::error::b"      →    a↵::error::b, on the line that the verb began
a row's line "::error::b" →    <U+003A>:error::b
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.text import Text

from policy_engine.report.styles import in_few_colours
from policy_engine.report.visible import on_one_line, spelled

# Wide enough for the tables of `apply`, narrow enough for a build log.
_PIPED_WIDTH = 140
# A colour may come before the first visible character of a line.
_STYLE = r"(?:\x1b\[[0-9;]*m)*"
# Build logs of GitHub read a line that begins with `::name` as a command, and `##[` anywhere; those of Azure `##vso[`.
_COMMAND = re.compile(rf"(?m)^({_STYLE}\s*{_STYLE}):(?=:[A-Za-z])|#(?=#(?:vso|teamcity)?\[)")


@dataclass(frozen=True)
class Block:
    """Text whose line breaks are the verb's own, printed as they are."""

    text: Text


class SafeConsole(Console):
    """A console on standard output or error that spells out unsafe characters.

    It highlights and replaces nothing.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        stream = sys.stderr if stderr else sys.stdout
        # A pipe has no width of its own, and 80 columns would cut tables that nobody needs cut.
        # Rich reads `COLUMNS` of the environment that it was imported in.
        columns = os.environ.get("COLUMNS", "")
        width = int(columns) if columns.isdigit() else None if stream.isatty() else _PIPED_WIDTH
        super().__init__(file=stream, highlight=False, emoji=False, markup=False, width=width)

    def get_style(self, name: str | Style, *, default: Style | str | None = None) -> Style:
        """The style of a name, in colours that the terminal has."""
        if isinstance(name, str) and self.color_system == "standard":
            name = in_few_colours(name)
        return super().get_style(name, default=default)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable, their text spelled out."""
        for segment in super().render(renderable, options):
            safe = segment.text if segment.control else spelled(segment.text)
            yield segment if safe == segment.text else Segment(safe, segment.style)


def print_all(items: Iterable[RenderableType | Block], *, stderr: bool = False) -> None:
    """Prints items in order. A `str` or `Text` is one line: a line break in it is shown as `↵`.

    Lines are left to the terminal to wrap, so that paths and commands can be copied whole.
    """
    console = SafeConsole(stderr=stderr)
    with console.capture() as captured:
        for item in items:
            if isinstance(item, Block):
                console.print(item.text, soft_wrap=True)
            elif isinstance(item, str | Text):
                console.print(on_one_line(Text(item) if isinstance(item, str) else item), soft_wrap=True)
            else:
                # Rich would measure each line of a row again to cut it, where the row has folded it to fit.
                console.print(item, crop=not getattr(item, "is_folded", False))
    # The whole text at once: a command is recognised by the start of a line, which a single item does not know.
    console.file.write(without_commands(captured.get()))
    console.file.flush()


def without_commands(text: str) -> str:
    """The text with what a build log would take for a command of the job spelled out.

    >>> without_commands("::error::x")
    '<U+003A>:error::x'
    """
    return _COMMAND.sub(lambda match: f"{match[1] or ''}<U+{ord(match[0][-1]):04X}>", text)
