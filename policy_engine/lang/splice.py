"""`use`: policies in place of the statements that name them, with their settings and `let`s."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from policy_engine.core.diagnostics import Related
from policy_engine.core.errors import DataError
from policy_engine.core.source import Source, Span
from policy_engine.core.suggest import did_you_mean
from policy_engine.core.vocabulary import GROUPS, KEYWORDS, PART_NAMES, SETTINGS
from policy_engine.lang import ast
from policy_engine.lang.findings import Findings
from policy_engine.lang.library import path_of, policies_folder, read_policy, read_shipped, shipped
from policy_engine.lang.parse import parse_lenient

LANGUAGE_VERSION: Final = 1
"""The version that `language` may name."""
MAX_STATEMENTS: Final = 10_000
"""Statements of a policy after splicing: a `use` that uses twice what uses twice … would grow without bound."""
MAX_USE_DEPTH: Final = 32

Ruling = ast.Rule | ast.Scale | ast.Guard


@dataclass(kw_only=True)
class File:
    """One policy text, with the `let` names that its statements see and the settings in force."""

    source: Source
    lets: dict[str, Definition] = field(default_factory=dict)
    settings: dict[str, ast.On] = field(default_factory=dict)
    rulings: list[Located] = field(default_factory=list)
    complete: bool = True
    """False if a statement of it did not parse, so that names may be missing."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Definition:
    """A `let` and the file whose names it sees."""

    let: ast.Let
    file: File


@dataclass(frozen=True, kw_only=True)
class Located:
    """A rule or guard, and the file whose names it sees."""

    ruling: Ruling
    file: File


def splice(policy: ast.Policy, findings: Findings, *, complete: bool = True) -> File:
    """Put every used policy in place.

    Errors of a `use`, a `let` name or a setting go to `findings`.

    >>> from policy_engine.lang.parse import parse
    >>> file = splice(parse("use default; mask tool"), Findings())
    >>> [type(located.ruling).__name__ for located in file.rulings][-1], file.rulings[0].file.source.name
    ('Rule', 'policies/default')
    """
    return _Splicer(findings).file(policy, path_of(policy.source), complete=complete)


