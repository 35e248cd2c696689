"""Imports every configuration that comes with axolotl's sources:

    python -m benchmarks.importing [--version 0.19.0] [--sources FOLDER]

Downloads the source distribution (nothing of it is kept) unless it is given unpacked, reads each YAML file and each
YAML block of its documentation that has `datasets`, and prints what became of it. Ends with 1 if a configuration of SFT
chat data (`type: chat_template`, without `rl`) is not imported, if a key of it is in neither policy, dataset file nor
comment, or if another kind is refused without naming the key.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from policy_engine.core.errors import PolicyEngineError
from policy_engine.data.dataset import load_dataset_spec
from policy_engine.importers.axolotl import CARRIED, from_axolotl
from policy_engine.rules.compile import compile_text

_BLOCK = re.compile(r"```ya?ml[^\n]*\n(.*?)```", re.DOTALL)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.importing", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", default="0.19.0")
    parser.add_argument("--sources", type=Path, help="the unpacked source distribution")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sources = asked.sources or _download(asked.version, Path(folder))
        return _report(sources, Path(folder))


def _download(version: str, folder: Path) -> Path:
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "-d", folder,
         f"axolotl=={version}"],
        check=True,
    )  # fmt: skip
    with tarfile.open(next(folder.glob("axolotl-*.tar.gz"))) as archive:
        archive.extractall(folder / "sources", filter="data")
    return folder / "sources"


def _configurations(sources: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(sources.rglob("*")):
        if path.suffix in (".yml", ".yaml"):
            texts = [path.read_text(encoding="utf-8", errors="replace")]
        elif path.suffix in (".qmd", ".md"):
            texts = _BLOCK.findall(path.read_text(encoding="utf-8", errors="replace"))
        else:
            continue
        for number, text in enumerate(texts):
            try:
                found = yaml.safe_load(text)
            except yaml.YAMLError:
                continue  # a fragment, or a template of something else
            if isinstance(found, dict) and isinstance(found.get("datasets"), list) and found["datasets"]:
                yield f"{path.relative_to(sources)}{f' block {number}' if len(texts) > 1 else ''}", found


def _report(sources: Path, folder: Path) -> int:
    results: Counter[str] = Counter()
    wrong = 0
    for name, config in _configurations(sources):
        kinds = [entry.get("type") if isinstance(entry, dict) else None for entry in config["datasets"]]
        chat = all(kind == "chat_template" for kind in kinds) and not config.get("rl")
        result, good = _result(config, folder, chat)
        wrong += not good
        results[("SFT chat: " if chat else "other: ") + result] += 1
        print(f"{'ok ' if good else 'BAD'} | {name} | {', '.join(dict.fromkeys(map(_kind, kinds)))} | {result}")
    print()
    for result, count in results.most_common():
        print(f"{count:4} {result}")
    print(f"{sum(results.values())} configurations, {wrong} wrong")
    return 1 if wrong or not results else 0


def _kind(kind: Any) -> str:
    return "a mapping" if isinstance(kind, dict) else str(kind)


def _result(config: dict[str, Any], folder: Path, chat: bool) -> tuple[str, bool]:
    path = folder / "config.yml"
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    try:
        made = from_axolotl(path)
    except PolicyEngineError as error:
        key = re.search(r"`([^`]+)` cannot be carried over|keys that cannot be carried over: `([^`]+)`", error.message)
        return (
            f"refused by key `{key[1] or key[2]}`" if key else f"refused: {error.message}",
            key is not None and not chat,
        )
    for item, entry in zip(made, config["datasets"], strict=True):
        compile_text(item.policy_text)
        target = folder / f"{item.name}.yaml"
        (folder / f"{item.name}.policy").write_text(item.policy_text, encoding="utf-8")
        target.write_text(item.dataset_text, encoding="utf-8")
        load_dataset_spec(target)
        said = set(re.findall(r"\w+", "\n".join(item.notes)))
        dropped = sorted({*config, *entry} - CARRIED - said)
        if dropped:
            return f"not accounted for: {', '.join(dropped)}", False
    return "imported", chat


if __name__ == "__main__":
    sys.exit(main())
