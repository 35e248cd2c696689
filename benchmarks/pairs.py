"""Interleaved timing: each thing beside its baseline, repeated, with an A/A control."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """CPU time as a share of the baseline's, over all pairs: median and quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.3f} [{self.low:.3f}, {self.high:.3f}]"


def cpu_seconds(work: Callable[[], object]) -> float:
    """CPU time of one call, of all threads."""
    start = time.process_time()
    work()
    return time.process_time() - start


def _ratio(values: list[float]) -> Ratio:
    low, median, high = statistics.quantiles(values, n=4)
    return Ratio(median=median, low=low, high=high)


def compare(
    baseline: Callable[[], object], works: dict[str, Callable[[], object]], *, pairs: int = 20
) -> dict[str, Ratio]:
    """Each work's CPU time over the baseline's beside it; `control` is the baseline over itself."""
    for work in (baseline, *works.values()):
        work()  # caches, compilation
    found: dict[str, list[float]] = {name: [] for name in ("control", *works)}
    for _ in range(pairs):
        for name, work in (("control", baseline), *works.items()):
            base = cpu_seconds(baseline)
            found[name].append(cpu_seconds(work) / base)
    return {name: _ratio(values) for name, values in found.items()}


def share(
    whole: Callable[[], object], less: Callable[[], object], more: Callable[[], object], *, pairs: int = 20
) -> tuple[Ratio, Ratio]:
    """The cost of `more` beyond `less` as a share of `whole`, and that of `less` as a control."""
    for work in (whole, less, more):
        work()
    added: list[float] = []
    control: list[float] = []
    for _ in range(pairs):
        base = cpu_seconds(whole)
        less()  # what runs first after `whole` finds its caches cold
        first, second, third = cpu_seconds(less), cpu_seconds(more), cpu_seconds(less)
        added.append((second - first) / base)
        control.append((third - first) / base)
    return _ratio(added), _ratio(control)
