"""`doctor DATA --trainer NAME`: one real batch through a trainer's own collator and loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from policy_engine.cli.options import FormatOption, Named, TrustEncoderOption
from policy_engine.cli.outcome import Outcome
from policy_engine.cli.run import finish
from policy_engine.cli.signature import spread
from policy_engine.core.choices import Collator, Denominator, Trainer


@dataclass(frozen=True, kw_only=True)
class _Step:
    """The trainer's settings, and the batch."""

    config: Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="The trainer's own settings, as YAML or JSON."),
    ] = None
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="A setting of the trainer (nested: a.b); may be repeated."),
    ] = None
    collator: Annotated[
        Collator,
        typer.Option("--collator", help="For transformers: padding is policy-engine's, the others its own."),
    ] = "padding"
    denominator: Annotated[
        Denominator | None,
        typer.Option("--denominator", help="Train with `weighted_trainer`, dividing by the weights or the tokens."),
    ] = None
    rows: Annotated[int, typer.Option("--rows", min=1, metavar="N", help="Rows of the batch.")] = 8


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command()
    @spread
    def doctor(
        data: Annotated[
            str, typer.Argument(metavar="DATA", help="A masked dataset (`input_ids` and `labels`), or chats to mask.")
        ],
        trainer: Annotated[Trainer, typer.Option("--trainer", help="Whose collator and loss.")],
        named: Named,
        step: _Step,
        trust_encoder: TrustEncoderOption = False,
        format: FormatOption = "text",
    ) -> None:
        """Take one batch through a trainer's own collator and loss; show if the labels survive."""

        def work() -> Outcome:
            # Imported here: no other verb looks at trainers.
            from policy_engine.cli.work.doctor import Question, ask

            return ask(
                Question(
                    data=data,
                    trainer=trainer,
                    named=named,
                    config=step.config,
                    settings=tuple(step.set_ or ()),
                    collator=step.collator,
                    denominator=step.denominator,
                    rows=step.rows,
                )
            )

        finish("doctor", format, work)
