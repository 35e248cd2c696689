"""Every verb, every verdict it can come to, in every format: the exit code, and a document that says the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from policy_engine import builtin
from tests.cli.documents import check_document
from tests.cli.support import CHATS, GOOD, cli, write_chats, write_policy
from tests.cli.test_main import VERBS

Arguments = list[str | Path]
WITHOUT_FINDINGS = {"policies", "cache", "demo", "lsp", "import", "play"}
"""Verbs that offer no `--format sarif`."""
OK, NO, NO_ANSWER, UNDECIDED = 0, 1, 2, 3

TYPO = "train asistant where\n"
BROKEN = "train everything\nnever train user\n"
POSSIBLE = (
    "train user.text where message.content matches /a/ and not (message.content matches /a|b/)\nnever train user\n"
)
UNLAID = "train   assistant;;train eos of assistant"
BAD_ROW = '{"messages": 3}'
TEST_FILE = """\
policy: my.policy
tokenizer: builtin
tests:
  - messages: [{{role: user, content: a}}]
    expect: {expect}
"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A command line in a folder of its own, and what it has to come to."""

    verb: str
    name: str
    code: int
    arguments: Callable[[Path], Arguments]


def policy(text: str = GOOD) -> Callable[[Path], Path]:
    return lambda folder: write_policy(folder, text)


def masking(*extra: str, text: str = GOOD, rows: list[object] | None = None) -> Callable[[Path], Arguments]:
    """Arguments of a verb that masks: data, policy, tokenizer."""
    return lambda folder: [
        write_chats(folder, CHATS if rows is None else rows),
        "-p",
        write_policy(folder, text),
        "-t",
        "builtin",
        *(str(folder / e.removeprefix("@")) if e.startswith("@") else e for e in extra),
    ]


def files(*texts: str) -> Callable[[Path], Arguments]:
    """One policy file for each text."""
    return lambda folder: [write_policy(folder, text, name=f"p{i}.policy") for i, text in enumerate(texts)]


def with_test(expect: str, text: str = GOOD) -> Callable[[Path], Arguments]:
    def made(folder: Path) -> Arguments:
        path = folder / "tests.yaml"
        write_policy(folder, text)
        path.write_text(TEST_FILE.format(expect=json.dumps(expect)), encoding="utf-8")
        return [path]

    return made


def prepared(policy_text: str, label: int | None, *extra: str) -> Callable[[Path], Arguments]:
    """A dataset that is masked already; `label` changes the label of the row's first token."""

    def made(folder: Path) -> Arguments:
        out = folder / "masked.jsonl"
        assert 0 == cli("apply", *masking()(folder), "-o", out).code
        rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        for row in rows:
            if label is not None:
                row["labels"] = [row["input_ids"][i] if i < label else x for i, x in enumerate(row["labels"])]
        out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return [out, "-p", write_policy(folder, policy_text), "-t", "builtin", *extra]

    return made


def template(text: str) -> Callable[[Path], Arguments]:
    def made(folder: Path) -> Arguments:
        path = folder / "t.jinja"
        path.write_text(text, encoding="utf-8")
        return [path, "--examples", "1"]

    return made


def tagging(source: str, *extra: str, text: str = GOOD) -> Callable[[Path], Arguments]:
    """Arguments of `tag`: a template and a policy."""

    def made(folder: Path) -> Arguments:
        path = folder / "t.jinja"
        path.write_text(source, encoding="utf-8")
        return [path, "-p", write_policy(folder, text), *plain(*extra)(folder)]

    return made


def plain(*arguments: str) -> Callable[[Path], Arguments]:
    """Arguments as they are; `@name` is a file of the folder."""
    return lambda folder: [folder / a.removeprefix("@") if a.startswith("@") else a for a in arguments]


def starting(*rows: object) -> Callable[[Path], Arguments]:
    return lambda folder: [write_chats(folder, rows), "-t", "builtin", "-o", folder / "start"]


def config(text: str, *extra: str) -> Callable[[Path], Arguments]:
    def made(folder: Path) -> Arguments:
        (folder / "axolotl.yml").write_text(text, encoding="utf-8")
        return ["axolotl", folder / "axolotl.yml", *extra]

    return made


def compared(old: str, new: str, *extra: str, data: bool = False) -> Callable[[Path], Arguments]:
    return lambda folder: [
        *files(old, new)(folder),
        *(["--data", write_chats(folder), "-t", "builtin"] if data else []),
        *extra,
    ]


