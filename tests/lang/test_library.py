"""Where policies and the grammar are found, and what is said when they are not; `use` between files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from policy_engine.core.errors import DataError, PolicyCheckError
from policy_engine.core.source import Source
from policy_engine.lang import library
from policy_engine.lang.check import check_text
from policy_engine.lang.checked import Atom
from policy_engine.lang.findings import Findings
from policy_engine.lang.parse import parse
from policy_engine.lang.splice import splice


def write(path: Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return str(path)


def roles(name: str) -> list[str | None]:
    """The roles that the rules of a file decide about, rule by rule."""
    source = library.read_policy(name)
    policy = check_text(source.text, name=source.name)
    return [t.turns.role if t.turns else None for r in policy.rules for t in r.targets if isinstance(t, Atom)]


def test_a_bare_name_is_shipped_and_a_path_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "default", "train critic")
    assert "policies/default" == library.read_policy("default").name
    assert "train critic" == library.read_policy("./default").text
    assert "train critic" == library.read_policy(Path("default")).text


def test_the_packaged_copy_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_PACKAGE", tmp_path / "policy_engine")
    write(tmp_path / "policies" / "a.policy", "train checkout")
    assert tmp_path / "policies" == library.policies_folder()
    write(tmp_path / "policy_engine" / "_policies" / "a.policy", "train packaged")
    assert tmp_path / "policy_engine" / "_policies" == library.policies_folder()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("defautl", "did you mean `default`"),
        ("none.policy", "there is no file `none.policy`"),
        (".", "is a folder, not a policy"),
        ("latin.policy", "not UTF-8 text"),
        ("large.policy", "too many for a policy"),
        ("a\0b.policy", "cannot be read"),
        ("x" * 5000 + ".policy", "cannot be read"),
    ],
)
def test_what_cannot_be_read(name: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin.policy").write_bytes("train rôle".encode("latin-1"))
    (tmp_path / "large.policy").write_bytes(b"#" * 5_000_000)
    with pytest.raises(DataError, match=said):
        library.read_policy(name)


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.policy").write_bytes(b"\xef\xbb\xbftrain assistant")
    assert "train assistant" == library.read_policy(tmp_path / "a.policy").text


def test_only_files_have_a_folder(tmp_path: Path) -> None:
    name = write(tmp_path / "a.policy", "train user")
    assert tmp_path / "a.policy" == library.path_of(Source(name=name, text="train user"))
    assert library.path_of(Source(name="<string>", text="")) is None
    assert library.path_of(Source(name=str(tmp_path / "none"), text="")) is None
    assert library.path_of(Source(name="a\0b", text="")) is None
    shipped = library.read_shipped("default")
    assert library.policies_folder().resolve() / "default.policy" == library.path_of(shipped)
    assert library.path_of(Source(name=shipped.name, text="another text")) is None


def test_used_policies_stand_in_place_and_in_order(tmp_path: Path) -> None:
    write(tmp_path / "more" / "b.policy", 'train tool\nuse "deep/c.policy"')
    write(tmp_path / "more" / "deep" / "c.policy", "mask system")
    name = write(tmp_path / "a.policy", 'train user; use "more/b.policy"; train assistant\nuse "more/b.policy"')
    assert ["user", "tool", "system", "assistant", "tool", "system"] == roles(name)


def test_used_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "p" / "b.policy", "train tool")
    write(tmp_path / "p" / "a.policy", 'use "b.policy"; use default')
    monkeypatch.chdir(tmp_path)
    assert ["tool", "assistant", "system", "user", "assistant"] == roles("p/a.policy")


def test_names_of_used_policies_are_seen_and_settings_of_the_user_win(tmp_path: Path) -> None:
    write(tmp_path / "b.policy", "let replies = assistant, critic\non straddle mask; on empty keep")
    name = write(tmp_path / "a.policy", 'use "b.policy"\non straddle error\ntrain last critic, replies')
    source = library.read_policy(name)
    policy = check_text(source.text, name=source.name)
    assert {"straddle": "error", "empty": "keep"} == policy.settings
    assert {"assistant", "critic"} == policy.roles


def test_a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "out.policy", "train user")
    name = write(tmp_path / "in" / "a.policy", 'use "b.policy"; train assistant')
    (tmp_path / "in" / "b.policy").symlink_to(tmp_path / "out.policy")
    with pytest.raises(PolicyCheckError, match="PE233"):
        roles(name)


def test_policies_that_use_twice_what_uses_twice_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "0.policy", "train assistant")
    for i in range(1, 40):
        write(tmp_path / f"{i}.policy", f'use "{i - 1}.policy"; use "{i - 1}.policy"')
    with pytest.raises(PolicyCheckError, match="PE213"):
        roles(str(tmp_path / "20.policy"))
    with pytest.raises(PolicyCheckError, match="PE213"):
        roles(str(tmp_path / "39.policy"))


def test_the_same_mistake_in_two_files_is_told_of_both(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write(tmp_path / f"{name}.policy", "train assistant.foo")
    both = write(tmp_path / "both.policy", 'use "a.policy"; use "b.policy"; use "a.policy"')
    with pytest.raises(PolicyCheckError) as caught:
        roles(both)
    found = [(d.code, Path(d.span.source.name).name) for d in caught.value.diagnostics if d.span]
    assert [("PE202", "a.policy"), ("PE202", "b.policy")] == found


def test_ten_thousand_rules_can_be_put_together_and_no_more(tmp_path: Path) -> None:
    write(tmp_path / "0.policy", "train assistant\n" * 10)
    for i in range(1, 4):
        write(tmp_path / f"{i}.policy", f'use "{i - 1}.policy"\n' * 10)
    whole, findings = str(tmp_path / "3.policy"), Findings()
    spliced = splice(parse(Path(whole).read_text(encoding="utf-8"), name=whole), findings)
    assert (10_000, ()) == (len(spliced.rulings), findings.errors)
    more = write(tmp_path / "more.policy", 'train user\nuse "3.policy"')
    with pytest.raises(PolicyCheckError, match=r":2:1: error\[PE213\]: .* more than 10,000 rules"):
        roles(more)


def test_long_chains_of_names_are_refused() -> None:
    lets = "\n".join(f"let a{i} = a{i + 1}" for i in range(5000))
    with pytest.raises(PolicyCheckError, match="PE213"):
        check_text(f"{lets}\nlet a5000 = user\ntrain a0")
    with pytest.raises(PolicyCheckError, match="PE213"):
        check_text(f"{lets}\nlet a5000 = user\ntrain last a0")


def test_a_used_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.policy")
    name = write(tmp_path / "main.policy", 'use "p.policy"\ntrain assistant\n')
    with pytest.raises(PolicyCheckError, match=r"`p\.policy` is no file"):
        roles(name)
