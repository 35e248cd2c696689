"""Every processor class of transformers: refused by reason, or compared with its own call.

    python -m benchmarks.media_classes               writes the results and the page
    python -m benchmarks.media_classes --check       measures again, and fails where a class differs from the results
    python -m benchmarks.media_classes --check Molmo2Processor

A class that is taken is built of parts that fit it (`tests/support/any_processor.py`). Conversations with each kind of
media that it takes are masked, and ids and columns compared with its own `apply_chat_template`. It wants the
environment of `make media`, for the processors that need torch.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import signal
import sys
import warnings
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

from policy_engine import Masker, PolicyEngineError, policy_from_text
from policy_engine.chat.media.classes import all_classes, kinds_of, why_refused

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "media-classes.json"
PAGE = ROOT / "docs" / "explanation" / "processors.md"
EQUAL = "equal"
_POLICY = "train assistant; train eos after assistant; never train user; never train media"
_ROWS = 5
"""Conversations of a kind; the first three are decoded, and from then on media may be measured."""
_SECONDS = 30
"""CPU seconds for a kind of a class."""
_OTHERS = ("ImageProcessor", "VideoProcessor", "LogitsProcessor")
"""Ends of names of classes that are parts of processors."""


class _Late(BaseException):
    """No Exception: classes are tried with parts, and what they raise is caught."""


def verdicts(names: list[str]) -> list[dict[str, Any]]:
    """The class, the kinds of media, why it is refused, and what each kind's rows showed."""
    rows = []
    for cls in all_classes():
        if names and cls.__name__ not in names:
            continue
        row: dict[str, Any] = {"class": cls.__name__, "kinds": list(kinds_of(cls)), "refused": why_refused(cls)}
        if row["refused"] is None:
            row["rows"] = {kind: _measured(cls, kind) for kind in row["kinds"]}
            print(json.dumps(row, ensure_ascii=False), flush=True)
        rows.append(row)
    return rows + ([] if names else _not_loaded({row["class"] for row in rows}))


def _not_loaded(known: set[str]) -> list[dict[str, Any]]:
    """Classes whose libraries are missing."""
    transformers: Any = import_module("transformers")
    rows = []
    for name in sorted(dir(transformers)):
        if not name.endswith("Processor") or name.endswith(_OTHERS) or name in known:
            continue
        value = getattr(transformers, name, None)
        if hasattr(value, "_backends"):
            rows.append(
                {"class": name, "kinds": [], "refused": f"not looked at: it needs {', '.join(value._backends)}"}
            )
    return rows


def _measured(cls: type, kind: str) -> str:
    """`equal`, or why the class is refused when it is used, or why it could not be measured."""
    from tests.support.any_processor import NotBuilt, any_processor
    from tests.support.media_chats import beside, media_chat

    def stop(*_: Any) -> None:
        raise _Late(f"it took more than {_SECONDS} seconds")

    signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, _SECONDS)
    try:
        masker = Masker(policy_from_text(_POLICY), any_processor(cls, kind))
        rng, done = random.Random(f"{cls.__name__}-{kind}"), 0
        while done < _ROWS:
            most = 2 if kind == "image" else 1
            messages = media_chat(rng, audio=kind == "audio", video=kind == "video", most=most)
            if not any(part["type"] == kind for message in messages for part in message["content"]):
                continue
            done += 1
            beside(masker, messages)
    except (NotBuilt, _Late) as error:
        return f"not measured: {error}"
    except AssertionError as error:
        return f"differs: {' '.join(str(error).split())[:160]}"
    except PolicyEngineError as error:
        return f"refused when used: {error.message.removeprefix(f'{cls.__name__} cannot be used: ')}"
    except Exception as error:  # each class has its own checks
        return f"not measured: its own call fails: {' '.join(str(error).split())[:160] or type(error).__name__}"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return EQUAL


def page(result: dict[str, Any]) -> str:
    """The page with the table, from the results."""
    rows = result["classes"]
    taken = [row for row in rows if row["refused"] is None]
    equal = [row for row in taken if all(found == EQUAL for found in row["rows"].values())]
    of_use = [row for row in taken if any(found.startswith("refused") for found in row["rows"].values())]
    reasons = Counter(row["refused"] for row in rows if row["refused"] is not None)
    reasons.update(next(f for f in row["rows"].values() if f.startswith("refused")) for row in of_use)
    lines = [
        "# Processors",
        "",
        f"transformers {result['transformers']} has {len(rows)} processor classes. {len(taken)} write media as text",
        "and tokenize once, so that every token has an author. Each of them was built of parts that fit it, and",
        "conversations with each kind of its media were masked: ids and columns have to be those of the class's own",
        f"call. {len(equal)} are equal in all kinds; {len(of_use)} are refused when they are used. Where no parts were",
        "found with which the class's own call works, the table says what it answered: the class is taken, and",
        "compared with its own call as all are. A class that is taken is compared when it is first used, and row by",
        "row where media are decoded: a row whose ids differ fails. The others are refused by name, with the reason.",
        "`python -m benchmarks.media_classes` writes this page; with `--check` it measures again.",
        "",
        "| reason | classes |",
        "|---|---|",
        *(f"| {reason} | {count} |" for reason, count in reasons.most_common()),
        "",
        "| class | media | |",
        "|---|---|---|",
    ]
    lines += [f"| `{row['class']}` | {', '.join(row['kinds']) or '–'} | {_cell(row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(row: dict[str, Any]) -> str:
    if row["refused"] is not None:
        return str(row["refused"])
    found: dict[str, list[str]] = {}
    for kind, what in row["rows"].items():
        found.setdefault(what, []).append(kind)
    if len(found) == 1:
        (what,) = found
        return _escaped(what)
    return "; ".join(f"{', '.join(kinds)}: {_escaped(what)}" for what, kinds in found.items())


def _escaped(text: str) -> str:
    # Tokens in messages are no HTML, a bar would end the cell, and messages that are cut leave quotes open.
    return text.replace("`", "'").replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def main() -> int:
    """Measures the classes; writes the results, or compares with them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.media_classes")
    parser.add_argument("names", nargs="*", help="classes; all by default")
    parser.add_argument("--check", action="store_true", help="compare with the results, and write nothing")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    from tests.support import pictures  # noqa: F401  # lets torchvision be imported beside a torch for CPUs

    logging.disable(logging.WARNING)
    rows = verdicts(given.names)
    known = {}
    if RESULT.exists():
        known = {row["class"]: row for row in json.loads(RESULT.read_text(encoding="utf-8"))["classes"]}
    if given.check:
        changed = [row for row in rows if row != known.get(row["class"])]
        changed += [row for name, row in known.items() if not given.names and name not in {r["class"] for r in rows}]
        for row in changed:
            print("changed:", json.dumps(row, ensure_ascii=False))
        print(f"{len(rows)} classes, {len(changed)} other than in {RESULT.name}")
        return bool(changed)
    # Measured classes replace theirs; the rest stays.
    merged = sorted({**(known if given.names else {}), **{row["class"]: row for row in rows}}.values(), key=_order)
    result = {"transformers": import_module("transformers").__version__, "classes": merged}
    RESULT.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    PAGE.write_text(page(result), encoding="utf-8")
    return 0


def _order(row: dict[str, Any]) -> str:
    return str(row["class"])


if __name__ == "__main__":
    sys.exit(main())
