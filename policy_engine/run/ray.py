"""Ray Data as an engine: on a cluster, or on this machine as one.

Ray itself is imported when it is used. A run into a folder gives Ray the spans of the input; each is read, masked and
written by one actor, which gives back the account of its shard. Files get their names as everywhere: written under a
temporary name and renamed, so that a task that Ray runs twice writes the same file twice. Input and output have to be
on storage that all nodes share. Resuming, the manifest and the summary are those of a run without Ray.

`mask_dataset` masks a Ray dataset inside a pipeline of one's own.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa

from policy_engine.core.errors import ConfigError, DataError
from policy_engine.core.wording import install
from policy_engine.run.batches import MaskingTransform
from policy_engine.run.folder import Engine, Results
from policy_engine.run.input_spans import InputSpan
from policy_engine.run.shards import ShardMaker

RETRIES = 2
"""Times that Ray starts an actor again that died, or whose node did."""


def ray_engine(actors: int, *, cpus_per_actor: float | None = None) -> Engine:
    """The engine for `apply_dataset(…, engine=…)`, made of Ray actors.

    Each of the `actors` actors has `cpus_per_actor` CPUs (None: one CPU, or less where that would take all CPUs).

    Raises:
        ConfigError: Ray is not installed, or the actors ask for every CPU of the cluster.
        DataError: an actor died more than `RETRIES` times.
    """

    def run(work: ShardMaker, spans: Iterator[InputSpan]) -> Results:
        ray = _ray()
        share = _share(ray, actors, cpus_per_actor)
        # Ray needs the number of blocks beforehand.
        todo = list(spans)
        if not todo:
            return
        if any(span.rows is not None for span in todo):
            # Rows would travel through the driver and the object store; the input is to be read where it is masked.
            raise ConfigError(
                "Ray masks inputs that can be read from the middle: Parquet, or JSON Lines that is not compressed",
                help="convert the input, take --limit away, or run with --engine local",
            )
        state = pickle.dumps(work, protocol=pickle.HIGHEST_PROTOCOL)
        items = [{"span": pickle.dumps(_as_others_see_it(span))} for span in todo]
        # A block per span: blocks are what Ray retries, and what it hands to actors.
        dataset = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
            _ShardActor,
            fn_constructor_kwargs={"state": state},
            batch_size=1,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=actors),
            num_cpus=share,
            ray_remote_args_fn=_restarts,
        )
        try:
            for row in dataset.iter_rows():
                yield pickle.loads(row["result"])
        except ray.exceptions.RayError as error:
            raise DataError(f"Ray could not finish: {_last_line(error)}", help="fix it, then --resume") from error

    return run


def _as_others_see_it(span: InputSpan) -> InputSpan:
    """A span for another machine.

    There the same file of a shared storage may have another inode.
    """
    return span if span.stamp is None else replace(span, stamp=replace(span.stamp, inode=None))


class _ShardActor:
    """An actor, which keeps the compiled program and the tokenizer.

    A table of one span goes in, a table of its account comes out.
    """

    def __init__(self, state: bytes) -> None:
        # Ray counts CPUs by actor; threads of the tokenizers package beside them would take CPUs that others have.
        os.environ.setdefault("RAYON_NUM_THREADS", "1")
        self._work: ShardMaker = pickle.loads(state)

    def __call__(self, table: pa.Table) -> pa.Table:
        results = [pickle.dumps(self._work(pickle.loads(span))) for span in table["span"].to_pylist()]
        return pa.table({"result": pa.array(results, pa.binary())})


def mask_dataset(
    dataset: Any,
    transform: MaskingTransform,
    *,
    actors: int,
    cpus_per_actor: float | None = None,
    batch_size: int = 256,
) -> Any:
    """A Ray dataset of rows as a lazy Ray dataset of columns for a trainer, in no fixed order.

    Give the transform a `row_column` to know rows by. Writing it out is Ray's: pass `mode="overwrite"`, since Ray's
    writers append to a folder, and a smaller `target_max_block_size` for more than one file.

    Raises ConfigError if Ray is not installed, or if the actors ask for every CPU of the cluster.
    """
    ray = _ray()
    return dataset.map_batches(
        _TransformActor,
        fn_constructor_kwargs={"state": pickle.dumps(transform, protocol=pickle.HIGHEST_PROTOCOL)},
        batch_size=batch_size,
        batch_format="pyarrow",
        zero_copy_batch=True,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=_share(ray, actors, cpus_per_actor),
        ray_remote_args_fn=_restarts,
    )


class _TransformActor:
    def __init__(self, state: bytes) -> None:
        self._transform: MaskingTransform = pickle.loads(state)

    def __call__(self, table: pa.Table) -> pa.Table:
        return self._transform(table)


def _restarts() -> dict[str, Any]:
    # While an actor moves off a node that died, tasks sent to it fail faster than they could be counted; what bounds a
    # task that kills its actor is the number of restarts.
    return {"max_restarts": RETRIES, "max_task_retries": -1}


def _ray() -> Any:
    try:
        import ray
        import ray.data
        import ray.exceptions
    except ImportError:
        raise ConfigError("Ray is not installed", help=install("ray")) from None
    # A cluster that the caller is connected to is used as it is.
    if not ray.is_initialized():
        try:
            ray.init(log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except Exception as error:  # Ray raises a plain one where its processes do not come up in time
            raise DataError(
                f"Ray does not start: {_last_line(error)}", help="run again where less else runs, or --engine local"
            ) from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    return ray


def _share(ray: Any, actors: int, cpus: float | None) -> float:
    """CPUs of an actor.

    Actors that take every CPU leave no CPU for the tasks that feed them, and Ray would wait for ever.
    """
    total = float(ray.cluster_resources().get("CPU", 1.0))
    if cpus is None:
        # Whole CPUs where that leaves one; else all but half a CPU, shared out.
        return 1.0 if actors + 1 <= total else max(0.01, int((total - 0.5) / actors * 100) / 100)
    if actors * cpus >= total:
        raise ConfigError(
            f"{actors} actors of {cpus:g} CPUs take all {total:g} CPUs, and leave no CPU to read and write with",
            help="fewer actors, or fewer CPUs for each",
        )
    return cpus


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
