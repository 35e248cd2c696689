"""The Ray engine on a real local cluster: the same files, a worker and a node killed. Slow to start: nightly."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time

import pyarrow as pa
import pytest

from benchmarks.checksum import canonical_checksum
from policy_engine.core.errors import ConfigError
from policy_engine.data.formats import named_format
from policy_engine.run.batches import MaskingTransform
from policy_engine.run.ray import mask_dataset, ray_engine
from tests.run.support import chat, masker, write_lines
from tests.run.test_shards import ROWS, run

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.skipif(os.environ.get("HYPOTHESIS_PROFILE") != "nightly", reason="starts a cluster: nightly")


class DiesOnce:
    """Kills its process at the third span, the first time."""

    def __init__(self, work, marker):
        self.work, self.marker = work, marker

    def __call__(self, span):
        if span.index == 2 and not self.marker.exists():
            self.marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return self.work(span)


def test_the_same_files_and_account_though_a_worker_is_killed(tmp_path):
    data = write_lines(tmp_path / "in.jsonl", ROWS)
    here = run(data, tmp_path / "here")
    there = run(
        data,
        tmp_path / "there",
        engine=lambda work, spans: ray_engine(2)(DiesOnce(work, tmp_path / "died"), spans),
    )
    assert (tmp_path / "died").exists()
    assert {**here.to_json(), "output": ""} == {**there.to_json(), "output": ""}
    assert canonical_checksum(tmp_path / "here") == canonical_checksum(tmp_path / "there")
    for path in (tmp_path / "here").glob("part-*"):
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes()


class Slow:
    """Takes a while over each span, and says on which node it was."""

    def __init__(self, work, seen):
        self.work, self.seen = work, seen

    def __call__(self, span):
        node = ray.get_runtime_context().get_node_id()
        (self.seen / f"{span.index}-{node}-{os.getpid()}").touch()
        time.sleep(0.5)
        return self.work(span)


def test_a_node_that_dies(tmp_path):
    """Three nodes; one that is not the driver's is killed while it is at a span."""
    from ray.cluster_utils import Cluster

    data = write_lines(tmp_path / "in.jsonl", ROWS)
    here = run(data, tmp_path / "here")
    (tmp_path / "seen").mkdir()
    ray.shutdown()
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    others = {node.node_id: node for node in [cluster.add_node(num_cpus=2), cluster.add_node(num_cpus=2)]}
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        killed = threading.Event()

        def kill():
            busy = set()
            while not busy:
                busy = {path.name.split("-")[1] for path in (tmp_path / "seen").iterdir()} & set(others)
                time.sleep(0.01)
            cluster.remove_node(others[min(busy)], allow_graceful=False)
            killed.set()

        threading.Thread(target=kill, daemon=True).start()
        there = run(
            data,
            tmp_path / "there",
            engine=lambda work, spans: ray_engine(3)(Slow(work, tmp_path / "seen"), spans),
        )
        assert killed.wait(10)
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert {**here.to_json(), "output": ""} == {**there.to_json(), "output": ""}
    for path in (tmp_path / "here").glob("part-*"):
        assert path.read_bytes() == (tmp_path / "there" / path.name).read_bytes()
    assert sorted(p.name for p in (tmp_path / "here").iterdir()) == sorted(
        p.name for p in (tmp_path / "there").iterdir()
    )


def test_a_dataset_in_a_pipeline():
    rows = [{"id": n, "messages": chat(f"q{n}", f"a{n}")} for n in range(30)]
    transform = MaskingTransform(masker(), named_format("messages"), row_column="id")
    made = mask_dataset(ray.data.from_arrow(pa.Table.from_pylist(rows)), transform, actors=1).take_all()
    expected = transform(pa.Table.from_pylist(rows)).to_pylist()
    assert expected == [
        {k: v if isinstance(v, int) else list(v) for k, v in row.items()}
        for row in sorted(made, key=lambda r: r["row"])
    ]


def test_actors_that_take_every_cpu_are_refused(tmp_path):
    data = write_lines(tmp_path / "in.jsonl", ROWS)
    with pytest.raises(ConfigError, match="take all"):
        run(data, tmp_path / "out", engine=ray_engine(1000, cpus_per_actor=1.0))
