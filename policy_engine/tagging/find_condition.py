"""Conditions over a template's own variables that say where a piece of text is trained.

`message.role == 'assistant'`, and the conditions that the template's own `if` tags ask, are evaluated each time the
piece is written; the first that is true exactly where it is trained is taken.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jinja2
import numpy as np
import numpy.typing as npt
from jinja2 import nodes

from policy_engine.tagging.items import Item, Items, Token, depths
from policy_engine.tagging.plan import Scope
from policy_engine.tagging.watch import Watched, WatchedPiece

Render = Callable[[Any, int], None]
"""Renders a shape, by number, with a compiled template."""

_MOST = 150
"""Most conditions that are tried for one piece."""

_MOST_JOINED = 3
"""Most conditions that are joined to one."""


class ConditionFinder:
    """Finds conditions for the atoms of one template; what was evaluated is kept."""

    def __init__(
        self, items: Items, watched: Watched, environment: jinja2.Environment, render: Render, roles: Sequence[str]
    ) -> None:
        self._items = items
        self._watched = watched
        self._environment = environment
        # Candidates are many, and most ask for something that some message lacks: a lenient environment says false to
        # those.
        self._lenient = environment.overlay(undefined=jinja2.ChainableUndefined)
        self._render = render
        self._roles = tuple(roles)
        self._values: dict[tuple[int, str], tuple[bool, ...] | None] = {}

    def __call__(self, atoms: Sequence[WatchedPiece], scope: Scope) -> str | None:
        """The first condition that is true exactly where all atoms are trained; None without one."""
        candidates = self._candidates(scope)[:_MOST]
        # Roles first: they explain most templates, and each condition that raises costs time.
        for tried in (candidates[: len(self._roles)], candidates):
            self._evaluate([atom.site for atom in atoms], tried)
            singles = [c for c in tried if all(self._values[atom.site, c] is not None for atom in atoms)]
            for condition in singles:
                fits = all(_says(self._values[atom.site, condition], atom) for atom in atoms)
                if fits and self._never_raises(condition, atoms):
                    return condition
        for joint, several in self._joined(singles, atoms):
            condition = f" {joint} ".join(map(_bracketed, several))
            if self._never_raises(condition, atoms):
                return condition
        return None

    def _never_raises(self, condition: str, atoms: Sequence[WatchedPiece]) -> bool:
        """True if a condition can be asked where what is missing raises, as in transformers."""
        return self._run(sorted({atom.site for atom in atoms}), [condition], self._environment) is not None

    def _joined(self, singles: Sequence[str], atoms: Sequence[WatchedPiece]) -> Iterator[tuple[str, list[str]]]:
        """Few conditions, joined by `and` or `or`, true exactly where all atoms are trained."""
        values = {c: np.concatenate([self._known(atom, c) for atom in atoms]) for c in singles}
        wanted = [decision for atom in atoms for decision in atom.decisions if decision is not None]
        wanted_W = np.array(wanted, dtype=np.bool_)
        # Of `a and b`, each is true wherever the piece is trained, and together they leave out the rest; of `a or b`,
        # each is true nowhere else, and together they reach all.
        wider = {c: ~values[c] for c in singles if values[c][wanted_W].all()}
        narrower = {c: values[c] for c in singles if not values[c][~wanted_W].any()}
        for joint, among, rest_W in (("and", wider, ~wanted_W), ("or", narrower, wanted_W.copy())):
            chosen: list[str] = []
            while rest_W.any() and len(chosen) < _MOST_JOINED:
                best = max(among, key=lambda c: int((among[c] & rest_W).sum()), default=None)
                if best is None or not (among[best] & rest_W).any():
                    break
                chosen.append(best)
                rest_W &= ~among[best]
            if chosen and not rest_W.any():
                yield joint, sorted(chosen, key=list(among).index)

    def _known(self, atom: WatchedPiece, condition: str) -> npt.NDArray[np.bool_]:
        """The values of a condition, where something was written."""
        values = self._values[atom.site, condition]
        assert values is not None
        known = [value for value, decision in zip(values, atom.decisions) if decision is not None]
        return np.array(known, dtype=np.bool_)

    # Candidates.

    def _candidates(self, scope: Scope) -> list[str]:
        found: list[str] = []
        targets = [self._target(self._items.items[loop]) for loop in reversed(scope.loops)]
        for target in filter(None, targets):
            for role in self._roles:
                found.append(f"{self._role_of(target)} == '{role}'")
        harvested = self._harvested(scope)
        found += harvested
        if scope.loops:
            found += ["loop.last", "not loop.last", "loop.first", "not loop.first"]
            for target in filter(None, targets[-1:]):
                key = self._role_of(target).removeprefix(target)
                for role in self._roles:
                    found.append(f"{target}{key} != '{role}'")
                    found.append(f"not loop.first and loop.previtem{key} == '{role}'")
                    found.append(f"not loop.last and loop.nextitem{key} == '{role}'")
                models = f"loop.previtem{key} == '{self._roles[0]}'"
                found.append(f"not loop.first and {models} and loop.previtem.content")
                found += self._fields_of(target)
                found += [
                    f"'{close}' in {target}.content|string"
                    for close in ("</think>", "[/THINK]", "</seed:think>")
                    if close in self._items.source
                ]
        found += [f"messages[-1]['role'] == '{role}'" for role in self._roles]
        found += [f"not {_bracketed(condition)}" for condition in harvested]
        found += self._assigned
        # Thinking that is written empty: `'</think>' in m.content|string and not reasoning_content`.
        found += [f"not {name}" for name in self._assigned]
        return list(dict.fromkeys(found))

    @functools.cached_property
    def _assigned(self) -> list[str]:
        """Names that the template assigns: each is a condition, true where it is not empty."""
        names = [item.tokens[1].text for item in self._items.items if item.keyword == "set" and len(item.tokens) > 3]
        return [name for name in dict.fromkeys(names) if not name.startswith("ns")]

    def _target(self, tag: Item) -> str | None:
        names = [token.text for token in tag.tokens[1:] if token.kind == "name"]
        return names[0] if names and (len(tag.tokens) > 2 and tag.tokens[2].text == "in") else None

    def _role_of(self, name: str) -> str:
        """The role of a message, spelled as the template does: `m.role`, `m['role']`."""
        pattern = rf"\b{name}(?:\.role\b|\[\s*(?:'role'|\"role\")\s*\])"
        spelled = Counter(re.findall(pattern, self._items.source))
        return spelled.most_common(1)[0][0] if spelled else f"{name}['role']"

    def _fields_of(self, name: str) -> list[str]:
        """Fields of a message that the template reads, as conditions: true where not empty."""
        read = re.findall(rf"\b{name}(?:\.([a-z_]+)\b|\[\s*['\"]([a-z_]+)['\"]\s*\])", self._items.source)
        names = dict.fromkeys(first or second for first, second in read)
        return [f"{name}['{field}']" for field in names if field not in ("role", "get", "items", "keys", "values")]

    def _harvested(self, scope: Scope) -> list[str]:
        """Conditions of the template's `if` tags, and their parts, over names in scope."""
        first = scope.loops[0] if scope.loops else 0
        known = {"messages", "tools", "loop", "true", "false", "none", "defined", "string", "and", "or", "not", "is"}
        known |= {"add_generation_prompt", "in", "ns", "mapping", "iterable", "undefined", "True", "False", "None"}
        names = {self._target(self._items.items[loop]) for loop in scope.loops}
        for item in self._items.items:
            if item.keyword == "set" and len(item.tokens) > 1:
                names.add(item.tokens[1].text)
        found: list[str] = []
        for index, item in enumerate(self._items.items):
            if item.keyword not in ("if", "elif") or index < first:
                continue
            for tokens in (item.tokens[1:], *_parts(item.tokens[1:])):
                text = self._items.source[tokens[0].start : tokens[-1].end] if tokens else ""
                used = {t.text for t, before in zip(tokens, (None, *tokens)) if _is_name(t, before)}
                # Only names that exist where the tag will be: a name of an inner loop would be empty, or another.
                if text and len(text) < 120 and used <= known | names:
                    found.append(" ".join(text.split()))
        return found

    # Values.

    # A rendering of all conversations answers for many conditions and sites at once, so they are asked together.
    def prepare(self, atoms: Sequence[WatchedPiece], scope: Scope) -> None:
        """Asks for the roles at all these atoms in one go."""
        self._evaluate([atom.site for atom in atoms], self._candidates(scope)[: len(self._roles)])

    def holds(self, condition: str, atom: WatchedPiece) -> bool:
        """True if a condition is true exactly where an atom is trained."""
        self._evaluate([atom.site], [condition])
        return _says(self._values[atom.site, condition], atom)

    def _evaluate(self, sites: Sequence[int], candidates: Sequence[str]) -> None:
        asked = sorted({site for site in sites if any((site, c) not in self._values for c in candidates)})
        missing = [c for c in candidates if any((site, c) not in self._values for site in asked)]
        if not missing:
            return
        found = self._run(asked, missing, self._lenient)
        if found is None and len(missing) > 1:
            # One of them raises.
            # One that raises spoils the whole run, so halves are tried until it is alone.
            half = len(missing) // 2
            self._evaluate(asked, missing[:half])
            self._evaluate(asked, missing[half:])
            return
        for site in asked:
            for at, condition in enumerate(missing):
                self._values[site, condition] = None if found is None else tuple(row[at] for row in found[site])

    def _run(
        self, sites: Sequence[int], conditions: Sequence[str], environment: jinja2.Environment
    ) -> dict[int, list[tuple[bool, ...]]] | None:
        """The values of the conditions, each time one of the sites is written; None if one raises."""
        seen: dict[int, list[tuple[bool, ...]]] = {site: [] for site in sites}

        def probe(site: int, *values: Any) -> str:
            seen[site].append(tuple(map(bool, values)))
            return ""

        try:
            tree = environment.parse(self._watched.split_source)
            # From the end, so that calls put in do not shift the numbers of outputs before them.
            for site in sorted(sites, reverse=True):
                asked = [nodes.Const(site), *map(self._expression, conditions)]
                _insert(tree, site, nodes.Call(nodes.Name("pe_probe", "load"), asked, [], None, None))
            # Nodes that were put in by hand have no environment of their own.
            tree.set_environment(environment)
            compiled = jinja2.Template.from_code(
                environment, environment.compile(tree), {**environment.globals, "pe_probe": probe}
            )
            for shape in sorted({number for site in sites for number, _, _ in self._watched.sites[site].written}):
                self._render(compiled, shape)
        except Exception:
            return None
        # A site in a macro may be written in another order, or more often, than it was watched: nothing is known then.
        if any(len(seen[site]) != len(self._watched.sites[site].written) for site in sites):
            return None
        return seen

    def _expression(self, condition: str) -> nodes.Expr:
        # Parsed alone: a condition that is no expression by itself fails here, and not in the middle of the template.
        output = self._environment.parse("{{ " + condition + " }}").body[0]
        assert isinstance(output, nodes.Output)
        return output.nodes[0]


