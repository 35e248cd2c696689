"""The environment chat templates run in: transformers', with filters and operators that keep origins.

Same options, extensions, filters and globals as transformers 5.23's (`utils/chat_template_utils.py`); the sandbox is
Jinja's immutable one. What a template can spend is bounded: characters of one string, steps of its loops, and time.
"""

from __future__ import annotations

import functools
import operator
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from string import Formatter
from types import BuiltinMethodType, MethodType
from typing import Any

import jinja2
import jinja2.ext
import jinja2.filters
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
import jinja2.utils
from jinja2.sandbox import ImmutableSandboxedEnvironment
from markupsafe import Markup

from policy_engine.chat.trace_compile import TracingGenerator, rewrite
from policy_engine.chat.trace_json import tojson
from policy_engine.chat.trace_text import (
    LOST,
    MAX_CHARS,
    UNKNOWN,
    Literal,
    Origin,
    OutputTooLarge,
    Run,
    Scaffold,
    Traced,
    TracedMessage,
    concat,
    lost,
    origin_of,
    runs_of,
    traced,
)


class OutOfTime(Exception):
    """A template ran longer than it may."""


class State:
    """What one rendering is doing: the current claim on template text, and what it has spent."""

    __slots__ = ("_deadline", "_parents", "_steps", "claim")

    def __init__(self, branch_parents: Sequence[int], seconds: float) -> None:
        self.claim = Scaffold(None)
        self._parents = branch_parents
        self._deadline = time.monotonic() + seconds
        self._steps = 0

    def enter_branch(self, number: int) -> None:
        """Text outside loops is now written in `if` branch `number` (0 is none)."""
        claim = self.claim
        self.claim = Scaffold(claim.turn, claim.call, claim.item, None, number)

    def bind(self, saved: Scaffold, values: tuple[Any, ...]) -> bool:
        """At the start of a loop's body: claim for the message, call or part it holds. True for a message."""
        self._steps += 1
        if not self._steps & 0x3FF and time.monotonic() > self._deadline:
            raise OutOfTime
        value = values[0] if values else None
        if type(value) is TracedMessage:
            self.claim = Scaffold(value._o.turn, branch=saved.branch)
            return True
        if isinstance(value, int):
            for container in values[1:]:
                if isinstance(container, list) and -len(container) <= value < len(container):
                    turn = _message_turn(container[value])
                    if turn is not None:
                        self.claim = Scaffold(turn, branch=saved.branch)
                        return True
        turn = _message_turn(value)
        if turn is not None:
            self.claim = Scaffold(turn, branch=saved.branch)
            return True
        self.claim = saved
        for value in values:
            if self._claim_by_origin(value, saved):
                break
        return False

    def _claim_by_origin(self, value: Any, saved: Scaffold) -> bool:
        origin = origin_of(value)
        if origin is None or origin.turn is None:
            return False
        turn = origin.turn if saved.turn is None else saved.turn
        call, item = saved.call, saved.item
        path = origin.path
        if origin.turn == turn and len(path) > 1 and isinstance(path[1], int):
            call = path[1] if path[0] == "tool_calls" else call
            item = path[1] if path[0] == "content" else item
        self.claim = Scaffold(turn, call, item, None, saved.branch)
        return True

    def assign(self, values: tuple[Any, ...]) -> None:
        """After an assignment in a loop that holds no message: a message binds."""
        turn = _message_turn(values[0])
        if turn is not None:
            self.claim = Scaffold(turn, branch=self.claim.branch)

    def enter(self, saved: Scaffold, values: tuple[Any, ...]) -> None:
        """At the start of a macro: a message argument binds; so does data while nothing is bound."""
        for value in values:
            turn = _message_turn(value)
            if turn is not None:
                self.claim = Scaffold(turn, branch=saved.branch)
                return
        for value in values:
            if self._claim_by_origin(value, saved):
                return

    def claimed(self, value: Any) -> Any:
        """Assigned text, its unclaimed characters claimed by what is being written."""
        if self.claim.turn is None or not isinstance(value, str) or isinstance(value, Markup):
            return value
        return self.tag(value)

    def tag(self, value: str) -> str:
        """`value` with its unclaimed characters claimed."""
        runs = runs_of(value)
        for _, origin, _ in runs:
            if origin is None or type(origin) is Literal:
                break
        else:
            return value
        return traced(str.__str__(value), tuple(self._tagged(run) for run in runs))

    def _tagged(self, run: Run) -> Run:
        length, origin, start = run
        claim = self.claim
        if origin is None:
            return (length, claim, start)
        if type(origin) is Literal:
            return (length, Scaffold(claim.turn, claim.call, claim.item, origin.line, claim.branch), start)
        return run

    def buffer(self) -> Buffer:
        """A list that claims what is appended to it."""
        made = Buffer()
        made.state = self
        return made


