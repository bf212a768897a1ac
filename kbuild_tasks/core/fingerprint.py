"""A stage's identity: its inputs, hashed and kept readable, so that a stale stage can say which input changed.

A fingerprint is plain JSON: {"files": {path: sha256}, "order": [path], "values": {name: value},
"receipts": {stage: sha256}}. It holds what changes the bytes and nothing that changes only the speed; through
"receipts" it contains the fingerprint of what lies underneath, but only by result: a stage that reran to the same
result does not make the next one stale (early cut-off).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kbuild_tasks.core.model import Inputs

MISSING = "missing"
CHANGED = "changed while the stage ran"


@dataclass(frozen=True)
class Change:
    """One difference between two fingerprints. kind: file | order | value | receipt | first.

    old and new are hashes (None: not there), or the values themselves for kind "value".
    """

    kind: str
    name: str
    old: Any = None
    new: Any = None


def fingerprint(
    inputs: Inputs, file_hash: Callable[[str], str | None], receipt_hash: Callable[[str], str | None]
) -> dict[str, Any]:
    """Hash what `inputs` declares; a file or receipt that is not there counts as "missing"."""
    return {
        "files": {path: file_hash(path) or MISSING for path in inputs.files},
        "order": list(inputs.files),
        "values": dict(inputs.values),
        "receipts": {stage: receipt_hash(stage) or MISSING for stage in inputs.receipts},
    }


def settled(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """`before` for a receipt: what differs in `after`, or was touched in between ("times"), is none that the next run
    may find equal, for nobody knows which of the two the stage has read."""
    kept = dict(before)
    times, later = kept.pop("times", {}), after.get("times", {})
    kept["files"] = {
        path: digest if after["files"].get(path) == digest and times.get(path) == later.get(path) else MISSING
        for path, digest in before["files"].items()
    }
    if after["order"] != before["order"]:
        kept["order"] = []
        kept["files"] = dict.fromkeys(kept["files"], MISSING)
    kept["values"] = {
        name: value if after["values"].get(name) == value else CHANGED for name, value in before["values"].items()
    }
    return kept


def changes(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> list[Change]:
    """What differs, in the order in which a person would look: files, their order, values, earlier stages.

    `old` None (no receipt) gives one Change of kind "first". Empty: fresh.
    """
    if old is None:
        return [Change("first", "")]
    found = _pairs("file", old.get("files", {}), new["files"])
    if not found and old.get("order") != new["order"]:
        found.append(Change("order", "", old.get("order"), new["order"]))
    found += _pairs("value", old.get("values", {}), new["values"])
    return found + _pairs("receipt", old.get("receipts", {}), new["receipts"])


def _pairs(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    names = [*new, *(name for name in old if name not in new)]
    return [Change(kind, name, old.get(name), new.get(name)) for name in names if old.get(name) != new.get(name)]


def first_changed_line(old: str, new: str) -> int | None:
    """The number, counted in `new` from 1, of the first line that differs; None when there is none."""
    before, after = old.splitlines(), new.splitlines()
    for number, pair in enumerate(zip(before, after, strict=False), 1):
        if pair[0] != pair[1]:
            return number
    if len(before) == len(after):
        return None
    return min(len(before), len(after)) + 1


def tell(change: Change, line: int | None = None) -> str:
    """A change in the user's words: "0003-sched.patch changed (line 41)"."""
    name = change.name
    if change.kind == "first":
        return "not done yet"
    if change.kind == "order":
        return "order of the series changed"
    if change.kind == "receipt":
        return f"result of {name} changed" if change.old not in (None, MISSING) else f"{name} is new"
    if change.kind == "value":
        return _tell_value(change)
    short = name if "/" not in name else name.rsplit("/", 1)[1]
    if change.old in (None, MISSING):
        return f"{short} added"
    if change.new in (None, MISSING):
        return f"{short} removed"
    return f"{short} changed (line {line})" if line else f"{short} changed"


def _tell_value(change: Change) -> str:
    old, new = change.old, change.new
    if isinstance(old, str) and isinstance(new, str) and len(old) == len(new) == 64:
        return f"{change.name} changed"  # digests say nothing to a person
    if isinstance(old, list) and isinstance(new, list):
        plus = [str(item) for item in new if item not in old]
        minus = [str(item) for item in old if item not in new]
        parts = ([f"+{', '.join(plus)}"] if plus else []) + ([f"-{', '.join(minus)}"] if minus else [])
        return f"{change.name}: {'; '.join(parts) or 'order changed'}"
    return f"{change.name}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
