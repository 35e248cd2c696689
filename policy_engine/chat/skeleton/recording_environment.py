"""The environment of a recording: operations on probes become steps and tests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

import jinja2
import jinja2.runtime

from policy_engine.chat.skeleton.probe import METHODS, List, Number, Object, Text, has_data
from policy_engine.chat.skeleton.recorded_filters import recorded_filter, recorded_test
from policy_engine.chat.skeleton.tape import Probe, Tape
from policy_engine.chat.trace import operators
from policy_engine.chat.trace.claims import parts_of_sum
from policy_engine.chat.trace.environment import TracingEnvironment
from policy_engine.chat.trace.text import Traced, concat, text_of
from policy_engine.chat.trace.values import TracedDict, TracedList, TracedMessage

_JINJAS_OWN: Final = frozenset({"_loop_vars", "_block_vars"})
_READING: Final = frozenset({"copy", "get", "items", "keys", "values"})


class Method:
    """A method of a probe for text or an object, not called yet."""

    __slots__ = ("name", "own")

    def __init__(self, own: Probe, name: str) -> None:
        self.own = own
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Never called but by the environment."""
        raise self.own.tape.refuse(f"{self.name} called past the environment")


class RecordingEnvironment(TracingEnvironment):
    """Like `real`, whose compiled template it runs, for one recording."""

    def __init__(self, real: TracingEnvironment, tape: Tape) -> None:
        super().__init__()
        self.real = real
        self.tape = tape
        self.pe_constants = real.pe_constants
        self.concat = self._concat  # type: ignore[method-assign]
        for name in self.filters:
            self.filters[name] = recorded_filter(real, tape, name, self.filters[name], self._items)
        for name in self.tests:
            self.tests[name] = recorded_test(tape, name, cast(Any, self.tests[name]))
        for sign, comparison in operators.COMPARISONS.items():
            setattr(self, f"pe_{sign}", functools.partial(self._compare, sign, comparison))
        own: dict[str, Any] = {
            "pe_add": self._binary("+", operators.add),
            "pe_sub": self._binary("-", operators.subtract),
            "pe_arithmetic": self._refusing("arithmetic", operators.arithmetic),
            "pe_sign": self._refusing("a sign", operators.signed),
            "pe_key": self._refusing("a key that is data", operators.key),
            "pe_slice": self._slice,
            "pe_compare": functools.partial(operators.compare_by, self._compared),
            "pe_str": self._str,
        }
        for operation, function in own.items():
            setattr(self, operation, function)

    def _refusing(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def refusing(*args: Any) -> Any:
            if any(isinstance(value, Probe) for value in args):
                raise self.tape.refuse(name)
            return function(*args)

        return refusing

    def _binary(self, sign: str, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        def binary(left: Any, right: Any) -> Any:
            if not isinstance(left, Probe) and not isinstance(right, Probe):
                return function(left, right)
            for value in (left, right):
                if isinstance(value, Probe) and not isinstance(value, Text | Number):
                    raise self.tape.refuse(f"{sign} of a list or an object")
                if isinstance(value, list | tuple | dict | jinja2.Undefined):
                    raise self.tape.refuse(f"{sign} with a {type(value).__name__}")
            return self.tape.step(sign, function, left, right)

        return binary

    def _compare(self, sign: str, comparison: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
        if isinstance(left, Probe) or isinstance(right, Probe):
            if sign == "in":
                return left in right
            if sign == "notin":
                return left not in right
        return comparison(left, right)

    def _compared(self, sign: str, left: Any, right: Any) -> Any:
        return self._compare(sign, operators.COMPARISONS[sign], left, right)

    def call_binop(self, context: Any, operator_name: str, left: Any, right: Any) -> Any:
        if has_data(left) or has_data(right):
            raise self.tape.refuse(f"`{operator_name}` with data")
        return super().call_binop(context, operator_name, left, right)

    def _slice(self, value: Any, start: Any, stop: Any, step: Any) -> Any:
        bounds = (start, stop, step)
        if isinstance(value, Text):
            if any(bound is not None and type(bound) is not int and not isinstance(bound, Number) for bound in bounds):
                raise self.tape.refuse("a slice")
            return self.tape.step("slice", operators.cut, value, *bounds, is_cut=value.is_cut and step is None)
        if isinstance(value, List):
            return list(value)[start:stop:step]
        if isinstance(value, Probe) or any(isinstance(bound, Probe) for bound in bounds):
            raise self.tape.refuse("a slice")
        return operators.cut(value, start, stop, step)

    def _str(self, value: Any) -> Any:
        if isinstance(value, Text) and type(value.value) in (str, Traced):
            return value
        if isinstance(value, Probe):
            return self.tape.step("str", text_of, value)
        kind = type(value)
        if kind in (str, Traced, int, bool, float, type(None)) or isinstance(value, str | jinja2.Undefined):
            return text_of(value)
        if kind in (TracedDict, TracedMessage, TracedList, list, dict, tuple):
            return self.tape.step("str", text_of, value) if has_data(value) else text_of(value)
        if isinstance(value, int | float):
            return text_of(value)
        raise self.tape.refuse(f"text of a {kind.__name__}")

    def pe_join(self, values: Iterable[Any]) -> Any:
        return self.joined([self._str(value) for value in values])

    def _concat(self, pieces: Iterable[Any]) -> Any:
        flat: list[Any] = []
        for piece in pieces:
            if type(piece) is tuple:
                flat += self.operands(piece)
            else:
                flat.append(piece)
        return self.joined(flat)

    def joined(self, pieces: list[Any]) -> Any:
        """The pieces in one text."""
        if not any(isinstance(piece, Probe) for piece in pieces):
            return concat(pieces)
        if len(pieces) == 1 and type(pieces[0].value) in (str, Traced):
            return pieces[0]  # of one piece it is that piece, by its runs
        return self.tape.step("concat", concat, pieces)

    def operands(self, operands: tuple[Any, ...]) -> tuple[Any, ...]:
        """The operands of a sum that is written."""
        if not any(isinstance(operand, Probe) for operand in operands):
            return parts_of_sum(operands)
        for operand in operands:
            kind = type(operand.value if isinstance(operand, Text) else operand)
            if kind is not str and kind is not Traced:
                raise self.tape.refuse(f"a sum with a {kind.__name__}")
        return operands

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Probe):
            return self._attribute(obj, attribute)
        return super().getattr(obj, attribute)

    def _attribute(self, obj: Probe, attribute: str) -> Any:
        if isinstance(obj, Object):
            if attribute in _READING:
                return Method(obj, attribute)
            if not hasattr(obj.value, attribute):
                return obj.at(attribute) if attribute in obj else self.undefined(obj=obj.value, name=attribute)
        elif isinstance(obj, Text) and attribute in METHODS:
            return Method(obj, attribute)
        elif not hasattr(obj.value, attribute):
            return self.undefined(obj=obj.value, name=attribute)
        raise self.tape.refuse(f"`{attribute}` of a {type(obj.value).__name__}")

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(argument, Probe):
            raise self.tape.refuse("a key that is data")
        if not isinstance(obj, Probe):
            return super().getitem(obj, argument)
        if isinstance(obj, Object) and type(argument) in (str, Traced):
            try:
                return obj.at(str.__str__(argument))
            except KeyError:
                return self._attribute(obj, argument)
        if isinstance(obj, List) and type(argument) is int:
            try:
                return obj.at(argument)
            except IndexError:
                return self.undefined(obj=obj.value, name=cast(Any, argument))
        if isinstance(obj, Text) and type(argument) is int:
            size = len(obj) if argument not in (0, -1) else int(bool(obj))
            if not -size <= argument < size:
                return self.undefined(obj=obj.value, name=cast(Any, argument))
            return self.tape.step("char", Traced.__getitem__, obj, argument, is_cut=obj.is_cut)
        if isinstance(obj, Text) and type(argument) is str:
            return self._attribute(obj, argument)
        raise self.tape.refuse(f"an item of a {type(obj.value).__name__}")

    def call(__self, __context: Any, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        self = __self
        if type(__obj) is Method:
            if not _JINJAS_OWN.issuperset(kwargs):
                raise self.tape.refuse("named arguments of a method")
            return self._called(__obj, args)
        name = getattr(__obj, "__name__", "")
        if name == "_strftime_now" and len(args) == 1 and type(args[0]) in (str, Traced):
            format = args[0]
            value = super().call(__context, __obj, *args, **kwargs)
            return self.tape.now(f"now {format}", lambda now: now.strftime(format), value)
        if name in ("_strftime_now", "generate_lorem_ipsum", "_raise_exception"):
            raise self.tape.refuse(f"a call of {name}")
        own = getattr(__obj, "__self__", None)
        if isinstance(own, str) and name == "join" and len(args) == 1 and has_data(args[0]):
            items = [self._text(item) for item in self._items(args[0])]
            return self.tape.step("join", Traced.join, Traced(own), items)
        is_loop = isinstance(own, jinja2.runtime.LoopContext)
        if own is not None and name not in _READING and not is_loop and has_data(own):
            raise self.tape.refuse(f"`{name}` of what holds data")
        kind = type(__obj)
        if kind is not jinja2.runtime.Macro and not isinstance(__obj, type) and type(__obj).__name__ != "TemplateDict":
            named = [value for key, value in kwargs.items() if key not in _JINJAS_OWN]
            if any(has_data(value) for value in (*args, *named) if type(value) is not jinja2.runtime.Macro):
                raise self.tape.refuse(f"a call of `{name}` with data")
        return super().call(__context, __obj, *args, **kwargs)

    def _items(self, value: Any) -> list[Any]:
        if not isinstance(value, list | tuple | List):
            raise self.tape.refuse(f"a join of a {type(value).__name__}")
        return list(value)

    def _text(self, item: Any) -> Any:
        if isinstance(item, Text) or type(item) in (str, Traced):
            return item
        raise self.tape.refuse(f"a join with a {type(item).__name__}")

    def _called(self, method: Method, args: tuple[Any, ...]) -> Any:
        own = method.own
        if isinstance(own, Text):
            return own.called(method.name, args)
        assert isinstance(own, Object)
        if method.name == "items" and not args:
            return own.pairs()
        if method.name == "keys" and not args:
            return own.names()
        if method.name == "values" and not args:
            return [value for _, value in own.pairs()]
        if method.name == "get" and args and type(args[0]) is str:
            try:
                return own.at(args[0])
            except KeyError:
                return args[1] if len(args) > 1 else None
        raise self.tape.refuse(f"`{method.name}` of an object")
