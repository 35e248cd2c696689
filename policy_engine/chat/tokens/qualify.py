"""Fast backends that give a tokenizer's ids.

They are checked once for each pair of versions, and remembered in the cache.

quick check    about 1 s, in the first run    then texts with rare characters are read by the tokenizer itself
full check     about 10 s, for much data      then only texts that the normalizer may change are

For vocabularies whose full check came with the package (`builtin.verdicts`), the quick one is enough.
"""

from __future__ import annotations

import functools
import hashlib
import json
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from policy_engine.chat.tokens.cache import CacheEntry, find, keep, own_code
from policy_engine.chat.tokens.check_texts import Risk, full_check, quick_check
from policy_engine.chat.tokens.definition import head_and_model
from policy_engine.chat.tokens.fast_backend import PACKAGES, TokenBackend, load_backend
from policy_engine.chat.tokens.nfc import is_kept
from policy_engine.core.versions import version_of

# Imported for a vocabulary of which the cache has no verdict.
if TYPE_CHECKING:
    from policy_engine.builtin.verdicts import Verdict

_FORM: Final = "form.bin"
_CHUNK: Final = 2_000
"""Texts that are compared at a time: what the tokenizer gives for one takes several KB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class CheckedBackend:
    """A backend that passed its check. Texts that are a `risk` are not for it."""

    backend: TokenBackend
    risk: Risk

    @property
    def name(self) -> str:
        """The name of its package."""
        return self.backend.name

    def encode_batch(self, texts: Sequence[str]) -> list[Any]:
        """See TokenBackend."""
        return self.backend.encode_batch(texts)


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A tokenizer whose ids a backend has to give.

    `compare` says where a backend differs on some texts; `definition` gives its `tokenizer.json`; `digest` is the
    checksum of that. `added` are its added tokens, `pieces` the bytes of all its tokens.
    """

    name: str
    digest: str
    definition: Callable[[], bytes]
    compare: Callable[[TokenBackend, list[str]], str | None]
    added: Sequence[Any]
    pieces: Sequence[bytes | None]
    normalizes: bool
    only_nfc: bool = False
    """The normalizer makes normal form C and nothing else."""


def qualify(subject: Subject, name: str, texts: Sequence[str], *, full: bool) -> CheckedBackend | str:
    """The backend of that name, or why it does not serve.

    `texts` are rows of the data; they are compared unless the backend passed a full check. With `full`, that check is
    made if it was not made before.
    """
    version = version_of(name)
    # `load_backend` says how to install it.
    if version is None:
        return str(load_backend(name, subject.definition))
    key = _key(subject, name, version)
    known = find(key)
    found = None if known is None else _known(known, name)
    if isinstance(found, str):
        return f"{name} differs from {subject.name}: {found}"
    whole = found is not None and known is not None and known.meta["whole"] is True
    shipped = None
    backend = found
    if backend is None:
        definition = subject.definition()
        shipped = _shipped(definition, name, version)
        if shipped is not None and shipped.difference is not None:
            return f"{name} differs from {subject.name}: {shipped.difference}"
        loaded = load_backend(name, lambda: definition, normalizes=_has_work(subject))
        if isinstance(loaded, str):
            return loaded
        backend = loaded
    quick, wide = _risk(subject, whole=False), _risk(subject, whole=True)
    checks: list[tuple[Risk, Iterable[str]]] = []
    if shipped is not None:
        # Made of the vocabulary alone: its added tokens are still to be compared.
        checks.append((wide, chain(map(str, subject.added), quick_check(subject.added))))
    else:
        # A backend out of the cache passed the quick check; the full one is made on top of it.
        checks += [] if found is not None else [(quick, quick_check(subject.added))]
        checks += [(wide, full_check(subject.pieces))] if full and not whole else []
    for risk, corpus in checks:
        wrong = _compared(subject, backend, corpus, risk)
        # Kept after each check, so that a run that is interrupted in the full one keeps the quick one's verdict.
        whole = risk is wide and wrong is None
        form = getattr(backend, "form", None)
        if form is not None:
            said = {"of": subject.name, "kind": f"check of {name}"}
            keep(key, {**said, "whole": whole, "difference": wrong}, {_FORM: form})
        if wrong is not None:
            return f"{name} differs from {subject.name}: {wrong}"
    # The rows at hand are the texts that count, and checking a few of them costs milliseconds.
    if not whole:
        wrong = _compared(subject, backend, texts, quick)
        if wrong is not None:
            return f"{name} differs from {subject.name} on the data: {wrong}"
    return CheckedBackend(backend=backend, risk=wide if whole else quick)


