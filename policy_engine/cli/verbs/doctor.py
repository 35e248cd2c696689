"""`doctor DATA --trainer NAME`: one real batch through a trainer's own collator and loss."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from policy_engine.cli.options import (
    DatasetOption,
    FormatOption,
    MediaRootOption,
    MediaUrlsOption,
    PolicyOption,
    TemplateOption,
    TokenizerOption,
    TrustEncoderOption,
)
from policy_engine.cli.outcome import Outcome
from policy_engine.cli.run import finish
from policy_engine.core.choices import Collator, Denominator, Trainer


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command()
    def doctor(
        data: Annotated[
            str, typer.Argument(metavar="DATA", help="A masked dataset (`input_ids` and `labels`), or chats to mask.")
        ],
        trainer: Annotated[Trainer, typer.Option("--trainer", help="Whose collator and loss.")],
        policy: PolicyOption = None,
        tokenizer: TokenizerOption = None,
        template: TemplateOption = None,
        dataset: DatasetOption = None,
        media_root: MediaRootOption = None,
        media_urls: MediaUrlsOption = False,
        config: Annotated[
            Path | None,
            typer.Option("--config", metavar="FILE", help="The trainer's own settings, as YAML or JSON."),
        ] = None,
        set_: Annotated[
            list[str] | None,
            typer.Option("--set", metavar="KEY=VALUE", help="A setting of the trainer (nested: a.b); may be repeated."),
        ] = None,
        collator: Annotated[
            Collator,
            typer.Option("--collator", help="For transformers: padding is policy-engine's, the others its own."),
        ] = "padding",
        denominator: Annotated[
            Denominator | None,
            typer.Option("--denominator", help="Train with `weighted_trainer`, dividing by the weights or the tokens."),
        ] = None,
        rows: Annotated[int, typer.Option("--rows", min=1, metavar="N", help="Rows of the batch.")] = 8,
        trust_encoder: TrustEncoderOption = False,
        format: FormatOption = "text",
    ) -> None:
        """Take one batch through a trainer's own collator and loss; show if the labels survive."""

        def work() -> Outcome:
            # Imported here: no other verb looks at trainers.
            from policy_engine.cli.work.doctor import Question, ask
            from policy_engine.cli.work.inputs import media_options

            return ask(
                Question(
                    data=data,
                    trainer=trainer,
                    policy=policy,
                    tokenizer=tokenizer,
                    template=template,
                    dataset=dataset,
                    config=config,
                    settings=tuple(set_ or ()),
                    collator=collator,
                    denominator=denominator,
                    rows=rows,
                    media=media_options(media_root, media_urls),
                )
            )

        finish("doctor", format, work)
