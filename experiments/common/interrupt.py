"""Signals at the start of a command: ctrl-C, and SIGHUP of the service.

Ctrl-C is answered by one line, whatever is being imported. An exception in the middle of an import
leaves a traceback, and in one of jax it can abort the process. So a command ends at once while its
modules are imported, and jax, which is imported later, is imported whole.

SIGHUP, by which the service reloads its run, would end a service that is not ready yet.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Generator
from typing import Any, NoReturn


def end(hint: str = "") -> NoReturn:
    """End the process with one line. hint: how to go on."""
    print(f"interrupted{hint}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(130)  # at once: a thread cut off in writing a checkpoint would complain


def _end_at_once(*_: Any) -> None:
    end()


def end_while_importing() -> None:
    """End at ctrl-C until `raise_from_here`, if this process is one of the commands.

    For the first line of the package: other programs that import it keep their handler, and so do
    processes that ignore ctrl-C.
    """
    is_command = sys.argv and os.path.basename(sys.argv[0]) in ("-m", "hrnn-jax")
    if is_command and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end_at_once)


_hangups: list[int] = []  # that came before the service was ready


def hold_hangups() -> None:
    """Hold SIGHUP back, if this process is the command serve, until it asks by `had_hangup`.

    For the first line of the package.
    """
    package = __name__.partition(".")[0]
    command = [os.path.basename(sys.argv[0]), *sys.argv[1:2]] if sys.argv else []
    if f"{package}.serve" in sys.orig_argv or command == ["hrnn-jax", "serve"]:
        signal.signal(signal.SIGHUP, lambda number, frame: _hangups.append(number))


def had_hangup() -> bool:
    """Tell whether a SIGHUP was held back, and forget it."""
    came = bool(_hangups)
    _hangups.clear()
    return came


def raise_from_here() -> None:
    """Let ctrl-C raise KeyboardInterrupt again: what was begun is then closed."""
    if signal.getsignal(signal.SIGINT) is _end_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextlib.contextmanager
def importing() -> Generator[None]:
    """Hold ctrl-C back while the block imports jax, and raise KeyboardInterrupt at its end.

    What was made until then is no garbage. It is left out of all later collections: one that goes
    over jax's objects takes more than 0.1 s, in the middle of an evaluation for example.
    """
    gc.disable()
    try:
        with _held():
            yield
    finally:
        gc.freeze()
        gc.enable()


@contextlib.contextmanager
def _held() -> Generator[None]:
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # ignored, or another program's
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if came:
            raise KeyboardInterrupt


@contextlib.contextmanager
def answered_at_once(hint: str) -> Generator[None]:
    """End at ctrl-C in the block, even while the main thread waits for another process.

    In a collective of an interrupted process it would wait until jax aborts it. Python's own
    handlers run in the main thread alone, so a thread ends the process.

    Args:
        hint: how to go on.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # ignored, or another program's
        return
    source, target = os.pipe()
    os.set_blocking(target, False)
    signal.signal(signal.SIGINT, lambda number, frame: None)
    before = signal.set_wakeup_fd(target)

    def watch() -> None:
        while number := os.read(source, 1):
            if number[0] == signal.SIGINT:
                end(hint)
        os.close(source)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.close(target)
