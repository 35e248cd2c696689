"""Plots and tables of `docs/explanation/performance.md`: `python -m benchmarks.plots`.

In the page, the lines between `<!-- table: NAME -->` and `<!-- end -->` are replaced by the table of `NAME.json`, with
its command and machine; plots go into `docs/explanation/plots/`. What was not measured stays as it is.
Needs matplotlib.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from benchmarks import columns, results, whole
from benchmarks.scale import engines, kills, memory, workers

PAGE: Final = Path(__file__).parents[1] / "docs" / "explanation" / "performance.md"
PLOTS: Final = PAGE.parent / "plots"
SHOWN: Final[dict[str, Callable[[dict[str, Any]], str]]] = {
    "whole-verbs": whole.show_verbs,
    "whole-script": whole.show_script,
    "whole-script-words": whole.show_script,
    "whole-memory": whole.show_memory,
    "columns-least-pool": columns.show_least,
    "columns-bars-pool": columns.show_bars,
    "columns-skeletons-pool": columns.show_skeletons,
    "columns-turns-pool": columns.show_turns,
    "columns-policies-pool": columns.show_policies,
    "workers": workers.show,
    "memory": memory.show,
    "kills": kills.show,
    "checksum": engines.show_checksums,
    "ray": engines.show_ray,
}
DRAWN: Final = {"columns": "columns-least-pool", "turns": "columns-turns-pool"}
"""The result that each plot shows."""
_BLOCK: Final = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(page: str, folder: Path) -> str:
    """The page with every table that was measured, as `folder` keeps it."""

    def made(match: re.Match[str]) -> str:
        found = results.load(folder, match[2])
        if found is None:
            return match[0]
        return (
            f"{match[1]}`{found['command']}`\n\n{SHOWN[match[2]](found)}\n\n*{results.description(found)}*\n{match[3]}"
        )

    return _BLOCK.sub(made, page)


def write_tables(folder: Path) -> None:
    """Puts every table that was measured into the page."""
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8"), folder), encoding="utf-8")


def source(folder: Path, plot: str) -> str:
    """The result that a plot shows, with its digest.

    It is kept in the plot, so that a test finds a plot of an older result.
    """
    file = folder / f"{DRAWN[plot]}.json"
    return f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}"


def draw(folder: Path) -> None:
    """Draws the plots of what was measured, as SVG without dates in them."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update({"svg.hashsalt": "policy-engine", "font.size": 9, "svg.fonttype": "none"})
    from matplotlib import pyplot

    PLOTS.mkdir(exist_ok=True)

    def keep(figure: Any, name: str) -> None:
        figure.tight_layout()
        figure.savefig(
            PLOTS / f"{name}.svg", metadata={"Date": None, "Creator": None, "Description": source(folder, name)}
        )
        pyplot.close(figure)

    if (found := results.load(folder, DRAWN["columns"])) is not None:
        figure, axes = pyplot.subplots(figsize=(8, 3.2))
        names = list(found["cases"])
        for shift, backend in enumerate(("reference", "kitoken", "gigatoken")):
            shares = [found["cases"][name]["least"][backend] for name in names]
            places = [at + 0.27 * (shift - 1) for at in range(len(names))]
            axes.bar(places, shares, 0.25, label=backend)
        axes.set_xticks(
            range(len(names)), [re.sub(r",? (?=\d|real|reason|tools|think|in content)", "\n", name) for name in names]
        )
        axes.set_ylabel("CPU time over the baseline's")
        axes.legend(loc="upper right", ncols=3)
        axes.set_ylim(0, 1.2)
        keep(figure, "columns")
    if (found := results.load(folder, DRAWN["turns"])) is not None:
        figure, axes = pyplot.subplots(figsize=(5, 3.2))
        for name, by_turns in found["ms"].items():
            axes.loglog([int(turns) for turns in by_turns], list(by_turns.values()), marker="o", label=name)
        axes.set_xlabel("turns")
        axes.set_ylabel("milliseconds a row")
        axes.legend()
        keep(figure, "turns")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.plots", description=__doc__.split("\n")[0])
    parser.add_argument("--results", type=Path, default=results.RESULTS)
    options = parser.parse_args()
    write_tables(options.results)
    draw(options.results)


if __name__ == "__main__":
    main()
