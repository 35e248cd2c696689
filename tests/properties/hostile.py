"""Hostile templates: expressions grown from Jinja's grammar over a user's data, written in the assistant's turn.

Whatever such a template computes, no text of the user may be trained as the assistant's. The oracle asks nobody whose
text is whose: it looks for pieces of the user's words and numbers, in any case and backwards, in the characters of
trained tokens.

    {% if m.role == 'assistant' %}{{ ('%s' % [u|upper]).split('Q')|join(n) }}{% endif %}
"""

from __future__ import annotations

import functools
from typing import Any, Final

from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import AttributionError, PolicyEngineError, TemplateError
from policy_engine.data.conversation import Conversation
from policy_engine.mask.apply_program import apply_program
from policy_engine.rules.compile import compile_text
from policy_engine.testing.checks.conformance_laws import badly_attributed
from policy_engine.testing.choices import Choices

_PROGRAM: Final = compile_text("train assistant; mask system,user; train eos after assistant")
_WORD: Final = 4
"""Characters of a user's word that are seen as that word: so many in a row are in no text of the template's own."""
_DIGITS: Final = 5

_LETTERS: Final = "bcdfghjklmnpqrstvwxz"
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz"

_COUNTED: Final = "".join([*map(str, range(100)), *map(str, range(99, -1, -1)), *(f"{i}{i - 1}" for i in range(100))])
"""Digits that loops over ranges write."""

_TEXT_METHODS: Final = (
    "upper()", "lower()", "title()", "capitalize()", "swapcase()", "casefold()", "strip()", "lstrip(T)",
    "rstrip(T)", "replace(T, T)", "replace(T, T, I)", "center(I)", "center(I, C)", "ljust(I, C)", "rjust(I, C)",
    "zfill(I)", "expandtabs(I)", "removeprefix(T)", "removesuffix(T)", "join(L)", "join(T)", "format(A, A)",
    "format(A, a=A)", "format_map(D)", "translate(D)", "translate(''.maketrans(C, C))",
    "translate({97: A, 113: T})", "encode()", "split()|join", "split(T)|join(T)", "rsplit(T, I)|join",
    "splitlines()|join", "partition(T)[I]", "rpartition(T)|join", "partition(T)|string",
    "maketrans(C, C)|string", "split(T)|first", "split()|string", "__str__()",
)  # fmt: skip
_TEXT_FILTERS: Final = (
    "upper", "lower", "title", "capitalize", "trim", "trim(T)", "replace(T, T)", "center(I)", "indent",
    "indent(T)", "indent(I, true)", "string", "safe", "e", "escape", "forceescape", "tojson", "pprint",
    "striptags", "truncate(I)", "truncate(I, true, T, 0)", "urlencode", "urlize", "wordwrap(I)",
    "wordwrap(I, true, T)", "reverse", "list|join", "list|string", "format(A)", "default(T)", "d(T, true)",
    "join(T)", "first", "last", "map('upper')|join", "map('string')|list|string", "batch(I)|map('join')|join",
    "slice(2)|map('join')|join(T)", "select|join", "reject('none')|join", "random", "sort|join", "unique|join",
    "xmlattr", "attr('upper')", "filesizeformat", "list|tojson", "groupby(0)|string",
    "map('replace', T, T)|join", "list|reverse|join", "wordcount|string",
)  # fmt: skip
_NUMBERS: Final = (
    "N + N", "N - N", "N * N", "N // I", "N / I", "N % N", "N ** I", "-N", "+N", "N|abs", "N|round",
    "N|round(I)", "N|int", "N|float", "T|int", "T|int(0, 16)", "T|length", "L|sum", "L|length", "T.find(T)",
    "T.count(T)", "T.rfind(C)", "T.index(C)", "N.real", "N.numerator", "N.conjugate()", "N.bit_length()",
    "[N, N]|max", "[N, N]|min", "[N, N]|sum", "{'a': N}.a", "range(I)|last", "(N, N)[I]", "L.index(A)",
    "T|wordcount", "N if B else N", "N or N", "x|int",
)  # fmt: skip
_LISTS: Final = (
    "[A, A]", "(A, A)", "T.split()", "T.split(C)", "T|list", "[T]", "D.values()|list", "D.keys()|list",
    "D.items()|list", "D|items|list", "D|dictsort", "L + L", "L * 2", "L[I:]", "L|map('string')|list",
    "L|reverse|list", "L|sort", "messages|map(attribute='content')|list",
    "messages|selectattr('role', 'eq', 'user')|list", "range(I)|list", "T.partition(C)", "T.splitlines()",
    "L|map('tojson')|list", "messages|groupby('role')", "[T, T]|batch(1)|list", "[x, n]", "L|unique|list",
    "T|batch(2)|list", "l", "[D, D]|map(attribute='a')|list", "[A]|select('defined')|list",
)  # fmt: skip
_OBJECTS: Final = (
    "{'a': A, 'b': A}", "{T: A}", "{97: T}", "dict(a=A, b=A)", "d", "messages[0]", "{C: T}", "dict([(T, A)])",
    "dict.fromkeys(L, T)", "{'a': [A]}", "{'a': {'b': A}}", "D.copy()",
)  # fmt: skip
_TEXTS: Final = (
    "T + T", "T ~ T", "A ~ A", "T * 2", "T[I:]", "T[:I]", "T[I]", "T[::-1]", "T[I:I + 3]", "T[N:]", "'%s' % T",
    "'%s' % [A]", "'%s%s' % (A, A)", "'%d' % N", "'%(a)s' % {'a': A}", "'%r' % (A,)", "'%5s|%-3s' % (T, A)",
    "T % A", "'%x' % N", "'%.2f' % N", "'%c' % (N % 100)", "'{}'.format(A)", "'{0}{a}'.format(A, a=A)",
    "'{:>9}'.format(T)", "'{:d}'.format(N)", "'{!r}'.format(A)", "'{a[0]}'.format(a=L)",
    "'{a}'.format_map({'a': A})", "A|string", "A|tojson", "A|pprint", "D.values()|string", "D.items()|string",
    "D.keys()|string", "D|tojson", "D|string", "D|xmlattr", "D|urlencode", "L|string", "L|join", "L|join(T)",
    "L|tojson", "L|tojson(indent=2)", "L|tojson(separators=(T, T))", "namespace(a=A)|string",
    "namespace(a=T).a", "strftime_now(T)", "lipsum(n=1, min=1, max=2) + T", "cycler(T, T).next()",
    "joiner(T)()", "T if B else T", "T or T", "T and T", "L|first", "L|last", "L|max", "L|min", "L|random",
    "D.a", "D['a']", "D.get('a')", "D.get(C, T)", "D|dictsort|string", "D|first", "(T|safe) + T", "(T|e) ~ T",
    "(T|safe) % (A, A)", "(T|safe).format(A)", "('{}{}'|safe).format(A, A)", "(T|safe).join(L)",
    "'ALPHABET'[T.find(C)]", "'ALPHABET'[T|length]", "'ALPHABET'[N % 26]", "{'a': 'b', C: T}[C]",
    "'ALPHABET'.replace(C, T)", "T|map('upper')|join", "L|map('string')|map('upper')|join(T)", "u.upper|string",
    "N|string", "N ~ ''", "N|filesizeformat", "[N]|string", "N|tojson", "{'a': N}|string",
    "messages[0].values()|string", "messages|string", "messages[0]|string",
    "messages|map(attribute='content')|join(T)", "messages|groupby('role')|string", "(L|groupby(0))|string",
    "say(A)", "say(T)|upper", "say(A) ~ T", "k.a ~ ''", "k|string",
)  # fmt: skip
_CONDITIONS: Final = (
    "true", "T == T", "T != T", "T < T", "C in T", "T is string", "N > I", "N == I", "A in L", "not B",
    "T is eq(T)", "T.startswith(C)", "T.isdigit()", "A is defined", "L", "D", "T is in(L)", "N is even",
    "B and B",
)  # fmt: skip
_RULES: Final = {"T": _TEXTS, "N": _NUMBERS, "L": _LISTS, "D": _OBJECTS, "B": _CONDITIONS}
_SIMPLEST: Final = {
    "T": ("u", "u", "v", "'x-y'", "'Q'", "u[:3]", "w"),
    "N": ("n", "n", "x", "3", "i"),
    "L": ("l", "[u, n]", "['a', 'b']"),
    "D": ("d", "{'a': u}"),
    "B": ("true", "u"),
    "C": ("u[0]", "u[I]", "'a'", "' '", "v[1]"),
    "I": ("0", "1", "2", "3", "-1", "9", "40"),
}
_CHOSEN_BY_DATA: Final = (
    "if ", " or ", " and ", "|sort", "|unique", "|max", "|min", "|select", "|reject", "dictsort", "|random",
    "B", "|length", "wordcount", "find(", "count(", "index(", "in(", "defined",
)  # fmt: skip
"""Parts of rules that decide by what data says: what they print is found by other words, not by a trace."""
_PRINTED: Final = (
    "{{ T }}", "{{ T }}", "{{ T }}", "{{ A }}", "{{ N }}", "{{ L }}", "{{ D }}", "{{ T }}{{ T }}",
    "{% set k = namespace(a=A) %}{{ k.a }}{{ k }}", "{% set t %}{{ T }}{% endset %}{{ t }}{{ t|upper }}",
    "{% for c in L %}{{ c }}{{ loop.previtem }}{% endfor %}", "{% for c in T %}{{ c }}-{% endfor %}",
    "{% for a, b in D.items() %}{{ a }}={{ b }}{% endfor %}", "{% filter upper %}{{ T }}{% endfilter %}",
    "{% filter replace(C, T) %}x{{ A }}{% endfilter %}", "{% call say(A) %}{{ T }}{% endcall %}",
    "{% with t = T %}{{ t }}{% endwith %}", "{{ say(T) }}", "{{ say(a=A) }}",
    "{% set k = namespace(a='') %}{% for c in T %}{% set k.a = k.a + c %}{% endfor %}{{ k.a }}",
    "{% set k = namespace(a='') %}{% for c in L %}{% set k.a = c ~ k.a %}{% endfor %}{{ k.a }}",
    "{% macro more(a, b=T) %}{{ a }}{{ b }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ more(A, T, N, z=T) }}",
    "{% generation %}{{ T }}{% endgeneration %}",
)  # fmt: skip
_READING: Final = (
    "{% for c in u %}{% for a in 'ALPHABET' %}{% if c == a %}{{ a }}{% endif %}{% endfor %}{% endfor %}",
    "{% for c in u %}{{ 'ALPHABET'|list|select('eq', c)|join }}{% endfor %}",
    "{% for c in u %}{% for a in 'ALPHABET' %}{{ a if a in c }}{% endfor %}{% endfor %}",
    "{% for i in range(9999) %}{% if i == n // 1000 %}{{ i }}{% endif %}{% endfor %}{{ T }}",
    "{{ T if B else T }}{{ 'ALPHABET' if B else T }}",
)
_HEAD: Final = (
    "{% set u = messages[0].content %}{% set v = messages[0].note %}{% set n = messages[0].n %}{% set i = 1 %}"
    "{% set x = messages[0].x %}{% set d = messages[0].d %}{% set l = messages[0].l %}{% set k = namespace(a=u) %}"
    "{% set w = messages[0].d.a %}"
    "{% macro say(a) %}{{ a }}{{ caller() if caller else '' }}{% endmacro %}"
)


def hostile_template(choices: Choices) -> tuple[str, bool]:
    """A template's text, and if data decides in it what is printed."""
    reads = choices.chance(15)
    grow = functools.partial(_grown, choices, reads=reads)
    parts = [grow(choices.pick(_READING if reads and choices.chance(50) else _PRINTED), 0)
             for _ in range(choices.integer(1, 2))]  # fmt: skip
    own = "".join(parts)
    return (
        f"{_HEAD}{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{{{{ m.content }}}}"
        f"{{% if m.role == 'assistant' %}}{own}{{% endif %}}<|im_end|>\n{{% endfor %}}"
    ).replace("ALPHABET", _ALPHABET), reads


def _grown(choices: Choices, rule: str, depth: int, *, reads: bool) -> str:
    """`rule` with each capital letter that names a kind of expression replaced by one."""
    out: list[str] = []
    at = 0
    while at < len(rule):
        char = rule[at]
        alone = not (rule[at - 1 : at].isalnum() or rule[at + 1 : at + 2].isalnum() or rule[at - 1 : at] in ("'", "_"))
        if alone and (char in _SIMPLEST or char == "A"):
            out.append(_expression(choices, char, depth + 1, reads=reads))
        else:
            out.append(char)
        at += 1
    return "".join(out)


def _expression(choices: Choices, kind: str, depth: int, *, reads: bool) -> str:
    if kind == "A":
        kind = choices.pick("TTTNLD")
    if choices.chance(4):
        kind = choices.pick("TNLD")  # of another kind than fits
    if depth > 3 or kind not in _RULES or choices.chance(25 * (depth - 1)):
        return _grown(choices, choices.pick(_SIMPLEST[kind]), depth, reads=reads)
    if kind == "T" and choices.chance(45):
        of_method = choices.chance(50)
        rule = f"(T){'.' if of_method else '|'}{choices.pick(_TEXT_METHODS if of_method else _TEXT_FILTERS)}"
    else:
        rule = choices.pick(_RULES[kind])
    if not reads and any(part in rule for part in _CHOSEN_BY_DATA):
        return _grown(choices, choices.pick(_SIMPLEST[kind]), depth, reads=reads)
    grown = _grown(choices, rule, depth, reads=reads)
    return grown if rule.isalnum() else f"({grown})"


def hostile_data(choices: Choices) -> Conversation:
    """A user with words and numbers found nowhere else, and an assistant."""

    def word() -> str:
        return "".join(choices.pick(_LETTERS) for _ in range(choices.integer(5, 9)))

    content = f"{word()} {word().upper()}, <{word()}> {word().title()}"
    message: dict[str, Any] = {
        "role": "user", "content": content, "note": word(), "n": choices.integer(1_000_000, 99_999_999),
        "x": choices.integer(100_000, 9_999_999) + 0.25, "d": {"a": word(), word(): word()}, "l": [word(), word()],
    }  # fmt: skip
    return Conversation(messages=(message, {"role": "assistant", "content": "Yes."}))


@functools.lru_cache(maxsize=1)
def _tokenizer() -> ChatTokenizer:
    return load_tokenizer("builtin")


def hostile_outcome(choices: Choices) -> tuple[str, str | None]:
    """What a case came to, and what is wrong: a token with a piece of the user's text that is trained."""
    source, reads = hostile_template(choices)
    conversation = hostile_data(choices)
    tokenizer = _tokenizer()
    try:
        template = ChatTemplate(source, tokens=("<|im_start|>", "<|im_end|>"), seconds=2.0)
        chat = template.render(conversation, in_other_words=reads)
        tokenized = tokenizer.encode(chat)
        mask = apply_program(_PROGRAM, tokenized)
    except TemplateError as error:
        return ("refused" if error.code == "PE405" else "raises"), None
    except AttributionError:
        return "refused", None
    except PolicyEngineError as error:
        return "failed", f"{type(error).__name__}: {error}: {source}"
    problem = next(badly_attributed(chat, conversation), None)
    if problem is not None:
        return "badly attributed", f"{problem} by {source}"
    trained = "".join(
        chat.text[start:end] if weight else "\0"
        for start, end, weight in zip(tokenized.starts_T, tokenized.ends_T, mask.weights_T, strict=True)
    )
    seen = next((piece for piece in _secrets(conversation.messages[0]) if piece in trained.lower()), None)
    if seen is not None:
        return "trained", f"trains {seen!r} of the user: {trained!r} by {source}"
    return ("whole" if "Yes." in trained else "nothing"), None


def _secrets(message: Any) -> list[str]:
    """Pieces of all that a user's message holds, forwards and backwards, in lower case."""
    found: list[str] = []

    def of(value: Any) -> None:
        if isinstance(value, str):
            for word in "".join(c if c.isalnum() else " " for c in value.lower()).split():
                found.extend(word[at : at + _WORD] for at in range(len(word) - _WORD + 1))
        elif isinstance(value, dict):
            for key, item in value.items():
                of(key)
                of(item)
        elif isinstance(value, list):
            for item in value:
                of(item)
        else:
            digits = str(value).replace(".", "")
            found.extend(digits[at : at + _DIGITS] for at in range(len(digits) - _DIGITS + 1))

    of({key: value for key, value in message.items() if key != "role"})
    names = {"role", "user", "content", "note"}
    kept = [p for p in found if p not in _ALPHABET + _COUNTED + _COUNTED[::-1] and not any(p in name for name in names)]
    return [*kept, *(piece[::-1] for piece in kept)]
