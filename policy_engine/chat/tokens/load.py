"""Loads tokenizers and chat templates: from folders, files, the package, the hub.

load_transformers("builtin")            the package's own
load_transformers("models/qwen3")       a folder of transformers
load_transformers("tokenizer.json")     one file
load_transformers("Qwen/Qwen3-8B")      a name on the hub
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from policy_engine import builtin
from policy_engine.chat.tokens.cache import cache_folder, key_of, tokenizer_files
from policy_engine.chat.tokens.cached import CachedTokenizer, cached, in_own_thread
from policy_engine.chat.tokens.definition import added_tokens, short_merges
from policy_engine.chat.tokens.keep import keep_tokenizer
from policy_engine.chat.transformers_import import transformers
from policy_engine.core.errors import TokenizerError
from policy_engine.core.wording import first_line

BUILTIN = "builtin"
# `name` or `owner/name`; what has more slashes, or begins with a dot, is meant as a path.
_HUB_NAME = re.compile(r"[\w][\w.-]*(/[\w][\w.-]*)?")
_OTHERWISE = f"pass a folder, a tokenizer.json with --template, or `{BUILTIN}`"
REACH_SECONDS = 5.0
"""Seconds that the hub has to answer at all."""


def load_transformers(name_or_path: str | Path) -> Any:
    """A transformers tokenizer.

    Raises TokenizerError, with a next step, if there is no tokenizer by that name.
    """
    return in_own_thread(lambda: _load(str(name_or_path)))


def load_cached(name_or_path: str | Path) -> Any:
    """The same out of the cache, as a `CachedTokenizer`.

    One that is not there yet is loaded, and kept if possible.
    """
    name = str(name_or_path)
    path = builtin.FOLDER if name == BUILTIN else Path(name).expanduser()
    if any((path / name).exists() for name in _PROCESSOR_FILES):
        return load_transformers(name)  # what is kept is of a tokenizer alone
    try:
        files = tokenizer_files(path) if path.is_dir() else [path] if path.is_file() else []
        if path.name == "tokenizer.json" and (path.parent / "tokenizer_config.json").exists():
            files = tokenizer_files(path.parent)  # as `_file` reads it
        key = key_of(files) if files and cache_folder() is not None else None
    except OSError:
        key = None  # loading says what is wrong with them
    if key is None:
        return load_transformers(name)
    found = cached(key, name, load_transformers)
    if found is not None:
        return found
    tok = load_transformers(name)
    keep_tokenizer(key, tok, name)
    # What was read of it for the entry is not read again.
    found = cached(key, name, load_transformers)
    if found is None:
        return tok
    found.take(tok)
    return found


def _load(name_or_path: str) -> Any:
    if name_or_path == BUILTIN:
        return _folder(builtin.FOLDER)
    path = Path(name_or_path).expanduser()
    try:
        if path.is_dir():
            return _folder(path)
        if path.exists():
            return _file(path)
    except OSError as error:
        raise TokenizerError(f"cannot read `{path}`: {error.strerror or error}", help=_OTHERWISE) from error
    # A missing file is most often a typo: asking the hub for `tokenizer.json` would hide that for seconds.
    if _HUB_NAME.fullmatch(name_or_path) is None or name_or_path.endswith((".json", ".model", ".jinja")):
        raise TokenizerError(f"there is no file or folder `{name_or_path}`", help=f"check the path, or {_OTHERWISE}")
    return _hub(name_or_path)


def is_processor(tok: Any) -> bool:
    """True for a processor: a tokenizer, and what prepares images, sounds or videos.

    >>> is_processor(object())
    False
    """
    if isinstance(tok, CachedTokenizer):
        return False  # asking it for an attribute that it lacks would load the real one
    return hasattr(tok, "tokenizer") and hasattr(tok, "apply_chat_template") and not hasattr(tok, "get_vocab")


def usable(tok: Any) -> Any:
    """The tokenizer itself, if it is one that gives the same ids for the same text.

    Raises TokenizerError for anything else: a processor, a tokenizer that renders without a template, BPE dropout.
    """
    if isinstance(tok, CachedTokenizer):
        return tok  # it was looked at before it was kept
    if is_processor(tok):
        raise TokenizerError(
            f"{type(tok).__name__} is a processor, which adds tokens for images and sounds after rendering",
            help="ChatTokenizer.from_processor(…) takes it; pass processor.tokenizer if the conversations are text",
        )
    missing = [n for n in ("get_vocab", "special_tokens_map", "added_tokens_decoder", "convert_ids_to_tokens")
               if not hasattr(tok, n)]  # fmt: skip
    if missing or not callable(tok):
        raise TokenizerError(
            f"{type(tok).__name__} is not a transformers tokenizer",
            help="PreTrainedTokenizerFast(tokenizer_object=…) makes one of a tokenizers.Tokenizer",
        )
    if type(tok).__name__.startswith("MistralCommon"):
        raise TokenizerError(
            f"{type(tok).__name__} renders chats by itself, without a chat template",
            help="leave the chat template out: ChatTokenizer.from_encoder(…) takes it as it is",
        )
    dropout = getattr(getattr(getattr(tok, "backend_tokenizer", None), "model", None), "dropout", None)
    if dropout:
        raise TokenizerError(
            f"the tokenizer has BPE dropout {dropout:g}, so the same text gets different ids each time",
            help="set dropout to null in its tokenizer.json",
        )
    return tok


def read_template(template: str | Path) -> str:
    """The text of a chat template: a file of it, a `chat_template.json`, or the text itself.

    Raises TokenizerError if a file cannot be read, or if a text is neither a file nor a template.

    >>> read_template("{{ messages[0].content }}")
    '{{ messages[0].content }}'
    """
    # No path of a template has a brace or a line break, and every template has one.
    if isinstance(template, str) and ("{" in template or "\n" in template):
        return template
    path = Path(template).expanduser()
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = "it is not UTF-8" if isinstance(error, ValueError) else getattr(error, "strerror", None) or str(error)
        raise TokenizerError(
            f"cannot read the chat template `{template}`: {reason}", help="pass the path of a Jinja file, or its text"
        ) from error
    if path.suffix != ".json":
        return text
    try:
        found = json.loads(text)["chat_template"]
    except (ValueError, KeyError, TypeError):
        found = None
    if not isinstance(found, str):
        raise TokenizerError(
            f"`{path}` holds no chat template", help="pass a .jinja file, or a JSON file with the key `chat_template`"
        )
    return found


_PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json")
"""Files that a folder of a processor has, beside those of its tokenizer."""


def _folder(path: Path) -> Any:
    if any((path / name).exists() for name in _PROCESSOR_FILES):
        return _processor(path)
    return _tokenizer_folder(path)


def _processor(path: Path) -> Any:
    try:
        return transformers().AutoProcessor.from_pretrained(str(path), local_files_only=True)
    except Exception as error:  # transformers raises anything, from OSError to KeyError
        raise TokenizerError(
            f"cannot load a processor from the folder `{path}`: {first_line(error)}",
            help="install what it asks for (most need torch and torchvision); "
            f"for conversations of text alone pass `{path / 'tokenizer.json'}`",
        ) from error


def _tokenizer_folder(path: Path) -> Any:
    file = path / "tokenizer.json"
    try:
        if not (path / "tokenizer_config.json").exists() and not (path / "config.json").exists() and file.exists():
            # Nothing in the folder names a class; the file is all there is to it.
            # AutoTokenizer would refuse it; PreTrainedTokenizerFast takes the file as it is.
            tok = _from_json(file)
            template = path / "chat_template.jinja"
            if template.exists():
                tok.chat_template = template.read_text(encoding="utf-8")
            return tok
        return _auto_once(path)
    except Exception as error:  # transformers raises anything, from OSError to KeyError
        raise TokenizerError(
            f"cannot load a tokenizer from the folder `{path}`: {first_line(error)}",
            help="it needs tokenizer.json, and the chat template in tokenizer_config.json or chat_template.jinja",
        ) from error


def _auto_once(folder: Path) -> Any:
    """The tokenizer of a folder, loaded with what was read before where that serves.

    Raises what transformers raises for another reason: loading takes seconds, so it is not tried twice then.
    """
    with contextlib.ExitStack() as opened:
        try:
            options = opened.enter_context(_read_before(folder))
        except Exception:
            options = {}  # no room for a copy, or a broken file: loading it plainly says so
        try:
            return _auto(folder, **options)
        except Exception:
            if _serve(options):
                raise
    return _auto(folder)


def _serve(options: Mapping[str, Any]) -> bool:
    """True if tokenizers reads the options, so that they are not to blame for an error."""
    from tokenizers import AddedToken, Tokenizer  # transformers has imported it

    try:
        if "tokenizer_file" in options:
            Tokenizer.from_file(options["tokenizer_file"])
        for token in options.get("added_tokens_decoder", {}).values():
            AddedToken(**token)
    except Exception:  # tokenizers raises plain Exception
        return False
    return True


def _auto(folder: Path, **options: Any) -> Any:
    # Local files only: a folder that names a model of the hub in its config is not a reason to ask the network.
    return transformers().AutoTokenizer.from_pretrained(str(folder), local_files_only=True, **options)


@contextlib.contextmanager
def _read_before(folder: Path) -> Iterator[dict[str, Any]]:
    """Options for transformers that save reading a folder's `tokenizer.json` twice.

    `tokenizer_file` is a copy of it that takes 100 MB less to read. `added_tokens_decoder` are its added tokens, for
    which transformers would read the whole file with Python, to throw away the rest.
    """
    file, config = folder / "tokenizer.json", folder / "tokenizer_config.json"
    said = json.loads(config.read_bytes()) if config.exists() else {}
    # A folder may name other files of this kind, of which transformers picks one.
    if not file.exists() or "fast_tokenizer_files" in said:
        yield {}
        return
    # Older releases kept added tokens in these files, which transformers reads if it finds no list.
    older = ("special_tokens_map.json", "added_tokens.json")
    is_listed = "added_tokens_decoder" in said or any((folder / name).exists() for name in older)
    with tempfile.TemporaryDirectory(prefix="policy-engine-") as own:
        # Nothing of its text stays in memory while transformers reads it.
        yield _options(file, Path(own) / file.name, is_listed=is_listed)


def _options(file: Path, copy: Path, *, is_listed: bool) -> dict[str, Any]:
    definition = file.read_bytes()
    added = None if is_listed else added_tokens(definition)
    options: dict[str, Any] = {} if added is None else {"added_tokens_decoder": added}
    short = short_merges(definition)
    if short is not None:
        copy.write_bytes(short)
        options["tokenizer_file"] = str(copy)
    return options


def _file(path: Path) -> Any:
    # The config beside it has the chat template and the special tokens, which the file alone lacks.
    if path.name == "tokenizer.json" and (path.parent / "tokenizer_config.json").exists():
        return _tokenizer_folder(path.parent)
    if path.suffix != ".json":
        raise TokenizerError(
            f"`{path}` is not a tokenizer.json", help="pass the folder it is in, so that transformers can convert it"
        )
    try:
        return _from_json(path)
    except Exception as error:  # tokenizers raises plain Exception
        raise TokenizerError(
            f"cannot read `{path}` as a tokenizer.json: {first_line(error)}",
            help="pass the tokenizer.json of a tokenizer",
        ) from error


def _from_json(path: Path) -> Any:
    wrap: Any = transformers().PreTrainedTokenizerFast
    return wrap(tokenizer_file=str(path))


def _hub(name: str) -> Any:
    # Asked for a name it cannot reach, the hub's client retries for most of a minute.
    unreachable = _hub_unreachable()
    library, offline = transformers(), unreachable is not None
    try:
        if _on_hub(name, offline=offline):
            return library.AutoProcessor.from_pretrained(name, local_files_only=offline)
        return library.AutoTokenizer.from_pretrained(name, local_files_only=offline)
    except Exception as error:  # transformers raises anything, from OSError to KeyError
        if unreachable is not None and not isinstance(error, OSError):  # the cache has it: something else is wrong
            raise TokenizerError(
                f"cannot load `{name}` from the local cache of the Hugging Face hub: {first_line(error)}",
                help=f"an installed library does not fit, or a cached file is broken. Or {_OTHERWISE}",
            ) from error
        if unreachable is not None:
            raise TokenizerError(
                f"there is no folder `{name}`, the Hugging Face hub cannot be reached ({unreachable}), and the "
                "tokenizer is not in the local cache",
                help=f"download it where there is a network and pass its folder, or {_OTHERWISE}",
            ) from error
        raise TokenizerError(
            f"cannot load `{name}` from the Hugging Face hub: {first_line(error)}",
            help=f"check the name; a gated tokenizer needs `hf auth login`. Or {_OTHERWISE}",
        ) from error


def _on_hub(name: str, *, offline: bool) -> bool:
    """True if a model of the hub has a processor."""
    utilities: Any = transformers().utils
    return any(
        utilities.cached_file(
            name,
            file,
            local_files_only=offline,
            # Without exceptions, None says that the file is not there; loading itself says what is wrong.
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_gated_repo=False,
            _raise_exceptions_for_connection_errors=False,
        )
        for file in _PROCESSOR_FILES
    )


def _hub_unreachable() -> str | None:
    """The reason why the hub does not answer, or None.

    Looking up a host can hang, so it has a time limit of its own.
    """
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            get_session().head(constants.ENDPOINT, timeout=REACH_SECONDS)
            outcome.append(None)
        except Exception as error:  # whichever client is installed
            outcome.append(first_line(error))

    # A daemon with a join: a look-up that hangs is left behind.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(REACH_SECONDS)
    return outcome[0] if outcome else f"no answer within {REACH_SECONDS:g} seconds"
