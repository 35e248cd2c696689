"""Per-token loss weights for trainers that pass only labels to the loss.

A label is a token id below 2**20; the weight of its token rides above it as a code. What sees such labels as token ids
(metrics that index with them) must not be used beside this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from policy_engine.core.choices import Denominator
from policy_engine.core.errors import ConfigError
from policy_engine.core.vocabulary import IGNORE_INDEX

if TYPE_CHECKING:
    import torch

_SHIFT = 20
MAX_WEIGHTS = 1 << 11
"""Most different weights one dataset may have."""


@dataclass(frozen=True, kw_only=True)
class WeightCodes:
    """The different weights of a dataset, by code.

    Weight 1 has code 0, so labels of that weight stay as they are.
    """

    weights: tuple[float, ...]

    @classmethod
    def of(cls, columns: Sequence[Sequence[float]]) -> WeightCodes:
        """The codes for `loss_weights` columns.

        Raises ConfigError for more than `MAX_WEIGHTS` different weights.

        >>> WeightCodes.of([[0.0, 1.0, 0.5], [2.0]]).weights
        (1.0, 0.5, 2.0)
        """
        # 0 needs no code, since such labels are ignored; 1 has code 0.
        different = sorted({float(w) for column in columns for w in column} - {0.0, 1.0})
        if len(different) >= MAX_WEIGHTS:
            raise ConfigError(
                f"the data has {len(different)} different weights, and at most {MAX_WEIGHTS - 1} can be coded",
                help="round the weights, or use `weighted_trainer`, which passes them beside the labels",
            )
        return cls(weights=(1.0, *different))

    def encode(self, labels: Sequence[int], weights: Sequence[float]) -> list[int]:
        """Labels with their weights on top. `IGNORE_INDEX` and weight 0 stay ignored.

        Raises ConfigError for a weight that has no code, and for ids from 2**20 on.

        >>> WeightCodes(weights=(1.0, 0.5)).encode([-100, 7, 8], [0.0, 1.0, 0.5])
        [-100, 7, 1048584]
        """
        codes = {weight: code for code, weight in enumerate(self.weights)}
        for label, weight in zip(labels, weights, strict=True):
            if label >= 1 << _SHIFT:
                raise ConfigError(
                    f"the token id {label} leaves no room for a weight above it",
                    help="use `weighted_trainer` without `codes`, which passes weights beside the labels",
                )
            if label != IGNORE_INDEX and weight and float(weight) not in codes:
                raise ConfigError(
                    f"the weight {weight} is none of those that have codes",
                    help="make the codes of all rows, those for evaluation too: `WeightCodes.of(...)`",
                )
        return [
            IGNORE_INDEX if label == IGNORE_INDEX or not weight else label + (codes[float(weight)] << _SHIFT)
            for label, weight in zip(labels, weights, strict=True)
        ]

    def decode(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Plain labels and float32 weights (0 where ignored) of coded ones, of the same shape."""
        import torch

        ignored = labels == IGNORE_INDEX
        # Ignored labels are negative: shifted, they would index the table from its end.
        codes = torch.where(ignored, 0, labels >> _SHIFT)
        table = torch.tensor(self.weights, dtype=torch.float32, device=labels.device)
        weights = torch.where(ignored, 0.0, table[codes])
        return torch.where(ignored, labels, labels & ((1 << _SHIFT) - 1)), weights


def weighted_loss_func(codes: WeightCodes, *, denominator: Denominator) -> Callable[..., torch.Tensor]:
    """A `compute_loss_func` for transformers' and TRL's trainers, of labels with `codes`.

    The loss is the sum of weight times negative log likelihood, over `denominator`: `tokens` is the number of trained
    tokens of the whole step, as the trainer counts it; `weights` is the sum of the weights. A loss function knows the
    weights of its own micro-batch only. Where a step has several (gradient accumulation, several processes), the loss
    of each is divided by its own weights, then multiplied by its share of the step's trained tokens. Use
    `weighted_trainer` to divide by the weights of the whole step.
    """

    def compute_loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        plain, weights = codes.decode(labels)
        total, weight_sum, tokens = _weighted_sum(_logits(outputs), plain, weights)
        own = weight_sum if denominator == "weights" else tokens
        share = 1.0 if num_items_in_batch is None else tokens / num_items_in_batch
        return total / _not_zero(own) * share

    return compute_loss