class Buffer(list[str]):
    """Where a macro, a `set` block or a filter block collects its pieces."""

    state: State

    def append(self, piece: str) -> None:
        super().append(piece if isinstance(piece, Markup) else self.state.tag(piece))

    def extend(self, pieces: Iterable[str]) -> None:
        for piece in pieces:
            self.append(piece)


def _message_turn(value: Any) -> int | None:
    if type(value) is TracedMessage:
        return value._o.turn
    if type(value) is dict and "role" in value:
        # A message that the template rebuilt keeps the turn of its first data.
        origin = origin_of(value)
        return None if origin is None else origin.turn
    return None


class TracedMarkup(Markup):
    """What `|safe` and `|e` give. Added to other text by Markup's own rules; what those escape keeps owners, not offsets."""

    _r: tuple[Run, ...]

    def __new__(cls, base: Any = "", *args: Any, **kwargs: Any) -> TracedMarkup:
        made: TracedMarkup = super().__new__(cls, base, *args, **kwargs)
        made._r = runs_of(base) if isinstance(base, str) and len(base) == len(made) else ((len(made), UNKNOWN, LOST),)
        return made

    def __str__(self) -> str:
        return traced(str.__str__(self), self._r)

    def __add__(self, value: Any) -> Any:
        if not isinstance(value, str) and not hasattr(value, "__html__"):
            return NotImplemented
        right = _escape(value) if not isinstance(value, Markup) else value
        return _markup(str.__str__(self) + str.__str__(right), self._r + runs_of(right))

    def __radd__(self, value: Any) -> Any:
        if not isinstance(value, str) and not hasattr(value, "__html__"):
            return NotImplemented
        left = _escape(value) if not isinstance(value, Markup) else value
        return _markup(str.__str__(left) + str.__str__(self), runs_of(left) + self._r)


def _markup(text: str, runs: tuple[Run, ...]) -> TracedMarkup:
    made: TracedMarkup = str.__new__(TracedMarkup, text)
    made._r = runs
    return made


def _safe(value: Any) -> Markup:
    return TracedMarkup(value) if isinstance(value, str) else Markup(value)


def _escape(value: Any) -> Markup:
    if hasattr(value, "__html__"):
        return Markup(value.__html__())
    given = str(value)
    escaped = str.__str__(Markup.escape(str.__str__(given)))
    same = escaped == given
    return _markup(escaped, runs_of(given) if same else runs_of(lost(escaped, given)))


def _join(environment: jinja2.Environment, value: Any, d: str = "", attribute: Any = None) -> str:
    if attribute is not None:
        value = map(jinja2.filters.make_attrgetter(environment, attribute), value)
    items = [str(item) for item in value]
    return Traced.join(Traced(str(d)), items) if any(type(i) is not str for i in items) else str(d).join(items)


_join.jinja_pass_arg = jinja2.utils._PassArg.environment  # type: ignore[attr-defined]


def _replace(s: Any, old: Any, new: Any, count: int | None = None) -> str:
    return Traced(str(s)).replace(str(old), str(new), -1 if count is None else count)