def _insert(tree: nodes.Template, site: int, call: nodes.Expr) -> None:
    """Puts a call before an output, by number."""
    number = 0
    for output in tree.find_all(nodes.Output):
        if site < number + len(output.nodes):
            output.nodes.insert(site - number, call)
            return
        number += len(output.nodes)
    raise AssertionError(f"there is no output {site}")


def _says(values: tuple[bool, ...] | None, atom: WatchedPiece) -> bool:
    return values is not None and all(
        decision is None or decision == value for decision, value in zip(atom.decisions, values)
    )


def _bracketed(condition: str) -> str:
    return f"({condition})" if re.search(r"\b(?:or|and|if)\b", condition) else condition


def _is_name(token: Token, before: Token | None) -> bool:
    return token.kind == "name" and (before is None or before.text not in (".", "|"))


def _parts(tokens: Sequence[Token]) -> list[tuple[Token, ...]]:
    """The parts of a condition between its outer `and` and `or`."""
    found: list[tuple[Token, ...]] = []
    start = 0
    for index, (token, depth) in enumerate(zip(tokens, depths(tokens))):
        if not depth and token.kind == "name" and token.text in ("and", "or"):
            found.append(tuple(tokens[start:index]))
            start = index + 1
    if not start:
        return []
    return [part for part in (*found, tuple(tokens[start:])) if part]
