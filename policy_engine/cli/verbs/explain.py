"""`explain DATA --row N -p POLICY -t TOKENIZER`: the decisions about a row, with reasons."""

from __future__ import annotations

from policy_engine.cli.options import DataArgument, FormatOption, Loading, Named
from policy_engine.cli.outcome import Outcome
from policy_engine.cli.records import ExplainOptions


def explain(
    data: DataArgument,
    named: Named,
    about: ExplainOptions,
    loading: Loading,
    format: FormatOption = "text",
) -> Outcome:
    """Explain one row: the rule for each segment or token, its conditions, the rules that lost."""
    # Imported here, so that the verbs that need no tokenizer start without what loads one.
    from policy_engine.cli.work.explain import explain_row
    from policy_engine.cli.work.inputs import answered

    return answered(data, named, lambda inputs: explain_row(data, inputs, about, machine=format != "text"))
