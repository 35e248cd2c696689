"""The environment of chat templates: transformers', but filters and operators keep origins.

    {{ u|trim }}{{ strftime_now(u[:2]) }}        ->  ‹Hi, BobHi›
    {{ '{} {}'.format(u, v) }}                   ->  ‹Hi, Bob› «Yes»
    {{ messages.append(1) }}                     ->  refused

Same options, extensions, filters and globals as transformers 5.23's (`utils/chat_template_utils.py`); the sandbox is
Jinja's immutable one. What a template can spend is bounded: characters of one string, and time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from string import Formatter
from types import BuiltinMethodType, MethodType
from typing import Any

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
import jinja2.utils
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from markupsafe import Markup

from policy_engine.chat.trace import operators
from policy_engine.chat.trace.bounds import check_format, check_key
from policy_engine.chat.trace.call_bounds import bound_tests, charged, check_call
from policy_engine.chat.trace.claims import State, parts_of_sum
from policy_engine.chat.trace.compile import TracingGenerator, rewrite
from policy_engine.chat.trace.computed import KEEPING_METHODS, called, computed, listed
from policy_engine.chat.trace.filters import install
from policy_engine.chat.trace.meter import BIG, start, stop
from policy_engine.chat.trace.operators import said_in
from policy_engine.chat.trace.origins import MAX_CHARS, OutputTooLarge, Scaffold, Unclaimed
from policy_engine.chat.trace.owners import holds_data
from policy_engine.chat.trace.text import Traced, concat, lost, text_of, traced
from policy_engine.chat.trace.values import TracedDict, TracedFloat, TracedInt, TracedMessage


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

    def pe_contents(self) -> list[Any]:
        """Names and values in the namespace, for `owners`."""
        # Namespaces answer `getattr` from their own attributes, so the mangled name is asked past that.
        attributes = object.__getattribute__(self, "_Namespace__attrs")
        return [*attributes, *attributes.values()]

    @staticmethod
    def _check(name: object) -> None:
        if isinstance(name, str) and name.startswith("_"):
            raise jinja2.exceptions.SecurityError(
                f"a template may not set the namespace attribute {name!r}: names with a leading underscore are refused"
            )


class _Generation(jinja2.ext.Extension):
    """The `{% generation %}` tag: its body is written as it is, and origins say whose it is.

    {% generation %}{{ u }}!{% endgeneration %}    ->  ‹Hi, Bob›!
    """

    tags = {"generation"}  # noqa: RUF012 - jinja2's own declaration is a plain set

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.CallBlock:
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body, lineno=lineno)

    def _body(self, caller: Callable[[], str]) -> str:
        return caller()


_HIDDEN_KEYS = frozenset(dir(TracedMessage))
"""Names that read a method of an object, not its key."""

_STRING_METHODS = frozenset(
    {
        "capitalize", "count", "endswith", "find", "index", "isdigit", "isspace", "lower", "lstrip", "partition",
        "removeprefix", "removesuffix", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines",
        "startswith", "strip", "title", "upper",
    }
)  # fmt: skip

_PIECE = 64
"""Cost of a piece of output beside its characters: it may be empty, but it is an object that is looked at."""

_LOOP = frozenset({"first", "index", "index0", "last", "length", "nextitem", "previtem", "revindex", "revindex0"})

_JINJAS_OWN = frozenset({"_loop_vars", "_block_vars"})
"""Arguments that Jinja adds to calls inside loops and blocks; no function is given them."""

_SHORT = 64
_QUICK = KEEPING_METHODS - {"join"} | {"endswith", "isdigit", "isspace", "startswith"}
"""Methods of text that cost no more than reading it, and whose result knows its owner or is a truth value."""


def _is_quick(method: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    # What templates call most: a method of a message's text, with short constants. It needs none of the checks.
    own = method.__self__
    if type(own) is not Traced or len(own) > BIG or method.__name__ not in _QUICK:
        return False
    for value in args:
        if type(value) is not str or len(value) > _SHORT:
            return False
    return not kwargs or _JINJAS_OWN.issuperset(kwargs)


class _Context(jinja2.runtime.Context):
    pe: State


def _raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


@jinja2.pass_context
def _strftime_now(context: _Context, format: str) -> str:
    return context.pe.now.strftime(format)


def _concat(pieces: Iterable[Any]) -> str:
    """Join the pieces of a block, a macro or a `set` block; sums are tuples."""
    flat: list[str] = []
    for piece in pieces:
        if type(piece) is tuple:
            flat += parts_of_sum(piece)
        else:
            flat.append(piece)
    return concat(flat)


def _range(*args: Any) -> Any:
    return computed(safe_range(*args), *args)  # a range of data's number tells that number


class TracingEnvironment(ImmutableSandboxedEnvironment):
    """One per template: it also holds the template's constants."""

    code_generator_class = TracingGenerator
    context_class = _Context
    intercepted_binops = frozenset({"*", "**", "%"})  # not to be folded while compiling, nor to run unbounded

    def __init__(self) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
        self.concat = _concat  # type: ignore[method-assign]
        self.pe_constants: list[str] = []
        self.words: frozenset[str] = frozenset()
        self.tested: tuple[str, ...] = ()
        """Constants that the template asks for with `in`: `/no_think` of `{% if '/no_think' in m.content %}`."""
        self.names_read: frozenset[str] = frozenset()
        """The names that the template reads and does not set itself."""
        self.pe_undeclared: set[str] = set()
        self.branch_parents: Sequence[int] = [0]
        self.pe_outputs: dict[int, int] = {}
        """Lines of the compiled template that write an output unbuffered, and its number in the source's order."""
        install(self.filters)
        bound_tests(self.tests)
        self.pe_add = operators.add
        self.pe_arithmetic = operators.arithmetic
        self.pe_compare = operators.compare
        for sign, comparison in operators.COMPARISONS.items():
            setattr(self, f"pe_{sign}", comparison)
        self.pe_sub = operators.subtract
        self.pe_sign = operators.signed
        self.pe_key = operators.key
        self.pe_slice = operators.cut
        self.pe_str = text_of
        self.globals["range"] = _range
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now
        self.globals["dict"] = _TemplateDict()
        self.globals["namespace"] = _TemplateNamespace

    def pe_constant(self, text: str, line: int) -> int:
        """The index of a constant of the template that knows its line."""
        self.pe_constants.append(traced(text, ((len(text), Unclaimed(line), 0),)) if text else text)
        return len(self.pe_constants) - 1

    def pe_join(self, values: Iterable[Any]) -> str:
        """The `~` operator."""
        return concat([text_of(value) for value in values])

    def _generate(
        self, source: jinja2.nodes.Template, name: str | None, filename: str | None, defer_init: bool = False
    ) -> str:
        said = said_in(source)  # before the tree is rewritten
        self.words, self.tested = said.words, said.tested
        self.branch_parents = rewrite(source).branch_parents
        code = super()._generate(source, name, filename, defer_init)
        # An argument of the template (`strftime_now`) can take the place of a global.
        self.names_read = frozenset(self.pe_undeclared | said.names & self.globals.keys())
        return code

    def getattr(self, obj: Any, attribute: str) -> Any:
        # What templates read most goes past the sandbox's general checks, with the same result: keys of objects that
        # no method of `dict` hides, harmless methods of strings, attributes of loops and namespaces.
        kind = type(obj)
        if kind is TracedMessage or kind is TracedDict:
            if attribute not in _HIDDEN_KEYS:
                return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        elif kind is Traced:
            if attribute in _STRING_METHODS:
                return getattr(obj, attribute)
        elif kind is jinja2.runtime.LoopContext:
            if attribute in _LOOP:
                return getattr(obj, attribute)
        elif kind is _TemplateNamespace:
            if not attribute.startswith("_"):
                try:
                    return getattr(obj, attribute)
                except AttributeError:
                    return self.undefined(obj=obj, name=attribute)
        elif kind is str:
            if attribute in ("join", "format", "replace"):
                obj = Traced(obj)
            elif attribute in _STRING_METHODS:
                return getattr(obj, attribute)
        found = super().getattr(obj, attribute)
        # The parts of a number (`real`, `numerator`) are the number itself.
        return found if callable(found) or not (kind is TracedInt or kind is TracedFloat) else computed(found, obj)

    def call_binop(self, context: Any, operator_name: str, left: Any, right: Any) -> Any:
        return operators.multiplied(operator_name, left, right)

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        kind = type(__obj)
        if kind is jinja2.runtime.Macro:
            return charged(super().call(__context, __obj, *args, **kwargs))
        if (kind is MethodType or kind is BuiltinMethodType) and _is_quick(__obj, args, kwargs):
            return __obj(*args)
        if kind is BuiltinMethodType:
            args = listed(args)
        given = (*args, *(kwargs[name] for name in kwargs if name not in _JINJAS_OWN)) if kwargs else args
        check_call(__obj, given)
        return called(__obj, charged(super().call(__context, __obj, *args, **kwargs)), given)

    def getitem(self, obj: Any, argument: Any) -> Any:
        kind = type(argument)
        if kind is tuple:
            check_key(argument)
        try:
            found = obj[argument]
        except (TypeError, LookupError):
            found = super().getitem(obj, argument)
        if type(found) is str or type(found) is list:
            charged(found)
        return found if kind is str or kind is int else computed(found, argument)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        # The sandbox decides first, and its formatter does the work: `format` and `format_map` reach attributes, so no
        # string of ours may hand out the raw method. Origins are put back on what the formatter made.
        sandboxed = super().wrap_str_format(value)
        if sandboxed is None:
            return None
        pattern: str = value.__self__
        of_mapping = value.__name__ == "format_map"

        def bounded(*args: Any, **kwargs: Any) -> str:
            fields = args[0] if of_mapping and len(args) == 1 else kwargs
            positional = () if of_mapping else args
            values = [*positional, *fields.values()] if isinstance(fields, Mapping) else list(args)
            check_format(pattern, values)
            made = sandboxed(*args, **kwargs)
            if isinstance(made, Markup):
                return computed(made, pattern, *args, *kwargs.values())  # type: ignore[no-any-return]
            return _format_origins(Traced(pattern), made, positional, fields)

        return bounded

    def is_safe_callable(self, obj: Any) -> bool:
        # A second lock behind `wrap_str_format`: a raw method is not called, however a template got hold of it.
        if isinstance(obj, MethodType | BuiltinMethodType) and super().wrap_str_format(obj) is not None:
            return False
        return super().is_safe_callable(obj)


