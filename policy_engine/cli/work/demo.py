"""`demo`: the shipped default policy on the embedded sample."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from policy_engine import builtin
from policy_engine.cli.accounts.apply_account import closing, failures
from policy_engine.cli.options import Named
from policy_engine.cli.outcome import Outcome
from policy_engine.cli.records import ShowOptions
from policy_engine.cli.work.apply import run_with_bar
from policy_engine.cli.work.inputs import load_inputs
from policy_engine.cli.work.request import Request
from policy_engine.cli.work.show import show_rows
from policy_engine.core.errors import DataError
from policy_engine.mask.masker import Masker
from policy_engine.proof.load_policy import policy_from_text
from policy_engine.run.run_options import RunOptions

POLICY = "default"
SHOWN = ("system-1", "reasoning-1", "tools-1", "emoji", "fake-turn")
"""Rows of the sample that the terminal shows, by their id; the page has all."""


def tour(folder: Path, *, overwrite: bool, machine: bool = True) -> Outcome:
    """Masks the sample into `folder`, shows some rows, and says what to try next.

    Raises DataError if the folder cannot be made or its files exist.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot make the folder `{folder}`: {error.strerror}", help="name another with --out"
        ) from error
    request = Request(data=str(builtin.SAMPLE), out=folder / "masked.parquet", options=RunOptions(overwrite=overwrite))
    request.check()
    inputs = load_inputs(Named(policy=POLICY, tokenizer="builtin"))
    # Some rows of the sample have images, which a tokenizer alone cannot take; the rest of their text is worth a look.
    policy = policy_from_text(f"use {POLICY}\non media ignore", name=POLICY)
    inputs = replace(inputs, masker=Masker(policy, inputs.masker.tokenizer))
    # Rows are named by id here and by number in `show_rows`, so that the sample can grow.
    ids = [row.get("id") for row in builtin.sample_rows()]
    page = folder / "masked.html"
    shown = tuple(ids.index(name) + 1 for name in SHOWN)
    which = ShowOptions(limit=None, html=page, overwrite=overwrite)
    views = show_rows(request.data, inputs, which, machine=machine, shown=shown)
    summary = run_with_bar(request, inputs)
    # One row of the sample is broken, to show what becomes of such a row: reported and counted, the others written.
    notes = tuple(replace(d, severity="info", help="this row is broken on purpose") for d in failures(summary))
    return Outcome(
        diagnostics=notes,
        data={**views.data, "summary": summary.to_json(), "wrote": [str(request.out), str(page)]},
        head=views.head,
        body=(
            *views.body[:-1],  # without what was written, which the account below says
            Text(""),
            *closing(summary, inputs.masker),
            Text(""),
            Text.assemble(("wrote ", ""), (str(request.out), "bold"), " and ", (str(page), "bold")),
            *_next(),
        ),
    )


def _next() -> tuple[RenderableType, ...]:
    data = str(builtin.SAMPLE)
    return (
        Text("next, with your own data and tokenizer:", style="dim"),
        Text(f"  policy-engine policies {POLICY}"),
        Text(f"  policy-engine explain {data} -p {POLICY} -t builtin --row 3"),
        Text("  policy-engine init DATA -t TOKENIZER"),
    )
