"""Things that are made in several places are whole: CONTRIBUTING's table "To add a …" names these tests."""

from __future__ import annotations

import ast
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

import pytest

from policy_engine import ChatTemplate, Conversation
from policy_engine.cli.app import VERBS
from policy_engine.core.choices import Trainer
from policy_engine.core.errors import DataError
from policy_engine.core.vocabulary import CONTINUATIONS, KEYWORDS, MESSAGE_FIELDS, PART_DOCS, RelationKind
from policy_engine.data.files.readers import SUFFIXES, read_rows
from policy_engine.doctor.runners import TRAINERS, not_installed
from policy_engine.importers.registry import IMPORTERS
from policy_engine.lang.format import format_policy
from policy_engine.lang.library import shipped
from policy_engine.lang.parse import parse_lenient
from policy_engine.lsp.words import KEYWORD_DOCS
from policy_engine.proof.witness.make_text import WRITTEN
from policy_engine.run.apply import apply_dataset
from policy_engine.run.writers import OUTPUT_FORMATS
from policy_engine.testing.choices import RandomChoices
from policy_engine.testing.policies import policy

ROOT = Path(__file__).parents[1]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% if PRINTED and m.FIELD is defined %} [{{ m.FIELD }}]{% endif %}<|im_end|>\n{% endfor %}"
)
PART_OF = {"text": "text", "reasoning": "reasoning.text", "call": "tool_call", "media": "media", "label": "markup"}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def required(path: Path) -> list[str]:
    """The packages of a file of requirements."""
    return re.findall(r"(?m)^([A-Za-z0-9][\w.-]*)", path.read_text(encoding="utf-8"))


def section(name: str) -> str:
    return read("CONTRIBUTING.md").split(f"## {name}\n")[1].split("\n## ")[0]


def test_the_table_names_places_that_exist() -> None:
    named = [path for path in re.findall(r"`([\w./-]+)`", section("To add a …")) if "/" in path]
    assert len(named) > 20
    assert [] == [path for path in named if not (ROOT / path).exists()]


@pytest.mark.parametrize("part", PART_DOCS)
def test_a_part(part: str) -> None:
    assert f"| `{part}` | {PART_DOCS[part]}" in read("docs/reference/language.md")
    # A witness has text of every part but the ones whose text follows from the role.
    assert part in WRITTEN or part == "text"


@pytest.mark.parametrize(("field", "kind"), [*MESSAGE_FIELDS.items(), ("unheard_of", "label")])
def test_a_message_field(field: str, kind: str) -> None:
    if field == "role":
        return
    message = {"role": "assistant", "content": "Hi.", field: "zebra"}
    chat = Conversation(messages=({"role": "user", "content": "a"}, message))
    source = TEMPLATE.replace("FIELD", field)
    printed = ChatTemplate(source.replace("PRINTED", "true")).render(chat)
    assert {PART_OF[kind]} == {s.part for s in printed.segments if "zebra" in printed.text[s.start : s.end]}
    dropped = ChatTemplate(source.replace("PRINTED", "false")).render(chat)
    lost = [] if field == "content" or (field in MESSAGE_FIELDS and kind == "label") else [(field,)]
    assert lost == [piece.path for piece in dropped.unrendered]


@pytest.mark.parametrize("suffix", OUTPUT_FORMATS)
def test_an_output_format(suffix: str) -> None:
    assert f"`{suffix}`" in read("docs/reference/data.md")
    (row,) = re.findall(r"\| `-o`, `--out` `OUT` \| Output file \((.*?)\)", read("docs/reference/cli.md"))
    assert suffix in row.split(", ")
    assert suffix in (apply_dataset.__doc__ or "")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_input_format(suffix: str) -> None:
    (table,) = re.findall(r"## Inputs\n(.*?)\n\nEverything", read("docs/reference/data.md"), re.DOTALL)
    assert f"`{suffix}`" in table
    with pytest.raises(DataError) as error:
        read_rows(ROOT / "Makefile")
    assert suffix in (error.value.help or "")


def test_the_trainers() -> None:
    assert get_args(Trainer) == TRAINERS, "`Trainer` in policy_engine/core/choices.py names what --trainer takes"


