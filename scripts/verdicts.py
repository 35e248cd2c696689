"""Makes the verdicts on fast backends that come with the package.

    python -m scripts.verdicts [--check] [NAME …]

Each vocabulary that the test packages bring gets a full check by each backend, about ten seconds each. With `--check`
nothing is written: exit code 1 if a verdict of the installed versions comes out otherwise than in the file. Verdicts of
other versions stay in the file, unless they were made with other texts: nothing would ask for those.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import unicodedata
from collections.abc import Iterable, Sequence
from unittest import mock

from policy_engine.builtin.verdicts import Verdict, shipped_verdicts, write_verdicts
from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.chat.tokens import qualify
from policy_engine.chat.tokens.fast_backend import PACKAGES
from policy_engine.core.versions import version_of
from tests.support.tokenizers import REAL, load


def made(name: str) -> list[Verdict]:
    """The verdicts on all installed backends for one vocabulary."""
    own = load_tokenizer("builtin") if name == "builtin" else ChatTokenizer.from_transformers(load(name))
    subject = own.locator.subject
    found = []
    for backend in PACKAGES:
        version = version_of(backend)
        if version is None:
            continue
        # Neither what is shipped nor what the cache has: the check itself.
        with (
            mock.patch.object(qualify, "_shipped", return_value=None),
            mock.patch.object(qualify, "find", return_value=None),
            mock.patch.object(qualify, "keep"),
        ):
            outcome = qualify.qualify(subject, backend, [], full=True)
        print(f"{name}, {backend}: {outcome if isinstance(outcome, str) else 'the same ids'}", flush=True)
        differs = f"{backend} differs from {subject.name}: "
        # A backend that cannot read the vocabulary says so itself, and fast.
        if isinstance(outcome, str) and not outcome.startswith(differs):
            continue
        found.append(
            Verdict(
                of=name,
                vocabulary=qualify.vocabulary_of(subject.definition()),
                backend=backend,
                version=version,
                tokenizers=importlib.metadata.version("tokenizers"),
                unicode=unicodedata.unidata_version,
                checks=qualify.check_code(),
                difference=outcome.removeprefix(differs) if isinstance(outcome, str) else None,
            )
        )
    return found


def merged(new: Sequence[Verdict], old: Iterable[Verdict]) -> list[Verdict]:
    """The verdicts of the file: the new ones, and others that still hold."""
    again = {(verdict.of, verdict.backend, verdict.version, verdict.tokenizers) for verdict in new}
    kept = [v for v in old if (v.of, v.backend, v.version, v.tokenizers) not in again]
    return [*(v for v in kept if v.checks == qualify.check_code()), *new]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m scripts.verdicts", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    parser.add_argument("names", nargs="*", metavar="NAME", help="vocabularies; all if left out")
    options = parser.parse_args()
    new = [verdict for name in options.names or ("builtin", *REAL) for verdict in made(name)]
    if options.check:
        raise SystemExit(sum(verdict not in shipped_verdicts() for verdict in new) > 0)
    write_verdicts(merged(new, shipped_verdicts()))


if __name__ == "__main__":
    main()
