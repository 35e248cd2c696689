"""Writes the tables of the conformance page: every installed template and every property.

    python -m scripts.conformance_table docs/explanation/conformance.md [--templates FOLDER] [--jobs N] [--limit N]
    python -m scripts.conformance_table docs/explanation/conformance.md --again

The names of all templates go into the `.json` beside the page. In the page, the lines between `<!-- tables -->` and
`<!-- end -->` are replaced; the rest is written by hand. `--again` writes them from the data that is there.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from html import escape
from pathlib import Path
from typing import Final

from policy_engine.chat.loading import load_tokenizer
from policy_engine.chat.template import ChatTemplate
from policy_engine.core.errors import PolicyEngineError, TemplateError
from policy_engine.testing.checks.conformance_cases import Example, example, payloads
from policy_engine.testing.choices import RandomChoices
from policy_engine.testing.conformance import PROPERTIES, Tally, pick, tally_of
from policy_engine.testing.shapes import SHAPES
from policy_engine.testing.templates import installed_templates

GENERATED: Final = 16
"""Generated conversations per template, beside the shapes."""

SHOWN: Final = 3
"""Templates that a cell names; all are in the data."""

REASONS: Final = 8
"""Reasons that the page has of a property; all are in the data."""

SPECIAL_TOKENS: Final = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
"""Named tokens for templates that print the tokenizer's."""

Cells = Mapping[str, tuple[str, str]]
"""Verdict and reason of one template, by property."""

Groups = Mapping[str, Sequence[tuple[str, str, Sequence[str]]]]
"""Verdict, reason and names of the templates that are not `yes`, by property, largest first."""

_FIELD = re.compile(r"(?:`[\w.\[\]]+`|all) of an? `\w+` turn")
_BLOCK = re.compile(r"(<!-- tables -->\n).*?(<!-- end -->)", re.DOTALL)


def cells_of(named: tuple[str, str]) -> tuple[str, Cells]:
    """The verdict of each property on a template, given by its name and source."""
    name, source = named
    try:
        template = ChatTemplate(source, special_tokens=SPECIAL_TOKENS, name=name)
        injected = payloads(template)
    except PolicyEngineError as error:
        return name, {p: ("does not apply", _short(error.message)) for p in PROPERTIES}
    made = [
        Example(conversation=shape, payload=pick(injected, 7 * at), shape=each)
        for at, (each, shape) in enumerate(SHAPES.items())
    ]
    made += [example(RandomChoices(f"table:{at}"), injected) for at in range(GENERATED)]
    # `renders` is asked of the shapes alone, each by name: see `_raises`.
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
        reason = ", ".join(sorted({field for problem in tally.problems for field in _FIELD.findall(problem)}))
    return verdict, reason


def _raises(template: ChatTemplate) -> tuple[str, str]:
    refused = defaultdict(list)
    for name, shape in SHAPES.items():
        try:
            template.render_plain(shape)
        except TemplateError as error:
            refused[_short(error.own_words)].append(name)
    told = "; ".join(f"{reason} ({', '.join(shapes)})" for reason, shapes in sorted(refused.items()))
    return ("no", told) if refused else ("yes", "")


def _short(text: str) -> str:
    line = next((line.strip() for line in text.splitlines() if line.strip()), text)
    return line if len(line) <= 100 else line[:97] + "…"


def groups_of(found: Mapping[str, Cells]) -> Groups:
    """Templates that are alike in a property, together."""
    groups: dict[str, list[tuple[str, str, Sequence[str]]]] = {}
    for p in PROPERTIES.values():
        alike: dict[tuple[str, str], list[str]] = defaultdict(list)
        for name, cells in found.items():
            if cells[p.name][0] != "yes":
                alike[cells[p.name]].append(name)
        ordered = sorted(alike.items(), key=lambda group: (-len(group[1]), group[0]))
        groups[p.name] = [(verdict, reason, names) for (verdict, reason), names in ordered]
    return groups


