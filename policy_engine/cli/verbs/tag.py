"""`tag [TEMPLATE]`: a chat template with generation tags."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import RenderableType
from rich.text import Text

from policy_engine.cli.files import exists, write_text_file
from policy_engine.cli.options import FormatOption, PolicyOption, TokenizerOption
from policy_engine.cli.outcome import Exit, Outcome, diagnostics_of
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import ConfigError
from policy_engine.core.wording import counted

if TYPE_CHECKING:
    from policy_engine.chat.template import ChatTemplate
    from policy_engine.chat.tokenizer import ChatTokenizer
    from policy_engine.tagging.compare_tagged import TokenCheck
    from policy_engine.tagging.tag import Tagged


def tag(
    template: Annotated[
        str | None,
        typer.Argument(
            metavar="[TEMPLATE]",
            help="A chat template file (.jinja), or the name of one of the tokenizer's. Default: the tokenizer's.",
        ),
    ] = None,
    policy: PolicyOption = "default",
    tokenizer: TokenizerOption = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", metavar="FILE", help="Write the tagged template there (default: print it)."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
    format: FormatOption = "text",
) -> Outcome:
    """Write a chat template again, with `{% generation %}` around what a policy trains."""
    return _tag(template, policy, tokenizer, out, overwrite)


def _tag(name: str | None, policy: str | None, tokenizer: str | None, out: Path | None, overwrite: bool) -> Outcome:
    """Tags a template. One in which tags cannot say what the policy trains is an answer: no."""
    # Imported here: it brings transformers.
    from policy_engine.proof.load_policy import load_policy
    from policy_engine.tagging.compare_tagged import check_tokens
    from policy_engine.tagging.tag import tag_template
    from policy_engine.tagging.untaggable import UntaggableError

    # Before the template is tagged, which takes seconds.
    if out is not None and out.exists() and not overwrite:
        raise exists(out)
    program = load_policy(policy or "default")
    template, loaded = _load(name, tokenizer)
    try:
        tagged = tag_template(template, program)
        # A template file alone has no tokenizer: then only text is compared.
        tokens = None if loaded is None else check_tokens(loaded, program, tagged.source, tagged.shapes)
    except UntaggableError as error:
        found = diagnostics_of(error.reworded(f"{template.name}: {error.message}"))
        return Outcome(exit=Exit.FAILS, diagnostics=found, data={"template": template.name, "reason": error.reason})
    if out is not None:
        write_text_file(out, tagged.source, overwrite=overwrite)
    return Outcome(
        diagnostics=tuple(_findings(template, tagged, tokens)),
        data={
            "template": template.name,
            "source": tagged.source,
            "blocks": tagged.blocks,
            "checked": [shape.name for shape in tagged.shapes],
            "examples": tagged.examples,
            "refused": dict(tagged.refused),
            "unseen": list(tagged.unseen),
            "otherwise": list(tagged.otherwise),
            "tokens": None if tokens is None else tokens.tokens,
            "straddling": {} if tokens is None else {k: list(v) for k, v in tokens.straddling.items()},
            "written": None if out is None else str(out),
        },
        body=() if out is None else tuple(_lines(out, tagged, tokens)),
        raw=tagged.source if out is None else None,
    )


def _load(name: str | None, tokenizer: str | None) -> tuple[ChatTemplate, ChatTokenizer | None]:
    from policy_engine.chat.loading import load_tokenizer
    from policy_engine.chat.template import ChatTemplate
    from policy_engine.chat.tokens.load import read_template

    if tokenizer is not None:
        loaded = load_tokenizer(tokenizer, template=name)
        return loaded.template, loaded
    if name is None:
        raise ConfigError("no chat template is given", help="name a .jinja file, or a tokenizer with -t")
    return ChatTemplate(read_template(Path(name)), name=name), None


def _findings(template: ChatTemplate, tagged: Tagged, tokens: TokenCheck | None) -> Iterator[Diagnostic]:
    if tagged.unseen:
        lines = ", ".join(map(str, tagged.unseen[:12])) + (", …" if len(tagged.unseen) > 12 else "")
        yield Diagnostic(
            code="PE411",
            severity="info",
            message=f"{template.name}: no conversation that was tried reaches what line {lines} writes",
            help="it counts as what is around it; look at these lines if your rows reach them",
        )
    if tagged.otherwise:
        yield Diagnostic(
            code="PE414",
            severity="warning",
            message=f"{template.name}: answers that have thinking in a field and in their content too are masked "
            f"otherwise than by the policy, as in `{tagged.otherwise[0]}`",
            help="keep the thinking in one place, in a field or in the content; or train on rows of `apply`",
        )
    if tokens is not None and tokens.straddling:
        shown = next(iter(tokens.straddling.items()))
        yield Diagnostic(
            code="PE412",
            severity="warning",
            message=f"transformers trains tokens that reach over the border of a block, as {shown[1][0]!r} in the "
            f"conversation `{shown[0]}`, and the policy masks them",
            help="say `on straddle train` in the policy if that is meant; rows of `apply` have them masked",
        )


def _lines(out: Path, tagged: Tagged, tokens: TokenCheck | None) -> Iterator[RenderableType]:
    yield Text(f"wrote {out}: {counted(tagged.blocks, 'generation block')}")
    count = len(tagged.shapes) + tagged.examples
    same = f"the same text and mask as the policy in {counted(count, 'conversation')}"
    over = "" if tokens is None else f", {tokens.tokens:,} tokens"
    yield Text(f"  {same}{over}")
    if tagged.refused:
        yield Text(f"  {counted(len(tagged.refused), 'conversation')} of others the template itself refuses")
