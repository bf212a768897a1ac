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
    back      the ROLLING_BACK that has not come to its end; where the attempt stood before it is still told by the rest
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
    back: Record | None = None

    @property
    def in_flight(self) -> bool:
        return self.state in IN_FLIGHT

    @property
    def asked_in(self) -> str:
        """The boot in which it was asked to reboot, or was about to be; "" where it was not."""
        if self.back is not None and self.back.data.get("boot_id"):
            return str(self.back.data["boot_id"])
        return str(self.data.get("boot_id") or "") if self.state == "REBOOTING" else ""

    @property
    def back_to(self) -> str:
        """What it is being rolled back to: "known-good", "previous"; "" while it is not."""
        return "" if self.back is None else str(self.back.data.get("to") or "known-good")


def rolls_back(name: str, to: str) -> str:
    """What is typed for it."""
    return f"doit rollback:{name}" + (" to=previous" if to == "previous" else "")


def fold(records: Sequence[Record]) -> History:
    """The last attempt, whatever build it was of, and all failures."""
    state = build = held = kind = since = note = ""
    data: dict[str, Any] = {}
    failed: dict[str, str] = {}
    back: Record | None = None
    for record in records:
        since, note = record.at, record.note
        if record.state == "ROLLING_BACK":
            back = record
            continue
        if record.state not in ("HELD", "ALLOWED"):  # HELD is written in it, too: a node that was emptied
            back = None
        if record.state == "ROLLED_BACK" and not record.build:
            held = kind = ""
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
    known = frozenset(record.build for record in records if record.build)
    return History(state, build, data, held, kind, failed, known, since, note, back)
