"""When the power goes: moments of a roll-out between its first act on a node and COMMITTED.

A moment lies within one state of the journal, which says what is being done: in "STAGED" pacman installs, in
"REBOOTING" the node goes down and comes up. It is marked (something that the node does, as its serial console tells:
see MARKS) or drawn (a time within the state, whose length was measured on this machine). In a chain they come in the
order of the states: each roll-out goes on where the one before was cut off.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

ORDER = ("", "STAGED", "INSTALLED", "BOOTFILES_OK", "ARMED", "REBOOTING", "BACK", "VERIFIED", "VERIFIED2", "COMMITTED")
# The programs that the helper calls and that say so on the console before they do what they do (TELLING), and what the
# kernel says of itself. `then`: seconds after it, of which one is drawn each time.
MARKS: tuple[tuple[str, str, str, float], ...] = (  # name, state, pattern, then
    ("a package's file gets its name", "", r"@@ mv .*/stage/", 0.0),
    ("NVRAM is tried", "", r"@@ dd .*KbuildTasksProbe", 0.1),
    ("running modules are linked aside", "STAGED", r"@@ cp -al", 0.3),
    ("they get their name", "STAGED", r"@@ mv .*modules\.kbuild", 0.1),
    ("kept modules are mounted", "STAGED", r"@@ mount --bind", 0.1),
    ("the old package leaves the database", "STAGED", r"@@ pacman .*--dbonly", 1.0),
    ("pacman begins", "STAGED", r"@@ pacman .*-U ", 0.3),
    ("pacman extracts", "STAGED", r"@@ pacman .*-U ", 3.0),
    ("modules are synced", "STAGED", r"@@ sync -f", 0.1),
    ("the list of files gets its name", "STAGED", r"@@ mv .*/installed/", 0.1),
    ("depmod", "INSTALLED", r"@@ depmod", 2.0),
    ("the kernel is on the boot partition", "INSTALLED", r"@@ sync .*vmlinuz\.tmp", 0.2),
    ("it gets its name", "INSTALLED", r"@@ mv .*vmlinuz\.tmp", 0.2),
    ("the boot entry gets its name", "INSTALLED", r"@@ mv .*entries/kbuild-", 0.2),
    ("the trial is written down", "BOOTFILES_OK", r"@@ mv .*rollout/trial", 0.1),
    ("the one-shot is set", "BOOTFILES_OK", r"@@ dd .*LoaderEntryOneShot", 0.1),
    ("armed", "ARMED", "", 0.0),
    ("the reboot is asked for", "REBOOTING", "", 1.5),
    ("services stop", "REBOOTING", r"Stopped|Stopping", 1.0),
    ("the kernel restarts the machine", "REBOOTING", r"reboot: Restarting system", 0.0),
    ("firmware and loader", "REBOOTING", r"reboot: Restarting system", 4.0),
    ("the trial's kernel starts", "REBOOTING", r"Linux version", 0.5),
    ("the trial's kernel has its root", "REBOOTING", r"EXT4-fs \(vda\d\): mounted", 0.5),
    ("the trial's systemd starts", "REBOOTING", r"systemd\[1\]: Detected", 6.0),
    ("back", "BACK", "", 1.0),
    ("verified", "VERIFIED", "", 0.5),
    ("verified twice", "VERIFIED2", "", 0.0),
    ("the default moves", "VERIFIED2", r"@@ dd .*LoaderEntryDefault", 0.1),
    ("previous is written down", "VERIFIED2", r"@@ mv .*rollout/previous", 0.05),
    ("known-good is written down", "VERIFIED2", r"@@ mv .*rollout/known-good", 0.05),
    ("the trial is over", "VERIFIED2", r"@@ rm .*rollout/trial", 0.1),
)
TOLD = ("cp", "mv", "rm", "sync", "dd", "mount", "pacman", "depmod")
# Before the real one in the helper's PATH. One write, so that lines do not mix.
TELLING = """\
#!/bin/sh
{ printf '@@ %s %s\\n' "${0##*/}" "$*" >/dev/ttyS0; } 2>/dev/null
for place in /usr/bin /usr/sbin; do
	[ ! -x "$place/${0##*/}" ] || exec "$place/${0##*/}" "$@"
done
"""


@dataclass(frozen=True)
class Moment:
    """state: of ORDER; pattern: of the console, "": from the state's beginning; after: seconds from there."""

    name: str
    state: str
    pattern: str
    after: float
    marked: bool

    @property
    def place(self) -> int:
        return ORDER.index(self.state)

    def seen(self, console: str) -> bool:
        return re.search(self.pattern, console) is not None


def marked(choice: random.Random) -> list[Moment]:
    """One of each mark."""
    return [
        Moment(name, state, pattern, round(choice.uniform(0, then), 2), True) for name, state, pattern, then in MARKS
    ]


def drawn(choice: random.Random, lengths: Mapping[str, float], count: int) -> list[Moment]:
    """So many moments; lengths are seconds in each state. Two thirds lie evenly in the time in which the node's files
    change (until it is armed), a third in the time of the reboot and of verify."""
    halves = [
        {s: t for s, t in lengths.items() if (ORDER.index(s) < ORDER.index("ARMED")) == early}
        for early in (True, False)
    ]
    found = []
    for number in range(count):
        half = halves[number % 3 == 2]
        at = choice.uniform(0, sum(half.values()))
        place = ""
        for state, length in half.items():
            place = state
            if at < length:
                break
            at -= length
        found.append(Moment("drawn", place, "", round(min(at, half[place]), 2), False))
    return found


def deal(choice: random.Random, moments: Sequence[Moment], most: int) -> list[list[Moment]]:
    """Chains of at most so many, each in the order of the states; those within one state in any order."""
    mixed = choice.sample(list(moments), len(moments))
    hands = -(-len(mixed) // most)
    return [sorted(mixed[hand::hands], key=lambda moment: moment.place) for hand in range(hands)]
