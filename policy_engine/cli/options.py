"""Arguments and options that several verbs share, declared once to mean the same everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from policy_engine.cli.outcome import ReportFormat, ReportFormatWithoutFindings

DataArgument = Annotated[str, typer.Argument(metavar="DATA", help="A dataset: file, folder, or - for standard input.")]
PolicyFilesArgument = Annotated[
    list[str],
    typer.Argument(metavar="FILE...", help="Policy files, folders of them, shipped names, or - for standard input."),
]
_FORMAT = typer.Option("--format", help="Form of the outcome: text for people, the others for machines.")
FormatOption = Annotated[ReportFormat, _FORMAT]
FormatWithoutFindingsOption = Annotated[ReportFormatWithoutFindings, _FORMAT]
PolicyOption = Annotated[
    str | None,
    typer.Option("-p", "--policy", metavar="POLICY", help="A policy file, or a shipped policy by its name."),
]
TokenizerOption = Annotated[
    str | None,
    typer.Option(
        "-t",
        "--tokenizer",
        metavar="TOKENIZER",
        help="A folder of a tokenizer or processor, a tokenizer.json, Mistral's tekken.json, `harmony`, `builtin`, or "
        "a hub name.",
    ),
]
TemplateOption = Annotated[
    str | None,
    typer.Option("--template", metavar="FILE", help="A chat template file, in place of the tokenizer's own."),
]


# Options that act by themselves: the context ends what they opened when the verb ends, however it ends.
def _switch_off(context: typer.Context, value: bool) -> bool:
    if value:
        from policy_engine.chat.tokens.cache import switched_off

        context.with_resource(switched_off())
    return value


def _trust(context: typer.Context, value: bool) -> bool:
    if value:
        from policy_engine.chat.encoders.trust import trusted

        context.with_resource(trusted())
    return value


TrustEncoderOption = Annotated[
    bool,
    typer.Option(
        "--trust-encoder",
        callback=_trust,
        help="Run the Python file in the model's folder that renders its chats, in a process without network.",
    ),
]
NoCacheOption = Annotated[
    bool,
    typer.Option(
        "--no-cache",
        callback=_switch_off,
        help="Load the tokenizer from its files, and keep nothing of it in the cache.",
    ),
]
DatasetOption = Annotated[
    str | None,
    typer.Option(
        "--dataset",
        metavar="FILE.yaml",
        help="A dataset file: where the messages are, the roles, the fields' types, a default policy and tokenizer.",
    ),
]
MediaRootOption = Annotated[
    str | None,
    typer.Option(
        "--media-root",
        metavar="FOLDER",
        help="Where paths of images, sounds and videos start. No path leads out of it.",
    ),
]
MediaUrlsOption = Annotated[
    bool, typer.Option("--media-urls", help="Fetch media that rows name by URL; else such rows fail.")
]
MediaDecodeOption = Annotated[
    bool,
    typer.Option(
        "--media-decode", help="Decode all media and give them to the processor, also where their sizes decide tokens."
    ),
]


@dataclass(frozen=True, kw_only=True)
class Named:
    """The policy, tokenizer, template, dataset file and media that a command line names."""

    policy: PolicyOption = None
    tokenizer: TokenizerOption = None
    template: TemplateOption = None
    dataset: DatasetOption = None
    media_root: MediaRootOption = None
    media_urls: MediaUrlsOption = False
    media_decode: MediaDecodeOption = False


@dataclass(frozen=True, kw_only=True)
class Loading:
    """Options of loading a tokenizer. Their callbacks act on them, so that no verb reads them."""

    trust_encoder: TrustEncoderOption = False
    no_cache: NoCacheOption = False