@pytest.mark.parametrize("trainer", TRAINERS)
def test_a_trainer(trainer: str) -> None:
    module = trainer.replace("-", "_")
    name = f"policy_engine.doctor.trainers.run_{module}"
    assert find_spec(name) is not None
    assert f"def run_{module}(" in read(f"{name.replace('.', '/')}.py")
    assert re.search(rf"--trainer {trainer}\b|`{trainer}`", read("docs/how-to/trainers.md"))
    assert trainer.partition("-")[0] in read("examples/README.md").lower(), "no example leads a policy into it"
    (packages,) = re.findall(r"pip install (.*?) \(", not_installed(trainer, "").help or "")
    listed = {name for path in (ROOT / "tests").glob("requirements*.txt") for name in required(path)}
    assert set() == set(packages.split()) - listed, "no environment of the tests has it"
    steps = (ROOT / "tests/doctor").glob("test_*.py")
    assert any(f'"{trainer}"' in path.read_text(encoding="utf-8") for path in steps), "no test takes its step"


@pytest.mark.parametrize("system", IMPORTERS)
def test_an_importer(system: str) -> None:
    (listed,) = re.findall(r"\| `SYSTEM` \| (.*?)\. \|", read("docs/reference/cli.md"))
    assert system in re.split(r", | or ", listed)
    assert f"policy-engine import {system} " in read("docs/how-to/import.md")
    named = re.compile(rf'from_{system}\b|"{system}"')
    assert any(named.search(path.read_text(encoding="utf-8")) for path in (ROOT / "tests/importers").glob("*.py"))


def test_a_verb() -> None:
    files = {path.stem.rstrip("_") for path in (ROOT / "policy_engine/cli/verbs").glob("[a-z]*.py")}
    assert files == set(VERBS)
    assert [] == [verb for verb in files if f"## `{verb}`\n" not in read("docs/reference/cli.md")]


def test_a_keyword_or_relation() -> None:
    """Generated policies have every word, so that the oracle, the formatter and the proof meet it."""
    texts = [format_policy(policy(RandomChoices(f"words:{number}"), uses=shipped())) for number in range(400)]
    words = set(re.findall(r"[a-z]+", re.sub(r'"(?:[^"\\]|\\.)*"', "", "\n".join(texts))))
    assert set() == set(KEYWORDS) - words
    assert all(any(f" {relation} " in text for text in texts) for relation in get_args(RelationKind))


def test_a_relation_goes_on_with_a_statement() -> None:
    (listed,) = re.findall(r"^_MORE.*?\(\?:where(.*?)\)", read("grammars/policy.lark"), re.MULTILINE)
    assert {*CONTINUATIONS, "and", "or"} == {"where", *listed.strip("|").split("|")}
    assert {*CONTINUATIONS} >= {relation.split()[0] for relation in get_args(RelationKind)}
    (told,) = re.findall(r"one of the words `(.*?)`", read("docs/reference/grammar.md"))
    assert {*CONTINUATIONS, "and", "or"} == set(told.split())


@pytest.mark.parametrize("relation", get_args(RelationKind))
def test_a_relation_in_words(relation: str) -> None:
    assert f"`{relation} R`" in read("docs/reference/language.md"), "what it means for a user"
    assert re.search(rf"`{relation} (?:\[which\] R)?`|`{relation}`", read("docs/explanation/language-decisions.md"))
    assert f"`{relation} R`" in KEYWORD_DOCS[relation.split()[0]], "what an editor says of its first word"


@pytest.mark.parametrize("relation", get_args(RelationKind))
def test_a_relation_that_is_not_complete(relation: str) -> None:
    """Behind each of its words the help says how to go on, at the end of the text and before a wrong word."""
    words = relation.split()
    for count in range(1, len(words) + 1):
        begun = " ".join(words[:count])
        # Two relations may begin with the same words: then the help has both.
        meant = " or ".join(f"`{r} ROLE`" for r in get_args(RelationKind) if f"{r} ".startswith(f"{begun} "))
        help = "write a role: `assistant`" if begun in get_args(RelationKind) else f"write {meant}"
        for wrong in ("", "=", "7"):
            _, (error,) = parse_lenient(f"train eos {begun} {wrong}")
            assert help == error.help
    _, (error,) = parse_lenient("train eos 7")
    assert f"`{relation}`" in (error.help or "")


def test_the_mutants_name_tests_that_exist() -> None:
    """`make mutation` ends at once if a file of its lists is gone; it imports what only its own environment has."""
    lists: dict[str, Any] = {}
    for node in ast.parse(read("tests/mutation.py")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("_HOUSE", "_AGREEMENT", "TESTS"):
            exec(ast.unparse(node), lists)
    named = {re.sub("^--[a-z]+=|::.*", "", name) for names in lists["TESTS"].values() for name in names}
    assert len(named) > 20
    assert [] == [name for name in named if not (ROOT / name).exists()]