def weighted_trainer(trainer: type[Any], *, denominator: Denominator, codes: WeightCodes | None = None) -> type[Any]:
    """A subclass of a `Trainer` class with a weighted loss.

    The loss is the sum of weight times negative log likelihood, over the denominator of the whole step: of all
    accumulated micro-batches and, unless `average_tokens_across_devices` is off, of all processes.

    Weights are the dataset's `loss_weights` column, which stays (`remove_unused_columns=False`) and which the collator
    pads with 0 (`PaddingCollator` does). With `codes` they ride on the labels instead, which `codes` encoded: so they
    pass through what cuts and packs labels only, as TRL's `SFTTrainer` does. A trainer's own metrics and further losses
    (of a mixture of experts) are not kept.

    The trainer raises ConfigError for `label_smoothing_factor`. Training raises it where batches have no weights, and
    where sequences or layers are split over processes (`parallelism_config`), of which each sees a part of the labels
    only.
    """

    class WeightedTrainer(trainer):  # type: ignore[misc]
        """See `weighted_trainer`."""

        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            if self.args.label_smoothing_factor:
                raise ConfigError(
                    f"`label_smoothing_factor` is {self.args.label_smoothing_factor}, which a weighted loss has not",
                    help="leave it out, or train without weights",
                )
            # This loss is divided by the whole step's denominator, whatever the model's own loss takes: otherwise the
            # trainer would divide it by the number of accumulated micro-batches once more.
            self.model_accepts_loss_kwargs = True

        def compute_loss(
            self, model: Any, inputs: Mapping[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            given = dict(inputs)
            labels, weights = _taken(given, codes)
            outputs = model(**given)
            total, weight_sum, tokens = _weighted_sum(_logits(outputs), labels, weights)
            if num_items_in_batch is None:
                loss = total / _not_zero(weight_sum if denominator == "weights" else tokens)
            else:
                # Gradients are averaged over the processes, and the step's denominator is that of all of them.
                averaged = self.accelerator.num_processes if _over_processes(self) else 1
                loss = total / num_items_in_batch * averaged
            return (loss, outputs) if return_outputs else loss

        def _get_num_items_in_batch(self, batch_samples: Sequence[Mapping[str, Any]], device: Any) -> Any:
            # transformers counts labels; the step's denominator has to count what this loss divides by.
            import torch

            counted = torch.zeros((), device=device)
            for batch in batch_samples:
                labels, weights = _taken(dict(batch), codes)
                factors = weights[:, 1:].float() if denominator == "weights" else 1.0
                counted = counted + (factors * (labels[:, 1:] != IGNORE_INDEX)).sum().to(device)
            if _over_processes(self):
                counted = self.accelerator.gather(counted).sum()
            return _not_zero(counted)

    return WeightedTrainer


def _taken(inputs: dict[str, Any], codes: WeightCodes | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Takes labels and weights out of a batch."""
    if codes is not None:
        return codes.decode(inputs.pop("labels"))
    if "loss_weights" not in inputs:
        raise ConfigError(
            "the batch has no `loss_weights`",
            help="set `remove_unused_columns=False` and use `PaddingCollator`, which pads them; where it packs, "
            "let them ride on the labels (`WeightCodes`)",
        )
    return inputs.pop("labels"), inputs.pop("loss_weights")


def _not_zero(denominator: torch.Tensor) -> torch.Tensor:
    """The denominator, or 1 if it is 0, so that no loss is infinite.

    It is 0 if nothing is trained, or if weights cancel out.
    """
    import torch

    return torch.where(denominator == 0, torch.ones_like(denominator), denominator)


def _over_processes(trainer: Any) -> bool:
    """True if a denominator is counted over several processes.

    Raises ConfigError if these share sequences.
    """
    shared = getattr(trainer.accelerator, "parallelism_config", None)
    for kind in ("tp", "cp", "sp"):
        if getattr(shared, f"{kind}_size", 1) > 1:
            raise ConfigError(
                f"weights are not counted with `{kind}_size` {getattr(shared, f'{kind}_size')}",
                help="train with data parallelism only, or without weights",
            )
    return bool(trainer.args.average_tokens_across_devices and trainer.args.world_size > 1)


def _logits(outputs: Any) -> torch.Tensor:
    logits: torch.Tensor = outputs["logits"] if isinstance(outputs, Mapping) else outputs.logits
    return logits


def _weighted_sum(
    logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Sum of weight times negative log likelihood, sum of weights, and number of trained tokens.

    Position t predicts the label at t + 1.
    """
    import torch

    shifted = labels[:, 1:].reshape(-1)
    kept = shifted != IGNORE_INDEX
    factors = weights[:, 1:].reshape(-1).to(torch.float32) * kept
    nll = torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]).float(), shifted, reduction="none", ignore_index=IGNORE_INDEX
    )
    return (nll * factors).sum(), factors.sum(), kept.sum()
