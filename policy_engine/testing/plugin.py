"""pytest plugin: chat templates and policies as tests.

```console
pytest --chat-template templates/ --chat-policy policies/ --chat-tokenizer builtin
```

Every property of every template is a test, and every policy on every template, beside the tests of the project;
`--junitxml` and what reports to GitHub are pytest's own. Loaded with every pytest run, so this module imports nothing
of the package until one of its options is given.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from policy_engine.chat.tokenizer import ChatTokenizer
    from policy_engine.testing.checks.guarded import GuardReport
    from policy_engine.testing.conformance import ConformanceReport

_TEMPLATES = (".jinja", ".jinja2", ".j2")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options."""
    group = parser.getgroup("policy-engine", "chat templates and loss policies")
    group.addoption(
        "--chat-template", action="append", default=[], metavar="PATH",
        help="property-test this chat template, or all .jinja files of a folder; may be given several times",
    )  # fmt: skip
    group.addoption(
        "--chat-policy", action="append", default=[], metavar="PATH",
        help="test this policy, or all .policy files of a folder, on each of the templates",
    )  # fmt: skip
    group.addoption("--chat-tokenizer", metavar="NAME", help="tokenizer to test with (default: the built-in one)")
    group.addoption("--chat-examples", type=int, default=200, metavar="N", help="conversations to generate (200)")


def pytest_configure(config: pytest.Config) -> None:
    """Refuses options that go nowhere."""
    given = config.getoption("chat_template")
    for name in (*given, *config.getoption("chat_policy")):
        if not Path(name).exists() and (name in given or not _is_shipped(name)):
            raise pytest.UsageError(f"policy-engine: there is no file or folder {name}")
    # Without this the policies would be tested on nothing, and the run would be green.
    if config.getoption("chat_policy") and not given:
        raise pytest.UsageError("policy-engine: --chat-policy needs templates to test on: add --chat-template PATH")
    if config.getoption("chat_examples") < 0:
        raise pytest.UsageError("policy-engine: --chat-examples is a number of conversations, 0 or more")


def _is_shipped(name: str) -> bool:
    from policy_engine.lang.library import shipped

    return name in shipped()


@pytest.hookimpl(tryfirst=True)  # before `-k` and its like choose
def pytest_collection_modifyitems(session: pytest.Session, config: pytest.Config, items: list[pytest.Item]) -> None:
    """Adds the tests of templates and policies to those collected."""
    if config.getoption("chat_template"):
        items.extend(_collect(session, config))


def _collect(session: pytest.Session, config: pytest.Config) -> Iterator[pytest.Item]:
    from policy_engine.testing.conformance import PROPERTIES

    policies = [p for name in config.getoption("chat_policy") for p in _files(name, (".policy",))]
    for path in (p for name in config.getoption("chat_template") for p in _files(name, _TEMPLATES)):
        # Made by hand: pytest collects only below its own arguments, and templates may be anywhere.
        node = TemplateFile.from_parent(session, path=Path(path).absolute(), name=str(path), nodeid=str(path))
        for name in PROPERTIES:
            yield PropertyItem.from_parent(node, name=name)
        for policy in policies:
            yield PolicyItem.from_parent(node, name=f"policy[{policy}]", policy=policy)


def _files(name: str, suffixes: tuple[str, ...]) -> list[str]:
    path = Path(name)
    if not path.is_dir():
        return [name]
    from policy_engine.lang.library import files_below

    found = list(files_below(path, suffixes))
    if not found:
        raise pytest.UsageError(f"policy-engine: {name} has no {' or '.join(suffixes)} files")
    return found


class TemplateFile(pytest.Collector):
    """One template; tested when its first test runs."""

    def collect(self) -> list[pytest.Item]:
        """Nothing: its items are made with it."""
        return []

    def tokenizer(self) -> ChatTokenizer:
        """The tokenizer of the run, with this template."""
        from policy_engine.chat.loading import load_tokenizer

        if not hasattr(self, "_tokenizer"):
            name = self.config.getoption("chat_tokenizer") or "builtin"
            self._tokenizer = load_tokenizer(name, template=self.path)
        return self._tokenizer

    def report(self) -> ConformanceReport:
        """The report on this template."""
        from policy_engine.testing.conformance import check_template

        # Once for all properties of a template: a report has them all.
        if not hasattr(self, "_report"):
            tokenizer = self.tokenizer()
            examples = self.config.getoption("chat_examples")
            self._report = check_template(tokenizer.template, tokenizer=tokenizer, examples=examples)
        return self._report


class _Failed(Exception):
    """A finding of a test, shown without a traceback."""


class _Item(pytest.Item):
    parent: TemplateFile

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        # Some plugins (pytest-lsp 1.0) break on items that have no fixtures' values.
        self.funcargs: dict[str, Any] = {}

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Text of the finding; for an error of the package, its text."""
        from policy_engine.core.errors import PolicyEngineError

        if isinstance(excinfo.value, _Failed | PolicyEngineError):
            return str(excinfo.value)
        return super().repr_failure(excinfo)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """The template's file."""
        return self.parent.path, None, self.name


class PropertyItem(_Item):
    """One property of a template. A fact passes, and is in the report's properties."""

    def runtest(self) -> None:
        """Fails where the property does; skips where it does not apply."""
        found = self.parent.report()[self.name]
        self.user_properties.append((self.name, f"{found.verdict}: {found.sentence}"))
        if found.verdict == "does not apply":
            pytest.skip(found.sentence)
        if found.verdict == "fails":
            raise _Failed(_told(found.sentence, found.counterexample))


class PolicyItem(_Item):
    """One policy on a template."""

    def __init__(self, *, policy: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.policy = policy

    def runtest(self) -> None:
        """Fails where the policy trains what one of its `never` guards covers, or breaks a guard."""
        from policy_engine.testing.checks.guarded import check_policy

        tokenizer = self.parent.tokenizer()
        found: GuardReport = check_policy(self.policy, tokenizer, examples=self.config.getoption("chat_examples"))
        self.user_properties.append(("policy", found.sentence))
        if not found.checked:
            pytest.skip(found.sentence)
        if not found.holds:
            raise _Failed(_told(found.sentence, found.counterexample))


def _told(sentence: str, counterexample: Any) -> str:
    lines = [sentence]
    if counterexample is not None:
        lines += ["in the conversation", *(f"  {dict(message)!r}" for message in counterexample.messages)]
        if counterexample.tools is not None:
            lines.append(f"  with tools {list(counterexample.tools)!r}")
    return "\n".join(lines)
