"""Per-token loss weights for trainers that pass only labels to the loss.

A label is a token id below 2**20; the weight of its token rides above it as a code. What sees such labels as token ids
(metrics that index with them) must not be used beside this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from policy_engine.core.errors import ConfigError
from policy_engine.core.vocabulary import IGNORE_INDEX

if TYPE_CHECKING:
    import torch

Denominator = Literal["weights", "tokens"]
"""What a weighted sum of losses is divided by: the sum of the weights, or the number of trained tokens."""

_SHIFT = 20
MAX_WEIGHTS = 1 << 11
"""Most different weights one dataset may have."""


@dataclass(frozen=True, kw_only=True)
class WeightCodes:
    """The different weights of a dataset, by code. Weight 1 has code 0, so labels of that weight stay as they are."""

    weights: tuple[float, ...]

    @classmethod
    def of(cls, columns: Sequence[Sequence[float]]) -> WeightCodes:
        """The codes for `loss_weights` columns. Raises ConfigError for more than `MAX_WEIGHTS` different weights."""
        different = sorted({float(w) for column in columns for w in column} - {0.0, 1.0})
        if len(different) >= MAX_WEIGHTS:
            raise ConfigError(
                f"the data has {len(different)} different weights, and at most {MAX_WEIGHTS - 1} can be coded",
                help="round the weights, or use `weighted_trainer`, which passes them beside the labels",
            )
        return cls(weights=(1.0, *different))

    def encode(self, labels: Sequence[int], weights: Sequence[float]) -> list[int]:
        """Labels with their weights on top. `IGNORE_INDEX` and weight 0 stay ignored."""
        codes = {weight: code for code, weight in enumerate(self.weights)}
        return [
            IGNORE_INDEX if label == IGNORE_INDEX or not weight else label + (codes[float(weight)] << _SHIFT)
            for label, weight in zip(labels, weights, strict=True)
        ]

    def decode(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Plain labels and float32 weights (0 where ignored) of coded ones, of the same shape."""
        import torch

        ignored = labels == IGNORE_INDEX
        codes = torch.where(ignored, 0, labels >> _SHIFT)
        table = torch.tensor(self.weights, dtype=torch.float32, device=labels.device)
        weights = torch.where(ignored, 0.0, table[codes])
        return torch.where(ignored, labels, labels & ((1 << _SHIFT) - 1)), weights


def weighted_loss_func(codes: WeightCodes, *, denominator: Denominator) -> Callable[..., torch.Tensor]:
    """A `compute_loss_func` for `transformers.Trainer` and TRL's `SFTTrainer`, for labels that `codes` encoded.

    The loss is the sum of weight times negative log likelihood, over `denominator`: `tokens` is the number of trained
    tokens of the whole step, as the trainer counts it; `weights` is the sum of the weights of the micro-batch, so that
    with gradient accumulation each micro-batch counts the same (use `weighted_trainer` for the sum over the step).
    """

    def compute_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        plain, weights = codes.decode(labels)
        total, weight_sum, tokens = _weighted_sum(_logits(outputs), plain, weights)
        if denominator == "weights":
            return total / weight_sum.clamp_min(1e-12)
        return total / (tokens if num_items_in_batch is None else num_items_in_batch)

    return compute_loss


def weighted_trainer(trainer: type[Any], *, denominator: Denominator) -> type[Any]:
    """A subclass of a `Trainer` class that reads a `loss_weights` column and divides by the whole step's denominator.

    The dataset keeps its `loss_weights` (`remove_unused_columns=False`) and the collator pads them with 0
    (`PaddingCollator` does).
    """

    class WeightedTrainer(trainer):  # type: ignore[misc]
        """See `weighted_trainer`."""

        def compute_loss(
            self, model: Any, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            given = dict(inputs)
            if "loss_weights" not in given:
                raise ConfigError(
                    "the batch has no `loss_weights`",
                    help="set `remove_unused_columns=False`, and use `PaddingCollator`, which pads them",
                )
            labels, weights = given.pop("labels"), given.pop("loss_weights")
            outputs = model(**given)
            total, weight_sum, tokens = _weighted_sum(_logits(outputs), labels, weights)
            own = weight_sum if denominator == "weights" else tokens
            loss = total / (own if num_items_in_batch is None else num_items_in_batch)
            return (loss, outputs) if return_outputs else loss

        def _get_num_items_in_batch(self, batch_samples: Sequence[Mapping[str, Any]], device: Any) -> Any:
            if not all("loss_weights" in b for b in batch_samples):
                return None  # `compute_loss` says what is missing
            # transformers counts labels; the step's denominator has to count what this loss divides by.
            if denominator == "weights":
                counted = [
                    (b["loss_weights"][:, 1:] * (b["labels"][:, 1:] != IGNORE_INDEX)).sum() for b in batch_samples
                ]
            else:
                counted = [(b["labels"][:, 1:] != IGNORE_INDEX).sum() for b in batch_samples]
            return sum(counted).to(device)

    return WeightedTrainer


def _logits(outputs: Any) -> torch.Tensor:
    logits: torch.Tensor = outputs["logits"] if isinstance(outputs, Mapping) else outputs.logits
    return logits


def _weighted_sum(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum of weight times nll, sum of weights, and trained tokens. Position t predicts the label at t + 1."""
    import torch

    shifted = labels[:, 1:].reshape(-1)
    kept = shifted != IGNORE_INDEX
    factors = weights[:, 1:].reshape(-1).to(torch.float32) * kept
    nll = torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]).float(), shifted, reduction="none", ignore_index=IGNORE_INDEX
    )
    return (nll * factors).sum(), factors.sum(), kept.sum()
