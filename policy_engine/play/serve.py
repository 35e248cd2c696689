"""Serving the live page until it is ended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.util import find_spec

from policy_engine.core.errors import ConfigError
from policy_engine.core.wording import install
from policy_engine.play.loaded_rows import Board


def serve(board: Board, *, host: str, port: int | None, browser: bool, say: Callable[[str], None]) -> None:
    """Serves the page until Ctrl-C or SIGTERM; `say` gets its address.

    Raises ConfigError if the port is taken.
    """
    # Imported here: the tests of all else need no Gradio.
    from policy_engine.play.gradio_page import build, launch_options

    page, options = build(board), launch_options()
    try:
        _, address, _ = page.launch(
            server_name=host, server_port=port, inbrowser=browser, prevent_thread_lock=True, **options
        )
    except OSError as error:
        where = "no port is free" if port is None else f"port {port} of `{host}` cannot be had"
        raise ConfigError(f"{where}: {error}", help="name another with --port") from error
    try:
        say(address)
        # The server runs in a thread of its own (`prevent_thread_lock`), so that Ctrl-C reaches this one.
        threading.Event().wait()
    except KeyboardInterrupt:
        pass  # the way to end it
    finally:
        page.close(verbose=False)


def check_installed() -> None:
    """Raises ConfigError if Gradio is not installed."""
    if find_spec("gradio") is None:
        raise ConfigError(
            "the live page needs Gradio, which is not installed",
            help=f"install the extra: {install('play')}",
        )
