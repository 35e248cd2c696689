"""ms-swift's `--loss_scale` as policies. Semantics of ms-swift 4.6."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from policy_engine.core.errors import ConfigError
from policy_engine.core.suggest import did_you_mean
from policy_engine.importers.imported import Imported, cannot, read_config

Words = Mapping[str, Sequence[float]]
"""A word of an answer → its own weight, and that of the text behind it."""

_BASES: Final = ("default", "last_round", "all")
_WORDS: Final[dict[str, Words]] = {
    "react": {
        "Action:": (2, 2), "Action Input:": (2, 2), "Thought:": (1, 1), "Final Answer:": (1, 1), "Observation:": (2, 0),
    },
    "qwen": {"✿FUNCTION✿:": (2, 2), "✿ARGS✿:": (2, 2), "✿RETURN✿:": (1, 1), "✿RESULT✿:": (2, 0)},
    "alpha_umi": {
        "Action:": (2, 2), "Action Input:": (2, 2), "Thought:": (1, 1), "Final Answer:": (1, 1), "Observation:": (2, 0),
        "Next:": (2, 2),
    },
}  # fmt: skip
_BUDGET: Final = (
    "<seed:think><seed:cot_budget_reflect>The current thinking budget is 0, so I will directly start answering the "
    "question.</seed:cot_budget_reflect>\\n</seed:think>\\s*"
)
_REGEXES: Final[dict[str, Mapping[str, float]]] = {
    "base": {},
    "hermes": {"<tool_call>.+?</tool_call>": 2},
    "ignore_empty_think": {
        "^<think>\\s*</think>\\s*": 0, f"^{_BUDGET}": 0, "^</think>\\s*": 0, "^<\\|channel>thought\\n<channel\\|>": 0,
        "^</mm:think>\\s*": 0,
    },
    "ignore_think_prefix": {"^<think>\\n?": 0},
}  # fmt: skip
_NAMES: Final = (*_WORDS, *_REGEXES, "agentflan")
_ANSWER: Final = "(body, empty_reasoning) of assistant"


def from_swift(argument: str) -> list[Imported]:
    """ms-swift's `--loss_scale`: names joined by `+`, or the path of a JSON of weights.

    Raises ConfigError for names it does not have, and for those that no policy can say.

    >>> from_swift("last_round")[0].rules
    ['use swift', 'mask assistant before last user', 'mask assistant before last tool']
    """
    if argument.endswith(".json"):
        return [_file(Path(argument))]
    names = [name.strip() for name in argument.split("+")]
    base, plugins = (names[0], names[1:]) if names[0] in _BASES else ("default", names)
    unknown = next((name for name in plugins if name not in _NAMES), None)
    if unknown in _BASES:
        raise ConfigError(f"loss_scale `{argument}` has `{unknown}` behind another name",
                          help=f"one of {', '.join(_BASES)} may come, as the first")  # fmt: skip
    if unknown is not None:
        known = (*_BASES, *_NAMES)
        names_are = f"the names are {', '.join(known)}, joined by `+`; a file of weights has to end in .json"
        meant = did_you_mean(unknown, known)
        raise ConfigError(
            f"ms-swift has no loss_scale `{unknown}`", help=f"{meant} {names_are}" if meant else names_are
        )
    source = f"ms-swift, loss_scale `{argument}`"
    if "agentflan" in plugins:
        raise cannot("agentflan", source, "it weighs an answer by words of the question before it, too",
                     "for its words in answers, import a .json with the `response` of its configuration")  # fmt: skip
    if any(name in _WORDS for name in plugins) and len([n for n in plugins if n in _WORDS or n == "hermes"]) > 1:
        raise cannot(argument, source, "weighted stretches of one would cut those of the other in two", "name one")
    rules = _base(base)
    for name in sorted(plugins, key=lambda name: name not in _WORDS):  # words set weights, which others multiply
        rules += word_rules(_WORDS[name], source, base) if name in _WORDS else _regex_rules(_REGEXES[name], base)
    return [Imported(name="loss_scale", source=source, rules=rules + _rounds(base), notes=_of_messages(base, rules))]


def _of_messages(base: str, rules: Sequence[str]) -> list[str]:
    """Notes on a message's own weight.

    If all weights are 0 and 1, ms-swift trains by labels alone, and a message's own weight is one of the two.
    """
    where = "above the last two rules" if base == "last_round" else "at the end"
    weighted = any(" weight " in rule or rule.startswith("scale ") for rule in rules)
    own = (
        "`train assistant weight message.loss_scale where message.loss_scale != null`"
        if weighted
        else "`mask assistant where message.loss_scale == 0` (other weights are 1 there, where nothing else weighs)"
    )
    notes = [
        f"If messages have `loss` or `loss_scale`, add {where}: {own} and `mask assistant where message.loss in "
        "[false, 0]`. Both decide over what is written here, as in ms-swift."
    ]
    if base != "all":
        notes.append(
            "ms-swift masks the end marker of an answer that ends in masked text, but for the last answer, whose end "
            "it always trains. Here the end of an answer is trained unless its whole turn is masked."
        )
    return notes


def _base(base: str) -> list[str]:
    return ["use swift_all"] if base == "all" else ["use swift"]


def _rounds(base: str) -> list[str]:
    """Below the weights, since those are set for every answer."""
    return ["mask assistant before last user", "mask assistant before last tool"] if base == "last_round" else []


def _file(path: Path) -> Imported:
    config = read_config(path)
    if set(config) == {"response", "query"}:
        raise cannot("query", str(path), "it weighs an answer by words of the question before it",
                     "for the words in answers, give the `response` alone")  # fmt: skip
    words: dict[str, Sequence[float]] = {}
    regexes: dict[str, float] = {}
    for key, weights in config.items():
        if not isinstance(weights, list) or len(weights) not in (1, 2) or not all(_is_weight(n) for n in weights):
            raise ConfigError(
                f"{path}: `{key}` has {weights!r}", help="a list: of one weight for a regex, of two for a word"
            )
        if len(weights) == 2:
            words[key] = weights
        else:
            regexes[key] = weights[0]
    notes = []
    if words and regexes:
        left = ", ".join(f"`{key}`" for key in regexes)
        notes.append(f"Left out as ms-swift does, which reads no regexes beside words with two weights: {left}.")
    rules = word_rules(words, str(path), "default") if words else _regex_rules(regexes, "default")
    return Imported(
        name=path.stem,
        source=f"ms-swift, {path.name}",
        rules=[*_base("default"), *rules],
        notes=[*notes, *_of_messages("default", rules)],
    )


def word_rules(words: Words, where: str, base: str) -> list[str]:
    """Rules for words, each with what follows it up to the next word or the end of the answer.

    A stretch is matched together with the word that ends it, whose own weight is set after. Words of one weight are
    matched as one stretch, so that a word repeated is not lost with what was matched before it.

    >>> word_rules({"Action:": (2, 2)}, "weights.json", "default")
    ['train /Action:.*?\\\\z/s in assistant.body weight 2', 'train /Action:/ in assistant.body weight 2']
    """
    _refuse_overlaps(words, where)
    place = "body" if base == "all" else "assistant.body"
    rules = []
    for weight in dict.fromkeys(behind for _, behind in words.values()):
        # Weight 1 is what the base gives: a rule would change nothing.
        if weight != 1:
            here = [_plain(word) for word, pair in words.items() if pair[1] == weight]
            ends = [*(_plain(word) for word, pair in words.items() if pair[1] != weight), "\\z"]
            rules.append(_set(f"/{_either(here)}.*?{_either(ends)}/s", place, weight))
    for weight in dict.fromkeys(own for own, _ in words.values()):
        own = [_plain(word) for word, pair in words.items() if pair[0] == weight]
        rules.append(_set(f"/{'|'.join(own)}/", place, weight))
    return rules


def _set(pattern: str, place: str, weight: float) -> str:
    if weight == 0:
        return f"mask {pattern} in {place}"
    return f"train {pattern} in {place}" + (f" weight {json.dumps(weight)}" if weight != 1 else "")


def _regex_rules(regexes: Mapping[str, float], base: str) -> list[str]:
    """Rules of regexes. Empty thinking that is added is part of the answer they search.

    >>> _regex_rules({"<tool_call>.+?</tool_call>": 2}, "default")
    ['scale /<tool_call>.+?<\\\\/tool_call>/s in (body, empty_reasoning) of assistant by 2']
    """
    place = "(body, empty_reasoning)" if base == "all" else _ANSWER
    return [
        f"mask {_regex(key)}s in {place}" if weight == 0 else f"scale {_regex(key)}s in {place} by {json.dumps(weight)}"
        for key, weight in regexes.items()
        if weight != 1
    ]


def _refuse_overlaps(words: Words, where: str) -> None:
    """Raises ConfigError for words that can share characters: no rule says which one is meant."""
    for word in words:
        for other in words:
            shares = any(word.endswith(other[:size]) for size in range(1, len(other)))
            if not word or (word != other and (other in word or shares)):
                raise cannot(word, where, f"it and `{other}` can share characters", "keep one of the two")


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _either(patterns: Sequence[str]) -> str:
    return patterns[0] if len(patterns) == 1 else f"(?:{'|'.join(patterns)})"


def _plain(word: str) -> str:
    """A word as a pattern.

    >>> _plain("a.b")
    'a\\\\.b'
    """
    # Not `re.escape`, which escapes what a policy's regex need not have escaped, such as blanks and `✿`.
    return re.sub(r"([\\.^$*+?{}\[\]|()/])", r"\\\1", word).replace("\n", "\\n")


def _regex(pattern: str) -> str:
    # A slash ends a regex of the policy language; escaped characters are passed over, so that `\/` stays.
    return "/" + re.sub(r"(\\.)|/", lambda m: m[1] or "\\/", pattern).replace("\n", "\\n") + "/"
