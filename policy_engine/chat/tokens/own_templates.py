"""Chat templates of a tokenizer's own, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from policy_engine.core.errors import TokenizerError


def own_templates(tokenizer: Any) -> dict[str, str]:
    """The templates that a transformers tokenizer has, by name; empty if it has no template."""
    own = getattr(tokenizer, "chat_template", None)
    return dict(own) if isinstance(own, Mapping) else {} if own is None else {"default": str(own)}


def no_template(name: str, instead: str | None) -> TokenizerError:
    """The error of a tokenizer without a template; `instead` is advice for this one."""
    usual = "pass a template file with --template (template=… in Python), or take a tokenizer that has one"
    return TokenizerError(f"{name} has no chat template", help=instead or usual)


def no_default(name: str, names: Iterable[str]) -> TokenizerError:
    """The error of a tokenizer with several templates, where no one is the default."""
    shown = ", ".join(f"`{name}`" for name in sorted(names))
    return TokenizerError(
        f"{name} has several chat templates and none of them is the default", help=f"name one of {shown}"
    )


def template_changed(name: str) -> TokenizerError:
    """The error of a tokenizer that was given another template after its masker was made."""
    return TokenizerError(
        f"the chat template of {name} was set to another after its masker was made",
        help="make the masker after that, or give it the template: Masker(policy, tokenizer, template=…)",
    )
