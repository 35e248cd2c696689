"""An open policy: its findings, its tree, its names, and its dataset file."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import DatasetFileError, PolicyEngineError, PolicyError
from policy_engine.core.schema import Schema
from policy_engine.core.source import Source
from policy_engine.data.dataset import load_dataset_spec
from policy_engine.lang import ast
from policy_engine.lang.check import check_parsed
from policy_engine.lang.checked import CheckedPolicy
from policy_engine.lang.findings import Findings
from policy_engine.lang.lint.lint import warnings_of
from policy_engine.lang.lint.suppress import unsuppressed
from policy_engine.lang.parse import MAX_CHARACTERS, parse_each, parse_statement
from policy_engine.lang.splice import File, splice
from policy_engine.lang.split import Parts, split

QUICK: Final = 40
"""Number of rules and guards up to which an editor proves a policy while it is typed.

Longer policies are for `prove`.
"""


_TEXTS_KEPT: Final = 8
"""Texts whose statements are kept: several questions follow each edit, and each reads the same text."""
_PARSING: Final = threading.Lock()


@functools.lru_cache(maxsize=_TEXTS_KEPT)
def _parts(source: Source) -> Parts:
    # An editor may open any file; the parser would refuse this one, and says so in its findings.
    return split(source) if len(source.text) <= MAX_CHARACTERS else Parts(statements=(), comments=())


@functools.lru_cache(maxsize=_TEXTS_KEPT)
def _parsed(source: Source) -> tuple[ast.Policy, list[Diagnostic]]:
    return parse_each(source, _parts(source))


class PolicyDocument:
    """One version of a policy's text. `path` is its file, None for a text without a file."""

    def __init__(self, text: str, path: Path | None) -> None:
        self.path = path
        self.source = Source(name=str(path) if path else "<untitled>", text=text)

    @functools.cached_property
    def parts(self) -> Parts:
        """The places of the statements, and the comments; nothing of a text that is too long."""
        return _parts(self.source)

    @functools.cached_property
    def parsed(self) -> tuple[ast.Policy, list[Diagnostic]]:
        """The statements that parse, and the errors of those that do not."""
        with _PARSING:  # an outline and a check of the same text, asked for at once, are one parse
            return _parsed(self.source)

    @property
    def policy(self) -> ast.Policy:
        """The statements that parse."""
        return self.parsed[0]

    @functools.cached_property
    def file(self) -> File:
        """The names that can be used: `lets` of the text, and of what it uses.

        Of the text's own statements only those that define names are read.
        """
        text = self.source.text
        naming = [place for place in self.parts.statements if text.startswith(("let", "use"), place[0])]
        # Incomplete on purpose: what is wrong in the text is for `findings`, and names should work while it is.
        return splice(self._of(naming), Findings(), complete=False)

    def _of(self, places: Sequence[tuple[int, int]]) -> ast.Policy:
        found = (parse_statement(self.source, start, end) for start, end in places)
        statements = tuple(statement for statement in found if statement is not None)
        return ast.Policy(statements=statements, comments=self.parts.comments, source=self.source)

    @functools.cached_property
    def _declared(self) -> tuple[Schema | None, Diagnostic | None]:
        path = dataset_beside(self.path) if self.path else None
        if path is None:
            return None, None
        try:
            return load_dataset_spec(path).to_schema(), None
        except PolicyEngineError as error:
            wrong = error.diagnostics if isinstance(error, DatasetFileError) else ()
            said = "; ".join(f"line {d.span.line}: {d.message}" for d in wrong if d.span) or error.message
            message = f"the dataset file `{path.name}` beside this policy cannot be used: {said}"
            return None, Diagnostic(code=error.code, severity="warning", message=message, help=error.help)

    @property
    def schema(self) -> Schema | None:
        """Schema that the dataset file declares; None without a dataset file."""
        return self._declared[0]

    def findings(self) -> tuple[Diagnostic, ...]:
        """Everything that `check` finds.

        Policies longer than `QUICK` are not proven; a note says so.

        >>> [(found.code, found.severity) for found in PolicyDocument("train asistant", None).findings()]
        [('PE251', 'warning')]
        """
        beside = (self._declared[1],) if self._declared[1] else ()
        try:
            policy = check_parsed(*self.parsed, schema=self.schema)
        except PolicyError as error:
            return (*beside, *error.diagnostics)
        found = (*beside, *warnings_of(policy))
        quick = len(policy.rules) + len(policy.guards) <= QUICK
        return (*found, *unsuppressed(_proven(policy) if quick else (_unproven(policy),)))

    def around(self, offset: int) -> tuple[Any, ...]:
        """The nodes around a character, from its statement to the innermost.

        >>> document = PolicyDocument("mask user; train last assistant", None)
        >>> [type(node).__name__ for node in document.around(20)]
        ['Rule', 'Target', 'Selector', 'Which']
        """
        found: list[Any] = []
        # Only the statement at the offset is read: a hover must not wait for five thousand others.
        at = bisect.bisect_right(self.parts.statements, offset, key=lambda place: place[0])
        nodes: list[Any] = list(self._of(self.parts.statements[max(0, at - 1) : at]).statements)
        while inner := next((n for n in nodes if n.span.start <= offset <= n.span.end), None):
            found.append(inner)
            nodes = list(children(inner))
        return tuple(found)


def children(node: Any) -> Iterator[Any]:
    """The nodes of the syntax tree right below one."""
    for field in dataclasses.fields(node):
        value = getattr(node, field.name)
        # Spans are left out of comparisons, and are no nodes.
        if field.compare:
            yield from (v for v in (value if isinstance(value, tuple) else (value,)) if dataclasses.is_dataclass(v))


def walk(node: Any) -> Iterator[Any]:
    """A node and all below it.

    >>> (statement,) = PolicyDocument("train eos of assistant", None).policy.statements
    >>> [type(node).__name__ for node in walk(statement)]
    ['Rule', 'Target', 'Selector', 'Relation', 'Selector']
    """
    yield node
    for child in children(node):
        yield from walk(child)


def dataset_beside(policy: Path) -> Path | None:
    """The dataset file of a policy: of the same name, else the only one beside it that uses it."""
    for suffix in (".yaml", ".yml"):
        if (named := policy.with_suffix(suffix)).is_file():
            return named
    if not policy.parent.is_dir():
        return None
    found = []
    # The first fifty: a folder may hold thousands of YAML files.
    for path in sorted(p for p in policy.parent.iterdir() if p.suffix in (".yaml", ".yml"))[:50]:
        try:
            uses = load_dataset_spec(path).policy
        except PolicyEngineError:
            continue  # a YAML file that is something else
        if uses is not None and Path(uses).resolve() == policy.resolve():
            found.append(path)
    return found[0] if len(found) == 1 else None


def _unproven(policy: CheckedPolicy) -> Diagnostic:
    count = len(policy.rules) + len(policy.guards)
    first = policy.guards[0].span if policy.guards else policy.rules[0].span
    return Diagnostic(
        code="PE307",
        severity="info",
        message=f"not proven while it is typed: it has {count} rules and guards, more than {QUICK}",
        span=first,
        help="`policy-engine check` proves it",
    )


def _proven(policy: CheckedPolicy) -> tuple[Diagnostic, ...]:
    # Imported here: the first proof brings chat templates, which a server that only completes words does without.
    from policy_engine.proof.policy_proof import prove
    from policy_engine.proof.proof_diagnostics import report_diagnostics

    return report_diagnostics(prove(policy, places=False))