def _indent(s: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    expected = jinja2.filters.do_indent(str.__str__(s) if isinstance(s, str) else s, width, first, blank)
    if not isinstance(s, Traced):
        return expected
    padding = width if isinstance(width, str) else " " * width
    lines = (s + "\n").splitlines()
    pieces: list[str] = [padding] if first else []
    for number, line in enumerate(lines):
        if number:
            pieces += ["\n", padding] if blank or line else ["\n"]
        pieces.append(line)
    made = concat(pieces)
    return made if str.__eq__(made, expected) else lost(expected, s)


def _keep_owner(function: Callable[..., Any]) -> Callable[..., Any]:
    """A filter whose result keeps the owner of its input, without offsets."""

    @functools.wraps(function)
    def keeping(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        return lost(result, *args) if type(result) is str else result

    return keeping


class _TemplateDict:
    # Only construction, as in transformers: no way to other attributes of `dict`.
    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args, **kwargs)


# Errors name the class (`TemplateDict object has no attribute …`); they must read as transformers' do.
_TemplateDict.__name__ = "TemplateDict"
_TemplateDict.__module__ = "transformers.utils.chat_template_utils"


class _TemplateNamespace(jinja2.utils.Namespace):
    # Namespaces refuse underscore names, as in transformers: those are the way to the interpreter's internals.
    def __init__(*args: Any, **kwargs: Any) -> None:
        self, args = args[0], args[1:]
        attributes = dict(*args, **kwargs)
        for name in attributes:
            _TemplateNamespace._check(name)
        jinja2.utils.Namespace.__init__(self, attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _TemplateNamespace._check(name)
        super().__setitem__(name, value)

    @staticmethod
    def _check(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(
                f"Chat templates cannot store underscore-prefixed attributes on a namespace, but got {name!r}. "
                "Please rename the attribute."
            )


class _Generation(jinja2.ext.Extension):
    """The `{% generation %}` tag: its body is written as it stands. Ownership comes from provenance, not from the tag."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration is a plain set

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.CallBlock:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(lineno)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


class _Context(jinja2.runtime.Context):
    pe: State


def _raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _strftime_now(format: str) -> str:
    return datetime.now().strftime(format)


class TracingEnvironment(ImmutableSandboxedEnvironment):
    """One per template: it also holds the template's constants."""

    code_generator_class = TracingGenerator
    context_class = _Context
    # `'a' * 10**9` must not be folded while compiling, nor run unbounded.
    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
        self.concat = concat  # type: ignore[assignment,method-assign]
        self.pe_constants: list[str] = []
        self.branch_parents: Sequence[int] = [0]
        self.filters["tojson"] = tojson
        self.filters["safe"] = _safe
        self.filters["e"] = self.filters["escape"] = self.filters["forceescape"] = _escape
        self.filters["join"] = _join
        self.filters["replace"] = _replace
        self.filters["indent"] = _indent
        for name in ("center", "wordwrap", "truncate", "striptags", "urlencode", "pprint", "title", "capitalize"):
            self.filters[name] = _keep_owner(self.filters[name])
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now
        self.globals["dict"] = _TemplateDict()
        self.globals["namespace"] = _TemplateNamespace

    def pe_constant(self, text: str, line: int) -> int:
        """The index of a constant of the template that knows its line."""
        self.pe_constants.append(traced(text, ((len(text), Literal(line), 0),)) if text else text)
        return len(self.pe_constants) - 1

    def pe_join(self, values: Iterable[Any]) -> str:
        """The `~` operator."""
        return concat([str(value) for value in values])

    def _generate(
        self, source: jinja2.nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        self.branch_parents = rewrite(source).branch_parents
        return super()._generate(source, name, filename, defer_init)

    def getattr(self, obj: Any, attribute: str) -> Any:
        if type(obj) is str and attribute in ("join", "format", "replace"):
            obj = Traced(obj)
        return super().getattr(obj, attribute)

    def call_binop(self, context: Any, operator_name: str, left: Any, right: Any) -> Any:
        if operator_name == "*":
            for text, count in ((left, right), (right, left)):
                if isinstance(text, str | list | tuple) and isinstance(count, int) and len(text) * count > MAX_CHARS:
                    raise OutputTooLarge
        elif isinstance(right, int) and abs(right) > 4096:
            raise OutputTooLarge
        return (operator.mul if operator_name == "*" else operator.pow)(left, right)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        if not isinstance(value, MethodType | BuiltinMethodType) or type(value.__self__) is not Traced:
            return super().wrap_str_format(value)
        pattern: Traced = value.__self__
        plain = super().wrap_str_format(str.__str__(pattern).format if value.__name__ == "format" else None)
        if plain is None:
            return None

        def format_traced(*args: Any, **kwargs: Any) -> str:
            expected = plain(*args, **kwargs)
            inputs = [*args, *kwargs.values()]
            pieces: list[str] = []
            automatic = 0
            for text, field, spec, conversion in Formatter().parse(pattern):
                pieces.append(text)
                if field is None:
                    continue
                name = field or str(automatic)
                automatic += not field
                given = args[int(name)] if name.isdigit() and int(name) < len(args) else kwargs.get(name)
                if given is None or spec or conversion:
                    return lost(expected, pattern, *inputs)
                pieces.append(str(given))
            made = concat(pieces)
            return made if str.__eq__(made, expected) else lost(expected, pattern, *inputs)

        return format_traced


def run_template(
    template: jinja2.Template, variables: dict[str, Any], branch_parents: Sequence[int], seconds: float
) -> list[tuple[str, Scaffold]]:
    """Every piece a template writes, with the claim that stood when it was written."""
    context = template.new_context(variables)
    assert isinstance(context, _Context)
    state = context.pe = State(branch_parents, seconds)
    pieces: list[tuple[str, Scaffold]] = []
    size = 0
    for piece in template.root_render_func(context):
        pieces.append((piece, state.claim))
        size += len(piece)
        if size > MAX_CHARS:
            raise OutputTooLarge
    return pieces


__all__ = ["Origin", "OutOfTime", "OutputTooLarge", "TracingEnvironment", "run_template"]
