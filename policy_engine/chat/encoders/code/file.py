"""An encoder that is a Python file in a model's folder, with the tokenizer of that folder.

    encode_messages([{"role": "user", "content": "Hi"}], thinking_mode="chat")
    <｜begin▁of▁sentence｜><｜User｜>Hi<｜Assistant｜></think>

The file gives text, which the tokenizer reads as a whole. Tools given beside the messages are handed over as the key
`tools` of the system message, and one without text is put in front where there is no system message.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from policy_engine.chat.encoders.code.process import EncoderProcess
from policy_engine.chat.encoders.protocol import Chunk, refusal, refuse_media
from policy_engine.chat.tokens.byte_lengths import ByteTable
from policy_engine.chat.variables import Inputs
from policy_engine.core.errors import TemplateError, TokenizerError

_USUAL: Final = {"thinking_mode": "chat"}
"""Arguments that have to be given, with what servers give where a request says nothing."""
_STRING: Final = re.compile(r"\"((?:[^\"\\\n]|\\.)*)\"|'((?:[^'\\\n]|\\.)*)'")


class PythonEncoder:
    """Conversations as a file's `encode_messages` renders them.

    `tokenizer` is a transformers tokenizer.
    """

    gives_ids = False
    has_prompt = False  # what is written behind a question opens the answer, asked for or not
    normal = None

    def __init__(self, file: Path, tokenizer: Any, process: EncoderProcess | None = None) -> None:
        self._file = file
        self.name = file.name
        """The file's name."""
        self.tokenizer = tokenizer
        """The tokenizer that reads the text."""
        self._process = process or EncoderProcess(file.resolve())
        try:
            self.source = file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise TokenizerError(
                f"cannot read `{file}`: {error}", help="pass a Python file with `encode_messages`"
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        return PythonEncoder, (self._file, self.tokenizer, self._process)

    @functools.cached_property
    def words(self) -> frozenset[str]:
        """The texts in quotes of the file."""
        return frozenset(one or other for one, other in _STRING.findall(self.source))

    @property
    def facts(self) -> Any:
        """A hash of the file."""
        return hashlib.sha256(self.source.encode()).hexdigest()

    @property
    def byte_table(self) -> ByteTable:
        """Raises TypeError: the text has no ids yet."""
        raise TypeError("a tokenizer reads the text")

    def start(self) -> None:
        """Runs the file, so that one that cannot be run is reported at once.

        Raises TokenizerError for such a file.
        """
        needed = [name for name, optional in self._process.parameters.items() if not optional and name not in _USUAL]
        if set(needed) - {"tools"}:
            raise TokenizerError(
                f"`encode_messages` of {self._file} needs arguments that nobody knows: {', '.join(needed)}",
                help="an encoder takes the messages, and further arguments with defaults",
            )

    def chunks(self, inputs: Inputs, *, tinted: bool) -> list[Chunk]:
        """See `Encoder`; one chunk, whose messages `turn_bounds` finds."""
        refuse_media(self.name, inputs.messages)
        (text,) = self.texts([inputs.messages], inputs.tools, inputs.kwargs)
        if isinstance(text, TemplateError):
            raise refusal(self.name, text)
        return [Chunk(text=text, turn=None)]

    def texts(
        self,
        conversations: Sequence[Sequence[Mapping[str, Any]]],
        tools: Sequence[Any] | None,
        kwargs: Mapping[str, Any],
    ) -> list[str | TemplateError]:
        """The text of each conversation, or the error that the file raises for it."""
        known = self._process.parameters
        # A row's own arguments win over the usual ones.
        given = {**{name: value for name, value in _USUAL.items() if known.get(name) is False}, **kwargs}
        # What the function does not take is left out, as a template ignores variables that it does not read.
        arguments = {name: value for name, value in given.items() if name in known or "**" in known}
        # A function that asks for tools gets an empty list where the row has no tools.
        if "tools" in known and (tools or not known["tools"]):
            arguments["tools"] = list(tools or ())
        calls = [
            {
                "messages": list(messages) if not tools or "tools" in known else _with_key(messages, tools),
                "arguments": arguments,
            }
            for messages in conversations
        ]
        return self._process.texts(calls)


def _with_key(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> list[Mapping[str, Any]]:
    if messages and messages[0].get("role") == "system":
        return [{**messages[0], "tools": list(tools)}, *messages[1:]]
    return [{"role": "system", "content": "", "tools": list(tools)}, *messages]
