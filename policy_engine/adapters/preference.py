"""Masked preferences through TRL's DPO and KTO trainers: loss where the policy says.

TRL tokenizes preferences itself, and counts every token of a completion. `masked(DPOTrainer)` is the same trainer for
rows that are masked already: its batches have the policy's decisions as `completion_mask`.

    trainer = masked(DPOTrainer)(model=model, args=DPOConfig(…), train_dataset=masked_rows, processing_class=tokenizer)

Rows of a processor keep no pixels; the collator lets the processor make the features of each batch again, once for both
answers. Pictures that are not files below the current folder need a collator with its own `MediaCollator`:

    collator = PreferenceCollator(pad_token_id=…, media=MediaCollator(processor, options=MediaOptions(root="images/")))

`RewardTrainer` needs nothing of this: it takes the columns of `--pairs reward`, and has no loss per token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from policy_engine.adapters.collate import PaddingCollator
from policy_engine.adapters.media import MediaCollator
from policy_engine.chat.media.processor import TOKEN_COLUMNS
from policy_engine.core.errors import ConfigError, RowError
from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.core.wording import counted
from policy_engine.data.given import KINDS, USUAL
from policy_engine.data.prepared import check_lengths
from policy_engine.mask.preferences.pair_columns import PAIR_TYPES

if TYPE_CHECKING:
    import torch

_DPO: Final = ("chosen", "rejected")
_KTO: Final = ("completion", "KL_completion")
_GIVEN: Final = ("row", "prompt", "chosen", "rejected", "completion", *USUAL, *KINDS)
_NUMBERS: Final = ("ref_chosen_logps", "ref_rejected_logps", "ref_logps", "ref_KL_logps")
"""Columns with a number per row, which TRL adds: log-probabilities of the reference model."""


@dataclass(frozen=True, kw_only=True)
class PreferenceCollator:
    """Batches of masked preferences, as TRL's collators make them, but for `completion_mask`.

    It is 1 where a label is an id, 0 elsewhere: in the prompt, in padding, and wherever the policy masks. `max_length`
    is TRL's: a longer row raises RowError, since to cut it here would cut a pair in two ways. `media` makes the
    features of rows that a processor masked.
    """

    pad_token_id: int
    max_length: int | None = None
    pad_to_multiple_of: int | None = None
    media: MediaCollator | None = None

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """Tensors of shape (sequences, longest).

        Of pairs, all chosen answers come first, then all rejected ones; so do the features of their media. Raises
        RowError for a row whose labels are not those of its ids, and what `MediaCollator.features` raises.
        """
        import torch

        first = rows[0]
        made: dict[str, torch.Tensor]
        if "chosen_ids" in first:
            made = self._padded([self._sequence(row, side, at) for side in _DPO for at, row in enumerate(rows)], "")
            # By row or by piece of a picture, features are laid end to end.
            made |= {name: torch.cat((value, value)) for name, value in self._features(rows).items()}
        else:
            made = self._features(rows)
            for name in _KTO:
                if f"{name}_ids" in first:
                    prefix = name.removesuffix("completion")
                    made |= self._padded([self._sequence(row, name, at) for at, row in enumerate(rows)], prefix)
            made["label"] = torch.tensor([bool(row["label"]) for row in rows])
        return made | {name: torch.tensor([row[name] for row in rows]) for name in _NUMBERS if name in first}

    def _features(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        if self.media is not None:
            return self.media.features(rows, [row["prompt_ids"] for row in rows])
        if any(row.get("media") for row in rows):
            raise ConfigError(
                "the rows have media, and nothing makes their features",
                help="give the trainer the processor (`processing_class=processor`), or the collator a MediaCollator",
            )
        return {}

    def _sequence(self, row: Mapping[str, Any], side: str, at: int) -> dict[str, list[int]]:
        """Ids of prompt and answer, the mask of the loss, and a processor's numbers per token."""
        place = f"row {at} of the batch"
        prompt, ids, labels = (list(row[name]) for name in ("prompt_ids", f"{side}_ids", f"{side}_labels"))
        check_lengths({f"{side}_labels": labels}, [f"{side}_labels"], len(ids), place)
        if any(label not in (IGNORE_INDEX, i) for label, i in zip(labels, ids)):
            raise RowError(
                f"a label of `{side}_labels` in {place} is not the id of its token",
                help="give it rows that were masked",
            )
        mask = [0] * len(prompt) + [int(label != IGNORE_INDEX) for label in labels]
        whole = prompt + ids
        if self.max_length is not None and len(whole) > self.max_length:
            raise RowError(
                f"{place} has {counted(len(whole), 'token')}, and `max_length` of the trainer is {self.max_length}",
                help="cut or drop such rows when they are masked (`apply --max-length`), or set `max_length=None`",
            )
        mask[:1] = [0]  # nothing predicts a first token
        sequence = {"input_ids": whole, "attention_mask": [1] * len(whole), "completion_mask": mask}
        for name in TOKEN_COLUMNS:
            if f"prompt_{name}" in row:
                # All media are in the prompt, so the answer is text.
                sequence[name] = [*row[f"prompt_{name}"], *[0] * len(ids)]
        return sequence

    def _padded(self, sequences: Sequence[Mapping[str, list[int]]], prefix: str) -> dict[str, torch.Tensor]:
        collate = PaddingCollator(
            pad_token_id=self.pad_token_id,
            pad_to_multiple_of=self.pad_to_multiple_of or 1,
            extra=("completion_mask", *TOKEN_COLUMNS),
        )
        return {f"{prefix}{name}": tensor for name, tensor in collate(sequences).items()}


