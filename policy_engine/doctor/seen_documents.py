"""The documents in a trainer's batch, and which of the data's documents they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.doctor.samples import Document


@dataclass(frozen=True, kw_only=True)
class Matched:
    """A part of the batch and the documents of the data in it.

    It has one document, several if they were joined, and no document if it is not data. With `cut`, only a part of the
    document is there.
    """

    seen: Document
    documents: tuple[Document, ...]
    cut: bool = False


def stretches(batch: Mapping[str, Any], pad: int, carried: Sequence[str] = ()) -> list[Document]:
    """The documents of a batch: what positions or the attention mask keep apart.

    Their `row` is its place in the batch.

    A mask of 0 is padding, of 1 a row; larger numbers count documents (as axolotl and LLaMA-Factory write them).
    Without such numbers, positions that begin again are a new document. `carried` names columns of the data's own.

    >>> import numpy as np
    >>> labels, mask = np.array([[-100, 6, -100]]), np.array([[1, 1, 0]])
    >>> found = stretches({"input_ids": np.array([[5, 6, 0]]), "labels": labels, "attention_mask": mask}, pad=0)
    >>> [(seen.ids, seen.labels) for seen in found]
    [([5, 6], [-100, 6])]
    """
    ids_BT = _lists(batch["input_ids"])
    labels_BT = _lists(batch.get("labels"))
    masks_BT, positions_BT, weights_BT = (
        _lists(batch.get(name)) for name in ("attention_mask", "position_ids", "loss_weights")
    )
    beside_BT = {name: _lists(batch[name]) for name in carried if name in batch}
    found = []
    for b, ids in enumerate(ids_BT):
        mask = masks_BT[b] if masks_BT and len(masks_BT[b]) == len(ids) else [1] * len(ids)
        positions = positions_BT[b] if positions_BT and len(positions_BT) > b else None
        starts: list[int] = []
        for t in range(len(ids)):
            fresh = t == 0 or mask[t] != mask[t - 1] or (positions is not None and positions[t] == 0)
            if fresh:
                starts.append(t)
        for start, end in zip(starts, [*starts[1:], len(ids)]):
            if not mask[start]:
                continue
            labels = labels_BT[b][start:end] if labels_BT else [IGNORE_INDEX] * (end - start)
            if all(i == pad for i in ids[start:end]) and all(label == IGNORE_INDEX for label in labels):
                continue  # padding that no mask tells
            found.append(
                Document(
                    row=b,
                    ids=ids[start:end],
                    labels=labels,
                    weights=weights_BT[b][start:end] if weights_BT else None,
                    positions=positions[start:end] if positions is not None else None,
                    carried={name: rows[b][start:end] for name, rows in beside_BT.items() if rows},
                )
            )
    return found


def match(found: Sequence[Document], documents: Sequence[Document]) -> list[Matched]:
    """Which documents each stretch is, by their ids. Equal documents are taken in order.

    >>> document = Document(row=0, ids=[5, 6, 7], labels=[-100, 6, 7], weights=None)
    >>> seen = Document(row=0, ids=[5, 6], labels=[-100, 6], weights=None)
    >>> match([seen], [document])[0].cut
    True
    """
    # A list for each text: equal documents may be there several times, and each is matched once.
    whole: dict[tuple[int, ...], list[Document]] = defaultdict(list)
    rows: dict[int, list[Document]] = defaultdict(list)
    for document in documents:
        whole[tuple(document.ids)].append(document)
        rows[document.row].append(document)
    joined: dict[tuple[int, ...], list[tuple[Document, ...]]] = defaultdict(list)
    for members in rows.values():
        if len(members) > 1:
            joined[tuple(i for d in members for i in d.ids)].append(tuple(members))
    made = []
    for seen in found:
        key = tuple(seen.ids)
        if whole.get(key):
            made.append(Matched(seen=seen, documents=(whole[key].pop(0),)))
        elif joined.get(key):
            made.append(Matched(seen=seen, documents=joined[key].pop(0)))
        else:
            made.append(_part(seen, documents))
    return made


def _part(seen: Document, documents: Sequence[Document]) -> Matched:
    size = len(seen.ids)
    for document in documents:
        # Cut at its end or its start; a document cut in the middle is reported as changed.
        if size < len(document.ids) and seen.ids in (document.ids[:size], document.ids[-size:]):
            return Matched(seen=seen, documents=(document,), cut=True)
    return Matched(seen=seen, documents=())


def _lists(tensor: Any) -> list[list[Any]]:
    # A mask of four dimensions says who sees whom, and not where documents are.
    if tensor is None or getattr(tensor, "ndim", 0) != 2:
        return []
    made: list[list[Any]] = tensor.tolist()
    return made
