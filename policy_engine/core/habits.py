"""Habits of labels that are seldom meant, with advice, for `audit` and for `doctor`.

>>> HABITS["no-ends"].message
'answers are trained and their end markers are not: the model does not learn to stop'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class Habit:
    """A habit of labels: what a row shows that has it, and what to do about it."""

    message: str
    help: str


HABITS: Final[dict[str, Habit]] = {
    "double-bos": Habit(
        message="rows begin with the begin-of-sequence token twice: the template writes it, and what tokenized the "
        "rendered text added it again",
        help="tokenize the rendered text with `add_special_tokens=False`, or take the ids of `apply`",
    ),
    "all-masked": Habit(
        message="nothing in the row is trained",
        help="drop such rows: they cost time, and some trainers drop them without a word",
    ),
    "all-trained": Habit(
        message="everything in the row is trained, prompts too",
        help="mask all but the answers: `train assistant` and `train eos of assistant`",
    ),
    "last-answer-only": Habit(
        message="of several answers only the last one is trained",
        help="train all of them, unless the answers before are not the model's to learn (`train last assistant`)",
    ),
    "no-ends": Habit(
        message="answers are trained and their end markers are not: the model does not learn to stop",
        help="train the end of each trained answer: `train eos of trained assistant`",
    ),
    "pad-is-end": Habit(
        message="no end marker is trained, and it is the pad token: something masked padding by its id",
        help="give the tokenizer a pad token of its own, or mask padding by `attention_mask`; then prepare again",
    ),
    "last-end-masked": Habit(
        message="the end of the last answer is masked, those before are trained",
        help="train it too: the last answer is where generation stops; a template without a final end marker, or a cut "
        "by length, may be the cause",
    ),
    "cut-answer": Habit(
        message="rows end in the middle of a trained answer, before the end that the template writes (cut by a length "
        "limit?)",
        help="give a larger length limit, or drop such rows or their last answer (`apply --truncate drop` or `turn`): "
        "an answer without an end does not teach the model to stop",
    ),
    "user-trained": Habit(
        message="words of users are trained",
        help="mask them, unless the model is to write users' turns: `mask user`, `never train user`",
    ),
    "media-trained": Habit(
        message="placeholders of images, sounds or videos are trained, which the model never writes",
        help="mask them: no policy trains `media` unless it names it",
    ),
    "media-unknown": Habit(
        message="rows have tokens of media, and no column that says which files they stand for",
        help="mask the data with its processor, which keeps `media`, or keep the columns of images, sounds and videos",
    ),
    "system-trained": Habit(
        message="the system prompt is trained",
        help="mask it: the model never writes it: `mask system`, `never train system`",
    ),
    "tool-trained": Habit(
        message="tool results are trained",
        help="mask them, or the model learns to invent results: `mask tool`, `never train tool`",
    ),
    "header-trained": Habit(
        message="headers of answers are trained, which the prompt always supplies",
        help="mask them: tokens that the generation prompt holds are never generated",
    ),
    "empty-think-trained": Habit(
        message="thinking that the template adds empty is trained",
        help="mask it (`empty_reasoning`), unless the model is to learn to answer without thinking",
    ),
    "shifted": Habit(
        message="labels are the next token's id: they are shifted already, and the trainer will shift them again",
        help="give labels that are not shifted: the id of the token itself",
    ),
    "rewritten": Habit(
        message="labels of trained tokens are other ids than the tokens'",
        help="give the token's own id as its label, and -100 to a token that is masked",
    ),
    "first-token": Habit(
        message="the first token of the row is a target",
        help="make the first label of every document -100: what predicts it is padding or another document",
    ),
    "pad-trained": Habit(
        message="padding is trained",
        help="make the labels -100 where `attention_mask` is 0",
    ),
}
"""Each habit by its code, which is the same wherever it is named."""
OF_ONE_ROW: Final = frozenset(
    {"all-masked", "shifted", "rewritten", "first-token", "cut-answer", "tool-trained", "user-trained", "pad-trained"}
)
"""Habits of which one row is enough."""
OF_COLUMNS: Final = frozenset(
    {"shifted", "rewritten", "first-token", "pad-trained", "double-bos", "media-unknown", "cut-answer"}
)
"""Habits of how rows were made, which no policy asks for."""
FOLLOWS: Final = {
    "no-ends": "pad-is-end",
    **dict.fromkeys(
        ("user-trained", "system-trained", "tool-trained", "header-trained", "empty-think-trained", "first-token"),
        "all-trained",
    ),
}
"""Habit → the one that explains it in a row that has both, and is named alone."""
