"""Rows in a file, masked by two workers or by two actors of Ray, beside one process that renders in full."""

from __future__ import annotations

import functools
import importlib.util
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from policy_engine.core.errors import DataError
from policy_engine.data.conversation import Conversation
from policy_engine.mask.masker import Masker
from policy_engine.run.apply import apply_dataset
from policy_engine.run.folder import Engine
from policy_engine.run.ray import ray_engine
from policy_engine.run.run_options import RunOptions

RAY: Final = importlib.util.find_spec("ray") is not None
WITHOUT_RAY: Final = "Ray is not installed: no file goes through it (`make identity` has it)"
_STARTS: Final = 5
"""Times that Ray is started, until it is up."""
_BATCH: Final = 32
_SPAN_BYTES: Final = 1 << 14
_CLUSTER: Final = """
import logging, sys, ray
made = ray.init(
    num_cpus=3, object_store_memory=1 << 27, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
)
print("address", made.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""


def ray_engine_of_two() -> Engine:
    """Two actors, made anew for each run, of the cluster of this process."""
    # A cluster has a token, for which Ray looks by itself only where it finds the cluster by itself.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    def run(work: Any, spans: Any) -> Any:
        # Ray reserves more address space than a process of a long run may take.
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
        try:
            ray.init(address=_cluster(), logging_level=logging.ERROR, log_to_driver=False)
            yield from ray_engine(2)(work, spans)
        finally:
            ray.shutdown()
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))

    return run


@functools.cache
def _cluster() -> str:
    """The address of a cluster on this machine, which takes longer to start than a file to mask.

    A process of its own holds it, which ends with this one, however this one ends: its standard input does.
    """
    for _ in range(_STARTS):  # Ray gives up after half a minute, where a machine has much other work
        held = subprocess.Popen(
            [sys.executable, "-c", _CLUSTER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert held.stdout is not None
        for line in held.stdout:
            if line.startswith("address "):
                _HELD.append(held)
                return line.split()[1]
        held.wait()
    raise DataError(f"Ray does not start, tried {_STARTS} times", help="run again where less else runs")


_HELD: Final[list[subprocess.Popen[str]]] = []


def written(rows: Sequence[Conversation], plain: Masker, batch: Masker, engine: Engine | None) -> str | None:
    """What differs between the files that one process and others write, and between the accounts of both runs.

    `engine` makes a folder in place of a file by two workers.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "rows.jsonl"
        lines = [{"messages": row.messages, **({"tools": row.tools} if row.tools else {})} for row in rows]
        data.write_text("".join(json.dumps(line) + "\n" for line in lines))
        options = RunOptions(backend="reference", batch_size=_BATCH)
        one = apply_dataset(data, plain, folder / "plain.parquet", options)
        options = RunOptions(backend="auto", batch_size=_BATCH, span_bytes=_SPAN_BYTES, workers=1 if engine else 2)
        two = apply_dataset(data, batch, f"{folder}/two/" if engine else folder / "two.parquet", options, engine=engine)
        # A run that leaves no row writes no file.
        files = "two/part-*" if engine else "two.*", "plain.*"
        made = [[pq.read_table(path) for path in sorted(folder.glob(name))] for name in files]
    accounts = [{**run.to_json(), "output": "", "backend": ""} for run in (two, one)]
    if accounts[0] != accounts[1]:
        differing = [key for key in accounts[0] if accounts[0][key] != accounts[1][key]]
        return f"{two.backend} counts {[(key, *(account[key] for account in accounts)) for key in differing]}"
    ours, theirs = (pa.concat_tables(tables) if tables else pa.table({}) for tables in made)
    if ours.equals(theirs):
        return None
    found = [pair for pair in zip(ours.to_pylist(), theirs.to_pylist()) if pair[0] != pair[1]]
    return f"{two.backend} writes {found[0][0]}, plain {found[0][1]}" if found else f"{ours.schema} {theirs.schema}"
