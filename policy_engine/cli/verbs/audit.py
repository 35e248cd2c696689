"""`audit DATA -t TOKENIZER`: labels that somebody else made, and what they really train."""

from __future__ import annotations

from typing import Annotated

import typer

from policy_engine.cli.options import (
    DatasetOption,
    FormatOption,
    MediaRootOption,
    MediaUrlsOption,
    NoCacheOption,
    PolicyOption,
    TemplateOption,
    TokenizerOption,
    TrustEncoderOption,
)
from policy_engine.cli.outcome import Outcome
from policy_engine.cli.run import finish
from policy_engine.cli.work.inputs import load_chat_tokenizer, load_inputs, media_options, names_policy


def register(app: typer.Typer) -> None:
    """Adds the verb."""

    @app.command()
    def audit(
        data: Annotated[
            str, typer.Argument(metavar="DATA", help="A prepared dataset: `input_ids` with `labels` or a mask.")
        ],
        policy: PolicyOption = None,
        tokenizer: TokenizerOption = None,
        template: TemplateOption = None,
        dataset: DatasetOption = None,
        media_root: MediaRootOption = None,
        media_urls: MediaUrlsOption = False,
        limit: Annotated[int | None, typer.Option("--limit", min=1, help="Look at the first rows, this many.")] = None,
        trust_encoder: TrustEncoderOption = False,
        no_cache: NoCacheOption = False,
        format: FormatOption = "text",
    ) -> None:
        """Say what prepared labels train, what is odd, and which system made them so.

        With -p, compare every row with a policy too.
        """

        def work() -> Outcome:
            # Imported here, so that the verbs that need no tokenizer start without what loads one.
            from policy_engine.cli.work.audit import audit_rows

            media = media_options(media_root, media_urls)
            # A policy is optional here, unlike elsewhere: without one the rows are still examined.
            if policy is None and (dataset is None or not names_policy(dataset)):
                found = load_chat_tokenizer(tokenizer, template, dataset)
                return audit_rows(data, found if media is None else found.with_media(media), None, limit=limit)
            masker = load_inputs(policy, tokenizer, template, dataset, media=media).masker
            return audit_rows(data, masker.tokenizer, masker.program, limit=limit)

        finish("audit", format, work)
