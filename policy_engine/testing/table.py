"""Writes the tables of the conformance page: every installed template and every property.

    python -m policy_engine.testing.table docs/conformance.md [--templates FOLDER] [--jobs N] [--limit N]

In the page, what stands between `<!-- tables -->` and `<!-- end -->` is replaced; the rest is written by hand.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

from policy_engine.chat.template import ChatTemplate
from policy_engine.chat.tokenize import load_tokenizer
from policy_engine.core.errors import PolicyEngineError, TemplateError
from policy_engine.testing.choices import RandomChoices
from policy_engine.testing.conformance import PROPERTIES, Tally, pick, tally_of
from policy_engine.testing.conformance_cases import Example, example, payloads
from policy_engine.testing.shapes import SHAPES
from policy_engine.testing.templates import installed_templates

GENERATED: Final = 16
"""Generated conversations per template, beside the shapes."""

FOLDED: Final = 6
"""Templates of one cell from which their names are folded away."""

SPECIAL_TOKENS: Final = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
"""What templates that print the tokenizer's named tokens are given."""

Cells = Mapping[str, tuple[str, str]]
"""By property: `yes`, `no` or `does not apply`, and the reason for what is not yes."""

_BLOCK = re.compile(r"(<!-- tables -->\n).*?(<!-- end -->)", re.DOTALL)


def cells_of(named: tuple[str, str]) -> tuple[str, Cells]:
    """What each property is of a template, of which a name and the source are given."""
    name, source = named
    try:
        template = ChatTemplate(source, special_tokens=SPECIAL_TOKENS, name=name)
        injected = payloads(template)
    except PolicyEngineError as error:
        return name, {p: ("does not apply", _short(error.message)) for p in PROPERTIES}
    made = [Example(conversation=shape, payload=pick(injected, 7 * at)) for at, shape in enumerate(SHAPES.values())]
    made += [example(RandomChoices(f"table:{at}"), injected) for at in range(GENERATED)]
    chosen = [p for p in PROPERTIES.values() if p.name != "renders"]
    tallies = tally_of(chosen, template, made, load_tokenizer("builtin"))
    cells = {p.name: _cell(tallies[p.name]) for p in chosen}
    cells["complete"] = _lost(tallies["complete"])
    cells["renders"] = _raises(template)
    return name, cells


def _cell(tally: Tally) -> tuple[str, str]:
    if not tally.checked:
        return "does not apply", tally.skipped.most_common(1)[0][0]
    if not tally.problems:
        return "yes", ""
    assert tally.problem is not None
    return "no", tally.problem[0]


def _lost(tally: Tally) -> tuple[str, str]:
    verdict, reason = _cell(tally)
    if verdict == "no":
        reason = ", ".join(sorted({f for p in tally.problems for f in re.findall(r"`\w+` of a `\w+` turn", p)}))
    return verdict, reason


def _raises(template: ChatTemplate) -> tuple[str, str]:
    refused = defaultdict(list)
    for name, shape in SHAPES.items():
        try:
            template.render_plain(shape)
        except TemplateError as error:
            refused[_short(error.message.split("raises for this conversation: ", 1)[-1])].append(name)
    told = "; ".join(f"{reason} ({', '.join(shapes)})" for reason, shapes in sorted(refused.items()))
    return ("no", told) if refused else ("yes", "")


def _short(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), text)
    return line if len(line) <= 100 else line[:97] + "…"


def tables(found: Mapping[str, Cells]) -> Iterator[str]:
    """The lines of the tables."""
    yield f"{len(found)} templates, {len(SHAPES)} shapes and {GENERATED} generated conversations each."
    yield ""
    yield "| property | | yes | no | does not apply |"
    yield "|---|---|---|---|---|"
    for p in PROPERTIES.values():
        counts = Counter(cells[p.name][0] for cells in found.values())
        kind = "fact" if p.fact else "holds or fails"
        yield f"| [{p.name}](#{p.name}) | {kind} | {counts['yes']} | {counts['no']} | {counts['does not apply']} |"
    for p in PROPERTIES.values():
        groups: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name, cells in found.items():
            if cells[p.name][0] != "yes":
                groups[cells[p.name]].append(name)
        yield from ("", f"### {p.name}", "", f"{p.says[0].upper()}{p.says[1:]}.")
        if not groups:
            yield from ("", "Yes for every template.")
            continue
        yield from ("", "| | reason | templates |", "|---|---|---|")
        for (verdict, reason), names in sorted(groups.items(), key=lambda g: (-len(g[1]), g[0])):
            yield f"| {verdict} | {_escape(reason)} | {_listed(names)} |"


def _listed(names: Sequence[str]) -> str:
    if len(names) <= FOLDED:
        return f"{len(names)}: {', '.join(names)}"
    return f"<details><summary>{len(names)}</summary>{', '.join(names)}</details>"


def _escape(text: str) -> str:
    shown = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    return re.sub(r"([|<>{}*_`\[\]])", r"\\\1", shown)


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--templates", type=Path, metavar="FOLDER", help="these too: every `*.jinja` of a folder")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=int, help="only so many templates, spread over all")
    options = parser.parse_args(arguments)
    sources = dict(installed_templates())
    if options.templates is not None:
        files = sorted(options.templates.glob("*.jinja"))
        sources |= {f"{options.templates.name}/{file.stem}": file.read_text(encoding="utf-8") for file in files}
    named = sorted(sources.items())
    if options.limit:
        named = named[:: max(1, len(named) // options.limit)]
    with ProcessPoolExecutor(options.jobs) as pool:
        found = dict(pool.map(cells_of, named, chunksize=8))
    page = options.page.read_text(encoding="utf-8")
    made = "\n".join(tables(found))
    options.page.write_text(_BLOCK.sub(lambda m: f"{m[1]}{made}\n{m[2]}", page), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
