"""The model that the examples train: your own, or a tiny random one that runs anywhere."""

from __future__ import annotations

from typing import Any


def model_and_tokenizer(name: str | None) -> tuple[Any, Any]:
    """A model and its tokenizer, by folder or hub name.

    Without a name, random weights over the embedded tokenizer.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from policy_engine import load_tokenizer

    if name:
        return AutoModelForCausalLM.from_pretrained(name), AutoTokenizer.from_pretrained(name)
    tokenizer = load_tokenizer("builtin").tokenizer
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    return LlamaForCausalLM(config), tokenizer
