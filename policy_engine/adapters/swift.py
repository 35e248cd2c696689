"""ms-swift: masked rows as messages of token ids, and a template that adds nothing.

    from datasets import load_dataset
    from policy_engine.adapters.swift import swift_row

    rows = load_dataset("parquet", data_files="masked.parquet", split="train")
    rows.map(swift_row, remove_columns=rows.column_names).to_json("rows.jsonl")

ms-swift takes no `input_ids` columns, but a message whose content is `token_ids` and `loss_scale`. Its own templates
add something to it (an end marker at least), so a file `plugin.py` has to say

    from policy_engine.adapters.swift import register

    register()

and the run names both:

    swift sft --external_plugins plugin.py --template policy_engine --dataset rows.jsonl --strict true ...

Give it a file of your own: ms-swift puts the folder of a plugin before all others in the import path, and beside this
module lie others that are named like trainers.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

from policy_engine.adapters.documents import Row, documents_of
from policy_engine.core.errors import ConfigError, RowError

TEMPLATE: Final = "policy_engine"
"""The name under which `register` puts the template: `--template policy_engine`."""


def swift_row(row: Row) -> dict[str, Any]:
    """A masked row as a row of ms-swift's: one assistant message.

    Its content is `token_ids` and `loss_scale` (0 where a token carries no loss), both of length T. The first token has
    weight 0.

    Raises RowError for weights that are negative (ms-swift masks those), rows of several documents (ms-swift packs by
    itself), and what `documents_of` does not take.

    >>> swift_row({"input_ids": [5, 6], "labels": [-100, 6]})
    {'messages': [{'role': 'assistant', 'content': {'token_ids': [5, 6], 'loss_scale': [0.0, 1.0]}}]}
    """
    documents = documents_of(row)
    if len(documents) > 1:
        raise RowError(
            "the row is packed, and ms-swift would let its documents see each other",
            help="apply the policy without `--pack`, and set `--packing true` in ms-swift",
        )
    (document,) = documents
    if (document.weights_T < 0).any():
        raise RowError(
            f"{document.name} has weight {document.weights_T.min()}, and ms-swift masks what has a negative one",
            help="leave such weights out, or train with `weighted_trainer`",
        )
    content = {"token_ids": document.ids_T.tolist(), "loss_scale": document.weights_T.tolist()}
    return {"messages": [{"role": "assistant", "content": content}]}


def register() -> None:
    """Registers the template `policy_engine`, which passes on `swift_row`s and adds nothing.

    With it, `is_binary_loss_scale` is false unless set, so that weights reach the loss; ms-swift's default drops them.
    """
    swift: Any = import_module("swift.template")
    # `TemplateMeta` cannot do without a prompt; this one adds nothing of its own.
    nothing = {"prefix": [], "prompt": ["{{QUERY}}"], "chat_sep": [], "suffix": []}
    swift.register_template(swift.TemplateMeta(TEMPLATE, template_cls=template_class(), **nothing), exist_ok=True)


@lru_cache
def template_class() -> type[Any]:
    """The subclass of ms-swift's `Template` that `register` registers.

    Its constructor raises ConfigError for settings under which ms-swift adds tokens of its own; encoding raises
    RowError for a row that `swift_row` did not make. Without `--strict true`, ms-swift logs that and drops the row.
    """
    base: Any = import_module("swift.template").Template

    class PolicyTemplate(base):  # type: ignore[misc]
        """See `template_class`."""

        def __init__(self, *args: Any, **settings: Any) -> None:
            for name, needed in (("use_chat_template", True), ("template_backend", "swift")):
                if settings.get(name, needed) != needed:
                    raise ConfigError(
                        f"with `{name}: {settings[name]}`, ms-swift adds tokens of its own to a row",
                        help=f"leave `{name}` out, or set it to `{str(needed).lower()}`",
                    )
            if settings.get("is_binary_loss_scale") is None:
                settings["is_binary_loss_scale"] = False
            super().__init__(*args, **settings)

        def _encode(self, inputs: Any) -> Any:
            contents = [message["content"] for message in inputs.messages]
            made = contents[0] if len(contents) == 1 and inputs.system is None else None
            if not isinstance(made, Mapping) or not {"token_ids", "loss_scale"} <= set(made):
                raise RowError(
                    "the row is a conversation, and the template `policy_engine` takes rows of tokens",
                    help="make rows with `policy_engine.adapters.swift.swift_row`; to chat, name another template",
                )
            if self.is_binary_loss_scale and set(made["loss_scale"]) - {0, 1}:
                raise RowError(
                    "the row has weights, and with `is_binary_loss_scale` ms-swift drops them",
                    help="leave `is_binary_loss_scale` out, or set it to `false`",
                )
            return super()._encode(inputs)

    PolicyTemplate.__module__, PolicyTemplate.__qualname__ = __name__, "PolicyTemplate"
    return PolicyTemplate


def __getattr__(name: str) -> Any:
    # Workers that are not forked get the template by pickle, which looks its class up here.
    if name == "PolicyTemplate":
        return template_class()
    raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
