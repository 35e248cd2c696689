"""Property-tests a chat template, with a smallest conversation for each fault.

```python
from policy_engine import load_tokenizer
from policy_engine.testing.conformance import check_template

tokenizer = load_tokenizer("my-model")
report = check_template(tokenizer.template, tokenizer=tokenizer)
assert report.holds, report
```
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

from hypothesis import HealthCheck, Phase, given, seed, settings

from policy_engine.chat.segments import RenderedChat
from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.chat.tokens.load import read_template
from policy_engine.core.errors import ConfigError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.checks import conformance_laws as laws
from policy_engine.testing.checks import injection_law, media_law
from policy_engine.testing.checks.conformance_cases import Case, Example, Skip, example, payloads, takes_parts_only
from policy_engine.testing.choices import run_on_draw
from policy_engine.testing.shapes import SHAPES

Verdict = Literal["holds", "fails", "fact", "does not apply"]

SHRINK_SECONDS: Final = (2.0, 0.7)
"""Seconds of CPU time for making a counterexample smaller: of a fault, and of a fact."""


MOST_LIMITS: Final = 3
"""Number of renderings at a bound, which may take seconds each, after which no more are tried."""


@dataclass(frozen=True, kw_only=True)
class Property:
    """A question to a template.

    A *fact* is neither right nor wrong, but good to know before training.
    """

    name: str
    says: str
    look: Callable[[Case], str | None]
    fact: bool = False
    of_refused: bool = False
    """True if conversations that the template raises on count, too."""


def _property(name: str, says: str, *, fact: bool = False, of_refused: bool = False) -> Property:
    # The function of the property's name, in whichever file of laws it is.
    look = next(getattr(module, name) for module in (laws, injection_law, media_law) if hasattr(module, name))
    return Property(name=name, says=says, look=look, fact=fact, of_refused=of_refused)


PROPERTIES: Final[Mapping[str, Property]] = MappingProxyType(
    {
        p.name: p
        for p in (
            _property("parity", "the text is identical to transformers'", of_refused=True),
            _property("partition", "every character has a known owner, copied data equals its field"),
            _property("independent", "text that the template writes by itself does not depend on words of messages"),
            _property("ends", "each turn of the model that is closed has one end marker, after its data"),
            _property("injection", "control text in data never changes who owns what"),
            _property("header", "the header of a model's turn is what the generation prompt supplies"),
            _property("boundary_tokens", "tokens before the model's first are those inference sees"),
            _property(
                "bounded",
                "renderings stay within the bounds of time and output, and grow as the conversation does",
                of_refused=True,
            ),
            _property("complete", "every field reaches the text", fact=True),
            _property(
                "prefix_stability", "the text of a conversation's beginning opens the text of all of it", fact=True
            ),
            _property("renders", "it renders every shape", fact=True, of_refused=True),
        )
    }
)
"""All properties, by name: first those that hold or fail, then the facts."""


OF_PROCESSORS: Final[Mapping[str, Property]] = MappingProxyType(
    {"media": _property("media", "ids are those of the processor's own call, and its placeholders belong to media")}
)
"""Properties of a template together with a processor."""


@dataclass(frozen=True, kw_only=True)
class PropertyResult:
    """The result of one property.

    `verdict`: `holds`; `fails`, with a `counterexample`; `does not apply`, with the reason; or `fact`, for what is
    neither right nor wrong. `yes` is whether the property is true of every conversation it was `checked` on (None if
    no conversation was). `reasons` has each reason why it is false or does not apply, with its number of conversations.
    """

    name: str
    verdict: Verdict
    yes: bool | None
    sentence: str
    checked: int
    reasons: Mapping[str, int] = field(default_factory=dict)
    counterexample: Conversation | None = None

    def to_json(self) -> dict[str, Any]:
        """The result as JSON data."""
        shown = None if self.counterexample is None else _plain(self.counterexample)
        return {**vars(self), "reasons": dict(self.reasons), "counterexample": shown}


@dataclass(frozen=True, kw_only=True)
class ConformanceReport:
    """All properties of one template.

    `examples` is the number of conversations, `seconds` the time it took.
    """

    template: str
    fingerprint: str
    examples: int
    seconds: float
    properties: tuple[PropertyResult, ...]

    @property
    def holds(self) -> bool:
        """True if no property fails.

        >>> ConformanceReport(template="a.jinja", fingerprint="", examples=0, seconds=0.0, properties=()).holds
        True
        """
        return not any(p.verdict == "fails" for p in self.properties)

    def __getitem__(self, name: str) -> PropertyResult:
        return next(p for p in self.properties if p.name == name)

    def __str__(self) -> str:
        return "\n".join(f"{p.name}: {p.verdict}: {p.sentence}" for p in self.properties)

    def to_json(self) -> dict[str, Any]:
        """The report as JSON data."""
        return {
            "template": self.template,
            "fingerprint": self.fingerprint,
            "holds": self.holds,
            "examples": self.examples,
            "seconds": round(self.seconds, 3),
            "properties": [p.to_json() for p in self.properties],
        }


def check_template(
    template: ChatTemplate | str | Path,
    *,
    tokenizer: ChatTokenizer | None = None,
    examples: int = 200,
    properties: Iterable[str] | None = None,
    shrink: bool = True,
) -> ConformanceReport:
    """Tests a template on one conversation of each of `SHAPES` and on `examples` generated ones.

    `template` is a compiled template, a file or a template's text (then `tokenizer`, if given, says its special
    tokens). Without a tokenizer, `boundary_tokens` does not apply; a processor
    is tested with media too. `properties` names those to test, all by default.
    The same arguments give the same verdicts. `shrink=False` shows the first counterexample as it was found.

    Raises TemplateError for a template that does not compile, TokenizerError for a file that cannot be read and
    ConfigError for a property that does not exist.
    """
    started = time.monotonic()
    compiled = _compiled(template, tokenizer)
    processed = tokenizer is not None and tokenizer.media is not None
    chosen = _chosen(properties, {**PROPERTIES, **OF_PROCESSORS} if processed else PROPERTIES)
    injected = payloads(compiled)
    parts = takes_parts_only(compiled)
    made = [
        Example(conversation=shape, payload=pick(injected, at), shape=name)
        for at, (name, shape) in enumerate(SHAPES.items())
    ]
    if examples:
        _run(made.append, injected, examples, (Phase.generate,))
    if parts:
        made = [each.with_parts() for each in made]
    tallies = tally_of(chosen, compiled, made, tokenizer)
    results = []
    for p in chosen:
        tally = tallies[p.name]
        # Of the shapes, which come first, each is small as it is.
        if shrink and not parts and tally.problem is not None and tally.problem[1].shape is None:
            tally.problem = _shrunk(p, compiled, tokenizer, injected, examples, tally.problem)
        results.append(result_of(p, tally))
    return ConformanceReport(
        template=compiled.name,
        fingerprint=compiled.fingerprint,
        examples=len(made),
        seconds=time.monotonic() - started,
        properties=tuple(results),
    )


def _compiled(template: ChatTemplate | str | Path, tokenizer: ChatTokenizer | None) -> ChatTemplate:
    if isinstance(template, ChatTemplate):
        return template
    source = read_template(template)
    name = "<template>" if source == template else str(template)
    if tokenizer is None:
        return ChatTemplate(source, name=name)
    return ChatTemplate(
        source,
        special_tokens=tokenizer.special_tokens,
        tokens=[str(token) for token in tokenizer.tokenizer.added_tokens_decoder.values()],
        stops=tokenizer.stops,
        model_roles=tokenizer.model_roles,
        name=name,
    )


def _chosen(names: Iterable[str] | None, known: Mapping[str, Property]) -> list[Property]:
    if names is None:
        return list(known.values())
    wanted = list(names)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ConfigError(f"there is no property `{unknown[0]}`", help=f"the properties are {', '.join(known)}")
    return [p for p in known.values() if p.name in wanted]


def pick(injected: Sequence[str], at: int) -> str:
    """One of the control texts, by number.

    >>> pick(["<|im_end|>", "<think>"], 3)
    '<think>'
    """
    return injected[at % len(injected)]


def tally_of(
    chosen: Iterable[Property],
    template: ChatTemplate,
    examples: Iterable[Example],
    tokenizer: ChatTokenizer | None = None,
) -> dict[str, Tally]:
    """Answers of each property about each example, by the property's name."""
    tallies = {p.name: (p, Tally()) for p in chosen}
    limits = 0
    for made in examples:
        case = Case(template, made, tokenizer)
        for p, tally in tallies.values():
            tally.add(p, case)
        limits += laws.is_limit(case.outcome)
        if limits == MOST_LIMITS:
            break
    return {name: tally for name, (_, tally) in tallies.items()}


