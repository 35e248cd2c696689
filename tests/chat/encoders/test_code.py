"""Python files that render chats: parts, and the process that they run in."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from policy_engine import load_tokenizer
from policy_engine.chat.encoders.code.process import _CHILD, EncoderProcess
from policy_engine.chat.encoders.trust import trusted
from policy_engine.chat.segments import RenderedChat
from policy_engine.core.errors import AttributionError, TemplateError, TemplateLimitError, TokenizerError
from policy_engine.data.conversation import Conversation
from policy_engine.testing.choices import RandomChoices
from tests.properties.encoders import ENCODERS, encoder_case
from tests.support.encoder_files import encoder_folder

TOOL = {"type": "function", "function": {"name": "weather", "description": "d", "parameters": {}}}


def call(name: str, arguments: Any) -> dict[str, Any]:
    return {"id": "a", "type": "function", "function": {"name": name, "arguments": arguments}}


CHAT: tuple[dict[str, Any], ...] = (
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hi <｜Assistant｜>"},
    {"role": "assistant", "content": "Hello", "reasoning_content": "hm"},
    {"role": "user", "content": "Rain?"},
    {
        "role": "assistant",
        "reasoning_content": "look",
        "tool_calls": [call("weather", {"city": "Rome", "n": 3}), call("moon", '{"n": "full"}')],
    },
    {"role": "tool", "content": '{"t": 21,"s":"dry"}'},
    {"role": "tool", "content": "dry"},
    {"role": "assistant", "reasoning_content": "ok", "content": "No. "},
)


def render(mode: str, messages: tuple[dict[str, Any], ...] = CHAT, tools: Any = (TOOL,)) -> RenderedChat:
    tokenizer = ENCODERS[f"code-{mode}"][0]()[0]
    conversation = Conversation(messages=messages, tools=tools, template_kwargs={"thinking_mode": mode})
    return tokenizer.template_for(conversation).render(conversation)


@pytest.mark.parametrize("name", ["code-chat", "code-thinking"])
def test_ids_are_those_of_the_encoders_text_and_words_are_whose_they_are(name: str) -> None:
    for number in range(10):
        assert encoder_case(name, RandomChoices(f"test:{name}:{number}")) == (name, None)


def test_a_call_whose_thinking_is_dropped_from_history_ends_with_its_own_marker() -> None:
    """Rendered as the last answer it has thinking, so its end is found by the last character of its arguments."""
    given = call("weather", {"city": "Rome", "n": 3, "of": {"day": "today"}})
    chat = render(
        "thinking",
        (
            CHAT[1],
            {"role": "assistant", "reasoning_content": "look", "tool_calls": [given]},
            *CHAT[5:],
            {"role": "user", "content": "Sure?"},
            {"role": "assistant", "content": "Yes.", "reasoning_content": "hm"},
        ),
    )
    own = [(s.part, chat.segment_text(s)) for s in chat.segments if s.turn == 1]
    assert own[-2:] == [("tool_call", '"}</parameter>\n</invoke>\n</calls>'), ("eot", "<｜end▁of▁sentence｜>")]
    assert ("tool_call", '" string="false">3</parameter>\n<parameter name="') in own
    assert [("reasoning_content",)] == [lost.path for lost in chat.unrendered if lost.turn == 1]


def test_a_conversation_in_parts() -> None:
    chat = render("thinking")
    assert [
        ("bos", None, "<｜begin▁of▁sentence｜>"),
        ("text", 0, "Be kind."),
        ("markup", 0, "\n\n## Tools\n\n<functions>\n"),
        ("preamble.tools", None, '{"name": "weather", "description": "d", "parameters": {}}'),
        ("markup", 0, "\n</functions>"),
        ("separator", 0, "\n"),
        ("header", 1, "<｜User｜>"),
        ("text", 1, "Hi <｜Assistant｜>"),
        ("header", 2, "<｜Assistant｜>"),
        ("empty_reasoning", 2, "</think>"),
        ("text", 2, "Hello"),
        ("eot", 2, "<｜end▁of▁sentence｜>"),
        ("header", 3, "<｜User｜>"),
        ("text", 3, "Rain?"),
        ("header", 4, "<｜Assistant｜><think>"),
        ("reasoning.text", 4, "look"),
        ("reasoning.close", 4, "</think>\n\n"),
        ("tool_call", 4, '<calls>\n<invoke name="'),
        ("tool_call.name", 4, "weather"),
        ("tool_call", 4, '">\n<parameter name="'),
        ("tool_call.arguments", 4, "city"),
        ("tool_call", 4, '" string="true">'),
        ("tool_call.arguments", 4, "Rome"),
        ("tool_call", 4, '</parameter>\n<parameter name="'),
        ("tool_call.arguments", 4, "n"),
        ("tool_call", 4, '" string="false">3</parameter>\n</invoke>'),
        ("tool_call", 4, '\n<invoke name="'),
        ("tool_call.name", 4, "moon"),
        ("tool_call", 4, '">\n<parameter name="'),
        ("tool_call.arguments", 4, "n"),
        ("tool_call", 4, '" string="true">'),
        ("tool_call.arguments", 4, "full"),
        ("tool_call", 4, "</parameter>\n</invoke>\n</calls>"),
        ("eot", 4, "<｜end▁of▁sentence｜>"),
        ("header", 5, "\n\n<results>\n<result>"),
        ("text", 5, '{"t": 21,"s":"dry"}'),
        ("markup", 5, "</result>"),
        ("separator", 5, "\n"),
        ("header", 6, "<result>"),
        ("text", 6, "dry"),
        ("markup", 6, "</result>\n"),
        ("eot", 6, "</results>"),
        ("separator", 6, "\n\n"),
        ("reasoning.open", 7, "<think>"),
        ("reasoning.text", 7, "ok"),
        ("reasoning.close", 7, "</think>"),
        ("text", 7, "No. "),
        ("eot", 7, "<｜end▁of▁sentence｜>"),
    ] == [(s.part, s.turn, chat.segment_text(s)) for s in chat.segments]
    assert [0] * 9 + [1] * 7 == [s.call for s in chat.segments if s.turn == 4 and s.part.startswith("tool_call")]


def test_thinking_that_is_left_out_is_reported() -> None:
    assert [(2, "reasoning_content")] == [(lost.turn, lost.field) for lost in render("thinking").unrendered]
    assert [2, 4, 7] == [lost.turn for lost in render("chat").unrendered]


def test_tools_without_a_system_message_are_of_no_message() -> None:
    chat = render("chat", CHAT[1:3])
    assert ["bos", "preamble"] == [s.part for s in chat.segments][:2]
    assert "preamble.tools" in [s.part for s in chat.segments]
    assert not [lost for lost in chat.unrendered if lost.kind == "input"]


def test_code_is_not_run_unasked(tmp_path: Path) -> None:
    folder = encoder_folder(tmp_path, "raise SystemExit('run')")
    with pytest.raises(TokenizerError, match="has no chat template") as caught:
        _ = load_tokenizer(folder).template
    assert "--trust-encoder" in str(caught.value.help)
    assert "encoding_ds.py renders for it" in str(caught.value.help)
    with pytest.raises(TokenizerError, match="is code, which is not run unasked"):
        load_tokenizer(folder / "encoding" / "encoding_ds.py")
    with trusted(), pytest.raises(TokenizerError, match="cannot be run: SystemExit: run"):
        load_tokenizer(folder)


def test_a_file_may_be_named_and_must_be_one(tmp_path: Path) -> None:
    folder = encoder_folder(tmp_path)
    named = load_tokenizer(folder / "encoding" / "encoding_ds.py", trust_encoder=True)
    assert named.encoder is not None
    (folder / "encoding_other.py").write_text("")
    with pytest.raises(TokenizerError, match="has several Python encoders"):
        load_tokenizer(folder, trust_encoder=True)
    with pytest.raises(TokenizerError, match="has no Python encoders"):
        load_tokenizer("builtin", trust_encoder=True)


ACTS = {
    "socket": ("import socket\n    socket.create_connection(('127.0.0.1', 9))", "socket"),
    "write": ("open('/nowhere/policy-engine-was-here', 'w')", "write files"),
    "read": ("open('/etc/hostname').read()", "reads its own folder"),
    "start": ("import subprocess\n    subprocess.run(['true'])", "subprocess"),
    "system": ("import os\n    os.system('true')", "os.system"),
    "fork": ("import os\n    os.fork()", "os.fork"),
    "native": ("import ctypes", "import"),
    "remove": ("import os\n    os.remove('/nowhere')", "os.remove"),
    "list": ("import os\n    os.listdir('/')", "reads its own folder"),
    "list here": ("import os\n    os.listdir()", "reads its own folder"),
    "class of text": ("class Text(str): pass\n    open(Text('/etc/hostname'))", "reads its own folder"),
    "class of bytes": ("class Raw(bytes): pass\n    open(Raw(b'/etc/hostname'))", "reads its own folder"),
    "class of paths": ("import io, pathlib\n    io.FileIO(pathlib.Path('/etc/hostname'))", "reads its own folder"),
    "create": ("import os\n    os.open(__file__ + 'x', os.O_CREAT)", "write files"),
    "times": ("import os\n    os.utime('/etc/hostname')", "os.utime"),
    "find": ("import gc\n    gc.get_objects()", "gc.get_objects"),
    # Names that the hook might read: of its module, of built-in functions, of the standard library.
    "rewrite lists": (
        "import __main__, subprocess\n    __main__._REFUSED = __main__._IMPORTS = ()\n    subprocess.run(['true'])",
        "subprocess",
    ),
    "rewrite built-ins": (
        "import builtins\n    builtins.isinstance = builtins.any = lambda *given: False\n    open('/etc/hostname')",
        "reads its own folder",
    ),
    "rewrite paths": (
        "import os\n    os.path.realpath = lambda path: __file__\n    open('/etc/hostname')",
        "reads its own folder",
    ),
}


@pytest.mark.parametrize("act", ACTS)
def test_what_an_encoder_may_not_do(act: str, tmp_path: Path) -> None:
    code, said = ACTS[act]
    file = tmp_path / "encoding_x.py"
    file.write_text(f"def encode_messages(messages):\n    {code}\n    return 'done'\n")
    (found,) = EncoderProcess(file).texts([{"messages": [], "arguments": {}}])
    assert isinstance(found, TemplateError)
    assert "PermissionError" in found.message
    assert said in found.message


def test_the_kernel_keeps_files_without_the_hook(tmp_path: Path) -> None:
    """Python's hook is no wall against code that works around Python; Landlock is, where the kernel has it."""
    (tmp_path / "own.txt").write_text("own")
    (tmp_path / "secret").mkdir()
    code = f"""if True:
        import runpy, sys
        child = runpy.run_path({str(_CHILD)!r}, run_name="child")
        fenced = child["shut_files"](({str(tmp_path / "own.txt")!r},))
        print("fenced" if fenced else "no Landlock", open({str(tmp_path / "own.txt")!r}).read())
        for act in ("open('/etc/passwd')", "open({str(tmp_path / "own.txt")!r}, 'a')", "__import__('os').listdir('/')",
                    "__import__('os').mkfifo({str(tmp_path / "pipe")!r})",
                    "__import__('os').execv('/bin/true', ['true'])"):
            try:
                eval(act)
                print("done")
            except PermissionError:
                print("refused")
    """
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    if lines[0] == "no Landlock own":
        pytest.skip("this kernel has no Landlock")
    assert ["fenced own", *["refused"] * 5] == lines


