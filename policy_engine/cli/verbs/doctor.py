"""`doctor DATA --trainer NAME`: one real batch through a trainer's own collator and loss."""

from __future__ import annotations

from typing import Annotated

import typer

from policy_engine.cli.options import FormatOption, Named, TrustEncoderOption
from policy_engine.cli.outcome import Outcome
from policy_engine.cli.records import DoctorOptions


def doctor(
    data: Annotated[
        str, typer.Argument(metavar="DATA", help="A masked dataset (`input_ids` and `labels`), or chats to mask.")
    ],
    step: DoctorOptions,
    named: Named,
    trust_encoder: TrustEncoderOption = False,
    format: FormatOption = "text",
) -> Outcome:
    """Take one batch through a trainer's own collator and loss; show if the labels survive."""
    # Imported here: no other verb looks at trainers.
    from policy_engine.cli.work.doctor import ask

    return ask(data, named, step)
