"""transformers is imported without its advice, and reads the names of its models once."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import functools
usual = functools.lru_cache
from policy_engine.chat.transformers_import import transformers
transformers().AutoTokenizer
assert functools.lru_cache is usual
from transformers.utils.import_utils import create_import_structure_from_path as names_of_folder
found = names_of_folder.cache_info()
print(found.misses == found.currsize, found.currsize > 128)
kept = transformers().models._import_structure
names_of_folder.cache_clear()
from transformers.utils.import_utils import define_import_structure
define_import_structure.cache_clear()
read = define_import_structure(transformers().models.__file__)
print(all(names.keys() <= kept.keys() for names in read.values()))
"""


def test_transformers_reads_the_names_of_its_models_once() -> None:
    """Each folder of its models is read once, although it remembers fewer than there are."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120)
    assert (done.stdout.split(), done.stderr) == (["True"] * 3, "")
