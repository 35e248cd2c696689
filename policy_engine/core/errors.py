"""The error tree. Which exception is raised is public API; its wording is not.

Every class also derives from the stdlib type it specialises, and every instance pickles, so that errors cross
process boundaries (`datasets.map(num_proc=…)`).
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from policy_engine.core.diagnostics import Diagnostic, format_diagnostic
from policy_engine.core.source import Place

_E = TypeVar("_E", bound="PolicyEngineError")
Made = TypeVar("Made")


class PolicyEngineError(Exception):
    """Base of everything this package raises on purpose.

        try:
            masker.mask(conversation)
        except PolicyEngineError as error:
            print(error.code, error.message, error.help)

    `help` says what to do next.
    """

    code: str = "PE000"
    """Stable, and a page in the docs."""
    place: Place | None = None
    """The row of a dataset that the error is about; None if the raising code does not know it."""

    def __init__(self, message: str, *, help: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        text = self.message if self.place is None else f"{self.place}: {self.message}"
        return f"{text}\n  help: {self.help}" if self.help else text

    def reworded(self: _E, message: str) -> _E:
        """The same error with another message.

        >>> RowError("no role", help="add one").reworded("message 2 has no role").help
        'add one'
        """
        # A copy: whoever else holds the first error keeps its message.
        error = copy.copy(self)
        error.args, error.message = (message,), message
        return error

    def at(self: _E, place: Place) -> _E:
        """The same error about a row of the data: its text begins with `chats.jsonl:7: `.

        >>> str(RowError("no role").at(Place(file="chats.jsonl", number=7)))
        'chats.jsonl:7: no role'
        """
        error = copy.copy(self)
        error.place = place
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        # Exception's own calls the class with `args`, the message: a class that takes diagnostics would fail on it.
        return _rebuild, (type(self), self.args), dict(self.__dict__)


def _rebuild(cls: type[PolicyEngineError], args: tuple[Any, ...]) -> PolicyEngineError:
    # Without `__init__`: subclasses take other arguments than the message that `args` holds.
    error = cls.__new__(cls)
    error.args = args
    return error


def add_note(error: BaseException, note: str) -> None:
    """Adds a sentence to a foreign error; Python 3.11 and later print it below the traceback.

    >>> error = ValueError("no")
    >>> add_note(error, "row 3")
    >>> error.__notes__
    ['row 3']
    """
    # Python 3.10 has no `add_note`; the attribute is the one that 3.11 uses, so `notes_of` reads both.
    if hasattr(error, "add_note"):
        error.add_note(note)
    else:
        error.__notes__ = [*notes_of(error), note]  # type: ignore[attr-defined,unused-ignore]


def notes_of(error: BaseException) -> list[str]:
    """The sentences that were added to an error.

    >>> error = ValueError("no")
    >>> add_note(error, "row 3")
    >>> notes_of(error)
    ['row 3']
    """
    return list(getattr(error, "__notes__", ()))


def or_none(work: Callable[..., Made], *arguments: Any) -> Made | None:
    """The result of `work`; None if it raises an error of policy-engine.

    >>> def halved(number: int) -> int:
    ...     if number % 2:
    ...         raise ConfigError("odd")
    ...     return number // 2
    >>> or_none(halved, 4), or_none(halved, 3)
    (2, None)
    """
    try:
        return work(*arguments)
    except PolicyEngineError:
        return None


class Terminated(KeyboardInterrupt):
    """SIGTERM asked a run to end, as schedulers do before they kill; it ends as by Ctrl-C."""


class PolicyError(PolicyEngineError, ValueError):
    """A policy cannot be used as written.

    `diagnostics` lists everything that is wrong, not only the first thing.

    >>> PolicyError((Diagnostic(code="PE101", severity="error", message="expected a role"),)).code
    'PE101'
    """

    code = "PE100"

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        self.diagnostics = diagnostics
        # The text is made at once: `str(error)` has to be whole after a pickle, and a trainer's log shows nothing
        # but it.
        text = "\n\n".join(format_diagnostic(d) for d in diagnostics)
        # The code of the first finding stands for all, so that `error.code` leads to a page.
        super().__init__(text, code=diagnostics[0].code if diagnostics else None)


class PolicyWarning(UserWarning):
    """A policy loads, but may not mean what its author meant.

    It names a role that nothing declares, has a guard that is not proven, or lint found something. `diagnostic` is the
    finding with its place and help. `policy-engine check --strict` refuses such policies; a comment
    `# lint: ignore CODE` at a statement says that it is meant.
    """

    def __init__(self, message: str, diagnostic: Diagnostic | None = None) -> None:
        super().__init__(message)
        self.diagnostic = diagnostic


def warn_of(diagnostics: Iterable[Diagnostic], *, stacklevel: int) -> None:
    """Warns of findings that did not stop a policy from loading.

    The warnings point at the code `stacklevel` frames above. Findings that are no slip (`info`) are for `check` alone.

    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warn_of([Diagnostic(code="PE254", severity="warning", message="trains nothing")], stacklevel=1)
    >>> str(caught[0].message)
    'warning[PE254]: trains nothing'
    """
    for diagnostic in (found for found in diagnostics if found.severity != "info"):
        # One frame more, for this function itself.
        warnings.warn(PolicyWarning(format_diagnostic(diagnostic), diagnostic), stacklevel=stacklevel + 1)


class PolicySyntaxError(PolicyError):
    """A policy text that does not parse. Fix the places its diagnostics point at."""


class PolicyCheckError(PolicyError):
    """A policy that parses but cannot mean anything.

    It names a part that does not exist, uses a policy that is not there, or compares a number with text.
    """


class GuardError(PolicyEngineError, ValueError):
    """A row broke a `never` or `always` guard of the policy.

    The policy has to change, not the row.
    """

    code = "PE301"


class TemplateError(PolicyEngineError, ValueError):
    """A chat template cannot be used.

    It does not compile, raises an error for this data, or exceeds its limits. `raised` is what it raised, in its own
    words; `own_words` has the field to blame behind them. `turn` is the index of the message that it was writing then;
    None outside of messages.
    """

    code = "PE401"
    raised: str | None = None
    turn: int | None = None

    @property
    def own_words(self) -> str:
        """The template's own words, and the field to blame if it is known; else the message.

        >>> error = TemplateError("t.jinja raises for this conversation, at message 1 (`user`): no (`content` is null)")
        >>> error.raised = "no"
        >>> error.own_words
        'no (`content` is null)'
        """
        return self.message if self.raised is None else self.message[self.message.index(f": {self.raised}") + 2 :]


class TemplateLimitError(TemplateError):
    """A chat template exceeded a limit: of time, output, depth or memory."""


class AttributionError(PolicyEngineError, ValueError):
    """The author of a rendered character or a token is not certain, so the row is refused."""

    code = "PE402"


class UnrenderedError(PolicyEngineError, ValueError):
    """A message field that the policy trains never reached the rendered text."""

    code = "PE403"


class TokenizerError(PolicyEngineError, ValueError):
    """A tokenizer cannot be loaded, has no chat template, or gives wrong offsets."""

    code = "PE404"


class RowError(PolicyEngineError, ValueError):
    """A dataset row cannot be used.

    It cannot be read as a conversation, or a value in it has the wrong type for the policy.

    >>> RowError("no role").code, isinstance(RowError("no role"), ValueError)
    ('PE501', True)
    """

    code = "PE501"


class DriftError(RowError):
    """The token ids of a row spell something else than the text of its messages.

    `drift` is the report: the first token that differs, its message and part, and both texts.
    """

    code = "PE541"
    # `chat.given.drift.Drift`; this room imports no other, so the type cannot be written here.
    drift: Any = None


class MediaError(RowError):
    """An image, sound or video of a row cannot be used.

    It is missing, broken, too large or elsewhere than it may be, or the text has a placeholder that no medium has.
    """

    code = "PE531"


class DataError(PolicyEngineError, OSError):
    """A dataset, dataset file or output cannot be read or written."""

    code = "PE502"


class ConfigError(PolicyEngineError, ValueError):
    """A dataset file (YAML) or an option has a key or value that means nothing."""

    code = "PE503"


class DatasetFileError(ConfigError):
    """A dataset file cannot be used.

    `diagnostics` lists everything that is wrong in it, each with its line.
    """

    def __init__(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        self.diagnostics = diagnostics
        super().__init__("\n\n".join(format_diagnostic(d) for d in diagnostics))
