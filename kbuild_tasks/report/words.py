"""Numbers as people read them. Times of day are UTC, as in journals and logs of nodes in several places."""

from __future__ import annotations

import datetime
from typing import Any

from kbuild_tasks.core.progress import duration


def size(count: int) -> str:
    """ "73 kB", "13.2 MB": decimal, as ls --si and package managers say it."""
    if abs(count) < 1000:
        return f"{count} B"
    if abs(count) < 1_000_000:
        return f"{count / 1000:.0f} kB"
    return f"{count / 1e6:.1f} MB"


def signed(count: int) -> str:
    return "as before" if not count else f"{'+' if count > 0 else '−'}{size(abs(count))}"


def took(seconds: Any) -> str:
    if not isinstance(seconds, int | float):
        return ""
    return f"{seconds:.1f} s" if seconds < 10 and isinstance(seconds, float) else duration(seconds)


def seconds_of(stamp: Any) -> float | None:
    """ISO 8601 text as seconds since 1970."""
    try:
        return datetime.datetime.fromisoformat(stamp).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
