"""axolotl: datasets that are masked by a policy, named in axolotl's own configuration.

    plugins:
      - policy_engine.adapters.axolotl.PolicyPlugin
    datasets:
      - path: chats.jsonl
        ds_type: json
        type: policy_engine.adapters.axolotl
        policy: my.policy            # a file, or a shipped policy's name

Before it loads anything, axolotl drops keys of a dataset that it does not know. The plugin sees the configuration
first: it hands the policy on in a key that axolotl knows and does not use for such a dataset. The policy's fingerprint
goes along. axolotl names prepared datasets by that key, so rows of an old policy are not used for a changed one.

axolotl's own keys say where messages are (`field_messages`, `field_tools`, `field_system`, `field_thinking`,
`message_property_mappings`, `roles`) and which template is rendered; what they leave open is detected. Keys that say
what is trained are refused beside a policy, and so are weights, which axolotl does not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from typing import Any, Final

from policy_engine.core.errors import ConfigError
from policy_engine.core.vocabulary import REASONING_ALIASES
from policy_engine.data.dataset import DatasetSpec
from policy_engine.mask.masker import Masker
from policy_engine.proof.load_policy import load_policy
from policy_engine.rules.program import Program

_CARRIER: Final = "conversation"
"""Key that carries the policy: as text, since axolotl's validation keeps text.

