"""A Python encoder of the kind that models bring along in place of a template, written for the tests.

It has what makes such files hard: a mode of thinking, thinking of earlier answers left out, the answer's opening
written behind the question, arguments of calls parsed and printed one by one, and results joined in one block.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Final

ENCODER: Final = """
import json
from typing import Any

bos, eos = "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"
user_mark, assistant_mark = "<｜User｜>", "<｜Assistant｜>"
opens, closes = "<think>", "</think>"


def last_question(messages):
    return max((at for at, m in enumerate(messages) if m["role"] == "user"), default=-1)


def write_call(call):
    function = call["function"]
    lines = [f'<invoke name="{function["name"]}">']
    for name, value in json.loads(function["arguments"]).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines.append(f'<parameter name="{name}" string="{str(isinstance(value, str)).lower()}">{text}</parameter>')
    return "\\n".join([*lines, "</invoke>"])


def write(at, messages, mode):
    m, last = messages[at], last_question(messages)
    if m["role"] == "system":
        text = m.get("content") or ""
        if m.get("tools"):
            listed = "\\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in m["tools"])
            text += f"\\n\\n## Tools\\n\\n<functions>\\n{listed}\\n</functions>\\n"
        return text
    thinks = mode == "thinking" and at >= last
    if m["role"] == "user":
        return user_mark + m["content"] + assistant_mark + (opens if thinks else closes)
    if m["role"] == "tool":
        first = messages[at - 1]["role"] != "tool"
        final = at + 1 == len(messages) or messages[at + 1]["role"] != "tool"
        text = ("\\n\\n<results>" if first else "") + "\\n<result>" + m["content"] + "</result>"
        return text + (("\\n</results>\\n\\n" + (opens if thinks else closes)) if final else "")
    assert m["role"] == "assistant", f"unknown role {m['role']}"
    text = (m.get("reasoning_content") or "") + closes if thinks else ""
    text += m.get("content") or ""
    if m.get("tool_calls"):
        text += "\\n\\n<calls>\\n" + "\\n".join(map(write_call, m["tool_calls"])) + "\\n</calls>"
    return text + eos


def encode_messages(messages: list[dict[str, Any]], thinking_mode: str, context=None, add_bos: bool = True) -> str:
    print("encoding", len(messages))
    return (bos if add_bos else "") + "".join(write(at, messages, thinking_mode) for at in range(len(messages)))
"""


def encoder_folder(folder: Path, source: str = ENCODER) -> Path:
    """A model's folder with DeepSeek's vocabulary, no chat template, and an encoder."""
    from tests.support.tokenizers import load

    tok = copy.deepcopy(load("deepseek"))
    tok.chat_template = None
    tok.save_pretrained(str(folder))
    (folder / "encoding").mkdir(exist_ok=True)
    (folder / "encoding" / "encoding_ds.py").write_text(source, encoding="utf-8")
    return folder
