"""A node's journal as a file (format: core/journal.py): each record is on the disk before the act that it announces."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kbuild_tasks.core import journal
from kbuild_tasks.core.history import History, fold
from kbuild_tasks.core.journal import Record
from kbuild_tasks.effects import clock
from kbuild_tasks.effects.files import read_regular, write_atomic


def read(path: Path) -> list[Record]:
    """The records; none where there is no journal. Changes nothing. Raises JournalDamaged, OSError."""
    try:
        data = read_regular(path)
    except FileNotFoundError:
        return []
    return journal.read(data, _name(path))[0]


class Journal:
    """One node's journal, open for a run. Only the run that holds build/.lock writes."""

    def __init__(self, path: Path) -> None:
        """Reads it, and cuts off what a crash left of a last record. Raises JournalDamaged, OSError."""
        self.path = path
        self.records: list[Record] = []
        try:
            data = read_regular(path)
        except FileNotFoundError:
            return
        self.records, good = journal.read(data, _name(path))
        if good < len(data) or not data.endswith(b"\n"):
            whole = b"".join(journal.encode(r, p) for r, p in zip(self.records, self._before(), strict=True))
            if whole:
                write_atomic(path, whole)
            else:  # its very first record is torn: nothing was begun
                path.unlink()

    @property
    def history(self) -> History:
        return fold(self.records)

    def since(self, state: str) -> str:
        """The time of its last record."""
        return next(record.at for record in reversed(self.records) if record.state == state)

    def append(self, build: str, state: str, note: str = "", data: Mapping[str, Any] | None = None) -> Record:
        """Durable when it returns. Raises OSError, and then the file is as it was before."""
        before = self.records[-1].crc if self.records else journal.START
        bare = Record(len(self.records) + 1, clock.stamp(), build, state, note, dict(data or {}))
        line = journal.encode(bare, before)
        if self.records:
            self._add(line)
        else:  # an empty file is damage, so there never is one
            write_atomic(self.path, line)
        record = Record(bare.n, bare.at, build, state, note, bare.data, journal.crc_of(bare, before))
        self.records.append(record)
        return record

    def _add(self, line: bytes) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        try:
            length = os.fstat(fd).st_size
            try:
                if os.write(fd, line) != len(line):
                    raise OSError(28, os.strerror(28), str(self.path))
                os.fsync(fd)
            except OSError:
                os.ftruncate(fd, length)
                raise
        finally:
            os.close(fd)

    def _before(self) -> list[str]:
        return [journal.START, *(record.crc for record in self.records)][: len(self.records)]


def _name(path: Path) -> str:
    return f"build/rollout/{path.name}"
