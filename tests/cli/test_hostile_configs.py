"""Dataset files, foreign configurations and policies that anybody may send: an error with its place, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.support import cli, write_chats

BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(8)
)
DOUBLED = "k0: &k0 {x: 1}\n" + "".join(f"k{i}: &k{i} {{a: *k{i - 1}, b: *k{i - 1}}}\n" for i in range(1, 31))
YAML: dict[str, str | bytes] = {
    "bomb": BOMB,
    "bomb-used": f"{BOMB}template_kwargs: {{enable_thinking: *i}}\n",
    "doubled": f"{DOUBLED}template_kwargs: {{enable_thinking: *k30}}\n",
    "itself": "template_kwargs: &a {x: *a}\n",
    "itself-list": "a: &a [*a]\n",
    "deep": "a: " + "[" * 5000,
    "deep-map": "".join(" " * i + "a:\n" for i in range(2000)),
    "python": "policy: !!python/object/apply:os.system ['echo hacked']\n",
    "binary": "policy: !!binary aGk=\n",
    "date": "policy: 2020-01-01\n",
    "no-date": "template_kwargs: {x: 2020-13-45}\n",
    "digits": f"template_kwargs: {{x: {'9' * 10_000}}}\n",
    "no-hex": "a: [0xZZ\n",
    "list": "- a\n",
    "text": "just text\n",
    "null": "~\n",
    "nothing": "",
    "two": "a: 1\n---\nb: 2\n",
    "tab": "policy:\tx\n\tb: 1",
    "twice": "policy: a\npolicy: b\n",
    "long-key": f"{'x' * 100_000}: 1\n",
    "key-list": "? [a]\n: 1\n",
    "nul": 'policy: "a\\0b"\n',
    "nul-raw": "policy: a\0b\n",
    "control": 'policy: "\x01"\n',
    "set": "trained_roles: !!set {a, b}\n",
    "roles": "messages: {roles: [a]}\n",
    "kwargs": "template_kwargs: [1]\n",
    "tests": "tests: {a: 1}\n",
    "tests-messages": "tests: [{messages: 1, expect: x}]\n",
    "tests-content": "tests: [{messages: [{role: user, content: 1}], expect: x}]\n",
    "fields": "fields: {a: b}\n",
    "no-anchor": "policy: *nope\n",
    "format": "messages: {format: x}\n",
    "out": "policy: /etc/passwd\n",
    "device": "template: /dev/zero\n",
    "tokenizer": "tokenizer: [1]\n",
    "latin": b"policy: \xe9\n",
    "utf16": "policy: x\n".encode("utf-16"),
    "bytes": bytes(range(256)),
}
POLICIES: dict[str, str | bytes] = {
    "nul": "\0",
    "bytes": bytes(range(256)),
    "latin": b"train \xe9",
    "utf16": "train assistant".encode("utf-16"),
    "deep": f"train {'(' * 5000}assistant{')' * 5000}",
    "not": f"train assistant where {'not ' * 5000}message.x",
    "regex": "train /(/ in assistant",
    "regex-large": "train /(a{1000}){1000}/ in assistant",
    "itself": 'use "p.policy"',
    "out": 'use "../../etc/passwd"',
    "device": 'use "/dev/zero"',
    "folder": 'use "."',
    "nul-path": 'use "a\\0b"',
    "nothing-used": "use nope",
    "circle": "let a = b\nlet b = a\ntrain a",
    "doubled": "\n".join(f"let a{i + 1} = a{i}, a{i}" for i in range(60)) + "\ntrain a60",
    "digits": f"train first {'9' * 500} assistant",
    "weight": "train assistant weight 1e999",
    "nan": "train assistant weight nan",
    "half": "train assistant where",
    "string": 'train "',
    "surrogate": 'train assistant where message.x == "\\ud800"',
    "bidi": "train assistant \u202e",
    "large": f"#{'x' * 5_000_000}",
    "braces": "}{" * 1000,
    "language": "language 99;",
    "negative": "train last -1 assistant",
}


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(*arguments: object) -> str:
    """What a verb says that could not answer."""
    ran = cli(*arguments)
    told = ran.err + ran.out
    assert 2 == ran.code, told[-2000:]
    assert "Traceback" not in told
    assert "PE000" not in told
    assert "error[PE" in told
    return told


@pytest.mark.parametrize("kind", YAML)
def test_a_dataset_file(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / "d.yaml", YAML[kind])
    told = refused("show", write_chats(tmp_path), "--dataset", path, "-p", "default", "-t", "builtin", "--limit", 1)
    assert "d.yaml" in told
    assert "help: " in told


@pytest.mark.parametrize("trainer", ["axolotl", "llamafactory", "trl"])
@pytest.mark.parametrize("kind", YAML)
def test_a_foreign_configuration(tmp_path: Path, kind: str, trainer: str) -> None:
    ran = cli("import", trainer, write(tmp_path / "c.yaml", YAML[kind]), "-o", tmp_path / "made")
    told = ran.err + ran.out
    assert "Traceback" not in told
    assert "PE000" not in told
    assert ran.code in {0, 2}
    assert ran.code == 0 or "error[PE" in told


@pytest.mark.parametrize("kind", POLICIES)
def test_a_policy(tmp_path: Path, kind: str) -> None:
    assert "p.policy" in refused("check", write(tmp_path / "p.policy", POLICIES[kind]))


def test_there_are_enough_kinds() -> None:
    assert 4 * len(YAML) + len(POLICIES) >= 100
