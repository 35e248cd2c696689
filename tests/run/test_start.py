"""What a run imports: nothing that it can do without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

HEAVY = ("pandas", "torch", "datasets", "hypothesis")

SCRIPT = """
import json, sys
from policy_engine.cli.app import run
code = run(["apply", "rows.jsonl", "-p", "default", "-t", "builtin", "-o", "masked.parquet"])
print(json.dumps([code, sorted(set(sys.modules) & set(json.loads(sys.argv[1])))]), file=sys.stderr)
"""


def test_apply_imports_no_library_that_takes_long(tmp_path: Path) -> None:
    row = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(HEAVY)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert [0, []] == json.loads(done.stderr.splitlines()[-1])
