"""Standard output that may go away: closed by its reader (`doit | head -1`), full, or never there (`doit >&-`)."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from kbuild_tasks.plugin import interrupt


class Guarded:
    """A stream around the one that a reporter writes to.

    A reader that went away ends the run as SIGPIPE would, quietly: status 141. A disk that is full is told once, on
    standard error; the run goes on, for what counts is in build/, and ends with a status other than 0.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failed = False
        if hasattr(stream, "reconfigure"):  # what a terminal of another encoding does not have is told as an escape
            stream.reconfigure(errors="backslashreplace")

    def write(self, text: str) -> None:
        self._try(lambda: self._stream.write(text))

    def flush(self) -> None:
        self._try(self._stream.flush if self._stream else lambda: None)

    def isatty(self) -> bool:
        return bool(self._stream and hasattr(self._stream, "isatty") and self._stream.isatty())

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _try(self, work: Any) -> None:
        if self._stream is None:
            return
        try:
            work()
        except BrokenPipeError:
            self._divert()
            interrupt.stop(signal.SIGPIPE)
        except OSError as error:
            self._divert()
            self.failed = True
            warn(f"standard output cannot be written: {error.strerror}; build/last-run.json has what was done")

    def _divert(self) -> None:
        """What is still in the stream's buffer goes to /dev/null, or Python would complain of it at its end."""
        stream, self._stream = self._stream, None
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        except (OSError, ValueError, AttributeError):
            pass  # not a stream of the system's


def reserve() -> None:
    """Keep numbers 0 to 2 for what they stand for, where we were started without: the next file that is opened would
    become standard output."""
    if None in (sys.stdin, sys.stdout, sys.stderr):
        while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
            pass
        os.close(fd)


def warn(text: str) -> None:
    """A line on standard error, whatever has become of that."""
    try:
        sys.stderr.write(f"{' ' * 9}warning: {text}\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass
