"""`test --update`: tests expect what the policy gives; all else in the file stays.

expect: ""        →        expect: |
                             <|im_start|>assistant
                             ⟦Hello<|im_end|>⟧
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from policy_engine.cli.files import write_text_file
from policy_engine.core.errors import DataError
from policy_engine.report.visible import spelled


def update_expected(path: Path, actual: Mapping[int, str]) -> int:
    """Writes the texts of tests, by number from 0, into a dataset file; the number replaced.

    Raises DataError if the file cannot be read or written.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        raise DataError(f"cannot read `{path}`: {error.strerror}", help="check that it is readable") from error
    nodes = _expected_nodes(text)
    for number in sorted(actual, reverse=True):  # from the end, so that places before stay right
        key, value = nodes[number]
        start, end = value.start_mark.index, value.end_mark.index
        # The end mark of a block is behind its last line break; that of any other text is at its last character.
        block = isinstance(value, yaml.ScalarNode) and value.style in ("|", ">")
        tail = "\n" if block and text[:end].endswith("\n") else ""
        written = _written(actual[number], indent=key.start_mark.column + 2, flow=_in_flow(text, key))
        rest, _, _ = text[end:].partition("\n")
        if (
            not block and written.startswith("|") and rest.strip()
        ):  # a comment behind the text, which goes behind the block's head
            written, end = f"|{rest}{written[1:]}", end + len(rest)
        text = text[:start] + written + tail + text[end:]
    write_text_file(path, text, overwrite=True)
    return len(actual)


def _expected_nodes(text: str) -> list[tuple[yaml.Node, yaml.Node]]:
    """Key and value of `expect` of each test, in order.

    >>> [value.value for _, value in _expected_nodes("tests:\\n- {name: a, expect: Hi}\\n")]
    ['Hi']
    """
    root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    (tests,) = [value for key, value in root.value if key.value == "tests"]
    found = []
    for test in tests.value:
        (pair,) = [(key, value) for key, value in test.value if key.value == "expect"]
        found.append(pair)
    return found


def _in_flow(text: str, key: yaml.Node) -> bool:
    """True if a key is inside `{ }`, where YAML has no blocks."""
    line = text[: key.start_mark.index].rpartition("\n")[2]
    return bool(line.strip(" -"))


def _written(text: str, *, indent: int, flow: bool) -> str:
    """A text as YAML: a block where it can be one, else in quotes.

    >>> _written("a\\nb", indent=4, flow=False)
    '|\\n    a\\n    b'
    """
    text = text.rstrip()
    lines = text.split("\n")
    # Quoted where a block would change the text or be hard to read: characters that do not show, an indent that YAML
    # would take for its own, tabs.
    if flow or not text or text != spelled(text) or lines[0][:1].isspace() or "\t" in text:
        return json.dumps(text, ensure_ascii=text != spelled(text))
    return "|\n" + "\n".join(" " * indent + line if line else "" for line in lines)
