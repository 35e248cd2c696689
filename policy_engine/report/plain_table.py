"""Tables without lines around them, every cell on one line."""

from __future__ import annotations

from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from policy_engine.report.visible import on_one_line


class PlainTable(Table):
    """A table for terminals and pipes, one line a row: a line break in a cell is shown as `↵`."""

    def __init__(self, *, show_header: bool = True, show_footer: bool = False) -> None:
        super().__init__(
            box=None, pad_edge=False, header_style="bold", show_header=show_header, show_footer=show_footer
        )

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Adds a row; `options` are those of rich's `Table.add_row`."""
        # As `Text`: rich would read `[bold]` in a plain string as markup, and cells hold text of data.
        lines = (Text(cell) if isinstance(cell, str) else cell for cell in cells)
        super().add_row(*(on_one_line(cell) if isinstance(cell, Text) else cell for cell in lines), **options)
