"""The tests a policy brings along: conversations, and how each has to be masked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from policy_engine.core.errors import PolicyEngineError
from policy_engine.core.vocabulary import BODY, EOS
from policy_engine.data.dataset import DatasetSpec, PolicyTest
from policy_engine.mask.marks import marked
from policy_engine.mask.masker import Masker
from policy_engine.mask.row import MaskedRow
from policy_engine.rules.program import Program
from policy_engine.rules.traces import trace_rules


@dataclass(frozen=True, kw_only=True)
class TestResult:
    """The result of one test.

    `actual` is the rendering with trained text in ⟦ ⟧, None where masking failed.
    """

    name: str
    line: int
    expected: str
    actual: str | None
    error: PolicyEngineError | None = None

    @property
    def passed(self) -> bool:
        """True if the conversation was masked as expected, blanks at the end apart."""
        # Blanks at the end of a YAML block depend on its style (`|`, `|-`), not on what was meant.
        return self.actual is not None and self.expected.rstrip() == self.actual.rstrip()


@dataclass(frozen=True, kw_only=True)
class Untried:
    """A part of a policy that no row has tried.

    It is a rule that never decided, or a test of a condition that was never seen `true` or never `false`.
    """

    place: str
    text: str
    missing: str


@dataclass(kw_only=True)
class Coverage:
    """Which rules decided and which conditions were seen both ways, over the rows added."""

    program: Program
    decided: set[int] = field(default_factory=set)
    seen: dict[tuple[int, str], set[bool]] = field(default_factory=dict)

    def add(self, row: MaskedRow) -> None:
        """Counts what decided the segments of a row."""
        segments = row.chat.segments
        # By tokens: a rule that decides no token has not been tried, whatever characters it selects.
        self.decided |= {int(rule) for rule in row.mask.rules_T if rule >= 0}
        for rules in trace_rules(self.program, row.chat, [(i, s.start) for i, s in enumerate(segments)]):
            for rule in rules:
                # A factor never is the deciding rule of a token.
                if rule.effect == "scale" and rule.holds:
                    self.decided.add(rule.index)
                for value in rule.conditions:
                    # By rule and test: two rules may ask the same, and each has to be tried.
                    self.seen.setdefault((rule.index, value.test), set()).add(value.holds)

    def untried(self) -> tuple[Untried, ...]:
        """The parts that no row has tried, in the order of the policy.

        >>> from policy_engine.rules.compile import compile_text
        >>> masker = Masker(compile_text("train assistant; mask assistant where message.bad"), "builtin")
        >>> coverage = Coverage(program=masker.program)
        >>> coverage.add(masker([{"role": "assistant", "content": "Yes."}]))
        >>> [(found.text, found.missing) for found in coverage.untried()]
        [('mask assistant where message.bad', 'never decided'), ('message.bad', 'never true')]
        """
        found: list[Untried] = []
        for rule in self.program.policy.rules:
            text = rule.span.one_line
            if rule.index not in self.decided:
                found.append(Untried(place=str(rule.span), text=text, missing="never decided"))
            for (index, test), values in self.seen.items():
                if index == rule.index and len(values) == 1:
                    missing = "never false" if True in values else "never true"
                    found.append(Untried(place=str(rule.span), text=test, missing=missing))
        return tuple(found)


def run_tests(spec: DatasetSpec, masker: Masker, coverage: Coverage | None = None) -> list[TestResult]:
    """Runs the tests of a dataset file, in order."""
    return [_run(test, spec, masker, coverage) for test in spec.tests]


def _run(test: PolicyTest, spec: DatasetSpec, masker: Masker, coverage: Coverage | None) -> TestResult:
    try:
        row = _masked(test, spec, masker)
    except PolicyEngineError as error:
        return TestResult(name=test.name, line=test.line, expected=test.expect, actual=None, error=error)
    if coverage is not None:
        coverage.add(row)
    return TestResult(name=test.name, line=test.line, expected=test.expect, actual=marked_row(row))


def _masked(test: PolicyTest, spec: DatasetSpec, masker: Masker) -> MaskedRow:
    conversation = test.conversation(spec.template_kwargs)
    # The usual test; one that names sampled turns takes the way of given ids.
    if test.sampled is None:
        return masker.mask(conversation)
    rows = masker.row_masker
    tokenized = rows.tokenize(conversation, rows.render(conversation))
    segments = tokenized.chat.segments
    # What a model samples of its turn is the body and the end; the header was given to it.
    ranges = tuple((s.start, s.end) for s in segments if s.turn in test.sampled and s.part in BODY | EOS)
    return rows.finish(replace(tokenized, chat=replace(tokenized.chat, sampled=ranges)))


def marked_row(row: MaskedRow, *, weights: bool = False) -> str:
    """The rendered text of a row, its trained tokens between ⟦ and ⟧.

    After each stretch comes its weight, if asked for.

    >>> from policy_engine.rules.compile import compile_text
    >>> masker = Masker(compile_text("train assistant; train eos of assistant"), "builtin")
    >>> chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes."}]
    >>> print(marked_row(masker(chat)).rstrip())
    <|im_start|>user
    Hi<|im_end|>
    <|im_start|>assistant
    ⟦Yes.<|im_end|>⟧
    """
    tokens = zip(row.tokenized.starts_T.tolist(), row.tokenized.ends_T.tolist(), row.mask.weights_T.tolist())
    return marked(row.chat.text, tokens, weights=weights)