def vocabulary_of(definition: bytes) -> str:
    """Checksum (hex) of what decides ids in a `tokenizer.json`, its added tokens aside.

    >>> first, second = (b'{"added_tokens":[%d],"model":{"type":"BPE"}}' % n for n in (1, 2))
    >>> vocabulary_of(first) == vocabulary_of(second)
    True
    """
    head, model = head_and_model(definition)
    rest = json.dumps([head.get("normalizer"), head.get("pre_tokenizer")], sort_keys=True)
    return hashlib.sha256(rest.encode() + b"\n" + model).hexdigest()


@functools.cache
def check_code() -> str:
    """Checksum (hex) of the code that makes the texts of a check, and what backends are given."""
    made_by = ("check_texts.py", "definition.py")
    return hashlib.sha256(b"".join([Path(__file__).with_name(name).read_bytes() for name in made_by])).hexdigest()


def _shipped(definition: bytes, name: str, version: str) -> Verdict | None:
    from policy_engine.builtin.verdicts import shipped_verdict

    return shipped_verdict(
        vocabulary_of(definition),
        backend=name,
        version=version,
        tokenizers=str(version_of("tokenizers")),
        unicode=unicodedata.unidata_version,
        checks=check_code(),
    )


def _risk(subject: Subject, *, whole: bool) -> Risk:
    # `normalized=False` tokens are found in the raw text, where no mark has merged with them. Under `only_nfc`, text
    # that is no risk is in normal form C: normalizing changes no part of it, so no mark merges there either.
    found_late = () if subject.only_nfc else subject.added
    edges = tuple(str(token) for token in found_late if getattr(token, "normalized", True))
    return Risk(tokens=edges, normalizes=subject.normalizes, whole=whole, only_nfc=subject.only_nfc)


def _has_work(subject: Subject) -> bool:
    """False for a normalizer that keeps every text which is no risk."""
    # kitoken is a sixth faster without it. An added token in another form would be found in normalized text only.
    return not (subject.normalizes and subject.only_nfc and all(is_kept(str(token)) for token in subject.added))


def is_known(subject: Subject, name: str) -> bool:
    """True if the cache says that this backend passed a full check."""
    version = version_of(name)
    entry = None if version is None else find(_key(subject, name, version))
    return entry is not None and entry.meta["whole"] is True and entry.meta["difference"] is None


def _key(subject: Subject, name: str, version: str) -> str:
    # Another version of either side, or of our own checks, makes another verdict.
    made_of = ["backend", subject.digest, name, version, version_of("tokenizers"), own_code()]
    # A newer Unicode knows characters that no check with an older one has compared.
    made_of.append(unicodedata.unidata_version)
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def _known(entry: CacheEntry, name: str) -> TokenBackend | str | None:
    """The content of an entry: a backend, or what was wrong with it.

    None if the entry is damaged.
    """
    wrong = entry.meta.get("difference")
    form = None if wrong is not None else entry.read(_FORM)
    if form is None:
        return wrong
    try:
        return PACKAGES[name](form)
    except Exception:  # a form of another build of the package
        return None


def _compared(subject: Subject, backend: TokenBackend, texts: Iterable[str], risk: Risk) -> str | None:
    """The difference of the backend on texts that it may be given."""
    # Texts that the backend will never be given cannot disqualify it.
    rest = (text for text in texts if not risk.of(text))
    while chunk := list(islice(rest, _CHUNK)):
        try:
            wrong = subject.compare(backend, chunk)
        except Exception as error:
            wrong = f"it fails with {error}"
        if wrong is not None:
            return wrong
    return None
