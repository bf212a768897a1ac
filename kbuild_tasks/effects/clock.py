"""Time. Deadlines are counted on the monotonic clock: a wall clock that steps changes no decision (tests put another
clock here). UTC is for windows and for people."""

from __future__ import annotations

import datetime
import time
from pathlib import Path
from typing import Any


def monotonic() -> float:
    return time.monotonic()


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def now() -> float:
    """Seconds since the epoch, to be compared with another machine's."""
    return time.time()


def utc() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def mark() -> dict[str, Any]:
    """This machine's wall clock against its monotonic one, to tell later whether somebody has set it; see stepped()."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        boot = ""
    return {"boot": boot, "offset": now() - monotonic()}


def stepped(since: Any) -> float:
    """Seconds by which the wall clock was set forward since that mark(); 0 where that cannot be told."""
    current = mark()
    if not isinstance(since, dict) or not current["boot"] or since.get("boot") != current["boot"]:
        return 0.0
    offset = since.get("offset")
    return round(current["offset"] - offset, 1) if isinstance(offset, int | float) else 0.0


def stamp() -> str:
    """The time of a record."""
    return utc().strftime("%Y-%m-%dT%H:%M:%SZ")


def ago(stamp: str) -> float:
    """Seconds since a record, to be told: the wall clock may have been set since, so nothing is decided by it."""
    return max(0.0, (utc() - datetime.datetime.fromisoformat(stamp)).total_seconds())
