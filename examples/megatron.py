"""Rows of `policy-engine apply --pack` as packed sequences of Megatron-Bridge.

python examples/megatron.py packed.parquet train.npy path/to/model 4096
"""

import sys

from datasets import load_dataset

from policy_engine import load_tokenizer
from policy_engine.adapters.megatron import write_megatron

masked, out, model, size = sys.argv[1:]
rows = load_dataset("parquet", data_files=masked, split="train")
# Of the tokenizer that Megatron-Bridge is given too: it masks what follows this token.
eos = load_tokenizer(model).tokenizer.eos_token_id
print(write_megatron(rows, out, packed_sequence_size=int(size), eos_token_id=eos), "sequences")
