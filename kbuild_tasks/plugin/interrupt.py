"""Ctrl-C, SIGTERM and a closed terminal end a run the same way: children first, then build mode, then status 128+n.

doit itself loses its records on SIGTERM and shows a traceback on Ctrl-C. SystemExit, raised in the main thread, goes
through Runner.finish(), which calls the reporter's complete_run(), and ends the process without a traceback.
"""

from __future__ import annotations

import signal
from types import FrameType

from kbuild_tasks.effects import shell

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
received: int | None = None  # number of the signal that ended this run


def install() -> None:
    """Call in the main thread when a run starts."""
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1) ignores SIGHUP: leave it so
            signal.signal(number, _stop)


def _stop(number: int, frame: FrameType | None) -> None:
    global received
    if received is not None:
        return  # the clean-up is under way: each node is given seconds, not minutes
    received = number
    raise SystemExit(128 + number)


def before_leaving() -> None:
    """End what still runs in other threads, then allow the clean-up its own children."""
    if received is not None:
        shell.stop_all()
        shell.resume()
