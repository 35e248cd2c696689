"""torchtune: a model transform that masks by a policy. Its mask is inverted: True is a token that carries no loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from policy_engine.core.vocabulary import IGNORE_INDEX
from policy_engine.mask.masker import Masker


@dataclass(frozen=True, kw_only=True)
class PolicyTransform:
    """For `torchtune.datasets.SFTDataset(model_transform=…)`: a sample with `messages` to `tokens` and `mask`.

    Messages may be torchtune's `Message` objects or plain dicts. `tools` of the sample are passed on.
    """

    masker: Masker

    def __call__(self, sample: Mapping[str, Any], inference: bool = False) -> dict[str, Any]:
        """The sample with `tokens` (ids) and `mask` (True: no loss), its other fields kept."""
        messages = [_plain(message) for message in sample["messages"]]
        row = self.masker(messages, tools=sample.get("tools"))
        kept = {key: value for key, value in sample.items() if key != "messages"}
        return {**kept, "tokens": list(row["input_ids"]), "mask": [label == IGNORE_INDEX for label in row["labels"]]}


def _plain(message: Any) -> dict[str, Any]:
    if isinstance(message, Mapping):
        return dict(message)
    content = message.content
    if isinstance(content, list) and all(part.get("type") == "text" for part in content):
        content = "".join(part["content"] for part in content)
    return {"role": message.role, "content": content}
