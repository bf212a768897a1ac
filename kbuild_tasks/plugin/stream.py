"""Standard output that may go away: closed by its reader (`doit | head -1`), full, or never there (`doit >&-`)."""

from __future__ import annotations

import functools
import os
import signal
import sys
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.plugin import interrupt


class Guarded:
    """A stream around the one that a reporter writes to.

    A reader that went away ends the run as SIGPIPE would, quietly: status 141. A disk that is full is told once, on
    standard error; the run goes on, for what counts is in build/, and ends with a status other than 0.
    """

    def __init__(self, stream: Any, of_run: bool = True) -> None:
        self._stream = stream
        self._of_run = of_run
        self._closed = stream is None and not of_run  # who asks for a list and shuts the door is told; a run goes on
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
        if self._closed:
            self._closed, self.failed = False, True
            warn("standard output cannot be written: it is closed")
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
            record = "; build/last-run.json has what was done" if self._of_run else ""
            warn(f"standard output cannot be written: {error.strerror}{record}")

    def _divert(self) -> None:
        """What is still in the stream's buffer goes to /dev/null, or Python would complain of it at its end."""
        stream, self._stream = self._stream, None
        try:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
        except (OSError, ValueError, AttributeError):
            pass  # not a stream of the system's


def guarded(execute: Any) -> Any:
    """_execute of a command that makes no run: an error of ours is told there, and what it could not tell ends it with
    a status other than 0."""

    @functools.wraps(execute)  # doit reads the names of its parameters
    def wrapped(self: Any, *args: Any, **options: Any) -> Any:
        reserve()
        self.outstream = Guarded(self.outstream, of_run=False)
        try:
            status = execute(self, *args, **options)
        except KbuildError as error:
            self.outstream.write(error.render() + "\n")
            status = 1
        finally:
            self.outstream.flush()
        return status or int(self.outstream.failed)

    return wrapped


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
