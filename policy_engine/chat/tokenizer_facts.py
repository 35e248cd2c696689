"""Facts about a tokenizer: its own chat templates, and ids that it would put before a text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from policy_engine.chat.tokens.load import read_template
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import TokenizerError


def own_templates(tokenizer: Any) -> dict[str, str]:
    """The templates that a transformers tokenizer has, by name; empty if it has no template.

    >>> from types import SimpleNamespace
    >>> own_templates(SimpleNamespace(chat_template="{{ messages }}")), own_templates(object())
    ({'default': '{{ messages }}'}, {})
    """
    own = getattr(tokenizer, "chat_template", None)
    # Several templates are a dict by name in transformers, one is a text.
    return dict(own) if isinstance(own, Mapping) else {} if own is None else {"default": str(own)}


def chosen_templates(own: Mapping[str, str], template: str | Path | None) -> tuple[dict[str, str], str | None]:
    """The templates to render with, and the file that they are from, for errors to name.

    `template` is the name of one of `own`, a file or a text; None takes all of `own`.

    >>> chosen_templates({"default": "{{ a }}", "rag": "{{ b }}"}, "rag")
    ({'default': '{{ b }}'}, None)
    """
    if template is None:
        return dict(own), None
    # The name of one of its templates wins over a file of that name; write `./NAME` for the file.
    if isinstance(template, str) and template in own:
        return {"default": own[template]}, None
    text = read_template(template)
    return {"default": text}, None if text == template else str(template)


def token_facts(tokenizer: Any) -> dict[str, Any]:
    """The tokens of a tokenizer, as arguments of `ChatTemplate`."""
    # All added tokens, special or not: templates print both kinds as markers.
    added = list(tokenizer.added_tokens_decoder.values())
    listed = getattr(tokenizer, "chat_control_tokens", None)
    return {
        "special_tokens": dict(tokenizer.special_tokens_map),
        "tokens": [str(token) for token in added],
        "controls": [*(str(token) for token in added if token.special), *(listed or ())],
        "infers_controls": listed is None,
    }


def vocabulary_of(tokenizer: Any) -> dict[str, Any]:
    """All that decides the ids of a tokenizer without a backend: its class and its vocabulary."""
    return {"class": type(tokenizer).__name__, "vocabulary": tokenizer.get_vocab()}


def digest_of(facts: Sequence[Any]) -> str:
    """A hash of JSON values (hex), the same in every process.

    >>> digest_of([{"a": 1, "b": 2}]) == digest_of([{"b": 2, "a": 1}])
    True
    """
    key = json.dumps(facts, sort_keys=True, default=str)
    # A vocabulary may have half a surrogate pair, which no plain UTF-8 takes.
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def no_template(name: str, instead: str | None) -> TokenizerError:
    """The error of a tokenizer without a template; `instead` is advice for this one."""
    usual = "pass a template file with --template (template=… in Python), or take a tokenizer that has one"
    return TokenizerError(f"{name} has no chat template", help=instead or usual)


def template_name(names: Iterable[str], tokenizer: str, *, has_tools: bool) -> str:
    """The template that transformers would choose: `tool_use` for tools, if any, or `default`.

    Raises TokenizerError where several templates have other names.

    >>> template_name(["default", "tool_use"], "a tokenizer", has_tools=True)
    'tool_use'
    """
    known = set(names)
    if has_tools and "tool_use" in known:
        return "tool_use"
    if "default" in known:
        return "default"
    shown = ", ".join(f"`{name}`" for name in sorted(known))
    raise TokenizerError(
        f"{tokenizer} has several chat templates and none of them is the default", help=f"name one of {shown}"
    )


def check_unchanged(tokenizer: Any, templates: Mapping[str, str], name: str) -> None:
    """Raises TokenizerError if a tokenizer was given another template after its masker was made."""
    # One comparison of objects for each row; the templates are compared only where it fails.
    if getattr(tokenizer, "chat_template", None) is templates.get("default"):
        return
    if own_templates(tokenizer) != templates:
        raise TokenizerError(
            f"the chat template of {name} was set to another after its masker was made",
            help="make the masker after that, or give it the template: Masker(policy, tokenizer, template=…)",
        )


def times_opened(prefix: Sequence[int], ids: Sequence[int]) -> int:
    """The times that ids open with a prefix: 0, 1 or 2; 0 for an empty prefix.

    >>> times_opened([1], [1, 1, 5]), times_opened([1], [1, 5]), times_opened([], [1])
    (2, 1, 0)
    """
    prefix, size = list(prefix), len(prefix)
    if not size or list(ids[:size]) != prefix:
        return 0
    # Three times is as wrong as two.
    return 2 if list(ids[size : 2 * size]) == prefix else 1


def bos_finding(times: int, text: str, name: str) -> Diagnostic | None:
    """The finding for rows that open `times` with `text`, which the tokenizer would add again.

    None for 0 times.

    >>> bos_finding(2, "<s>", "a tokenizer").severity, bos_finding(0, "", "a tokenizer")
    ('warning', None)
    """
    if not times:
        return None
    if times > 1:
        return Diagnostic(
            code="PE406",
            severity="warning",
            message=f"rows open with `{text}` twice: the chat template writes it, and so does the data",
            help=f"take `{text}` out of the first message, or out of the template",
        )
    return Diagnostic(
        code="PE406",
        severity="info",
        message=f"the chat template writes `{text}`, and {name} would add it again",
        help="train on these ids; whatever tokenizes the rendered text again has to pass add_special_tokens=False",
    )


def identity_of(chats: Any) -> str:
    """A hash of all that decides the ids and text of a `ChatTokenizer`.

    >>> from policy_engine.chat.loading import load_tokenizer
    >>> tokenizer = load_tokenizer("builtin")
    >>> identity_of(tokenizer) == tokenizer.fingerprint
    True
    """
    tokenizer = chats.tokenizer
    state: Any = chats.locator.backend_digest if chats.locator.has_backend else vocabulary_of(tokenizer)
    if chats.media is not None:
        state = [state, chats.media.fingerprint]
    if chats.encoder is not None:
        state = [state, chats.encoder.name, chats.encoder.facts]
    special = {name: str(token) for name, token in chats.special_tokens.items()}
    split = bool(getattr(tokenizer, "split_special_tokens", False))
    facts: list[Any] = [state, special, split, dict(chats.templates), sorted(chats.model_roles)]
    # These are added only where there are some, so that fingerprints of earlier manifests stay the same.
    if chats.stops:
        facts.append(sorted(chats.stops))
    if getattr(tokenizer, "chat_control_tokens", None) is not None:
        facts.append({"control": sorted(tokenizer.chat_control_tokens)})
    return digest_of(facts)
