"""A tiny random model, a trainer's first step with it, and the same loss computed by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, Protocol

from policy_engine.core.choices import Denominator
from policy_engine.core.errors import ConfigError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.doctor.samples import Document, Sample
from policy_engine.doctor.tiny_vocabulary import TinyVocabulary

if TYPE_CHECKING:
    import torch

CLOSE: Final = 1e-5
"""Largest difference between a trainer's loss and the one by hand: float32 sums in another order."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Input of a trainer: rows with ids of the vocabulary, settings, and the use of weights."""

    sample: Sample
    vocabulary: TinyVocabulary
    rows: list[dict[str, Any]]
    settings: Mapping[str, Any]
    collator: str
    denominator: Denominator | None
    folder: str
    """Folder that the trainer may write to."""


@dataclass(frozen=True, kw_only=True)
class TakenStep:
    """The first batch as the model got it, its loss, and the model.

    The batch is tensors of one row per sequence, labels not shifted. `settings` are those the trainer took, `left_out`
    those that it does not have or that are about something else. `by_hand` computes the loss from documents of the data
    (ids of the vocabulary) where it is another one than masked cross entropy.
    """

    version: str
    batch: Mapping[str, Any]
    loss: float
    model: Any
    settings: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    by_hand: Callable[[Sequence[Document]], float] | None = None


class Runner(Protocol):
    """Runs one step of one trainer."""

    def __call__(self, task: Task) -> TakenStep:
        """The step. Raises what the trainer raises, and ConfigError for settings that mean nothing."""


def parts_of(package: str, *paths: str) -> Any:
    """Objects of a trainer's package by dotted paths (`data.loader.get_dataset`), by last name.

    Raises what importing raises.

    >>> parts_of("json", "decoder.JSONDecoder").JSONDecoder.__name__
    'JSONDecoder'
    """
    found = {}
    for path in paths:
        module, _, name = path.rpartition(".")
        found[name] = getattr(import_module(f"{package}.{module}"), name)
    return SimpleNamespace(**found)


def flat_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings by their paths.

    `{"data": {"max_length": 9}}` and `{"data.max_length": 9}` mean the same.

    >>> flat_settings({"data": {"max_length": 9}, "seed": 1})
    {'data.max_length': 9, 'seed': 1}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, Mapping):
            found |= {f"{key}.{name}": inner for name, inner in flat_settings(value).items()}
        else:
            found[str(key)] = value
    return found


def without_flash(settings: Mapping[str, Any], *names: str) -> None:
    """Raises ConfigError if one of the settings is on: those that take a flash attention."""
    for name in names:
        if settings.get(name):
            raise ConfigError(
                f"`{name}` takes a flash attention, which no CPU has",
                help="leave it out here: what it hands to the model are the same rows, laid end to end",
            )


def tiny_model(size: int, pad: int) -> Any:
    """A random Llama of two layers over `size` tokens, the same every time."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=size,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            # More than any row has tokens: the model refuses no row for its length.
            max_position_embeddings=1 << 20,
            initializer_range=0.1,  # large enough that a document's loss tells what it has seen
            pad_token_id=pad,
        )
    )


def save_model(vocabulary: TinyVocabulary, folder: Path) -> None:
    """Writes the tiny model and its tokenizer, for a trainer that loads both by a path."""
    tiny_model(len(vocabulary), vocabulary.pad).save_pretrained(str(folder))
    vocabulary.tokenizer().save_pretrained(str(folder))


def by_hand(model: Any, documents: Sequence[Document], *, divisor: Denominator) -> float:
    """Masked cross entropy: every document alone through the model.

    Weight times negative log likelihood is summed over all documents and divided by the sum of the weights or the
    number of trained tokens. Ids are the model's.
    """
    total, weights, tokens = 0.0, 0.0, 0
    for document in documents:
        logs = log_probabilities(model, document)
        each = [1.0] * len(document.ids) if document.weights is None else document.weights
        factors = [each[at] for at, label in enumerate(document.labels) if at and label != IGNORE_INDEX]
        total -= sum(log * factor for log, factor in zip(logs, factors, strict=True))
        weights += sum(factors)
        tokens += len(factors)
    # Rows without anything to train have loss 0, and no division by zero.
    return total / ((weights if divisor == "weights" else tokens) or 1.0)


def log_probabilities(model: Any, document: Document, *, temperature: float = 1.0) -> list[float]:
    """Log-probabilities of the trained tokens of a document, but the first. Ids are the model's."""
    import torch

    given = {"input_ids": torch.tensor([document.ids])}
    if document.positions is not None:  # the mask says that they see each other wherever positions begin again
        ones = torch.ones_like(given["input_ids"])
        given |= {"position_ids": torch.tensor([document.positions]), "attention_mask": ones}
    was_training = model.training
    # No dropout, so that the loss by hand and the trainer's are of the same numbers.
    model.eval()
    with torch.no_grad():
        # In float64: the sum by hand is the exact one, and `CLOSE` is the trainer's float32.
        logits = _logits(model(**given))[0, :-1].double()
    model.train(was_training)
    logs = torch.log_softmax(logits / temperature, dim=-1)
    labels = torch.tensor(document.labels)[1:]
    kept = labels != IGNORE_INDEX
    found: list[float] = logs[kept].gather(1, labels[kept][:, None])[:, 0].tolist()
    return found


def behind(prompts_BP: torch.Tensor, values_BC: torch.Tensor, fill: float) -> torch.Tensor:
    """Values of completions behind their prompts, whose tokens each get `fill`."""
    import torch

    return torch.cat([torch.full(prompts_BP.shape, fill, dtype=values_BC.dtype), values_BC], dim=1)


def _logits(outputs: Any) -> torch.Tensor:
    logits: torch.Tensor = outputs if not hasattr(outputs, "logits") else outputs.logits
    return logits
