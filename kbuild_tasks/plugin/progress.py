"""Shows what a stage emits while it runs: one live line on a terminal, else a plain line every ten seconds.

On standard error: standard output carries results. A live line is drawn only where standard error is a terminal that
can (not TERM=dumb, not NO_COLOR); it is rewritten in place and taken away before anything else is written. Several
tasks may run in threads; the line belongs to the one that spoke last.
"""

from __future__ import annotations

import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, TextIO

from kbuild_tasks.core.progress import Snapshot, line

PLAIN_EVERY = 10.0
INDENT = "  "
_FIELDS = frozenset(field.name for field in fields(Snapshot))


class Progress:
    """One listener of events; `stream` is standard error."""

    def __init__(
        self,
        stream: TextIO,
        environ: Mapping[str, str],
        clock: Callable[[], float] = time.monotonic,
        width: Callable[[], int] = lambda: shutil.get_terminal_size().columns,
    ) -> None:
        tty = stream.isatty() if hasattr(stream, "isatty") else False
        self.live = tty and environ.get("TERM", "dumb") != "dumb" and not environ.get("NO_COLOR")
        self._stream, self._clock, self._width = stream, clock, width
        self._guard = threading.Lock()
        self._drawn = False
        self._last: dict[str, float] = {}

    def show(self, kind: str, data: Mapping[str, Any]) -> None:
        """An event of stage `kind`: a Snapshot's fields, {"step": text}, or {"ended": True}."""
        with self._guard:
            if data.get("ended"):
                self._clear()
                self._last.pop(kind, None)
                return
            text = render(kind, data, max(20, self._width() - 1) if self.live else 0)
            if not text:
                return
            if self.live:
                self._write(f"\r\x1b[K{text}")
                self._drawn = True
            elif self._due(kind):
                self._write(text + "\n")

    def clear(self) -> None:
        """Take the live line away, so that something else can be written."""
        with self._guard:
            self._clear()

    def _due(self, kind: str) -> bool:
        """Whether ten seconds have passed since the last plain line of a stage, or since its first event."""
        now = self._clock()
        if now - self._last.setdefault(kind, now) < PLAIN_EVERY:
            return False
        self._last[kind] = now
        return True

    def _clear(self) -> None:
        if self._drawn:
            self._write("\r\x1b[K")
            self._drawn = False

    def _write(self, text: str) -> None:
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            self.live = False  # a terminal that went away must not end a build
            self._drawn = False


def render(kind: str, data: Mapping[str, Any], width: int = 0) -> str:
    """An event as one line; "" for one that says nothing to a person."""
    head = f"{INDENT}{kind:<8} "
    if "done" in data:
        shot = Snapshot(**{key: value for key, value in data.items() if key in _FIELDS})
        return head + line(shot, max(0, width - len(head)) if width else 0)
    step = str(data.get("step") or "")
    text = head + step if step else ""
    return text[:width] if width else text


_shared: list[Progress] = []


def show(kind: str, data: Mapping[str, Any]) -> None:
    """Context.emit of every stage."""
    _listener().show(kind, data)


def clear() -> None:
    """Called by whoever writes to the terminal; costs nothing while no stage has spoken."""
    if _shared:
        _shared[0].clear()


def _listener() -> Progress:
    if not _shared:
        _shared.append(Progress(sys.stderr, os.environ))
    return _shared[0]
