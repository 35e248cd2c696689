"""NeMo Automodel: masked rows as a dataset of its recipes, and as data with weights.

    dataset:
      _target_: policy_engine.adapters.automodel.automodel_dataset
      path: masked.parquet

Automodel shifts nothing: beside each token it wants the next one's id. Its recipes take ids and labels alone. Weights
are taken by its `Datum` and `collate_datums`, which none of its recipes uses:

    from nemo_automodel.components.datasets.datum import collate_datums
    from policy_engine.adapters.automodel import automodel_data

    batch = collate_datums([datum for row in rows for datum in automodel_data(row)])
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    loss = MaskedCrossEntropy()(logits, batch["labels"], num_label_tokens=count, loss_weights=batch["weights"])
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from policy_engine.adapters.documents import Row, documents_of
from policy_engine.core.errors import ConfigError, RowError

if TYPE_CHECKING:
    import datasets
    from nemo_automodel.components.datasets.datum import Datum

_COLUMNS: Final = ("input_ids", "labels", "attention_mask")
_LOADERS: Final = {".parquet": "parquet", ".jsonl": "json"}


def automodel_rows(row: Row) -> list[dict[str, list[int]]]:
    """The documents of a masked row, packed or not, as Automodel's own datasets give them.

    Of a document of T tokens, `input_ids` are the ids but the last, `labels` the ids but the first, -100 where masked,
    and `attention_mask` ones.

    Automodel may pack them (`packed_sequence`): every label goes with its document. It leaves out documents that are
    longer than a pack, and logs that once.

    Raises RowError for weights other than 1, which have no place there, a document of one token, and what
    `documents_of` does not take.

    >>> automodel_rows({"input_ids": [5, 6, 7], "labels": [-100, 6, 7]})
    [{'input_ids': [5, 6], 'labels': [6, 7], 'attention_mask': [1, 1]}]
    """
    made = []
    for document in documents_of(row):
        if document.is_weighted:
            raise RowError(
                f"{document.name} has weights, and Automodel's recipes have no place for them",
                help="take a policy without weights, or `automodel_data` in a training loop of your own",
            )
        shifted = document.shifted()
        columns = (shifted.inputs_P.tolist(), shifted.labels_P.tolist(), [1] * len(shifted.inputs_P))
        made.append(dict(zip(_COLUMNS, columns, strict=True)))
    return made


def automodel_data(row: Row) -> list[Datum]:
    """The documents of a masked row, packed or not, as Automodel's `Datum`.

    A document of T tokens has `input_ids`, and in `loss_fn_inputs` the `target_tokens` (both int64) and their `weights`
    (float32, 0 where masked, 1 if the row has no weights), all T - 1 long.

    `collate_datums` makes -100 of the targets whose weight is 0 and passes the weights on.

    Raises RowError for a document of one token, and what `documents_of` does not take.
    """
    # Imported here: torch takes seconds, and `automodel_rows` does without it.
    import torch
    from nemo_automodel.components.datasets.datum import Datum

    made = []
    for document in documents_of(row):
        shifted = document.shifted()
        loss = {
            "target_tokens": torch.from_numpy(shifted.targets_P.copy()),
            "weights": torch.from_numpy(shifted.weights_P).to(torch.float32),
        }
        made.append(Datum(input_ids=torch.from_numpy(shifted.inputs_P.copy()), loss_fn_inputs=loss))
    return made


def automodel_dataset(path: str | Sequence[str]) -> datasets.Dataset:
    """Files of masked rows (`.parquet`, `.jsonl`) as a dataset: `automodel_rows` of each row.

    Columns are int32. Each document is a row.

    Raises ConfigError for other files, and what `automodel_rows` raises.
    """
    from datasets import Features, Value, load_dataset
    from datasets import Sequence as ListOf

    files = [path] if isinstance(path, str) else list(path)
    kinds = {_LOADERS.get(file[file.rfind(".") :]) for file in files}
    (kind,) = kinds if len(kinds) == 1 else (None,)
    if kind is None:
        raise ConfigError(
            f"`path` is {', '.join(f'`{file}`' for file in files) or 'empty'}",
            help="name files of masked rows, `.parquet` or `.jsonl`, all of one kind",
        )
    rows = load_dataset(kind, data_files=files, split="train")
    # Without it, lists of Python numbers become int64, and take twice the disk.
    features = Features({name: ListOf(Value("int32")) for name in _COLUMNS})
    return rows.map(_columns, batched=True, remove_columns=rows.column_names, features=features)


def _columns(batch: Mapping[str, Sequence[Any]]) -> dict[str, list[list[int]]]:
    rows = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
    made = [document for row in rows for document in automodel_rows(row)]
    return {name: [document[name] for document in made] for name in _COLUMNS}