def _format_origins(pattern: Traced, made: str, args: Sequence[Any], fields: Any) -> str:
    """Put origins on `made`, the sandbox's text for `pattern`, where plain fields show them.

    {{ '{}: {:>4}'.format('a', v) }}    ->  «a:  Yes»
    {{ '{}: {}'.format('a', v) }}       ->  a: «Yes»
    """
    inputs = [*args, *fields.values()] if isinstance(fields, Mapping) else [*args, fields]
    if holds_data(pattern):
        return lost(made, pattern, *inputs)  # the parser below gives its pieces without their origins
    pieces: list[str] = []
    automatic = 0
    for text, field, spec, conversion in Formatter().parse(pattern):
        pieces.append(text)
        if field is None:
            continue
        name = field or str(automatic)
        automatic += not field
        if name.isdigit():
            given = args[int(name)] if int(name) < len(args) else None
        else:
            given = fields.get(name) if isinstance(fields, Mapping) else None
        # A width or a conversion changes the text of a value, so only its owner is kept.
        if given is None or spec or conversion:
            return lost(made, pattern, *inputs)
        pieces.append(text_of(given))
    kept = concat(pieces)
    return kept if str.__eq__(kept, made) else lost(made, pattern, *inputs)


def run_template(
    template: jinja2.Template,
    variables: dict[str, Any],
    seconds: float,
    now: datetime | None = None,
    lines: list[int] | None = None,
    outputs: list[int | None] | None = None,
) -> list[tuple[str, Scaffold]]:
    """Every piece a template writes, with the claim that was current when it was written.

    `now` is the time that the template is given, the present by default. `lines` is filled with the line of the
    template that wrote each piece, which takes longer. `outputs` is filled with the number of the output that wrote it
    (texts and `{{ }}` in the source's order), None for what a block collected first. An error that the template raises
    gets `pe_turn`: the message that it was writing.
    """
    context = template.new_context(variables)
    assert isinstance(context, _Context)
    state = context.pe = State(start(seconds), now or datetime.now())
    try:
        written = template.root_render_func(context)
        if outputs is not None:
            environment: Any = template.environment
            written = _noted(written, outputs, environment.pe_outputs.get)
        elif lines is not None:
            written = _noted(written, lines, template.get_corresponding_lineno)
        return _collected(written, state)
    except Exception as error:
        error.pe_turn = state.claim.turn  # type: ignore[attr-defined]
        raise
    # Also where the template raises: the next thing this thread makes is not the template's.
    finally:
        stop()


def _noted(written: Any, notes: list[Any], note: Callable[[int], Any]) -> Iterator[Any]:
    """The pieces, with a note on each by the line of the compiled template that wrote it."""
    for piece in written:
        found = note(written.gi_frame.f_lineno)
        notes += [found] * (len(parts_of_sum(piece)) if type(piece) is tuple else 1)
        yield piece


def _collected(written: Iterable[Any], state: State) -> list[tuple[str, Scaffold]]:
    pieces: list[tuple[str, Scaffold]] = []
    size = 0
    for piece in written:
        if type(piece) is tuple:
            claim = state.claim
            for part in parts_of_sum(piece):
                pieces.append((part, claim))
                size += len(part) + _PIECE
        else:
            pieces.append((piece, state.claim))
            size += len(piece) + _PIECE
        if size > MAX_CHARS:
            raise OutputTooLarge
    return pieces
