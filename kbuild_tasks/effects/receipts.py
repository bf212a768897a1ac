"""Receipts: removed before a stage starts, written after it ended, atomically. They are the truth of the build half.

A receipt is {"stage", "inputs" (a fingerprint), "results"}; no times. Beside it, build/inputs/ keeps a copy of each
small input under its sha256, so that a later run can say which line of which file made a stage stale.

What counts for the stages that follow is the results alone: a comment edited in a patch reruns `patch`, its results
are the same, and the wave stops there.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from kbuild_tasks.core.fingerprint import MISSING, Change, changes, fingerprint, first_changed_line, tell
from kbuild_tasks.core.model import Inputs
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_record, sha256_file, sha256_text, write_atomic, write_json

KEEP_BYTES = 4 << 20  # inputs larger than this are not kept: a .config has 250 kB, a large patch 1 MB


SHAPE = {"files": dict, "order": list, "values": dict, "receipts": dict}  # of a fingerprint


_read: dict[tuple[int, ...], Any] = {}  # file as it was -> its digest, or the receipt in it


def digest(path: Path | str) -> str | None:
    """What a file counts for: its content; of a receipt its results. None where it is not there."""
    if os.path.basename(os.path.dirname(path)) != "receipts":
        content: str | None = _once(path, sha256_file)
        return content
    receipt = _once(path, read_record) or {}
    if "results" not in receipt:
        return None
    return sha256_text(json.dumps(receipt["results"], sort_keys=True))


def _once(path: Path | str, read: Callable[[Path], Any]) -> Any:
    """read(path); of a file that this process has read and that was not touched since, what it got then. doit and we
    ask for each input, by different names. Its time of change counts: that is not set at will, as its mtime is."""
    key = _key(path)
    if key is None:
        return None
    if key not in _read:
        _read[key] = read(Path(path))
    return _read[key]


def _key(path: Path | str) -> tuple[int, ...] | None:
    """What a file is while nobody touches it (stat(2)); None where there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


class Receipts:
    """All receipts of a project. File hashes are remembered for the life of the object, receipts while they stay."""

    def __init__(self, paths: Paths) -> None:
        self.paths = paths
        self._hashes: dict[str, str | None] = {}

    def read(self, stage: str) -> dict[str, Any] | None:
        """A receipt; None where there is none or it is damaged."""
        value = _once(self.paths.receipt(stage), read_record) or {}
        inputs = value.get("inputs")
        if not isinstance(inputs, dict) or not isinstance(value.get("results"), dict):
            return None
        whole = all(isinstance(inputs.get(name), kind) for name, kind in SHAPE.items())
        return value if whole and all(isinstance(old, str) for old in inputs["files"].values()) else None

    def now(self, inputs: Inputs, *, times: bool = False) -> dict[str, Any]:
        """The fingerprint of `inputs` as they are on disk; with `times` also when each file was last touched: that is
        none of a receipt (core/fingerprint.py, settled)."""
        found = fingerprint(inputs, self._hash, lambda stage: digest(self.paths.receipt(stage)))
        if times:
            found["times"] = {path: _key(self.paths.root / path) for path in inputs.files}
        return found

    def changes(self, stage: str, inputs: Inputs) -> list[Change]:
        """Why `stage` is stale; empty: fresh."""
        old = self.read(stage)
        return changes(old and old["inputs"], self.now(inputs))

    def remove(self, stage: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.paths.receipt(stage).unlink()

    def write(self, stage: str, inputs: Mapping[str, Any], results: Mapping[str, Any]) -> None:
        for path, digest in inputs["files"].items():
            if digest != MISSING:
                self._keep(path, digest)
        write_json(self.paths.receipt(stage), {"stage": stage, "inputs": inputs, "results": results})

    def tell(self, change: Change) -> str:
        """A change in the user's words, down to the first line that differs where the old text is known."""
        line = None
        if change.kind == "file" and change.old and change.new and MISSING not in (change.old, change.new):
            line = self._first_line(change.name, change.old)
        return tell(change, line)

    def _first_line(self, path: str, old_digest: str) -> int | None:
        try:
            old = kept(self.paths, old_digest).decode("utf-8", "surrogateescape")
            new = (self.paths.root / path).read_text("utf-8", "surrogateescape")
        except OSError:
            return None
        return None if "\0" in old else first_changed_line(old, new)  # compressed: no lines that a person could look at

    def _hash(self, path: str) -> str | None:
        if path not in self._hashes:
            self._hashes[path] = _once(self.paths.root / path, sha256_file)
        return self._hashes[path]

    def _keep(self, path: str, digest: str) -> None:
        """Not flushed to the disk, there are dozens of them: kept() sees what a power cut left of it."""
        source, copy = self.paths.root / path, _place(self.paths, digest)
        with contextlib.suppress(FileNotFoundError):
            size = source.stat().st_size
            if size <= KEEP_BYTES and not (copy.is_file() and copy.stat().st_size == size):
                write_atomic(copy, source.read_bytes(), durable=False)


def kept(paths: Paths, digest: str) -> bytes:
    """An input as a receipt knows it, by its sha256. Raises FileNotFoundError: it was not kept, or not whole."""
    data = _place(paths, digest).read_bytes()
    if sha256_text(data) != digest:
        raise FileNotFoundError(f"the copy of input {digest} is damaged")
    return data


def _place(paths: Paths, digest: str) -> Path:
    return paths.build / "inputs" / digest
