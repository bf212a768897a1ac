"""The roll-out's window: pure arithmetic on UTC. In local time a window would double or vanish when clocks change."""

from __future__ import annotations

from datetime import datetime, timedelta

from kbuild_tasks.core.model import Window

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def is_open(window: Window | None, now: datetime) -> bool:
    """`now` in UTC. The window opens on its days at start and closes at end, the next day where end is not later."""
    if window is None:
        return True
    minute = now.hour * 60 + now.minute
    if window.start < window.end:
        return now.weekday() in window.days and window.start <= minute < window.end
    today = now.weekday() in window.days and minute >= window.start
    yesterday = (now.weekday() - 1) % 7 in window.days and minute < window.end
    return today or yesterday


def next_opening(window: Window, now: datetime) -> datetime:
    """When it opens next; `now` where it is open."""
    if is_open(window, now):
        return now
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    for ahead in range(9):
        opening = midnight + timedelta(days=ahead, minutes=window.start)
        if opening.weekday() in window.days and opening > now:
            return opening
    raise ValueError("a window opens on some day")  # schema.json: days are not empty


def tell(window: Window, now: datetime) -> str:
    """ "opens Tue 01:00 UTC; it is Mon 14:02 UTC" """

    def shown(moment: datetime) -> str:
        return f"{DAYS[moment.weekday()]} {moment:%H:%M} UTC"

    return f"opens {shown(next_opening(window, now))}; it is {shown(now)}"