def tables(templates: int, groups: Groups, data: str) -> Iterator[str]:
    """The lines of the tables.

    `templates` is how many there are, `data` the name of the file with all their names.
    """
    yield f"{templates} templates, {len(SHAPES)} shapes and {GENERATED} generated conversations each. All names are in"
    yield f"[{data}]({data})."
    yield ""
    yield "| property | | yes | no | does not apply |"
    yield "|---|---|---|---|---|"
    for p in PROPERTIES.values():
        counts = Counter(dict.fromkeys(("no", "does not apply"), 0))
        for verdict, _, names in groups[p.name]:
            counts[verdict] += len(names)
        kind = "fact" if p.fact else "holds or fails"
        yes = templates - counts.total()
        yield f"| [{p.name}](#{p.name}) | {kind} | {yes} | {counts['no']} | {counts['does not apply']} |"
    for p in PROPERTIES.values():
        yield from ("", f"### {p.name}", "", f"{p.says[0].upper()}{p.says[1:]}.")
        if not groups[p.name]:
            yield from ("", "Yes for every template.")
            continue
        yield from ("", "| | reason | templates | such as |", "|---|---|---|---|")
        for verdict, reason, names in groups[p.name][:REASONS]:
            yield f"| {verdict} | {_cell_text(reason)} | {len(names)} | {', '.join(names[:SHOWN])} |"
        if rest := groups[p.name][REASONS:]:
            yield f"| | {len(rest)} further reasons | {sum(len(names) for *_, names in rest)} | |"


def _cell_text(text: str) -> str:
    """A reason as the text of a cell: all of it code where a backtick has no partner.

    >>> _cell_text("`tools` | documents")
    '`tools` \\\\| documents'
    """
    shown = text.encode("unicode_escape").decode("ascii") if not text.isprintable() else text
    if shown.count("`") % 2:
        return f"<code>{escape(shown).replace('|', '&#124;').replace('`', '&#96;')}</code>"
    pieces = re.split(r"(`[^`]*`)", shown)
    return "".join(piece.replace("|", r"\|") if at % 2 else _escape(piece) for at, piece in enumerate(pieces))


def _escape(text: str) -> str:
    return re.sub(r"([|<>{}*_\[\]])", r"\\\1", text)


def written(page: str, data: str, *, name: str) -> str:
    """The page with its tables, from the text of the data file called `name`."""
    found = json.loads(data)
    made = "\n".join(tables(found["templates"], found["properties"], name))
    return _BLOCK.sub(lambda match: f"{match[1]}{made}\n{match[2]}", page)


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("page", type=Path)
    parser.add_argument("--templates", type=Path, metavar="FOLDER", help="these too: every `*.jinja` of a folder")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--limit", type=int, help="only so many templates, spread over all")
    parser.add_argument("--again", action="store_true", help="write the page from the data that is there")
    options = parser.parse_args(arguments)
    data = options.page.with_suffix(".json")
    if not options.again:
        found = _found(options)
        document = {"templates": len(found), "properties": groups_of(found)}
        data.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    page = written(options.page.read_text(encoding="utf-8"), data.read_text(encoding="utf-8"), name=data.name)
    options.page.write_text(page, encoding="utf-8")
    return 0


def _found(options: argparse.Namespace) -> dict[str, Cells]:
    sources = dict(installed_templates())
    if options.templates is not None:
        files = sorted(options.templates.glob("*.jinja"))
        sources |= {f"{options.templates.name}/{file.stem}": file.read_text(encoding="utf-8") for file in files}
    named = sorted(sources.items())
    if options.limit:
        # Spread over all, since neighbours by name are often versions of one template.
        named = named[:: max(1, len(named) // options.limit)]
    # In chunks: a process loads its modules once and tests several templates.
    with ProcessPoolExecutor(options.jobs) as pool:
        return dict(pool.map(cells_of, named, chunksize=8))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
