"""Policies, schemas and maskers that a command line names.

What loads tokenizers and templates is imported where it is used: verbs that only read policies start without it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from policy_engine.core.choices import PairColumns
from policy_engine.core.errors import ConfigError, DataError, warn_of
from policy_engine.core.schema import Schema
from policy_engine.core.source import Source
from policy_engine.lang.check import check_text
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.lang.library import is_policy_folder, policies_below, read_policy
from policy_engine.lang.lint.lint import warnings_of

if TYPE_CHECKING:
    from policy_engine.chat.media.open_media import MediaOptions
    from policy_engine.chat.tokenizer import ChatTokenizer
    from policy_engine.cli.options import Named
    from policy_engine.cli.outcome import Outcome
    from policy_engine.data.dataset import DatasetSpec
    from policy_engine.mask.masker import Masker

STDIN: Final = "-"


def read_source(name: str) -> Source:
    """The text of a policy file, a shipped policy, or standard input for `-`.

    Raises DataError if it cannot be read.
    """
    if name != STDIN:
        return read_policy(name)
    if sys.stdin is None or sys.stdin.closed:
        raise DataError("standard input is closed", help="pipe a policy into it, or give a file")
    try:
        return Source(name="<stdin>", text=sys.stdin.read())
    except UnicodeDecodeError as error:
        raise DataError("standard input is not UTF-8 text", help="pass the policy as UTF-8") from error


def policy_files(names: Sequence[str]) -> list[str]:
    """Names as the command line has them, each folder as the policies in it.

    A folder without policies stays: reading it says so. Raises DataError for a folder that cannot be read, and
    ConfigError for standard input given twice.

    >>> policy_files(["default", "-"])
    ['default', '-']
    """
    if names.count(STDIN) > 1:
        raise ConfigError("standard input is given twice, and can be read once", help="leave the second `-` out")
    return [file for name in names for file in (is_policy_folder(name) and policies_below(name)) or (name,)]


def read_checked(name: str, schema: Schema | None = None) -> CheckedPolicy:
    """The checked policy of a file, a shipped name or standard input.

    What lint finds is given as warnings. Raises what reading, parsing and checking raise.
    """
    source = read_source(name)
    policy = check_text(source.text, name=source.name, schema=schema)
    warn_of(warnings_of(policy), stacklevel=2)
    return policy


def read_schema(dataset: str | None) -> Schema | None:
    """The schema of a dataset file, None without a file. Raises what loading it raises."""
    spec = _spec(dataset)
    return None if spec is None else spec.to_schema()


def names_policy(dataset: str) -> bool:
    """True if a dataset file names a policy. Raises what loading the file raises."""
    spec = _spec(dataset)
    return spec is not None and spec.policy is not None


@dataclass(frozen=True, kw_only=True)
class MaskerInputs:
    """A masker, and the names of its policy and tokenizer as the command line has them."""

    masker: Masker
    policy: str
    tokenizer: str


def load_inputs(
    named: Named,
    *,
    prove: bool = False,
    few_rows: bool = False,
    known_fast: bool = False,
    pairs: PairColumns | None = None,
) -> MaskerInputs:
    """The masker that the options name; what is not given comes from the dataset file.

    `pairs` is the trainer that columns of preferences are for, in place of what the dataset file says. With `prove`, a
    policy whose guards some conversation breaks is refused; without, the rows that break them fail. With `few_rows`,
    each row is rendered in full: what would replay one on the next takes longer to import. With `known_fast`, ids come
    from a fast backend if the cache has one that passed a full check. Raises ConfigError if neither names a policy or a
    tokenizer, and what loading them raises.
    """
    from policy_engine.mask.masker import Masker
    from policy_engine.proof.load_policy import load_policy

    spec = _spec(named.dataset)
    if pairs is not None:
        spec = _with_pairs(spec, pairs)
    # The option wins over the dataset file, here and for tokenizer and template.
    policy = named.policy if named.policy is not None or spec is None else spec.policy
    if policy is None:
        raise ConfigError(
            "no policy is given",
            help="name one with -p: a file, or a shipped policy (`policy-engine policies` lists them)",
        )
    name = _tokenizer_name(named.tokenizer, spec)
    program = load_policy(policy, schema=None if spec is None else spec.to_schema(), prove=prove)
    loaded = _load(name, named.template, spec, skeletons=not few_rows)
    if known_fast:
        loaded = loaded.with_fast(loaded.known_fast())
    masker = Masker(program, loaded, dataset=spec, media=media_options(named))
    return MaskerInputs(masker=masker, policy=policy, tokenizer=name)


def answered(data: str, named: Named, work: Callable[[MaskerInputs], Outcome]) -> Outcome:
    """The work, done again without fast backend and skeletons if one of them differs.

    Without them at once for a pipe, which cannot be read again.
    """
    from policy_engine.chat.tokens.fast_backend import BackendMismatch

    if data != STDIN:
        try:
            return work(load_inputs(named, few_rows=True, known_fast=True))
        except BackendMismatch:
            pass  # begun again below
    from policy_engine.run.backends import in_full

    inputs = load_inputs(named, few_rows=True)
    return work(replace(inputs, masker=in_full(inputs.masker)))


def media_options(named: Named) -> MediaOptions | None:
    """The options that `--media-root` and its siblings give for media; None without them.

    Raises ConfigError for a bad root.

    >>> from policy_engine.cli.options import Named
    >>> media_options(Named(media_urls=True)).urls, media_options(Named(media_decode=True)).measure
    (True, False)
    """
    if named.media_root is None and not named.media_urls and not named.media_decode:
        return None
    from policy_engine.chat.media.open_media import MediaOptions

    return MediaOptions(root=named.media_root, urls=named.media_urls, measure=not named.media_decode)


def load_chat_tokenizer(named: Named) -> ChatTokenizer:
    """The tokenizer that the options or the dataset file name, with its template.

    It takes media where the options allow them. Raises ConfigError if no tokenizer is named, and what loading it
    raises.
    """
    spec, media = _spec(named.dataset), media_options(named)
    loaded = _load(_tokenizer_name(named.tokenizer, spec), named.template, spec)
    return loaded if media is None else loaded.with_media(media)


def masker_for(policy: CheckedPolicy, tokenizer: ChatTokenizer, dataset: str | None) -> Masker:
    """A masker for a checked policy. Raises what loading the dataset file raises."""
    from policy_engine.mask.masker import Masker

    return Masker(policy, tokenizer, dataset=_spec(dataset))


def _spec(dataset: str | None) -> DatasetSpec | None:
    if dataset is None:
        return None
    from policy_engine.data.dataset import load_dataset_spec

    return load_dataset_spec(dataset)


def _with_pairs(spec: DatasetSpec | None, pairs: PairColumns) -> DatasetSpec:
    from policy_engine.data.dataset import DatasetSpec

    return replace(spec or DatasetSpec(), pairs=pairs)


def _tokenizer_name(tokenizer: str | None, spec: DatasetSpec | None) -> str:
    name = tokenizer if tokenizer is not None or spec is None else spec.tokenizer
    if name is None:
        raise ConfigError("no tokenizer is given", help="name one with -t: a folder, a tokenizer.json, or `builtin`")
    return name


def _load(name: str, template: str | None, spec: DatasetSpec | None, *, skeletons: bool = True) -> ChatTokenizer:
    from policy_engine.chat.loading import load_tokenizer

    template = template if template is not None or spec is None else spec.template
    loaded = load_tokenizer(name, template=template, cache=True)
    if not skeletons:
        loaded = loaded.with_skeletons(False)
    _ = loaded.template  # a missing or broken template is reported at once, not once per row
    return loaded
