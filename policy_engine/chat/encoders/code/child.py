"""The program that runs a model's Python file: conversations in, texts out, as JSON lines.

    {"calls": [{"messages": […], "arguments": {"thinking_mode": "chat"}}]}
    {"results": [{"text": "<｜begin▁of▁sentence｜><｜User｜>Hi"}]}

It is started by its path with `python -I`, and imports the standard library alone. Before it reads the file, it shuts
itself in. The kernel takes the network away (a namespace without devices), all files but those to read (Landlock), and
limits memory, processor time, files and processes. Python's own hook refuses connections, writing, programs, and calls
into C with an error that says so; it is what is left where a kernel has no namespaces or no Landlock.
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
    "urllib.", "webbrowser.", "signal.pthread_kill", "sqlite3.", "syslog.", "os.utime", "os.setxattr", "os.removexattr",
    "gc.get_", "mmap.", "resource.", "fcntl.", "cpython.run_", "sys.addaudithook", "code.__new__",
)  # fmt: skip
"""Beginnings of audit events that end in an error."""
_IMPORTS = frozenset({"ctypes", "_ctypes", "cffi", "_cffi_backend"})


_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446
_NO_NEW_PRIVILEGES = 38
_READ = 1 << 2 | 1 << 3
"""Landlock's rights to read a file and to list a folder."""
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/dev/null")
"""Paths that the loader of the standard library's own C modules reads."""


def shut_network() -> None:
    """Leaves the network, if the kernel lets it.

    Where the kernel does not, the audit hook alone keeps the code off it.
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


def shut_files(readable: tuple[str, ...]) -> bool:
    """Leaves nothing of the file system but what may be read; True if the kernel has Landlock.

    It also takes connections over TCP and signals to other processes away, where the kernel knows how.
    """
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    if version < 1:
        return False
    # All rights that this version knows are taken; each version has the rights of those before.
    files = (1 << (13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16)) - 1
    facts = (files, *((3,) if version >= 4 else ()), *((3,) if version >= 6 else ()))
    attributes = (ctypes.c_uint64 * len(facts))(*facts)
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    rules = libc.syscall(_LANDLOCK_CREATE, ctypes.byref(attributes), size, ctypes.c_uint32(0))
    if rules < 0:
        return False

    class Beneath(ctypes.Structure):
        _pack_ = 1
        _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))

    for path in dict.fromkeys((*readable, *_LIBRARIES, *_loaded_from())):
        try:
            parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        # A file has no right to be listed.
        beneath = Beneath(_READ if os.path.isdir(path) else _READ & ~(1 << 3), parent)
        libc.syscall(_LANDLOCK_ADD, ctypes.c_int(rules), ctypes.c_int(1), ctypes.byref(beneath), ctypes.c_uint32(0))
        os.close(parent)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    alone = bool(libc.syscall(_LANDLOCK_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0)) == 0)
    os.close(rules)
    return alone


def _loaded_from() -> set[str]:
    """The folders of the libraries that this process has loaded."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as maps:
            paths = (line.split(maxsplit=5)[-1].strip() for line in maps)
            return {os.path.dirname(path) for path in paths if path.startswith("/") and ".so" in path}
    except OSError:
        return set()


def hook_of(readable: tuple[str, ...]) -> Any:
    """The audit hook, which cannot be taken off.

    `readable` are beginnings of real paths. The hook itself reads no global name and no built-in one when it runs: the
    file could set these to what it likes. (`realpath` does, so Landlock is what keeps files from such code.)
    """
    refused, imports, writing = _REFUSED, _IMPORTS, os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    kind, text, raw, number, real, denied, count = type, str, bytes, int, os.path.realpath, PermissionError, len
    listing = ("os.listdir", "os.scandir", "os.chdir")

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event.startswith(refused) or (event == "import" and arguments[0] in imports):
            raise denied(f"an encoder may not do this: {event}")
        opens = event == "open"
        if not opens and event not in listing:
            return
        if opens:
            # `os.open` has flags and no mode, `open` a mode.
            mode, flags = arguments[1], arguments[2] if count(arguments) > 2 else 0
            writes = kind(mode) is text and ("w" in mode or "a" in mode or "x" in mode or "+" in mode)
            if writes or (kind(flags) is number and flags & writing):
                raise denied("an encoder may not write files")
        path = arguments[0]
        if kind(path) is number:
            return  # a file that is open already
        path = path.decode("utf-8", "surrogateescape") if kind(path) is raw else "." if path is None else path
        # By the real path, so that a link in the model's folder leads nowhere else. A class of the file's own, made of
        # `str` or with `__fspath__`, may say one path here and another one later.
        if kind(path) is not text or not (real(path) + "/").startswith(readable):
            raise denied("an encoder reads its own folder and Python's alone")

    return refuse


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

    folders = {os.path.dirname(path), *(p for p in (sys.prefix, sys.base_prefix, *sys.path) if p)}
    readable = tuple(os.path.realpath(folder) + os.sep for folder in folders)
    # Not every system has these.
    with contextlib.suppress(OSError, AttributeError, ImportError):
        shut_network()
    with contextlib.suppress(OSError, AttributeError, ImportError):
        shut_files(readable)
    # Loaded above for calls of the kernel; the hook sees imports only where the module is not there yet.
    for name in _IMPORTS:
        sys.modules.pop(name, None)
    try:
        # Last before the file is read: the limits hold for this program as well.
        take_limits(memory, seconds)
        # Kept by the interpreter alone: no name leads to it.
        sys.addaudithook(hook_of(readable))
        encode = load(path)
        answer({"parameters": parameters(encode)})
    except BaseException as error:
        answer({"error": f"{type(error).__name__}: {error}"[:2000]})
        return
    for line in sys.stdin:
        answer({"results": [call(encode, asked) for asked in json.loads(line)["calls"]]})


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
