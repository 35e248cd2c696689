"""`test`: dataset files read, their tests run, results reported."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from rich.console import RenderableType
from rich.text import Text

from policy_engine.chat.loading import load_tokenizer
from policy_engine.cli.outcome import Exit, Outcome
from policy_engine.cli.work.test_update import update_expected
from policy_engine.core.diagnostics import Diagnostic
from policy_engine.core.errors import ConfigError, DataError
from policy_engine.core.source import Place
from policy_engine.core.wording import counted
from policy_engine.data.dataset import DatasetSpec, load_dataset_spec
from policy_engine.lang.library import files_below
from policy_engine.mask.masker import Masker
from policy_engine.mask.policy_tests import Coverage, TestResult, Untried, run_tests
from policy_engine.proof.load_policy import load_policy
from policy_engine.report.visible import one_line, spelled


@dataclass(frozen=True, kw_only=True)
class _FileResult:
    path: Path
    results: list[TestResult]
    untried: tuple[Untried, ...]


def run_files(
    files: Sequence[Path], *, tokenizer: str | None, coverage: bool, junit: Path | None, update: bool = False
) -> Outcome:
    """Runs the tests of every file. Fails if one fails; a run without any test answers nothing.

    With `update`, texts that tests expect are replaced by what the policies give, and only tests that cannot run fail.
    Raises ConfigError where no test is found or a file names no policy or tokenizer.
    """
    found = [
        _run(path, spec, tokenizer, coverage)
        for path in _dataset_files(files)
        if (spec := load_dataset_spec(path)).tests
    ]
    results = [result for item in found for result in item.results]
    # No test at all is no success: a wrong folder would always pass.
    if not results:
        raise ConfigError("no test ran", help="write `tests:` in a dataset file, each with `messages` and `expect`")
    # Before texts are updated: the file says what the tests found.
    if junit is not None:
        _write_junit(junit, found)
    updated = _update(found) if update else []
    failed = [
        (item, result)
        for item in found
        for result in item.results
        # With --update a text that differs is no failure: it has just been written.
        if not result.passed and not (update and _is_updated(result))
    ]
    return Outcome(
        exit=Exit.FAILS if failed else Exit.HOLDS,
        diagnostics=tuple(_diagnostic(item.path, result) for item, result in failed),
        data={**_data(found), "updated": [str(path) for path, _ in updated]},
        body=(
            *_body(found, coverage, update),
            *(Text(f"wrote {counted(n, 'text')} into {path}") for path, n in updated),
        ),
    )


def _update(found: Sequence[_FileResult]) -> list[tuple[Path, int]]:
    """Writes what tests gave into their files; the files that changed, with how many texts."""
    changed = []
    for item in found:
        actual = {i: r.actual or "" for i, r in enumerate(item.results) if _is_updated(r)}
        if actual:
            changed.append((item.path, update_expected(item.path, actual)))
    return changed


def _is_updated(result: TestResult) -> bool:
    """True if `--update` writes the test's text; a test that cannot run has no text to write."""
    return not result.passed and result.actual is not None


def _dataset_files(files: Sequence[Path]) -> list[Path]:
    found: list[Path] = []
    for path in files:
        if path.is_dir():
            found += map(Path, files_below(path, (".yaml", ".yml")))
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"there is no file `{path}`", help="name a dataset file, or a folder of them")
    return found


def _run(path: Path, spec: DatasetSpec, tokenizer: str | None, coverage: bool) -> _FileResult:
    name = tokenizer or spec.tokenizer
    if spec.policy is None:
        raise ConfigError(f"{path} names no policy", help="add `policy: my.policy`")
    if name is None:
        raise ConfigError(f"{path} names no tokenizer", help="add `tokenizer: builtin`, or give one with -t")
    # Not proven: a test may be there to show a guard that fails.
    program = load_policy(spec.policy, schema=spec.to_schema(), prove=False)
    masker = Masker(program, load_tokenizer(name, template=spec.template, cache=True), dataset=spec)
    counter = Coverage(program=program) if coverage else None
    results = run_tests(spec, masker, counter)
    return _FileResult(path=path, results=results, untried=() if counter is None else counter.untried())


def _diagnostic(path: Path, result: TestResult) -> Diagnostic:
    place = Place(file=str(path), number=result.line)
    if result.error is not None:
        message = f"test `{result.name}` could not run: {result.error.message}"
        return Diagnostic(code=result.error.code, message=message, help=result.error.help, place=place)
    return Diagnostic(
        code="PE701",
        message=f"test `{result.name}` fails",
        help="\n".join(_difference(result)) or "compare the two texts",
        place=place,
    )


def _difference(result: TestResult) -> list[str]:
    # Without the line break at the end, which YAML blocks add.
    expected, actual = result.expected.rstrip().splitlines(), (result.actual or "").rstrip().splitlines()
    return list(difflib.unified_diff(expected, actual, "expected", "masked", lineterm=""))


def _data(found: Sequence[_FileResult]) -> dict[str, Any]:
    return {
        "files": [
            {
                "path": str(item.path),
                "tests": [
                    {"name": r.name, "line": r.line, "passed": r.passed, "expected": r.expected, "actual": r.actual}
                    for r in item.results
                ],
                "untried": [{"place": u.place, "text": u.text, "missing": u.missing} for u in item.untried],
            }
            for item in found
        ]
    }


def _counts(results: Sequence[TestResult], update: bool) -> tuple[int, int, int]:
    """Tests that passed, whose text was updated, and that failed."""
    passed = sum(result.passed for result in results)
    updated = sum(_is_updated(result) for result in results) if update else 0
    return passed, updated, len(results) - passed - updated


def _body(found: Sequence[_FileResult], coverage: bool, update: bool) -> tuple[RenderableType, ...]:
    parts: list[RenderableType] = []
    for item in found:
        passed, updated, _ = _counts(item.results, update)
        # The tests that had another text have the right one now.
        verdict = f"passed, {updated} updated" if updated else "pass"
        parts.append(Text(f"{item.path}: {passed} of {len(item.results)} tests {verdict}"))
        parts += [Text(f"  untried: {u.place} `{u.text}`: {u.missing}") for u in item.untried]
    passed, updated, failed = _counts([result for item in found for result in item.results], update)
    written = f", {updated} updated" if updated else ""
    parts.append(Text(f"{passed} passed{written}, {failed} failed", style="bold"))
    if coverage and not any(item.untried for item in found):
        parts.append(Text("every rule decided, and every condition was seen true and false"))
    return tuple(parts)


def _write_junit(path: Path, found: Sequence[_FileResult]) -> None:
    root = ElementTree.Element("testsuites")
    for item in found:
        failures = sum(not result.passed for result in item.results)
        suite = ElementTree.SubElement(
            root, "testsuite", name=one_line(str(item.path)), tests=str(len(item.results)), failures=str(failures)
        )
        for result in item.results:
            case = ElementTree.SubElement(
                suite, "testcase", classname=one_line(str(item.path)), name=one_line(result.name)
            )
            if not result.passed:
                failure = ElementTree.SubElement(case, "failure", message="masked otherwise than expected")
                failure.text = spelled(str(result.error or "\n".join(_difference(result))))
    try:
        ElementTree.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
    except OSError as error:
        raise DataError(
            f"`{path}` cannot be written: {error.strerror}", help="name another file with --junit"
        ) from None