def test_it_has_nothing_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_TOKEN", "secret")
    file = tmp_path / "encoding_x.py"
    file.write_text("import os\ndef encode_messages(messages):\n    return ' '.join(sorted(os.environ))\n")
    (found,) = EncoderProcess(file).texts([{"messages": [], "arguments": {}}])
    assert "SOME_TOKEN" not in str(found)


def test_one_that_takes_too_long_or_dies_costs_its_row_alone(tmp_path: Path) -> None:
    file = tmp_path / "encoding_x.py"
    file.write_text(
        "import os, time\n"
        "def encode_messages(messages):\n"
        "    if messages == ['sleep']: time.sleep(60)\n"
        "    if messages == ['die']: os._exit(3)\n"
        "    if messages == ['long']: return 'x' * 3_000_000\n"
        "    return 'done'\n"
    )
    process = EncoderProcess(file, seconds=1.5)

    def ask(what: str) -> Any:
        return process.texts([{"messages": [what], "arguments": {}}])[0]

    assert "done" == ask("first")
    with pytest.raises(TemplateLimitError, match=r"took longer than 1\.5 s"):
        ask("sleep")
    assert "done" == ask("again")
    with pytest.raises(TemplateLimitError, match="ended without an answer"):
        ask("die")
    assert 3_000_000 == len(ask("long"))


