"""Fine-tuning with Tinker: every conversation counts the same, whatever its length.

python examples/tinker_sft.py masked.parquet BASE_MODEL
"""

import argparse

from datasets import load_dataset

from policy_engine.adapters.tinker import tinker_data

BATCH = 8


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("masked", help="what `policy-engine apply` wrote, with the tokenizer of the base model")
    parser.add_argument("base_model")
    arguments = parser.parse_args()

    import tinker

    rows = load_dataset("parquet", data_files=arguments.masked, split="train")
    data = [datum for row in rows for datum in tinker_data(row, reduction="mean")]
    client = tinker.ServiceClient().create_lora_training_client(base_model=arguments.base_model)
    for start in range(0, len(data), BATCH):
        client.forward_backward(data[start : start + BATCH], loss_fn="cross_entropy").result()
        client.optim_step(tinker.AdamParams(learning_rate=1e-4)).result()


if __name__ == "__main__":
    main()