LARGE = "train assistant\nmask last 30000 tool\n"
CASES = [
    Case(verb=verb, name=name, code=code, arguments=arguments)
    for verb, cases in {
        "cache": [("ok", OK, plain())],
        "init": [
            ("ok", OK, starting(*CHATS)),
            ("some rows cannot be read", OK, starting(*CHATS, BAD_ROW)),
            ("no row can be read", NO_ANSWER, starting(BAD_ROW)),
            ("no data", NO_ANSWER, plain("@none.jsonl", "-t", "builtin")),
            ("no tokenizer", NO_ANSWER, lambda f: [write_chats(f)]),
        ],
        "check": [
            ("ok", OK, files(GOOD)),
            ("a warning", OK, files("train asistant\n")),
            ("a warning, strictly", NO, lambda f: [write_policy(f, "train asistant\n"), "--strict"]),
            ("a guard fails", NO, files(GOOD, BROKEN)),
            ("a guard may fail", UNDECIDED, files(POSSIBLE)),
            ("no policy", NO_ANSWER, files(TYPO, BROKEN)),
            ("no file", NO_ANSWER, plain("@none.policy")),
        ],
        "fmt": [
            ("ok", OK, files(UNLAID)),
            ("laid out", OK, lambda f: [write_policy(f), "--check"]),
            ("not laid out", NO, lambda f: [write_policy(f, UNLAID), "--check"]),
            ("a difference", NO, lambda f: [write_policy(f, UNLAID), "--diff"]),
            ("no policy", NO_ANSWER, files(UNLAID, TYPO)),
            ("no file", NO_ANSWER, plain("@none.policy")),
        ],
        "show": [
            ("ok", OK, masking()),
            ("a page", OK, masking("--html", "@page.html")),
            ("a row fails", NO, masking(rows=[*CHATS, BAD_ROW])),
            ("a row breaks a guard", NO, masking(text=BROKEN)),
            ("no policy", NO_ANSWER, masking(text=TYPO)),
            ("no such row", NO_ANSWER, masking("--row", "9")),
            ("no data", NO_ANSWER, plain("@none.jsonl", "-p", "default", "-t", "builtin")),
        ],
        "explain": [
            ("ok", OK, masking()),
            ("the row fails", NO, masking("--row", "4", rows=[*CHATS, BAD_ROW])),
            ("no policy", NO_ANSWER, masking(text=TYPO)),
            ("no such token", NO_ANSWER, masking("--token", "9999")),
            ("no data", NO_ANSWER, plain("@none.jsonl", "-p", "default", "-t", "builtin")),
        ],
        "apply": [
            ("ok", OK, masking("-o", "@out.parquet")),
            ("a row fails", NO, masking("-o", "@out.parquet", rows=[*CHATS, BAD_ROW])),
            ("a row fails, strictly", NO, masking("-o", "@out.parquet", "--strict", rows=[*CHATS, BAD_ROW])),
            ("a guard fails", NO, masking("-o", "@out.parquet", text=BROKEN)),
            ("a guard may fail", OK, masking("-o", "@out.parquet", text=POSSIBLE + "train assistant\n")),
            ("rows break a guard", NO, masking("-o", "@out.parquet", "--no-prove", text=BROKEN)),
            ("no row is left", NO, masking("-o", "@out.parquet", text="train tool\n")),
            ("no policy", NO_ANSWER, masking("-o", "@out.parquet", text=TYPO)),
            ("the output is there", NO_ANSWER, masking("-o", "@my.policy")),
            ("no output", NO_ANSWER, masking()),
            ("no data", NO_ANSWER, plain("@none.jsonl", "-p", "default", "-t", "builtin", "-o", "@out.parquet")),
        ],
        "audit": [
            ("ok", OK, prepared(GOOD, None)),
            ("labels break the policy", NO, prepared(GOOD, 8)),
            ("it asks what ids do not tell", UNDECIDED, prepared(GOOD + "mask assistant where message.bad\n", None)),
            ("no policy", NO_ANSWER, prepared(TYPO, None)),
            ("not tokenized", NO_ANSWER, masking()),
            ("no data", NO_ANSWER, plain("@none.jsonl", "-p", "default", "-t", "builtin")),
        ],
        "doctor": [
            ("no data", NO_ANSWER, plain("@none.jsonl", "--trainer", "transformers")),
            ("no trainer", NO_ANSWER, masking()),
        ],
        "prove": [
            ("ok", OK, files(GOOD, "train assistant\n")),
            ("a guard fails", NO, files(GOOD, BROKEN, POSSIBLE)),
            ("a guard may fail", UNDECIDED, files(POSSIBLE)),
            ("undecided", UNDECIDED, files("train last 30000 assistant\nnever train user\n")),
            ("no policy", NO_ANSWER, files(TYPO, BROKEN)),
            ("no file", NO_ANSWER, plain("@none.policy")),
        ],
        "diff": [
            ("ok", OK, compared(GOOD, GOOD)),
            ("they differ", NO, compared(GOOD, "train assistant\n")),
            ("undecided", UNDECIDED, compared("train assistant\n", LARGE)),
            ("equal on data", OK, compared(GOOD, GOOD, data=True)),
            ("differ on data", NO, compared(GOOD, "mask assistant\n", data=True)),
            ("undecided, equal on data", UNDECIDED, compared("train assistant\n", LARGE, data=True)),
            ("no policy", NO_ANSWER, compared(GOOD, TYPO)),
            ("no file", NO_ANSWER, plain("default", "@none.policy")),
        ],
        "test": [
            ("ok", OK, with_test("<|im_start|>user\na<|im_end|>\n")),
            ("a test fails", NO, with_test("⟦a⟧")),
            ("a test cannot run", NO, with_test("a", text=BROKEN)),
            ("no test", NO_ANSWER, lambda f: [write_policy(f), f]),
            ("no policy", NO_ANSWER, with_test("a", text=TYPO)),
            ("no file", NO_ANSWER, plain("@none.yaml")),
        ],
        "template": [
            ("ok", OK, template(builtin.template_text())),
            ("it does not hold", NO, template("{% for m in messages %}{{ m.content }}|{% endfor %}{{ messages }}")),
            ("no template", NO_ANSWER, template("{% for m in messages %}")),
            ("no file", NO_ANSWER, plain("@none.jinja")),
        ],
        "tag": [
            ("ok", OK, tagging(builtin.template_text())),
            ("written", OK, tagging(builtin.template_text(), "-o", "@tagged.jinja")),
            ("tags cannot say it", NO, tagging(builtin.template_text(), text="train assistant weight 0.5\n")),
            ("no policy", NO_ANSWER, tagging(builtin.template_text(), text=TYPO)),
            ("no template", NO_ANSWER, tagging("{% for m in messages %}")),
            ("no file", NO_ANSWER, plain("@none.jinja")),
            ("neither template nor tokenizer", NO_ANSWER, plain("-p", "default")),
        ],
        "import": [
            ("ok", OK, config("datasets:\n  - path: a\n    type: chat_template\n")),
            ("no configuration", NO_ANSWER, config("datasets: [")),
            ("no system", NO_ANSWER, plain("nothing", "x")),
            ("no file", NO_ANSWER, plain("axolotl", "@none.yml")),
        ],
        "policies": [
            ("ok", OK, plain()),
            ("one", OK, plain("default")),
            ("no such policy", NO_ANSWER, plain("defualt")),
        ],
        "demo": [
            ("ok", OK, plain("-o", "@demo")),
            ("the output is there", NO_ANSWER, lambda f: ["-o", write_policy(f)]),
        ],
        "lsp": [],
        "play": [("no such data", NO_ANSWER, plain("@none.jsonl", "-t", "builtin"))],
    }.items()
    for name, code, arguments in [*cases, ("no such option", NO_ANSWER, plain("--no-such-option"))]
]


def test_the_table_is_of_all_verbs() -> None:
    assert set(VERBS) == {case.verb for case in CASES}
    for verb in set(VERBS) - {"lsp", "play"}:  # they serve until they are ended
        codes = {case.code for case in CASES if case.verb == verb}
        assert NO_ANSWER in codes
        assert OK in codes or verb == "doctor"  # needs a trainer, which only the tests of trainers have


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.verb}: {case.name}")
def test_exit_codes(tmp_path: Path, case: Case) -> None:
    forms = ("text", "json", "github") if case.verb in WITHOUT_FINDINGS else ("text", "json", "sarif", "github")
    for form in forms:
        folder = tmp_path / form
        folder.mkdir()
        ran = cli(case.verb, *case.arguments(folder), "--format", form)
        assert case.code == ran.code, ran.err
        assert "Traceback" not in ran.err
        if form != "text":
            check_document(form, ran.out, ran.code)
        elif ran.code == NO_ANSWER:
            assert "error[PE" in ran.err
            assert "help: " in ran.err
