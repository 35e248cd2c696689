"""Encoders out of objects of other packages, and out of files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from policy_engine.chat.encoders.mistral import MistralEncoder
from policy_engine.chat.encoders.protocol import Encoder
from policy_engine.core.errors import TokenizerError

_MISTRAL: Final = re.compile(r"tekken.*\.json|.*\.model\.v[0-9]+(m[0-9]+)?")
"""Names of mistral-common's files. A plain `tokenizer.model` may be anybody's."""
_OTHERS: Final = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def is_encoder(given: Any) -> bool:
    """True for an object that `encoder_of` takes, without importing what it belongs to."""
    return _is_own(given) or _mistral_in(given) is not None


def encoder_of(given: Any) -> Encoder:
    """The encoder that an object of another package is.

    Raises TokenizerError for an object that `encoder_of` does not know.
    """
    if _is_own(given):
        own: Encoder = given
        return own
    mistral = _mistral_in(given)
    if mistral is not None:
        return MistralEncoder(mistral)
    raise TokenizerError(
        f"{type(given).__name__} is not an encoder that policy-engine knows",
        help="give a MistralTokenizer of mistral-common, or a transformers tokenizer with its chat template",
    )


def encoder_at(name: str | Path) -> Encoder | None:
    """The encoder that a path names; None where it names something else.

    That is a file of mistral-common, or a folder that has one and no other tokenizer. Raises TokenizerError if the
    file cannot be read, or if the package is missing.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return _mistral_file(path) if _MISTRAL.fullmatch(path.name) else None
    if not path.is_dir() or any((path / other).exists() for other in _OTHERS):
        return None
    found = _mistral_files(path)
    return _mistral_file(found[0]) if len(found) == 1 else None


def what_instead(name: str) -> str | None:
    """Advice for a tokenizer without a chat template: the encoder that lies beside it, if any."""
    path = Path(name).expanduser()
    if not path.is_dir():
        return None
    for file in _mistral_files(path):
        return f"Mistral's own encoder renders for it: name the file, {file}"
    return None


def _mistral_files(folder: Path) -> Sequence[Path]:
    return sorted(file for file in folder.iterdir() if _MISTRAL.fullmatch(file.name))


def _mistral_file(path: Path) -> Encoder:
    if find_spec("mistral_common") is None:
        raise TokenizerError(
            f"`{path}` is read by mistral-common, which is not installed",
            help='`pip install "chat-policy-engine[mistral]"`, or pass a tokenizer with its chat template',
        )
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    try:
        return MistralEncoder(MistralTokenizer.from_file(str(path)))
    except Exception as error:  # files of any content
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise TokenizerError(
            f"mistral-common cannot read `{path}`: {lines[0] if lines else type(error).__name__}",
            help="pass the tekken.json or tokenizer.model.v… of a Mistral model",
        ) from error


def _is_own(given: Any) -> bool:
    return all(hasattr(given, name) for name in ("chunks", "gives_ids", "has_prompt"))


def _mistral_in(given: Any) -> Any:
    """The `MistralTokenizer` that an object is or has, or None."""
    for found in (given, given.tokenizer if type(given).__name__.startswith("MistralCommon") else None):
        if type(found).__name__ == "MistralTokenizer" and hasattr(found, "instruct_tokenizer"):
            return found
    return None
