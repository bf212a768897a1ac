"""Time. Deadlines are counted on the monotonic clock: a wall clock that steps changes no decision (tests put another
clock here). UTC is for windows and for people."""

from __future__ import annotations

import datetime
import time


def monotonic() -> float:
    return time.monotonic()


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def now() -> float:
    """Seconds since the epoch, to be compared with another machine's."""
    return time.time()


def utc() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def stamp() -> str:
    """The time of a record."""
    return utc().strftime("%Y-%m-%dT%H:%M:%SZ")
