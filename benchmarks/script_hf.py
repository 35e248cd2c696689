"""The script that people write in place of a policy: labels by transformers and datasets.

python benchmarks/script_hf.py chats.jsonl TOKENIZER_FOLDER out.parquet
"""

import sys

from datasets import load_dataset
from transformers import AutoTokenizer

data, folder, out = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(folder)
tokenizer.chat_template = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' %}{% generation %}{{ m['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ m['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
)


def mask(batch):
    made = tokenizer.apply_chat_template(
        batch["messages"], tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    rows = zip(made["input_ids"], made["assistant_masks"])
    labels = [[token if trained else -100 for token, trained in zip(ids, mask)] for ids, mask in rows]
    return {"input_ids": made["input_ids"], "labels": labels, "attention_mask": made["attention_mask"]}


rows = load_dataset("json", data_files=data, split="train", cache_dir=f"{out}.cache")
rows.map(mask, batched=True, remove_columns=rows.column_names).to_parquet(out)