def test_it_pickles_and_ends_with_its_encoder(tmp_path: Path) -> None:
    made = load_tokenizer(encoder_folder(tmp_path), trust_encoder=True)
    again = pickle.loads(pickle.dumps(made))
    assert made.fingerprint == again.fingerprint
    conversation = Conversation(messages=CHAT[1:3])
    text = made.template_for(conversation).render(conversation).text
    assert text == again.template_for(conversation).render(conversation).text
    process = made.encoder._process  # type: ignore[union-attr]
    pid = process._process.pid
    os.kill(pid, 0)
    process.__dict__.pop("_process")
    made.encoder.__dict__.pop("_process")
    del process
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_encoder_that_reads_words_is_refused(tmp_path: Path) -> None:
    source = "def encode_messages(messages):\n    return ''.join(m['content'].upper() for m in messages)\n"
    made = load_tokenizer(encoder_folder(tmp_path, source), trust_encoder=True)
    conversation = Conversation(messages=CHAT[1:3])
    with pytest.raises(AttributionError, match="does not show whose each character is"):
        made.template_for(conversation).render(conversation)


TURNS = "''.join(f'<{m[\"role\"]}>{m[\"content\"]}</s>' for m in messages)"


@pytest.mark.parametrize(
    "code",
    [
        f"import random\ndef encode_messages(messages):\n    return {TURNS} + str(random.random())\n",
        f"seen = []\ndef encode_messages(messages):\n    seen.append(1)\n    return str(len(seen)) + {TURNS}\n",
        f"def encode_messages(messages):\n    text = {TURNS}\n"
        "    return text if max(map(ord, text)) > 0xF0000 else text + messages[0]['content']\n",
    ],
    ids=["at random", "by count", "by the tints"],
)
def test_one_that_writes_the_same_data_otherwise_is_refused(code: str, tmp_path: Path) -> None:
    made = load_tokenizer(encoder_folder(tmp_path, code), trust_encoder=True)
    conversation = Conversation(messages=CHAT[1:3])
    with pytest.raises(AttributionError, match="does not show whose each character is"):
        made.template_for(conversation).render(conversation)


