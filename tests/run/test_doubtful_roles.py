"""Roles of the data that look misspelled: which do, and that they are counted with the first row that has them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policy_engine.chat.loading import load_tokenizer
from policy_engine.core.vocabulary import KNOWN_ROLES
from policy_engine.data.dataset import load_dataset_spec
from policy_engine.data.formats import named_format
from policy_engine.data.role_spelling import DoubtfulRole, RoleSpelling
from policy_engine.mask.masker import Masker
from policy_engine.rules.compile import compile_text
from policy_engine.run.manifest import counts_from_json, counts_to_json
from policy_engine.run.summary import Counts
from tests.cli.support import GOOD, cli, write_chats, write_policy

SLIP = [{"role": "user", "content": "a"}, {"role": "asistant", "content": "b"}]
RIGHT = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
CHATS = [RIGHT, SLIP, [*SLIP, *SLIP], [{"role": "User", "content": "a"}, *RIGHT]]


@pytest.mark.parametrize(
    ("role", "meant"),
    [
        ("asistant", "assistant"), ("Assistant", "assistant"), ("assistant ", "assistant"), ("usr", "user"),
        ("sytem", "system"), ("tol", "tool"), ("devloper", "developer"), ("assitent", "assistant"), ("usre", "user"),
    ],
)  # fmt: skip
def test_slips(role: str, meant: str) -> None:
    assert meant == RoleSpelling(KNOWN_ROLES).meant(role)


@pytest.mark.parametrize(
    "role",
    [
        *KNOWN_ROLES, "user_a", "assistant 2", "assistant-model", "tool_response", "narrator", "human", "agent",
        "customer", "critique", "judge", "observation", "model", "Alice", "x" * 10_000, "", "用户",
    ],
)  # fmt: skip
def test_no_slips(role: str) -> None:
    assert RoleSpelling(KNOWN_ROLES).meant(role) is None


def test_what_policy_dataset_file_and_format_have_is_known(tmp_path: Path) -> None:
    fmt = named_format("sharegpt", roles={"humen": "user"})
    assert {"humen": None, "gpt": None, "humman": "human", "gtp": "gpt"} == {
        role: RoleSpelling.of(fmt).meant(role) for role in ("humen", "gpt", "humman", "gtp")
    }
    assert "assistant" == RoleSpelling.of(fmt).read_as("gpt")
    (tmp_path / "d.yaml").write_text("messages: {roles: {speaker: sistem}}\ntrained_roles: [asistant]\n")
    declared = Masker(
        compile_text("train assistant; never train usr"),
        load_tokenizer("builtin"),
        dataset=load_dataset_spec(tmp_path / "d.yaml"),
    )
    spelling = RoleSpelling.of(named_format("messages"), declared.known_roles)
    assert [None, None, None, "tool"] == [spelling.meant(role) for role in ("sistem", "asistant", "usr", "tol")]


@pytest.mark.parametrize("options", [[], ["--workers", "2"], ["--unroll"]])
@pytest.mark.parametrize("name", ["out.parquet", "out/"])
def test_apply_tells_each_once_with_its_first_row(tmp_path: Path, name: str, options: list[str]) -> None:
    chats = write_chats(tmp_path, CHATS)
    arguments = [chats, "-p", write_policy(tmp_path, GOOD), "-t", "builtin", "-o", f"{tmp_path}/{name}", *options]
    document = cli("apply", *arguments, "--format", "json").document
    found = [d for d in document["diagnostics"] if d["code"] == "PE518"]
    assert [(2, "`asistant`, which 3 messages have"), (4, "`User`, which 1 message has")] == [
        (d["location"]["line"], " ".join(d["message"].split(",")[:2]).split(" role ")[1].replace("  ", ", "))
        for d in found
    ]
    assert "did you mean `assistant`?" in found[0]["help"]
    assert ["asistant", "User"] == [r["role"] for r in document["summary"]["doubtful_roles"]]
    if name == "out/":
        manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
        assert document["summary"]["doubtful_roles"] == manifest["summary"]["doubtful_roles"]


def test_show_tells_of_the_rows_it_shows(tmp_path: Path) -> None:
    chats, policy = write_chats(tmp_path, CHATS), write_policy(tmp_path)
    ran = cli("show", chats, "-p", policy, "-t", "builtin")
    assert (0, 2) == (ran.code, ran.err.count("warning[PE518]"))
    assert "chats.jsonl:2: warning[PE518]: nothing declares the role `asistant`, which 3 messages have" in ran.err
    assert "PE518" not in cli("show", chats, "-p", policy, "-t", "builtin", "--row", "1").err


def test_a_starter_policy_does_not_name_them(tmp_path: Path) -> None:
    chats = write_chats(tmp_path, CHATS)
    ran = cli("init", chats, "-t", "builtin", "-o", tmp_path / "start")
    assert (0, 2) == (ran.code, ran.err.count("warning[PE518]"))
    assert "never train user\n" in (tmp_path / "start.policy").read_text()
    assert "train asistant" not in (tmp_path / "start.policy").read_text()
    shown = cli("show", chats, "--dataset", tmp_path / "start.yaml")
    assert 2 == shown.err.count("warning[PE518]")


def test_counts_of_batches_add_up() -> None:
    first, second = Counts(), Counts()
    for counts, row in ((first, 3), (first, 4), (second, 9)):
        counts.doubtful_roles.add(DoubtfulRole(role="usr", meant="user", read_as="user", messages=1, row=row))
    second.doubtful_roles.add(DoubtfulRole(role="tol", meant="tool", read_as="tool", messages=1, row=9))
    first.merge(counts_from_json(json.loads(json.dumps(counts_to_json(second)))))
    first.name_places(lambda row: f"a:{row}")
    assert [("usr", 3, 3, "a:3"), ("tol", 1, 9, "a:9")] == [
        (d.role, d.messages, d.row, d.place) for d in first.doubtful_roles.values()
    ]
