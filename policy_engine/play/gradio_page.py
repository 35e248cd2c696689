"""The live page on Gradio: components, and which of them follows which.

Their contents are made by the other modules of this folder.
"""

from __future__ import annotations

import functools
import os
from importlib.resources import files
from pathlib import PurePath
from typing import Any

# Before Gradio is imported, which asks for newer versions of itself otherwise.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import gradio as gr

from policy_engine.lang.library import read_shipped, shipped
from policy_engine.play.choice import FILTERS, HEADS, ORDERS, Choice, listing
from policy_engine.play.editions import Edition, Editions
from policy_engine.play.loaded_rows import Board
from policy_engine.play.opening import opening, query_of
from policy_engine.play.panes import (
    findings_pane,
    guards_pane,
    overview_pane,
    page_of,
    rows_pane,
    rules_pane,
    status,
)
from policy_engine.play.side_by_side import changes_pane, proof_pane
from policy_engine.report.html.escape import asset
from policy_engine.report.visible import one_line

_ALL = "all"
_COLOURS = ("effect", "rule", "role", "part", "reason")


def _script(name: str) -> str:
    """A function of the page's own script, as Gradio takes one."""
    return f"(...given) => window.policyEnginePlay.{name}(...given)"


class _Desk:
    """The callbacks of a page: values of components in, values of components out."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.editions = Editions(board)

    def edition(self, text: str | None) -> Edition:
        return self.editions.draft(text or "", None).edition

    def edit(self, text: str | None, last: str | None, *wanted: Any) -> tuple[Any, ...]:
        """Colours of a text; what takes longer follows in `prove`."""
        draft = self.editions.draft(text or "", last)
        edition = draft.edition
        shown = self.show(edition.text, *wanted)
        # The edition's text goes back as the state `last`: a text that is no policy leaves it as it was.
        return (edition.text, findings_pane(draft), rules_pane(edition), *shown)

    def prove(self, text: str | None, last: str | None) -> tuple[Any, ...]:
        draft = self.editions.draft(text or "", last)
        # The guards on the page are those of the last policy; they stay while the text is not a policy.
        guards = gr.skip() if draft.is_kept else guards_pane(draft.edition.proof)
        return findings_pane(draft, proven=True), guards, rules_pane(draft.edition, proven=True)

    def show(self, last: str | None, *wanted: Any) -> tuple[Any, ...]:
        edition, choice = self.edition(last), _choice(*wanted)
        return status(edition), overview_pane(edition), listing(edition, choice), rows_pane(edition, choice)

    def compare(self, other: str | None, last: str | None, *wanted: Any) -> tuple[Any, ...]:
        if not (other or "").strip():
            return "", ""
        draft = self.editions.draft(other or "", None)
        if draft.is_kept:
            return findings_pane(draft), ""
        new = self.edition(last)
        return changes_pane(draft.edition, new, _choice(*wanted)), proof_pane(draft.edition, new)

    def open(self, request: gr.Request) -> tuple[Any, ...]:
        """The texts and the row of the link that the page was opened with."""
        found = opening(self.board, dict(request.query_params or {}))
        if found.note:
            gr.Warning(one_line(found.note))
        return found.policy, found.other, _ALL if found.row is None else found.row

    def page(self, last: str | None, *wanted: Any) -> str:
        return page_of(self.edition(last), _choice(*wanted))


def _choice(filter: str, low: float | None, high: float | None, search: str, order: Any, row: Any) -> Choice:
    return Choice(
        filter=filter,
        # Gradio gives None for a number field that was emptied.
        low=0 if low is None else low,
        high=100 if high is None else high,
        search=search or "",
        order=order,
        row=None if row in (_ALL, None) else int(row),
    )


def _picked(table: gr.SelectData) -> int:
    # The first column of `HEADS`: the row's number, which names it in any order.
    return int(table.row_value[0])


def _preset(name: str | None) -> Any:
    return read_shipped(name).text if name in shipped() else gr.skip()


def build(board: Board) -> gr.Blocks:
    """The page for a board. It has to be launched with `launch_options`."""
    desk = _Desk(board)
    name = one_line(PurePath(board.data).name, 80)
    wide: dict[str, Any] = {"wrap_lines": True, "max_lines": 24, "buttons": ["copy"]}
    bare: dict[str, Any] = {"apply_default_css": False}
    with gr.Blocks(title=f"policy-engine play · {name}", analytics_enabled=False, fill_width=True) as page:
        last, made = gr.State(value=None), gr.Textbox(visible=False)
        state = gr.HTML(**bare, elem_id="play-status")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                text = gr.Code(board.opening, label="policy", lines=6, elem_id="play-policy", **wide)
                findings = gr.HTML(**bare, elem_id="play-findings")
                with gr.Accordion("Guards", open=True):
                    guards = gr.HTML(**bare, elem_id="play-guards")
                rules = gr.HTML(**bare, elem_id="play-rules")
                preset = gr.Dropdown(list(shipped()), value=None, label="start again from a shipped policy")
                with gr.Row():
                    share = gr.Button("Link", size="sm", elem_id="play-share")
                    save = gr.Button("Download policy", size="sm", elem_id="play-save")
                    save_page = gr.Button("Download page", size="sm", elem_id="play-save-page")
                link = gr.Textbox(label="opens with this policy and row", visible=False, elem_id="play-link")
            with gr.Column(scale=8, min_width=320):
                with gr.Row(elem_id="play-controls"):
                    row = gr.Dropdown(_numbers(board), value=_ALL, label="row", min_width=115, elem_id="play-row")
                    filter = gr.Dropdown(
                        list(FILTERS), value="all rows", label="show", min_width=130, elem_id="play-filter"
                    )
                    low = gr.Number(0, minimum=0, maximum=100, label="from %", min_width=80, elem_id="play-low")
                    high = gr.Number(100, minimum=0, maximum=100, label="to %", min_width=70, elem_id="play-high")
                    search = gr.Textbox(label="text", min_width=110, elem_id="play-search")
                    order = gr.Dropdown(list(ORDERS), value="number", label="sort by", min_width=140)
                with gr.Tabs():
                    with gr.Tab("Rows"):
                        with gr.Row(elem_id="play-looks"):
                            colours = gr.Radio(
                                list(_COLOURS),
                                value="effect",
                                show_label=False,
                                container=False,
                                elem_id="play-colours",
                            )
                            edges = gr.Checkbox(label="token edges", container=False, elem_id="play-edges")
                        rows = gr.HTML(**bare, elem_id="play-rows")
                    with gr.Tab("Overview"):
                        summary = gr.HTML(**bare, elem_id="play-overview")
                        table = gr.Dataframe(
                            headers=list(HEADS), datatype="str", interactive=False, max_height=420, type="array",
                            elem_id="play-table", show_label=False, buttons=[],
                        )  # fmt: skip
                    with gr.Tab("Compare"):
                        other_preset = gr.Dropdown(list(shipped()), value=None, label="compare with a shipped policy")
                        other = gr.Code(label="or with this one", lines=4, elem_id="play-other", **wide)
                        changes, proof = gr.HTML(**bare, elem_id="play-changes"), gr.HTML(**bare, elem_id="play-proof")

        wanted: list[Any] = [filter, low, high, search, order, row]
        shown: list[Any] = [state, summary, table, rows]
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        typed: dict[str, Any] = {"trigger_mode": "always_last", **quiet}
        edit = desk.edit, [text, last, *wanted], [last, findings, rules, *shown]
        prove = desk.prove, [text, last], [findings, guards, rules]
        compare = desk.compare, [other, last, *wanted], [changes, proof]
        # `always_last` for what follows too: else it would be left out while that of an earlier text is still at work.
        text.change(*edit, **typed).then(*prove, **typed).then(*compare, **typed)
        for control in wanted:
            control.change(desk.show, [last, *wanted], shown, **typed).then(*compare, **typed)
        other.change(*compare, **typed)
        table.select(_picked, None, row, **quiet)
        # `input`, not `change`: only what a person picks may replace the text.
        preset.input(_preset, preset, text, **quiet)
        other_preset.input(_preset, other_preset, other, **quiet)
        colours.change(None, colours, None, js=_script("colour"), **quiet)
        edges.change(None, edges, None, js=_script("edges"), **quiet)
        rows.change(None, None, None, js=_script("replaced"), **quiet)
        # The address is known in the browser alone: Python writes the query, and the script puts the address in front.
        linked = share.click(_link, [text, other, row], made, **quiet)
        linked = linked.then(None, made, link, js=_script("link"), **quiet)
        linked.then(lambda: gr.update(visible=True), None, link, **quiet)
        save.click(None, text, None, js=_script("savePolicy"), **quiet)
        written = save_page.click(desk.page, [last, *wanted], made, **quiet)
        written.then(None, made, None, js=_script("savePage"), **quiet)
        opened = page.load(desk.open, None, [text, other, row], **quiet)
        opened.then(*edit, **typed).then(*prove, **typed).then(*compare, **typed)
    return page


def _numbers(board: Board) -> list[tuple[str, str | int]]:
    numbers = dict.fromkeys(row.number for row in board.rows)
    return [("all", _ALL), *((f"row {number}", number) for number in numbers)]


def _link(text: str | None, other: str | None, row: Any) -> str:
    return query_of(policy=text or "", other=other or "", row=None if row in (_ALL, None) else int(row))


@functools.cache
def _own(name: str) -> str:
    return files("policy_engine.play").joinpath(name).read_text(encoding="utf-8")


def launch_options() -> dict[str, Any]:
    """Options for launching the page: its looks, and nothing that leaves this machine."""
    system = ["system-ui", "sans-serif"]
    theme = gr.themes.Base(
        primary_hue="green", neutral_hue="stone", font=system, font_mono=["ui-monospace", "monospace"]
    )
    return {
        "share": False,
        "quiet": True,
        "footer_links": [],
        # Rendering on the server needs Node, which Gradio would look for.
        "ssr_mode": False,
        "enable_monitoring": False,
        "theme": theme,
        # In the head: Gradio rewrites selectors of its option `css`, so that they reach no ancestor of the page.
        "head": f"<style>{asset('tokens.css')}{_own('play.css')}</style>"
        f"<script>{asset('tokens.js')}\n{_own('play.js')}</script>",
    }