def masked(trainer: type[Any]) -> type[Any]:
    """TRL's `DPOTrainer` or `KTOTrainer`, or a subclass, for rows that are masked already.

    All else of the trainer stays: reference models, precomputed log-probabilities, loss types, evaluation. A collator
    that is given to it is used as it is.

    Raises ConfigError for another trainer. The trainer itself raises ConfigError for rows without its columns, and
    RowError for rows that are longer than its `max_length`.
    """
    # By name, since TRL need not be imported for it, and subclasses count.
    names = {base.__name__ for base in trainer.__mro__}
    if "RewardTrainer" in names:
        raise ConfigError(
            "a reward trainer takes masked rows as it is",
            help="give it the columns of `--pairs reward`, which are its own",
        )
    if not names & {"DPOTrainer", "KTOTrainer"}:
        raise ConfigError(
            f"{trainer.__name__} is neither a DPOTrainer nor a KTOTrainer of TRL",
            help="give one of these, or a subclass",
        )
    kind = "DPOTrainer" if "DPOTrainer" in names else "KTOTrainer"
    columns = PAIR_TYPES["dpo" if kind == "DPOTrainer" else "kto"]

    class MaskedTrainer(trainer):  # type: ignore[misc]
        """See `masked`."""

        data_collator: Any
        _signature_columns: Any

        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            self._take_masks()

        def _take_masks(self) -> None:
            """Replaces TRL's own collator, which knows its pad token by now."""
            own = self.data_collator
            # A collator that the user gave stays.
            if type(own).__module__.startswith("trl."):
                media = None if not self._is_vlm else MediaCollator(self.processing_class)
                self.data_collator = PreferenceCollator(
                    pad_token_id=own.pad_token_id,
                    max_length=self.args.max_length,
                    pad_to_multiple_of=self.args.pad_to_multiple_of,
                    media=media,
                )

        # TRL makes batches of messages and pictures itself where the rows have a column of pictures. Masked rows may
        # still have theirs, and their ids are made.
        @property
        def _is_vision_dataset(self) -> bool:
            return False

        @_is_vision_dataset.setter
        def _is_vision_dataset(self, seen: bool) -> None:
            pass

        def _precompute_ref_logps(self, *args: Any, **settings: Any) -> Any:
            if kind == "KTOTrainer" and "media" in args[0].column_names:
                raise ConfigError(
                    "TRL's KTO trainer precomputes log-probabilities without the features of pictures",
                    help="set `precompute_ref_log_probs=False`",
                )
            self._take_masks()  # it runs before the trainer is made
            return super()._precompute_ref_logps(*args, **settings)

        def _prepare_dataset(self, dataset: Any, processing_class: Any, args: Any, dataset_name: str) -> Any:
            """The dataset as it is, for it is tokenized; for KTO with other answers beside it."""
            # Works for streams, too, which have no `column_names`.
            first = next(iter(dataset))
            missing = [name for name in columns if name not in first]
            if missing:
                raise ConfigError(
                    f"the rows of the {dataset_name} dataset have no `{missing[0]}`",
                    help=f"mask them first: `dataset.map(masker.batch, …)`, or `apply --pairs {kind[:3].lower()}`",
                )
            if kind == "KTOTrainer" and self.calculate_KL:
                return dataset.map(_with_others, batched=True, batch_size=args.per_device_train_batch_size)
            return dataset

        def _set_signature_columns_if_needed(self) -> None:
            super()._set_signature_columns_if_needed()
            further = [*columns, *(f"{name}_labels" for name in (_KTO if kind == "KTOTrainer" else _DPO))]
            # Media, and the columns where those are that are no files.
            further += ["media", *(f"prompt_{name}" for name in TOKEN_COLUMNS), *_GIVEN]
            self._signature_columns = list(dict.fromkeys([*self._signature_columns, *further]))

    MaskedTrainer.__name__ = f"Masked{trainer.__name__}"
    return MaskedTrainer


def _with_others(rows: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """The answer of the row before, for KTO's estimate of the divergence; TRL takes them so too.

    >>> _with_others({"completion_ids": [[1], [2]], "completion_labels": [[1], [2]]})["KL_completion_ids"]
    [[2], [1]]
    """
    names = ("completion_ids", "completion_labels")
    return {f"KL_{name}": [rows[name][-1], *rows[name][:-1]] for name in names}
