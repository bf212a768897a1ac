"""Ctrl-C, SIGTERM and a closed terminal end a run the same way: children first, then build mode, then status 128+n.

doit itself loses its records on SIGTERM and shows a traceback on Ctrl-C. SystemExit, raised in the main thread, goes
through Runner.finish(), which calls the reporter's complete_run(), and ends the process without a traceback.

Python runs a handler when its main thread next executes bytecode. One that goes to sleep on a lock (doit waits so for
results) in the moment in which the signal comes would sleep on: seen in one of ten runs on a busy machine. So a thread
of ours reads the wakeup fd (signal.set_wakeup_fd) and knocks at the main thread until the handler has run.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType

from kbuild_tasks.effects import shell

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KNOCK_SECONDS = 0.05
received: int | None = None  # number of the signal that ended this run


def install() -> None:
    """Call in the main thread when a run starts."""
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(read, True)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_knock, args=(read, threading.get_ident()), daemon=True).start()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1) ignores SIGHUP: leave it so
            signal.signal(number, _stop)


def _knock(read: int, main: int) -> None:
    """The wakeup fd has one byte a signal: its number."""
    while number := os.read(read, 1):
        time.sleep(KNOCK_SECONDS)  # as a rule the handler has run by then
        while number[0] in SIGNALS and received is None and signal.getsignal(number[0]) is _stop:
            signal.pthread_kill(main, number[0])
            time.sleep(KNOCK_SECONDS)


def _stop(number: int, frame: FrameType | None) -> None:
    global received
    if received is not None:
        return  # the clean-up is under way: each node is given seconds, not minutes
    received = number
    raise SystemExit(128 + number)


def before_leaving() -> None:
    """End what still runs in other threads; the clean-up's own threads ask for leave (shell.permit)."""
    if received is not None:
        shell.stop_all()
