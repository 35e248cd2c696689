"""Encoders out of objects of other packages, and out of files.

Each kind is imported where one was found: most tokenizers have a chat template and need none of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from policy_engine.chat.tokens.cached import CachedTokenizer
from policy_engine.chat.tokens.load import load_transformers, usable
from policy_engine.core.errors import TokenizerError
from policy_engine.core.wording import first_line, install

if TYPE_CHECKING:
    from policy_engine.chat.encoders.protocol import Encoder

HARMONY: Final = "harmony"
"""The name of gpt-oss's encoding."""
_MISTRAL: Final = re.compile(r"tekken.*\.json|.*\.model\.v[0-9]+(m[0-9]+)?")
"""Names of mistral-common's files. A plain `tokenizer.model` may be anybody's."""
_TRUST: Final = (
    "read the file, and if you trust it, run it with --trust-encoder (load_tokenizer(…, trust_encoder=True) in Python)"
)
# With one of these the folder has a transformers tokenizer, and a user who names the folder means that.
_OTHERS: Final = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def is_encoder(given: Any) -> bool:
    """True for an object that `encoder_of` takes, without importing what it belongs to.

    >>> is_encoder(object())
    False
    """
    if isinstance(given, CachedTokenizer):
        return False  # asking it for an attribute that it lacks would load the real one
    return _is_own(given) or _is_harmony(given) or _is_renderer(given) or _mistral_in(given) is not None


def encoder_of(given: Any) -> Encoder:
    """The encoder that an object of another package is.

    Raises TokenizerError for an object that `encoder_of` does not know.
    """
    if _is_own(given):
        own: Encoder = given
        return own
    mistral = _mistral_in(given)
    if mistral is not None:
        from policy_engine.chat.encoders.mistral import MistralEncoder

        return MistralEncoder(mistral)
    if _is_harmony(given):
        from policy_engine.chat.encoders.harmony import HarmonyEncoder

        return HarmonyEncoder(given)
    if _is_renderer(given):
        from policy_engine.chat.encoders.prime import RendererEncoder

        # Some renderers keep it under a private name.
        tokenizer = getattr(given, "tokenizer", None) or getattr(given, "_tokenizer", None)
        return RendererEncoder(given, usable(tokenizer))
    raise TokenizerError(
        f"{type(given).__name__} is not an encoder that policy-engine knows",
        help="give a MistralTokenizer of mistral-common, a HarmonyEncoding of openai-harmony, a renderer of "
        "renderers, or a transformers tokenizer with its chat template",
    )


def trusted_encoder(name: str | Path) -> Encoder:
    """The encoder of a model's Python file, which is run. `name` is the file or its folder.

    Raises TokenizerError if there is no such file, if there are several, or if it cannot be run.
    """
    path = Path(name).expanduser()
    files = [path] if path.is_file() else _code_files(path) if path.is_dir() else []
    if len(files) != 1:
        raise TokenizerError(
            f"`{name}` has {'no' if not files else 'several'} Python encoders"
            + "".join(f", `{file.relative_to(path)}`" for file in files),
            help="name the file with -t: FOLDER/encoding/encoding_….py, beside or below the tokenizer's files",
        )
    # DeepSeek's repository has the file in `encoding/`, one folder below the tokenizer.
    folder = next((f for f in (files[0].parent, files[0].parent.parent) if (f / "tokenizer.json").exists()), None)
    if folder is None:
        raise TokenizerError(
            f"there is no tokenizer.json beside `{files[0]}` or in the folder above",
            help="put the encoder into the folder of the model's tokenizer",
        )
    from policy_engine.chat.encoders.code.file import PythonEncoder

    made = PythonEncoder(files[0], usable(load_transformers(folder)))
    made.start()
    return made


def encoder_at(name: str | Path) -> Encoder | None:
    """The encoder that a path names; None where it names something else.

    That is `harmony`, a file of mistral-common, or a folder that has one and no other tokenizer. Raises TokenizerError
    if the file cannot be read, if the package is missing, and for a Python file, which is run only if asked to.

    >>> encoder_at("builtin") is None
    True
    """
    # A folder may be called `harmony` too, and then wins.
    path = Path(name).expanduser()
    if str(name) == HARMONY and not path.exists():
        from policy_engine.chat.encoders.harmony import load_harmony

        return load_harmony()
    if path.suffix == ".py" and path.is_file():
        raise TokenizerError(f"`{path}` is code, which is not run unasked", help=_TRUST)
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
    for file in _code_files(path):
        return f"{file} renders for it: {_TRUST}"
    return None


def _code_files(folder: Path) -> list[Path]:
    return sorted([*folder.glob("encoding_*.py"), *folder.glob("encoding/encoding_*.py")])


def _mistral_files(folder: Path) -> Sequence[Path]:
    return sorted(file for file in folder.iterdir() if _MISTRAL.fullmatch(file.name))


def _mistral_file(path: Path) -> Encoder:
    if find_spec("mistral_common") is None:
        raise TokenizerError(
            f"`{path}` is read by mistral-common, which is not installed",
            help=f"{install('mistral')}; or pass a tokenizer with its chat template",
        )
    from mistral_common.tokens.tokenizers.mistral import MistralTokenizer

    from policy_engine.chat.encoders.mistral import MistralEncoder

    try:
        return MistralEncoder(MistralTokenizer.from_file(str(path)))
    except Exception as error:  # files of any content
        raise TokenizerError(
            f"mistral-common cannot read `{path}`: {first_line(error)}",
            help="pass the tekken.json or tokenizer.model.v… of a Mistral model",
        ) from error


def _is_own(given: Any) -> bool:
    return all(hasattr(given, name) for name in ("chunks", "gives_ids", "has_prompt"))


def _is_renderer(given: Any) -> bool:
    # By names, so that no package is imported to find that an object is not of it.
    return type(given).__module__.startswith("renderers.") and hasattr(given, "render_ids")


def _is_harmony(given: Any) -> bool:
    return type(given).__name__ == "HarmonyEncoding" and hasattr(given, "render_conversation_for_training")


def _mistral_in(given: Any) -> Any:
    """The `MistralTokenizer` that an object is or has, or None."""
    # transformers' `MistralCommonBackend` keeps mistral-common's tokenizer as `tokenizer`.
    for found in (given, given.tokenizer if type(given).__name__.startswith("MistralCommon") else None):
        if type(found).__name__ == "MistralTokenizer" and hasattr(found, "instruct_tokenizer"):
            return found
    return None
