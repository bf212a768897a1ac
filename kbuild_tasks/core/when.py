"""Times for people: one form wherever one is told, in UTC, as in journals and logs of nodes in several places."""

from __future__ import annotations

import datetime
from typing import Any


def when(moment: Any) -> str:
    """Seconds since 1970, or ISO 8601 text: "2026-11-30 17:23 UTC"; "" for anything else."""
    try:
        if isinstance(moment, str):
            told = datetime.datetime.fromisoformat(moment)
        elif isinstance(moment, int | float) and moment > 0:
            told = datetime.datetime.fromtimestamp(moment, datetime.UTC)
        else:
            return ""
        return told.astimezone(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return ""