def test_one_that_prints_and_changes_what_it_is_given(tmp_path: Path) -> None:
    code = (
        f"import sys\ndef encode_messages(messages):\n    text = {TURNS}\n    print('x' * 99_999)\n"
        "    sys.stderr.write('y' * 99_999)\n    messages.clear()\n    return text\n"
    )
    made = load_tokenizer(encoder_folder(tmp_path, code), trust_encoder=True)
    conversation = Conversation(messages=CHAT[1:3])
    chat = made.template_for(conversation).render(conversation)
    assert chat.text == "".join(f"<{m['role']}>{m['content']}</s>" for m in CHAT[1:3])
    assert 2 == len(conversation.messages)


def test_arguments_that_nobody_knows_are_named(tmp_path: Path) -> None:
    source = "def encode_messages(messages, secret):\n    return ''\n"
    with pytest.raises(TokenizerError, match="needs arguments that nobody knows: secret"):
        load_tokenizer(encoder_folder(tmp_path, source), trust_encoder=True)


def test_one_that_asks_for_tools_gets_none_where_a_row_has_none(tmp_path: Path) -> None:
    source = (
        "def encode_messages(messages, tools):\n"
        "    return f'{len(tools)}' + ''.join('<｜User｜>' + m['content'] for m in messages)\n"
    )
    made = load_tokenizer(encoder_folder(tmp_path, source), trust_encoder=True)
    for tools, text in ((None, "0<｜User｜>Hi"), ((TOOL,), "1<｜User｜>Hi")):
        conversation = Conversation(messages=({"role": "user", "content": "Hi"},), tools=tools)
        assert text == made.template_for(conversation).render(conversation).text


def test_the_reason_of_the_encoder_is_given() -> None:
    with pytest.raises(TemplateError, match="refuses this conversation: AssertionError: unknown role critic"):
        render("chat", (CHAT[1], {"role": "critic", "content": "x"}))