class _Splicer:
    def __init__(self, findings: Findings) -> None:
        self.findings = findings
        self.open: list[Path] = []  # the files being spliced, outermost first
        # By path, so that two ways to one file are one; its findings are given once.
        self.done: dict[Path, File] = {}

    def file(self, policy: ast.Policy, path: Path | None, *, complete: bool) -> File:
        file = File(source=policy.source, complete=complete)
        if path is not None:
            self.open.append(path)
        own_settings: dict[str, ast.On] = {}
        used_settings: dict[str, ast.On] = {}
        conflicts: list[tuple[ast.On, ast.On]] = []
        # In the order written: the rules of a used policy come where its `use` is, and later rules win over them.
        for position, statement in enumerate(policy.statements):
            match statement:
                case ast.Use():
                    self._use(statement, file, used_settings, conflicts)
                case ast.Let():
                    self._let(statement, file)
                case ast.On():
                    self._on(statement, own_settings)
                case ast.Language():
                    self._language(statement, first=position == 0)
                case _:
                    file.rulings.append(Located(ruling=statement, file=file))
        # At the end, since an `on` below the two `use`s may say which.
        for first, second in conflicts:
            if second.setting not in own_settings:
                message = f"two used policies disagree on `{second.setting}`"
                help = f"say here which: `on {second.setting} {first.value}` or `on {second.setting} {second.value}`"
                related = (
                    Related(message="the first", span=first.span),
                    Related(message="the second", span=second.span),
                )
                self.findings.error("PE216", message, second.span, help, *related)
        # The including file's own words win, wherever they are in it.
        file.settings = used_settings | own_settings
        # A text that is in no file cannot be used again, so there is nothing to remember.
        if path is not None:
            self.open.pop()
            self.done[path] = file
        return file

    def _use(
        self, use: ast.Use, file: File, settings: dict[str, ast.On], conflicts: list[tuple[ast.On, ast.On]]
    ) -> None:  # fmt: skip
        used = self._used(use, file)
        if used is None:
            # What could not be read may have defined the names that are missing now.
            file.complete = False
            return
        if len(file.rulings) + len(used.rulings) > MAX_STATEMENTS:
            message = f"with this, the policy has more than {MAX_STATEMENTS:,} rules"
            self.findings.error("PE213", message, use.span, "use each policy once")
            return
        file.complete &= used.complete
        # They keep their own file: their names are looked up where they were written.
        file.rulings += used.rulings
        for definition in used.lets.values():
            self._define(definition, file, use.span)
        for name, setting in used.settings.items():
            other = settings.setdefault(name, setting)
            if other.value != setting.value:
                conflicts.append((other, setting))

    def _used(self, use: ast.Use, file: File) -> File | None:
        """The spliced file that a `use` names; None if there is an error."""
        located = self._find(use, file)
        if located is None:
            return None
        path, read = located
        # Before `done`: a file is in one of the two, and a circle must not be taken for a second use.
        if path in self.open:
            chain = " → ".join(f"`{p.name}`" for p in [*self.open[self.open.index(path) :], path])
            self.findings.error(
                "PE232", f"this policy uses itself: {chain}", use.span, "remove one `use` of the circle"
            )
            return None
        if path in self.done:
            return self.done[path]
        if len(self.open) >= MAX_USE_DEPTH:
            message = f"policies use each other more than {MAX_USE_DEPTH} deep"
            self.findings.error("PE213", message, use.span, "use the inner policy directly")
            return None
        try:
            source = read()
        except DataError as error:
            self.findings.error("PE231", error.message, use.span, error.help)
            return None
        policy, syntax_errors = parse_lenient(source.text, name=source.name)
        for diagnostic in syntax_errors:
            self.findings.add(diagnostic)
        return self.file(policy, path, complete=not syntax_errors)

    def _find(self, use: ast.Use, file: File) -> tuple[Path, Callable[[], Source]] | None:
        if not use.quoted:
            if use.name not in shipped():
                listed = "`policy-engine policies` lists those that are; a file is given as a path in quotes"
                help = did_you_mean(use.name, shipped()) or listed
                message = f"there is no shipped policy `{use.name}`"
                self.findings.error("PE231", message, use.span, help)
                return None
            # Reading is put off: a policy that is used twice is read once.
            return policies_folder().resolve() / f"{use.name}.policy", lambda: read_shipped(use.name)
        here = path_of(file.source)
        if here is None:
            message = f"`{use.name}` is relative to the file of the policy, and this text is in no file"
            help = "save the policy to a file and load that, or use a shipped policy by name"
            self.findings.error("PE234", message, use.span, help)
            return None
        try:
            # Resolved, so that a link that leads out of the folder is seen as one.
            path = (here.parent / use.name).resolve()
        except (OSError, ValueError, RuntimeError):
            self.findings.error(
                "PE231", f"`{use.name}` is not a path of this system", use.span, "write the path of a policy file"
            )
            return None
        if not path.is_relative_to(here.parent):
            message = f"`{use.name}` leads out of the folder of this policy"
            help = "move the file into the folder, or below it; only shipped policies are shared between folders"
            self.findings.error("PE233", message, use.span, help)
            return None
        if path.exists() and not path.is_file():
            # A pipe would be waited for without end; a policy that is given by hand may come from one.
            self.findings.error("PE231", f"`{use.name}` is no file", use.span, "write the path of a policy file")
            return None
        # A shipped policy may use another by path; its name is `policies/NAME`, which is no folder to start from.
        if here.parent == policies_folder().resolve():
            return path, lambda: read_policy(path)
        # A reader knows it by the name of the file that uses it.
        return path, lambda: read_policy(Path(file.source.name).parent / use.name)

    def _let(self, let: ast.Let, file: File) -> None:
        kind = "a keyword" if let.name in KEYWORDS else "a part" if let.name in PART_NAMES else "a group of parts"
        if let.name in (*KEYWORDS, *PART_NAMES, *GROUPS):
            message = f"`{let.name}` is {kind}, so no targets can have that name"
            self.findings.error("PE209", message, let.span, f"choose another name, for example `my_{let.name}`")
            return
        self._define(Definition(let=let, file=file), file, let.span)

    def _define(self, definition: Definition, file: File, span: Span) -> None:
        name = definition.let.name
        other = file.lets.setdefault(name, definition)
        if other is not definition:
            message = f"`{name}` is defined twice"
            related = Related(message="first defined here", span=other.let.span)
            self.findings.error("PE210", message, span, "rename one, or remove it", related)

    def _on(self, on: ast.On, own: dict[str, ast.On]) -> None:
        if on.setting not in SETTINGS:
            listed = ", ".join(f"`{s}`" for s in SETTINGS)
            help = did_you_mean(on.setting, SETTINGS) or f"settings are {listed}"
            self.findings.error("PE214", f"there is no setting `{on.setting}`", on.span, help)
            return
        values = SETTINGS[on.setting]
        if on.value not in values:
            listed = ", ".join(f"`{v}`" for v in values)
            help = did_you_mean(on.value, values) or f"write one of {listed}"
            self.findings.error("PE215", f"`{on.setting}` cannot be `{on.value}`", on.span, help)
            return
        first = own.setdefault(on.setting, on)
        if first is not on:
            related = Related(message="first set here", span=first.span)
            self.findings.error("PE216", f"`{on.setting}` is set twice", on.span, "keep one of the two", related)

    def _language(self, language: ast.Language, *, first: bool) -> None:
        if language.version != LANGUAGE_VERSION:
            message = f"language version {language.version} is not known here"
            help = f"write `language {LANGUAGE_VERSION}`, or upgrade: pip install -U chat-policy-engine"
            self.findings.error("PE217", message, language.span, help)
        if not first:
            help = "move it to the top of the file, and write it once"
            self.findings.error("PE217", "`language` has to be the first statement", language.span, help)