It is also part of the name of what axolotl prepared.
"""
_MARK: Final = "policy-engine"
_DECIDES: Final = (
    "roles_to_train", "train_on_eos", "train_on_eot", "message_field_training", "message_field_training_detail",
)  # fmt: skip
_NAMES: Final = {
    "field_messages": "field", "field_tools": "tools", "field_system": "system", "field_thinking": "reasoning",
}  # fmt: skip


def load(tokenizer: Any, cfg: Any, ds_cfg: Mapping[str, Any] | None = None, processor: Any = None) -> Any:
    """The strategy for one entry of `datasets`; `wrap_dataset` turns conversations into rows.

    Raises ConfigError if the entry names no policy, the policy has weights, or a key says what is trained beside it;
    and what loading a policy raises: one whose guard some conversation breaks does not load.
    """
    entry = dict(ds_cfg or {})
    # `policy` itself is there where axolotl did not validate the entry.
    policy = entry.get("policy") or _carried(entry)
    if not policy:
        raise ConfigError(
            "this dataset entry names no policy, or axolotl dropped it",
            help=f"add `policy: my.policy` beside its `type`, and `plugins: [{__name__}.PolicyPlugin]`",
        )
    # Refused here too, and not in the plugin alone: whoever calls `load` without the plugin gets the same errors.
    program = _program(policy, entry)
    if cfg.get("train_on_inputs"):
        raise ConfigError(
            f"`train_on_inputs` says what is trained, and so does `policy: {policy}`",
            help="leave it out, or say `train body` in the policy",
        )
    template = None
    if entry.get("chat_template") or entry.get("chat_template_jinja"):
        # What the configuration as a whole says of templates, axolotl has given to the tokenizer already.
        made: Any = import_module("axolotl.utils.chat_templates")
        template = made.get_chat_template_from_config(cfg=cfg, ds_cfg=ds_cfg, tokenizer=tokenizer)
    return _strategy_class()(Masker(program, tokenizer, template=template, dataset=_spec(cfg, entry)))


def _program(policy: str, entry: Mapping[str, Any]) -> Program:
    program = load_policy(policy)
    if program.is_weighted:
        raise ConfigError(
            f"`{policy}` has weights, and axolotl has no per-token weights",
            help="leave the weights out, or train with `weighted_trainer`",
        )
    if entry.get("drop_system_message"):
        raise ConfigError(
            f"a dataset with `policy: {policy}` has `drop_system_message`, which changes the text",
            help="leave it out, and drop the messages in the data",
        )
    thinking = entry.get("template_thinking_key")
    if thinking and thinking not in REASONING_ALIASES:
        raise ConfigError(
            f"a dataset with `policy: {policy}` has `template_thinking_key: {thinking}`, and thinking is given to the "
            f"template as {', '.join(f'`{name}`' for name in REASONING_ALIASES)}",
            help="leave it out, or use a template that reads one of these",
        )
    beside = [key for key in _DECIDES if entry.get(key)]
    if beside:
        raise ConfigError(
            f"a dataset with `policy: {policy}` has {', '.join(f'`{key}`' for key in beside)} too",
            help="leave them out, the policy decides; `policy-engine import axolotl` makes a policy of such keys",
        )
    return program


def _spec(cfg: Any, entry: Mapping[str, Any]) -> DatasetSpec:
    names: dict[str, Any] = {ours: entry[theirs] for theirs, ours in _NAMES.items() if entry.get(theirs)}
    mapped = entry.get("message_property_mappings") or {}
    # axolotl fills these two in; their usual names are left to detection.
    names |= {key: mapped[key] for key in ("role", "content") if mapped.get(key, key) != key}
    roles = {source: target for target, sources in (entry.get("roles") or {}).items() for source in sources}
    if roles:
        names["roles"] = roles
    kwargs = {**(cfg.get("chat_template_kwargs") or {}), **(entry.get("chat_template_kwargs") or {})}
    return DatasetSpec(name="axolotl's configuration", names=names, template_kwargs=kwargs)


def _carried(entry: Mapping[str, Any]) -> str | None:
    # `policy-engine FINGERPRINT my.policy`; a `conversation` of the user's own has no such mark.
    mark, _, rest = str(entry.get(_CARRIER) or "").partition(" ")
    return rest.partition(" ")[2] if mark == _MARK else None


@lru_cache
def _strategy_class() -> type[Any]:
    base: type[Any] = object
    with suppress(ImportError):  # without axolotl nobody asks for its own class
        base = import_module("axolotl.prompt_tokenizers").DatasetWrappingStrategy

    class PolicyStrategy(base):  # type: ignore[misc]
        """axolotl's `DatasetWrappingStrategy`, by a policy."""

        def __init__(self, masker: Masker) -> None:
            self.masker = masker

        def wrap_dataset(
            self,
            dataset: Any,
            process_count: int | None = None,
            keep_in_memory: bool | None = False,
            **unused: Any,
        ) -> Any:
            """The dataset with the masked columns and no others."""
            columns = list(dataset.features) if getattr(dataset, "features", None) else None
            options: dict[str, Any] = {"batched": True, "remove_columns": columns}
            # A stream takes none of these options, and `datasets` need not be imported to see what it is.
            if type(dataset).__name__ != "IterableDataset":
                options |= {"num_proc": process_count, "keep_in_memory": keep_in_memory, "desc": "Masking by policy"}
            return dataset.map(self.masker.batch, **options)

    return PolicyStrategy


@lru_cache
def _plugin_class() -> type[Any]:
    base: Any = import_module("axolotl.integrations.base").BasePlugin

    class PolicyPlugin(base):  # type: ignore[misc]
        """Passes the policies of datasets through axolotl's validation.

        Raises what `load` does, before any work.
        """

        def register(self, cfg: Any) -> None:
            for key in ("datasets", "test_datasets"):
                for entry in cfg.get(key) or []:
                    if entry.get("type") == __name__ and entry.get("policy"):
                        policy = entry.pop("policy")
                        entry[_CARRIER] = f"{_MARK} {_program(policy, entry).fingerprint} {policy}"

    # So it pickles by its public name, though it is made in a function.
    PolicyPlugin.__module__, PolicyPlugin.__qualname__ = __name__, "PolicyPlugin"
    return PolicyPlugin


def __getattr__(name: str) -> Any:
    # Only axolotl asks for it, whose class it is made from.
    if name == "PolicyPlugin":
        return _plugin_class()
    raise AttributeError(f"module `{__name__}` has no attribute `{name}`")
