"""What a node's journal says of one build: where the roll-out stands there, and what it must remember."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kbuild_tasks.core.journal import Record

BEFORE_REBOOT = ("STAGED", "INSTALLED", "BOOTFILES_OK", "DRAINED", "ARMED")
IN_FLIGHT = ("DRAINED", "ARMED", "REBOOTING", "BACK", "VERIFIED", "VERIFIED2", "COMMITTED")
AFTER_ARMING = ("REBOOTING", "BACK", "VERIFIED", "VERIFIED2")
TAKEN_BACK = "rolled back by the user"  # why a build that was is denied
ENDED = ("UNCORDONED", "FELL_BACK", "ROLLED_BACK")


@dataclass(frozen=True)
class History:
    """state  the last step that was taken, "" for none
    build     the build that it was taken for
    data      all that the records of this attempt remember, later ones over earlier ones; of one that ended, what its
              last record does
    held      why it stopped, of a HELD that was not lifted; "" for none
    kind      of held: "lost" (not seen again: it may yet come), "verify" (on the new kernel, and not well),
              "expired" (nobody verified it in time), "not-tried" (its loader did not), "given-up" (for another build),
              "other"
    failed    builds that failed here and were not allowed again: build -> why
    known     every build that the journal tells of
    since     time of the last record, and its note
    leaving   of a rollback that has asked for a reboot and has not come to its end, "boot_id" and "to"; {} for none
    """

    state: str = ""
    build: str = ""
    data: Mapping[str, Any] = field(default_factory=dict)
    held: str = ""
    kind: str = ""
    failed: Mapping[str, str] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    since: str = ""
    note: str = ""
    leaving: Mapping[str, Any] = field(default_factory=dict)

    @property
    def in_flight(self) -> bool:
        return self.state in IN_FLIGHT


def fold(records: Sequence[Record]) -> History:
    """The last attempt, whatever build it was of, and all failures."""
    state = build = held = kind = since = note = ""
    data: dict[str, Any] = {}
    failed: dict[str, str] = {}
    leaving: dict[str, Any] = {}
    for record in records:
        since, note = record.at, record.note
        if record.state == "ROLLING_BACK":  # where its roll-out stands stays as it was: the end tells what became of it
            leaving = dict(record.data)
            continue
        if record.state != "HELD":
            leaving = {}
        if record.state == "RETURNED":
            continue
        if record.state == "ALLOWED":
            failed.pop(record.build, None)
            if record.build == build:
                state, held, kind = "", "", ""
            continue
        if record.state in ("FELL_BACK", "ROLLED_BACK"):
            failed[record.build] = record.note
        if record.state == "HELD":
            held, kind = record.note, str(record.data.get("kind", "other"))
            if kind == "verify":
                failed[record.build] = record.note
            data |= record.data
            build = record.build
            if kind in ("expired", "not-tried", "given-up"):
                state = ""
            continue
        if record.build != build or record.state == "STAGED" or record.state in ENDED:
            data = {}  # what an attempt remembered is not true of the next one
        state, build, held, kind = record.state, record.build, "", ""
        data |= record.data
    known = frozenset(record.build for record in records)
    return History(state, build, data, held, kind, failed, known, since, note, leaving)
