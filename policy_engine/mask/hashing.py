"""Fingerprints for the cache of `datasets.map`.

The same masker has the same hash in every process.
"""

from __future__ import annotations

import hashlib
import json
import sys
from typing import Any

from policy_engine._version import __version__


def fingerprint_of(*facts: str) -> str:
    """A SHA-256 in hex of some facts and this package's version.

    >>> fingerprint_of("a") == fingerprint_of("a") != fingerprint_of("b")
    True
    """
    # JSON keeps the facts apart: `"ab", "c"` and `"a", "bc"` have different hashes. With the version, since another one
    # may decide otherwise.
    return hashlib.sha256(json.dumps([__version__, *facts]).encode("utf-8", "backslashreplace")).hexdigest()


def register_with_datasets(cls: type) -> None:
    """Makes `datasets` hash an object of the class by its `fingerprint`.

    Does nothing if `datasets` is not in use. `datasets` hashes a function by pickling it. A masker pickles with its
    whole tokenizer and, for error messages, the text of its policy: hashing would take long, and a changed comment
    would miss the cache. `datasets` does not document the hook. Without it the cache is missed more often than
    necessary, and never hit wrongly.
    """
    # Importing it is slow, and a process that has not done so does not map.
    if "datasets" not in sys.modules:
        return
    try:
        from datasets.utils._dill import Pickler, pklregister
    # The hook is not documented, so a later `datasets` may have moved it.
    except ImportError:
        return
    if cls in Pickler.dispatch:
        return

    @pklregister(cls)  # type: ignore[untyped-decorator]
    def _save(pickler: Any, masker: Any) -> None:
        pickler.save_reduce(_by_fingerprint, (type(masker).__qualname__, masker.fingerprint), obj=masker)


def _by_fingerprint(name: str, fingerprint: str) -> None:
    # `datasets` hashes the pickle and never loads it; whoever does gets no masker without a policy.
    raise TypeError(f"a {name} was pickled for its hash only ({fingerprint})")
