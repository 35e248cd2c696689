from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import policy_engine


def test_every_name_is_there() -> None:
    for name in policy_engine.__all__:
        assert getattr(policy_engine, name) is not None
    assert set(policy_engine.__all__) <= set(dir(policy_engine))


def test_type_checkers_see_the_same_names() -> None:
    tree = ast.parse(Path(policy_engine.__file__).read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert imported == set(policy_engine.__all__) - {"__version__"}


def test_unknown_names_are_attribute_errors() -> None:
    assert not hasattr(policy_engine, "nothing")


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys; import policy_engine; "
        "heavy = {'transformers', 'tokenizers', 'jinja2', 'lark', 'numpy', 'pyarrow', 'hypothesis', 'typer', 'rich'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, timeout=60)
    assert "[]" == ran.stdout.strip()


def test_loading_a_tokenizer_says_nothing_of_torch() -> None:
    code = (
        "import logging, os; before = dict(os.environ); import policy_engine; policy_engine.load_tokenizer('builtin'); "
        "assert before == dict(os.environ); import transformers; print(transformers.logging.get_verbosity())"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TRANSFORMERS_")}
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True, timeout=120, env=environment
    )
    assert ("30\n", "") == (ran.stdout, ran.stderr)  # WARNING, as transformers has it
