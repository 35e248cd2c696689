"""What a run imports: nothing that it can do without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HEAVY = ("pandas", "torch", "datasets", "hypothesis")

SCRIPT = """
import json, sys
sys.modules.update(dict.fromkeys(sys.argv[2:]))
from policy_engine.cli.app import run
code = run(["apply", "rows.jsonl", "-p", "default", "-t", "builtin", "-o", "masked.parquet"])
print(json.dumps([code, sorted(set(sys.modules) & set(json.loads(sys.argv[1])))]), file=sys.stderr)
"""


ROW = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}


def run_script(folder: Path, *hidden: str) -> list[object]:
    """The exit code, and those of `HEAVY` that were imported; an import of a hidden one fails."""
    (folder / "rows.jsonl").write_text(json.dumps(ROW))
    command = [sys.executable, "-c", SCRIPT, json.dumps(HEAVY), *hidden]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    answer: list[object] = json.loads(done.stderr.splitlines()[-1])
    return answer


def test_apply_imports_no_library_that_takes_long(tmp_path: Path) -> None:
    assert [0, []] == run_script(tmp_path)


def test_apply_needs_no_library_that_is_not_installed_with_it(tmp_path: Path) -> None:
    # Before pyarrow 26, `to_pandas_dtype` fails where pandas is not installed, as in a new environment.
    assert 0 == run_script(tmp_path, *HEAVY)[0]


def test_no_module_asks_pyarrow_for_types_of_pandas() -> None:
    package = Path(__file__).parents[2] / "policy_engine"
    assert [] == [path for path in package.rglob("*.py") if ".to_pandas_dtype(" in path.read_text(encoding="utf-8")]
