"""Meaning of the words of the language, in a line each."""

from __future__ import annotations

from typing import Final

KEYWORD_DOCS: Final[dict[str, str]] = {
    "train": "gives text loss; the last rule that matches a character decides it",
    "mask": "takes loss away; a bare role means its whole turns, their ends too",
    "scale": "multiplies the weight that the rules above left",
    "by": "the factor of `scale`: a number or a field",
    "never": "guard: no conversation may have this trained; proven, and asserted on every row",
    "always": "guard: in every conversation this is trained; proven, and asserted on every row",
    "use": "puts another policy here: a shipped one by name, a file in quotes",
    "let": "names targets",
    "on": "a setting of the policy",
    "everything": "all text, preambles and scaffold too",
    "in": "after a regex, `spans` or `sampled`: where to look; in a condition: one of a list, or part of a text",
    "sampled": "the characters of tokens that the row marks as sampled by the model",
    "spans": "the characters of a message's content that a field of the data lists",
    "first": "the first turns of the role; a number says how many",
    "last": "the last turns of the role; a number says how many",
    "trained": "turns of which the rules above leave some of the body trained",
    "of": "`PART of ROLE` is that part of the role's turns",
    "right": "`right after R`: the turn just before is R's",
    "after": "`after R`: in a turn later than the earliest of R's; on ends of turns the same as `of`",
    "before": "`before R`: in a turn earlier than the latest of R's",
    "where": "only where the condition holds; narrows the whole rule",
    "unless": "only where the condition does not hold; narrows the whole rule",
    "weight": "the loss weight of what the rule trains: a number or a field",
    "and": "both hold",
    "or": "either holds",
    "not": "does not hold; binds before `and` and `or`",
    "has": "the field is there, whatever its value",
    "contains": "a text has this part, or a list this item",
    "matches": "the regex is found in the text",
    "true": "JSON's `true`",
    "false": "JSON's `false`",
    "null": "JSON's `null`",
    "language": "the version of the language that the file is written in",
}
SETTING_DOCS: Final[dict[str, str]] = {
    "straddle": "a token whose characters got different decisions; `mask` by default",
    "empty": "a row with nothing to train; by default dropped and counted",
    "unrendered": "a field of a message that never reached the text; by default an error where a trained turn lost "
    "its text or tool calls, else a warning",
    "media": "a row with images, sounds or videos where a tokenizer is given and no processor; `error` by default",
    "drift": "a row whose given token ids spell something else than its messages; `error` by default",
}
GROUP_DOCS: Final[dict[str, str]] = {
    "body": "what the author of a turn writes: reasoning, text, tool calls, markup",
    "eos": "the ends of a turn: `eot` and `eod`",
    "turn": "every part of a message",
}
SCOPE_DOCS: Final[dict[str, str]] = {
    "message": "any key of the message; `message.content` is the joined text, `message.role` the role",
    "previous": "any key of the message before this one; missing on the first",
    "next": "any key of the message behind this one; missing on the last",
    "result": "any key of the tool message that answers a call of this turn; on text of a call, of the one that "
    "answers that call. Of several results, one has to meet the test",
    "answer": "in a tool's turn any key of the message whose call it answers",
    "part": "the content part that the text belongs to",
    "call": "the tool call, or in a tool's turn the call it answers",
    "sample": "the dataset row",
    "turn": "`index`, `from_end` (messages, from 0), `round` (user turns up to here), `chars` (of the body)",
    "segment": "`text`, and `empty`: only whitespace",
}
