"""Sizes, durations and shares as cluster.yaml has them. schema.json has already said that they are well formed."""

from __future__ import annotations

_SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}  # as in tmpfs(5): powers of 1024
_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}  # as in systemd.time(7)


def size(text: str) -> int:
    """Bytes: "3G", "1.5GiB", "200m"."""
    short = text.removesuffix("iB")
    return round(float(short[:-1]) * _SIZES[short[-1].upper()])


def duration(text: str) -> float:
    """Seconds, perhaps not whole: "10s", "10min", "1.5h"."""
    unit = text.lstrip("0123456789.")
    return round(float(text.removesuffix(unit)) * _SECONDS[unit], 3)


def share(value: str | float) -> float:
    """0..1: "50%", 0.5."""
    return float(value.removesuffix("%")) / 100 if isinstance(value, str) else float(value)
