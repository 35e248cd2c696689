"""The program that runs a model's Python file: conversations in, texts out, as JSON lines.

    {"calls": [{"messages": […], "arguments": {"thinking_mode": "chat"}}]}
    {"results": [{"text": "<｜begin▁of▁sentence｜><｜User｜>Hi"}]}

It is started by its path with `python -I`, and imports the standard library alone. Before it reads the file, it shuts
itself in: a network namespace without devices where the kernel allows it, and limits on memory, processor time, files
and processes. It refuses to open a connection, write a file, start a program or call into C.
"""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import json
import os
import sys
from typing import Any

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_REFUSED = (
    "socket.", "subprocess.", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "os.system", "os.startfile", "pty.",
    "ctypes.", "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.link", "os.symlink", "os.truncate", "os.chmod",
    "os.chown", "os.kill", "os.putenv", "os.unsetenv", "shutil.", "tempfile.", "ftplib.", "http.", "smtplib.",
    "urllib.", "webbrowser.", "signal.pthread_kill", "sqlite3.", "syslog.",
)  # fmt: skip
"""Beginnings of audit events that end in an error."""
_IMPORTS = frozenset({"ctypes", "_ctypes", "cffi", "_cffi_backend"})


_readable: tuple[str, ...] = ()
"""Beginnings of paths that may be read, set before the file is."""


def shut_network() -> None:
    """Leaves the network, if the kernel lets it.

    Where the kernel does not, `refuse` alone keeps the code off it.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    # With a user namespace of its own first, which needs no rights; alone for a process that is root.
    for flags in (_CLONE_NEWUSER | _CLONE_NEWNET, _CLONE_NEWNET):
        if libc.unshare(flags) == 0:
            return


def take_limits(memory: int, seconds: int) -> None:
    """Limits of the kernel: memory (bytes), processor time (seconds), no file that grows."""
    import resource

    for name, most in (
        ("RLIMIT_AS", memory), ("RLIMIT_CPU", seconds), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0), ("RLIMIT_NPROC", 0),
        ("RLIMIT_NOFILE", 64),
    ):  # fmt: skip
        kind = getattr(resource, name, None)
        # Not every system has all of them.
        if kind is not None:
            resource.setrlimit(kind, (most, most))


def refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """The audit hook, which cannot be taken off."""
    if event.startswith(_REFUSED) or (event == "import" and arguments[0] in _IMPORTS):
        raise PermissionError(f"an encoder may not do this: {event}")
    if event == "open":
        # `os.open` has flags and no mode, `open` a mode.
        mode, flags = arguments[1], arguments[2] if len(arguments) > 2 else 0
        writes = isinstance(mode, str) and any(letter in mode for letter in "wax+")
        if writes or (isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR)):
            raise PermissionError("an encoder may not write files")
        path = os.fsdecode(arguments[0]) if isinstance(arguments[0], str | bytes) else ""
        # By the real path, so that a link in the model's folder leads nowhere else.
        if path and not os.path.realpath(path).startswith(_readable):
            raise PermissionError("an encoder reads its own folder and Python's alone")


def load(path: str) -> Any:
    """The function `encode_messages` of a file."""
    spec = importlib.util.spec_from_file_location("model_encoder", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # dataclasses look their module up while the file is being read.
    sys.modules["model_encoder"] = module
    spec.loader.exec_module(module)
    return module.encode_messages


def call(encode: Any, asked: dict[str, Any]) -> dict[str, Any]:
    """The text of one conversation, or the reason why it failed.

    >>> call(lambda messages, mode: f"{mode}: {len(messages)}", {"messages": [{}], "arguments": {"mode": "chat"}})
    {'text': 'chat: 1'}
    >>> call(lambda messages: 3, {"messages": [], "arguments": {}})
    {'error': 'encode_messages gave int, not a string'}
    """
    try:
        text = encode(asked["messages"], **asked["arguments"])
    # `SystemExit` too: a file that exits has failed at this row.
    except BaseException as error:
        return {"error": f"{type(error).__name__}: {error}"[:2000]}
    if type(text) is not str:
        return {"error": f"encode_messages gave {type(text).__name__}, not a string"}
    return {"text": text}


def parameters(encode: Any) -> list[list[Any]]:
    """Each parameter behind the messages: its name (`**` for any), and True if it is optional.

    >>> parameters(lambda messages, mode, tools=None, **more: "")
    [['mode', False], ['tools', True], ['**', True]]
    """
    made: list[list[Any]] = []
    for found in list(inspect.signature(encode).parameters.values())[1:]:
        many = found.kind in (found.VAR_KEYWORD, found.VAR_POSITIONAL)
        name = "**" if found.kind is found.VAR_KEYWORD else found.name
        made.append([name, many or found.default is not found.empty])
    return made


def main(path: str, memory: int, seconds: int) -> None:
    """Answers until its input ends."""
    # The encoder's own printing goes nowhere: answers have a file of their own.
    # Duplicated before 1 leads nowhere, as below.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)

    def answer(value: Any) -> None:
        answers.write(json.dumps(value, ensure_ascii=True) + "\n")
        answers.flush()

    with contextlib.suppress(OSError, AttributeError, ImportError):
        shut_network()
    # Loaded above for `unshare`; the hook sees imports only where the module is not there yet.
    for name in _IMPORTS:
        sys.modules.pop(name, None)
    global _readable
    folders = {os.path.dirname(path), *(p for p in (sys.prefix, sys.base_prefix, *sys.path) if p)}
    _readable = tuple(os.path.realpath(folder) + os.sep for folder in folders)
    try:
        # Last before the file is read: the limits hold for this program as well.
        take_limits(memory, seconds)
        sys.addaudithook(refuse)
        encode = load(path)
        answer({"parameters": parameters(encode)})
    except BaseException as error:
        answer({"error": f"{type(error).__name__}: {error}"[:2000]})
        return
    for line in sys.stdin:
        answer({"results": [call(encode, asked) for asked in json.loads(line)["calls"]]})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
