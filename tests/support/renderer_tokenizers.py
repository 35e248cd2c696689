"""A tokenizer that every renderer of the package `renderers` can be made with: Qwen's, with the tokens it asks for."""

from __future__ import annotations

import functools
import inspect
from typing import Any

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
def renderer(name: str) -> Any:
    """The renderer of a family, on Qwen's vocabulary."""
    from renderers import create_renderer

    tok = load("deepseek" if name.startswith("deepseek") else "qwen")
    config = configs()[name]()
    create_renderer(_Asked(tok), config).render_ids([{"role": "user", "content": "a"}])
    return create_renderer(tok, config)
