"""Masked rows (what `policy-engine apply` wrote) as rows of ms-swift's.

python examples/swift/rows.py masked.parquet rows.jsonl
"""

import sys

from datasets import load_dataset

from policy_engine.adapters.swift import swift_row

masked, out = sys.argv[1:]
rows = load_dataset("parquet", data_files=masked, split="train")
rows.map(swift_row, remove_columns=rows.column_names).to_json(out)
