"""A masking run with a progress bar, and its outcome."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from policy_engine.cli.accounts.apply_account import closing, failures, no_rows
from policy_engine.cli.accounts.data_findings import data_findings
from policy_engine.cli.accounts.rules_json import rules_json
from policy_engine.cli.outcome import Exit, Outcome, diagnostics_of
from policy_engine.cli.reporters.console import SafeConsole
from policy_engine.cli.work.inputs import MaskerInputs
from policy_engine.cli.work.request import Request
from policy_engine.core.errors import ConfigError, DataError, PolicyEngineError
from policy_engine.mask.evidence.rule_findings import rule_findings
from policy_engine.mask.warner import DataWarning
from policy_engine.run.apply import apply_dataset
from policy_engine.run.folder import Progress as Done
from policy_engine.run.ray import ray_engine
from policy_engine.run.summary import Summary


def apply_request(request: Request, inputs: MaskerInputs) -> Outcome:
    """Does the run. Rows that fail make the answer no; the others are written all the same."""
    said: list[str] = []
    try:
        summary = run_with_bar(request, inputs, say=said.append)
    # About input, output or options: no answer (2). The first row that fails under --strict is an answer: no (1).
    except (DataError, ConfigError):
        raise
    except PolicyEngineError as error:
        if not request.options.strict:
            raise
        return Outcome(exit=Exit.FAILS, diagnostics=diagnostics_of(error))
    program = inputs.masker.program
    # How the rows were read is the head of the output, and a field of the summary.
    notes = tuple(text for text in said if text != summary.description)
    return Outcome(
        # An output without rows is no success, even where every row was left out as asked.
        exit=Exit.FAILS if summary.rows_failed or not summary.rows_out else Exit.HOLDS,
        diagnostics=(
            *data_findings(
                [(lost.role, lost.field, lost.messages) for lost in summary.unrendered],
                doubtful=summary.doubtful_roles,
                quoted=summary.rows_with_quoted_arguments,
                printed=summary.rows_printed_as_python,
                bos=summary.times_bos,
                tokenizer=inputs.masker.tokenizer,
            ),
            *rule_findings(program, summary.evidence, rows=summary.rows_masked),
            *failures(summary),
            *no_rows(summary),
        ),
        data={
            "summary": summary.to_json(),
            "notes": notes,
            "rules": rules_json(program, summary.rules, summary.evidence),
        },
        head=(Text(summary.description, style="dim"),),
        notes=notes,
        body=(
            *closing(summary, inputs.masker),
            f"wrote {summary.output}"
            if summary.rows_out
            else f"no row is left, so nothing was written to {summary.output}",
        ),
    )


def run_with_bar(request: Request, inputs: MaskerInputs, *, say: Callable[[str], None] = lambda text: None) -> Summary:
    """The run, with a progress bar on standard error where that is a terminal.

    `say` gets sentences on the run: how the rows are read, which backend gives the ids and why.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0%}"),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=SafeConsole(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )
    with bar, warnings.catch_warnings():
        # The summary counts what never reached the text.
        warnings.simplefilter("ignore", DataWarning)
        task = bar.add_task("masking", total=None, rows=0)

        def progress(done: Done) -> None:
            # A pipe has no known end: the bar only moves.
            total = None if done.fraction is None else 1.0
            bar.update(task, total=total, completed=done.fraction or 0.0, rows=done.rows)

        return apply_dataset(
            request.data,
            inputs.masker.unrolled() if request.unroll else inputs.masker,
            request.out,
            request.options,
            engine=ray_engine(request.options.workers) if request.ray else None,
            say=say,
            progress=progress,
        )