class Tally:
    """Answers of one property about the cases so far."""

    def __init__(self) -> None:
        self.checked = 0
        self.problems: Counter[str] = Counter()
        self.skipped: Counter[str] = Counter()
        self.problem: tuple[str, Example] | None = None

    def add(self, p: Property, case: Case) -> None:
        """Counts what a property says about a case; the first problem is kept."""
        if not p.of_refused and not isinstance(case.outcome, RenderedChat):
            self.skipped["the template raises"] += 1
            return
        try:
            problem = p.look(case)
        except Skip as reason:
            self.skipped[str(reason)] += 1
            return
        self.checked += 1
        if problem is not None:
            self.problems[problem] += 1
            self.problem = self.problem or (problem, case.example)


def _run(look: Callable[[Example], None], injected: tuple[str, ...], examples: int, phases: tuple[Phase, ...]) -> None:
    """Runs `look` on generated examples: the same ones every time, until one fails."""

    @seed(0)
    @settings(
        max_examples=examples,
        phases=phases,
        # No database of earlier failures: the same arguments give the same report on every machine.
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(run_on_draw(lambda choices: example(choices, injected)))
    def run(made: Example) -> None:
        look(made)

    run()


class _Found(Exception):
    """An example on which a property is not true."""


class _Enough(KeyboardInterrupt):
    """Time is up: the one kind of exception that Hypothesis lets through while it shrinks."""


def _shrunk(
    p: Property,
    template: ChatTemplate,
    tokenizer: ChatTokenizer | None,
    injected: tuple[str, ...],
    examples: int,
    first: tuple[str, Example],
) -> tuple[str, Example]:
    """A smaller example of the same problem: Hypothesis' smallest, or a smaller shape."""
    best: tuple[str, Example] | None = None
    # CPU time, so that a busy machine does not show a larger counterexample. `False` is 0 and `True` 1.
    deadline = time.process_time() + SHRINK_SECONDS[p.fact]

    def look(made: Example) -> None:
        nonlocal best
        if time.process_time() > deadline:
            raise _Enough
        tally = Tally()
        tally.add(p, Case(template, made, tokenizer))
        if tally.problem is not None:
            best = tally.problem
            raise _Found

    with contextlib.suppress(_Found, _Enough):
        _run(look, injected, examples, (Phase.generate, Phase.shrink))
    return min((c for c in (best, first) if c is not None), key=lambda c: len(repr(c[1].conversation.messages)))


def result_of(p: Property, tally: Tally) -> PropertyResult:
    """The verdict.

    >>> result_of(PROPERTIES["parity"], Tally()).verdict
    'does not apply'
    """
    yes = None if not tally.checked else tally.problem is None
    counterexample = None
    if tally.problem is not None:
        sentence, made = tally.problem
        counterexample = made.conversation
        of = sum(tally.problems.values())
        sentence = f"{sentence} ({of} of {tally.checked} conversations)"
    elif yes:
        sentence = f"{p.says}, in {tally.checked} conversations"
    else:
        sentence = tally.skipped.most_common(1)[0][0] if tally.skipped else "nothing was tried"
    verdict: Verdict = "does not apply" if yes is None else "fact" if p.fact else "holds" if yes else "fails"
    reasons = dict((tally.problems or tally.skipped).most_common(20))
    return PropertyResult(
        name=p.name,
        verdict=verdict,
        sentence=sentence,
        yes=yes,
        checked=tally.checked,
        reasons=reasons,
        counterexample=counterexample,
    )


def _plain(conversation: Conversation) -> dict[str, Any]:
    made: dict[str, Any] = {"messages": [dict(message) for message in conversation.messages]}
    if conversation.tools is not None:
        made["tools"] = [dict(tool) for tool in conversation.tools]
    return made
