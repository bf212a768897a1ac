"""Ctrl-C, SIGTERM and a closed terminal end a run the same way: children first, then build mode, then status 128+n.

doit itself loses its records on SIGTERM and shows a traceback on Ctrl-C. SystemExit, raised in the main thread, goes
through doit to our run command (plugin/run.py), which sees to it that the run is closed whatever was interrupted, and
ends the process without a traceback. A closed standard output (`doit | head -1`) is such an end too: SIGPIPE's.

Python runs a handler when its main thread next executes bytecode. One that goes to sleep on a lock (doit waits so for
results) in the moment in which the signal comes would sleep on: seen in one of ten runs on a busy machine. So a thread
of ours reads the wakeup fd (signal.set_wakeup_fd) and knocks at the main thread until the handler has run.

Children do not get PR_SET_PDEATHSIG: it is sent when the *thread* that started a child ends (prctl(2)), and stages
run in threads of a pool.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from functools import partial
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
KNOCK_SECONDS = 0.05
AGAIN_SECONDS = 2.0  # a second signal later than this is meant, should the first have been lost on its way up
received: int | None = None  # number of the signal that ended this run
leaving = False  # the run is being closed: each node is given seconds, not minutes, and none is left half-way
_at = 0.0
_installed = False


def install() -> None:
    """Call when a project is loaded; does nothing the second time, and outside of the main thread."""
    global _installed
    if _installed or threading.current_thread() is not threading.main_thread():
        return
    _installed = True
    read, write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(read, True)
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    threading.Thread(target=_knock, args=(read, threading.get_ident()), daemon=True).start()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup(1) ignores SIGHUP: leave it so
            signal.signal(number, _stop)


def stop(number: int) -> None:
    """End the run as by this signal: SystemExit, but where it is being closed already."""
    global received, _at
    now = time.monotonic()
    again = received is not None
    if not again:
        received = number
    if leaving or (again and now - _at < AGAIN_SECONDS):
        return
    _at = now
    raise SystemExit(128 + (received or number))


def _knock(read: int, main: int) -> None:
    """The wakeup fd has one byte a signal: its number."""
    while number := os.read(read, 1):
        time.sleep(KNOCK_SECONDS)  # as a rule the handler has run by then
        while number[0] in SIGNALS and received is None and signal.getsignal(number[0]) is _stop:
            signal.pthread_kill(main, number[0])
            time.sleep(KNOCK_SECONDS)


def _stop(number: int, frame: FrameType | None) -> None:
    # Not imported, or only half: no child was started.
    postpone = getattr(sys.modules.get("kbuild_tasks.effects.shell"), "postpone", None)
    if postpone is None or not postpone(partial(stop, number)):
        stop(number)
