"""Megatron-Bridge: masked rows as a file of packed sequences for its fine-tuning.

    from policy_engine.adapters.megatron import write_megatron

    write_megatron(rows, "train.npy", packed_sequence_size=4096, eos_token_id=tokenizer.eos_token_id)

Rows of `apply --pack` are its packs; a row that is not packed is a pack by itself. Beside the file a `metadata.json` is
written, which Megatron-Bridge reads too:

    PackedSequenceSpecs(
        packed_sequence_size=4096, packed_train_data_path="train.npy", packed_metadata_path="metadata.json"
    )
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_engine.adapters.documents import MaskedDocument, Row, documents_of
from policy_engine.core.errors import ConfigError, DataError, RowError
from policy_engine.core.source import Place

METADATA: Final = "metadata.json"
"""Name of the file that describes the packs of the files beside it."""


def write_megatron(
    rows: Iterable[Row],
    path: str | Path,
    *,
    packed_sequence_size: int,
    eos_token_id: int | None,
    pad_to_multiple_of: int = 1,
) -> int:
    """Writes masked rows to a `.npy` file and describes them in `metadata.json` beside it.

    Each sequence is packed by itself. What the metadata says of other files stays. Returns the number of sequences.

    A sequence has `input_ids` (int32), `loss_mask` (int32: at each token the weight of the next one, 0 at the last of a
    document) and `seq_start_id` (where documents begin). With `pad_to_multiple_of`, each document is filled up with end
    markers so that it predicts a multiple of that, as context parallelism wants it (twice its size; `pad_seq_to_mult`).

    `eos_token_id` has to be that of the tokenizer that Megatron-Bridge is given. Megatron-Bridge masks whatever follows
    that token, and no setting turns that off. The marker itself stays trained.

    Raises ConfigError for another kind of file, without an end marker or for a multiple below 1; DataError for no rows;
    RowError for rows that Megatron-Bridge would change: it cuts weights to whole numbers, takes no negative ones, and
    masks tokens behind an end marker. RowError too for sequences with more than `packed_sequence_size` predictions, for
    documents of one token, and as `documents_of`. Nothing is written then.
    """
    file = Path(path)
    if file.suffix != ".npy":
        raise ConfigError(
            f"`{path}` is not a `.npy` file", help="Megatron-Bridge takes packed sequences from those alone"
        )
    if eos_token_id is None or pad_to_multiple_of < 1:
        raise ConfigError(
            f"`eos_token_id` is {eos_token_id} and `pad_to_multiple_of` {pad_to_multiple_of}",
            help="the first is the id of the end marker in Megatron-Bridge's tokenizer, the second at least 1",
        )
    made: list[dict[str, Any]] = []
    lengths: list[list[int]] = []
    for number, row in enumerate(rows, start=1):
        try:
            documents = [_document(document, eos_token_id, pad_to_multiple_of) for document in documents_of(row)]
            predictions = [len(ids) - 1 for ids, _ in documents]
            if sum(predictions) > packed_sequence_size:
                raise RowError(
                    f"{sum(predictions)} predictions do not fit `packed_sequence_size`, {packed_sequence_size}",
                    help="cut with `apply --max-length`, or raise `packed_sequence_size` here and in Megatron-Bridge",
                )
        # The row's place among those given; a number of its own is in the message.
        except RowError as error:
            raise error.at(Place(file=None, number=number)) from None
        lengths.append(predictions)
        made.append(
            {
                "input_ids": np.concatenate([ids for ids, _ in documents]),
                "loss_mask": np.concatenate([mask for _, mask in documents]),
                # Megatron-Bridge adds a list to this one.
                "seq_start_id": np.cumsum([0, *(len(ids) for ids, _ in documents[:-1])]).tolist(),
            }
        )
    if not made:
        raise DataError(f"there are no rows for `{path}`", help="Megatron-Bridge takes no empty file")
    content = np.empty(len(made), dtype=object)
    content[:] = made
    # A run that is killed leaves no half file under the name that training reads.
    partial = file.with_suffix(".npy.partial")
    with partial.open("wb") as opened:
        np.save(opened, content, allow_pickle=True)
    os.replace(partial, file)
    _describe(file, lengths, packed_sequence_size)
    return len(made)


def _document(document: MaskedDocument, eos: int, multiple: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Ids and loss mask of a document, both as long as its ids.

    The mask at a token is the weight of the next one.

    >>> (document,) = documents_of({"input_ids": [5, 6, 7], "labels": [-100, 6, 7]})
    >>> _document(document, eos=0, multiple=4)
    (array([5, 6, 7, 0, 0], dtype=int32), array([1, 1, 0, 0, 0], dtype=int32))
    """
    shifted, name = document.shifted(), document.name
    weights = shifted.weights_P
    broken = np.flatnonzero((weights < 0) | (weights % 1 != 0))
    if broken.size:
        weight = weights[broken[0]]
        raise RowError(
            f"token {broken[0] + 1} of a document of {name} has weight {weight:g}, and Megatron-Bridge takes whole "
            "numbers from 0 only",
            help="multiply all weights by one number that makes them whole: the loss is divided by their sum",
        )
    lost = np.flatnonzero((shifted.inputs_P == eos) & (weights != 0))
    if lost.size:
        raise RowError(
            f"token {lost[0] + 1} of a document of {name} is trained behind an end marker ({eos}), where "
            "Megatron-Bridge masks everything",
            help="mask what follows end markers, for example with `mask separator`; the markers stay trained",
        )
    fill = -len(weights) % multiple
    ids = np.concatenate([document.ids_T, np.full(fill, eos)])
    mask = np.concatenate([weights, np.zeros(1 + fill)])
    return ids.astype(np.int32), mask.astype(np.int32)


def _describe(file: Path, lengths: list[list[int]], size: int) -> None:
    """Adds to the metadata beside a file what Megatron-Bridge asks of it.

    Lengths are counted in predictions.
    """
    metadata = file.parent / METADATA
    known = json.loads(metadata.read_text(encoding="utf-8")) if metadata.exists() else []
    packs = [sum(pack) for pack in lengths]
    own = {
        "file": file.name,
        "dataset_max_seqlen": max(length for pack in lengths for length in pack),
        "max_samples_per_bin": max(len(pack) for pack in lengths),
        "packing_factor": round(sum(len(pack) for pack in lengths) / len(packs), 2),
        "packing_efficiency": round(100 * sum(packs) / len(packs) / size, 2),
        "pack_size": size,
        "min_packed_seqlen": min(packs),
    }
    others = [entry for entry in known if entry.get("file") != file.name]
    metadata.write_text(json.dumps([*others, own], indent=1), encoding="utf-8")
