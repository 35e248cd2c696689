"""`show DATA -p POLICY -t TOKENIZER`: the tokens of some rows, by what decided them."""

from __future__ import annotations

from policy_engine.cli.options import DataArgument, FormatOption, Loading, Named
from policy_engine.cli.outcome import Outcome
from policy_engine.cli.records import ShowOptions


def show(
    data: DataArgument,
    named: Named,
    which: ShowOptions,
    loading: Loading,
    format: FormatOption = "text",
) -> Outcome:
    """Show which tokens of a few rows are trained, and by which rule."""
    # Imported here, so that the verbs that need no tokenizer start without what loads one.
    from policy_engine.cli.work.inputs import answered
    from policy_engine.cli.work.show import show_rows

    return answered(data, named, lambda inputs: show_rows(data, inputs, which, machine=format != "text"))
