"""A node's journal: what was about to be done to it, one JSON record a line, each chained to the one before.

    {"n":3,"at":"2027-01-31T01:02:03Z","build":"0123456789ab","state":"ARMED","note":"...","data":{},"crc":"89abcdef"}

The journal decides whether a node is rebooted, so it is read strictly. A record's crc covers the record and the crc of
the one before: a line that was changed, lost, doubled or moved does not fit. What a crash may leave, and nothing else,
is mended: a last line that is cut short. Everything else is refused in words: guessing could reboot a node twice.

States, each written before the act that follows it:
  STAGED        all files are on the node, hashed              -> install
  INSTALLED     pacman has them                                -> make and check boot files
  BOOTFILES_OK  what lies on the boot partition was read back  -> drain, arm
  DRAINED       pods are elsewhere, k3s is stopped             -> arm
  ARMED         the trial boots once, the default is the old   -> reboot
  REBOOTING     the reboot is about to be asked for            -> wait
  BACK          another boot, the trial's kernel               -> verify
  VERIFIED      once                                           -> settle, again
  VERIFIED2     twice, in the same boot                        -> commit
  COMMITTED     the trial is the default and known-good        -> uncordon
  UNCORDONED    the end of a good one
  FELL_BACK     the end of a bad one: on its old kernel
  HELD          stopped; the note says why
  ROLLING_BACK  by the user's word, to the kernel that `data` names; with a boot_id there: its reboot is asked for
  ROLLED_BACK   the end of that: back on known-good; without a build where there was none to take back
  ALLOWED       a build that failed may be tried again, by the user's word
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kbuild_tasks.core.errors import KbuildError

STATES = (
    *("STAGED", "INSTALLED", "BOOTFILES_OK", "DRAINED", "ARMED", "REBOOTING", "BACK", "VERIFIED", "VERIFIED2"),
    *("COMMITTED", "UNCORDONED", "FELL_BACK", "HELD", "ROLLING_BACK", "ROLLED_BACK", "ALLOWED"),
)
KEYS = ["n", "at", "build", "state", "note", "data", "crc"]
START = "00000000"
_WHOLE = re.compile(rb'"crc":"[0-9a-f]{8}"\}')


class JournalDamaged(KbuildError):
    """A journal that is not what was written; nothing is done to its node."""


@dataclass(frozen=True)
class Record:
    """One line. `note` is for people, `data` for the next step: boot_id, was_cordoned, fence ..."""

    n: int
    at: str
    build: str
    state: str
    note: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    crc: str = ""


def encode(record: Record, before: str) -> bytes:
    """The line of a record that follows one with the crc `before` (START: it is the first)."""
    return _text(record, crc_of(record, before)).encode()


def crc_of(record: Record, before: str) -> str:
    return f"{zlib.crc32(before.encode() + _text(record, '').encode()):08x}"


def _text(record: Record, crc: str) -> str:
    value = {"n": record.n, "at": record.at, "build": record.build, "state": record.state, "note": record.note}
    value |= {"data": dict(record.data), "crc": crc}
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True) + "\n"


def read(data: bytes, name: str) -> tuple[list[Record], int]:
    """The records, and how many bytes of `data` they are: what is beyond is a torn tail, to be cut off.

    name  the file, for messages
    Raises JournalDamaged.
    """
    records: list[Record] = []
    good = 0
    if not data:
        raise _damaged(name, 1, "it is empty, and a journal begins with its first record")
    while good < len(data):
        end = data.find(b"\n", good)
        line = data[good:] if end < 0 else data[good:end]
        if end < 0 and not _WHOLE.search(line):
            break  # torn: a crash cut the last record short
        record = _parse(line, records, name)
        records.append(record)
        good = len(data) if end < 0 else end + 1
    return records, good


def _parse(line: bytes, before: Sequence[Record], name: str) -> Record:
    number = len(before) + 1
    try:
        value = json.loads(line.decode("ascii"))
        if list(value) != KEYS:
            raise ValueError
        record = Record(**value)
        plain = isinstance(record.data, dict) and all(
            isinstance(text, str) for text in (record.at, record.build, record.state, record.note, record.crc)
        )
    except (ValueError, TypeError, RecursionError):
        raise _damaged(name, number, "it is not a record") from None
    previous = before[-1].crc if before else START
    if not plain or record.crc != crc_of(record, previous) or encode(record, previous)[:-1] != line:
        raise _damaged(name, number, "its checksum does not fit")
    if record.n != number:
        raise _damaged(name, number, f"it says that it is record {record.n}")
    if record.state not in STATES:
        raise _damaged(name, number, f"{record.state} is no state")
    return record


def _damaged(name: str, line: int, what: str) -> JournalDamaged:
    return JournalDamaged(
        f"{name} is damaged in line {line}: {what}",
        f"look at it and at the node (doit status --ask); mv {name} {name}.damaged begins a new one",
    )
