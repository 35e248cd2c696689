"""What the pages say is true: commands run, links lead somewhere, tables are current."""

from __future__ import annotations

import json
import re
import runpy
import shlex
from pathlib import Path

import pytest

from benchmarks import plots, results
from benchmarks.peers.__main__ import RESULTS
from benchmarks.peers.page import write_pages
from policy_engine import Masker, load_policy, load_tokenizer
from policy_engine.lang.check import check
from policy_engine.lang.parse import parse
from tests.cli.support import CHATS, cli

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_option_tables_are_current() -> None:
    reference = runpy.run_path(str(ROOT / "scripts" / "cli_reference.py"))
    page = (ROOT / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    assert reference["tables"](page) == page, "run `make docs`"


def test_tables_beside_other_systems_are_those_of_the_results(tmp_path: Path) -> None:
    pages = {name: (ROOT / "docs" / "explanation" / name).read_text() for name in ("peers.md", "performance.md")}
    for name, text in pages.items():
        (tmp_path / name).write_text(text)
    write_pages(RESULTS, tmp_path)
    assert pages == {name: (tmp_path / name).read_text() for name in pages}


def test_tables_of_performance_are_those_of_the_results() -> None:
    page = plots.PAGE.read_text(encoding="utf-8")
    assert plots.with_tables(page, results.RESULTS) == page, "run `python -m benchmarks.plots`"


@pytest.mark.parametrize("plot", plots.DRAWN)
def test_plots_of_performance_are_those_of_the_results(plot: str) -> None:
    drawn = (plots.PLOTS / f"{plot}.svg").read_text(encoding="utf-8")
    assert plots.source(results.RESULTS, plot) in drawn, "run `python -m benchmarks.plots`"


def test_make_targets_that_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in PAGES:
        assert set(re.findall(r"\bmake ([a-z]+(?:-[a-z]+)*)\b(?=[ `\n])", _code(page))) <= targets


def test_readme_policies_are_valid() -> None:
    found = [text for text in blocks(ROOT / "README.md", "") if re.search(r"^(train|mask)\b", text, re.MULTILINE)]
    assert 1 == len(found)
    for text in found:
        assert () == check(parse(text)).warnings


def test_readme_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    policy = next(text for text in blocks(ROOT / "README.md", "") if text.startswith("# chat.policy"))
    (tmp_path / "chat.policy").write_text(policy, encoding="utf-8")
    rows = [json.dumps({"messages": chat}) + "\n" for chat in CHATS]
    (tmp_path / "chats.jsonl").write_text("".join(rows), encoding="utf-8")
    commands = re.findall(r"^policy-engine (.*)$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert 6 == len(commands)
    assert 0 == cli("apply", "chats.jsonl", "-p", "default", "-t", "builtin", "-o", "prepared/").code
    for command in commands:
        arguments = ["builtin" if a == "path/to/tokenizer" else a for a in shlex.split(command, comments=True)]
        ran = cli(*arguments)
        assert (command, 0, "") == (command, ran.code, ran.err)
    assert (tmp_path / "masked.parquet").exists()


def test_readme_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    monkeypatch.chdir(tmp_path)
    policy = next(text for text in blocks(ROOT / "README.md", "") if text.startswith("# chat.policy"))
    (tmp_path / "chat.policy").write_text(policy, encoding="utf-8")
    (code,) = blocks(ROOT / "README.md", "python")
    names = {
        "tokenizer": load_tokenizer("builtin").tokenizer,
        "messages": CHATS[0],
        "tools": None,
        "dataset": datasets.Dataset.from_list([{"messages": chat[:2]} for chat in CHATS]),
    }
    exec(code, names)
    assert names["row"]["labels"] == Masker(load_policy("chat.policy"), names["tokenizer"])(CHATS[0]).labels
    assert {"input_ids", "labels", "attention_mask"} <= set(names["dataset"].column_names)


def test_the_python_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    examples = blocks(ROOT / "docs" / "reference" / "python.md", "python")
    assert 6 <= len(examples)
    for example in examples:
        exec(example, names)


def _code(page: Path) -> str:
    text = page.read_text(encoding="utf-8")
    return "\n".join(re.findall(r"`+([^`]+)`+", text)) + "\n"
