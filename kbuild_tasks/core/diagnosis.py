"""Why a node did not come back, or came back wrong: from what was seen of it while it was waited for. Pure.

A slow shutdown, a silent network, a refused login, a changed host key and an sshd that does not run are different
faults with different cures; "timed out" names none of them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from kbuild_tasks.core.nodestate import Seen
from kbuild_tasks.core.rollout import Build

OLD_BOOT, SILENT, REFUSED, HOST_KEY, LOGIN, SUDO, LOST = (
    *("old boot", "silent", "refused", "host key", "login", "sudo", "lost"),
)
_SIGHTS = (
    ("REMOTE HOST IDENTIFICATION HAS CHANGED|Host key verification failed|marked as revoked", HOST_KEY),
    ("Permission denied|Too many authentication failures", LOGIN),
    (r"\bsudo\b", SUDO),
    ("Connection refused", REFUSED),
    ("timed out|No route to host|Network is unreachable|did not answer within", SILENT),
)
_REASONS = (  # what a kernel's last words mean; the first that is found counts
    ("Unable to mount root fs|Cannot open root device|No working init|Requested init .* failed", "panicked"),
    ("Kernel panic", "panicked"),
    ("kernel BUG at|Oops|general protection fault|unable to handle|Unable to handle kernel", "crashed"),
    ("soft lockup|hard LOCKUP|blocked for more than|self-detected stall", "hung"),
    (  # systemd and dracut; initramfs-tools; mkinitcpio. The last two then reboot by panic= as well
        "emergency mode|Emergency Shell|Dependency failed for .*(root|Local File)"
        "|ALERT!.* does not exist|Unable to find root device",
        "did not get its disks",
    ),
)
_BESIDE = "Kernel panic|Initramfs unpacking failed"  # told with whatever it was; the second alone may mean nothing


@dataclass(frozen=True)
class Sight:
    """What was seen of a node, and how many seconds after the reboot was asked for."""

    what: str
    at: float
    told: str = ""
    hint: str = ""


def sight_of(stderr: str) -> str:
    """What an unsuccessful attempt to reach a node shows."""
    for pattern, what in _SIGHTS:
        if re.search(pattern, stderr):
            return what
    return LOST


def not_back(
    sights: Sequence[Sight], waited: float, address: str, old_release: str, again: str = "doit rollout"
) -> tuple[str, str]:
    """(what is to be said after the node's name, the next thing to do). again: what goes on with it."""
    last = sights[-1] if sights else Sight(SILENT, 0)
    once = f"the trial boots once only, so it then comes back on {old_release}"
    down = next((sight.at for sight in sights if sight.what != OLD_BOOT), None)
    if last.what == OLD_BOOT and down is None:
        return (
            f"did not go down within {waited:.0f} s: it still runs the boot in which it was asked",
            f"a service may not stop: systemctl list-jobs there; then {again} goes on where it stopped",
        )
    if last.what == OLD_BOOT:
        return (
            f"was away from second {down:.0f} to {last.at:.0f}, and still runs the boot in which it was asked: "
            "its network or its sshd was gone, it did not reboot",
            f"look at its network, and at systemctl list-jobs there; then {again} goes on where it stopped",
        )
    if last.what == HOST_KEY:
        return (
            "is back with another host key than the known one; it was not accepted",
            f"find out why before you trust it; {last.hint or 'was it installed anew?'}; then {again} goes on",
        )
    if last.what == LOGIN:
        return "is back, but does not let the account in", f"look at its console, or power-cycle it: {once}"
    if last.what == SUDO:
        return "is back, but its helper may not be run", f"look at sudoers there, or power-cycle it: {once}"
    if last.what == REFUSED and SILENT not in [sight.what for sight in sights]:  # a reboot takes the network away
        return (
            f"stopped its sshd after {down:.0f} s, and was never seen without its network since: it hangs on its way "
            f"down, or came back without sshd ({address} refuses connections)",
            f"look at its console, or power-cycle it: {once}",
        )
    if last.what == REFUSED:
        return (
            f"is back, but its sshd does not run: {address} refuses connections",
            f"look at its console, or power-cycle it: {once}",
        )
    if last.what == LOST:
        return (
            f"answers at {address}, but not as a node that is up",
            f"see what it says above, look at its console, or power-cycle it: {once}",
        )
    since = f"{waited - down:.0f} s" if down is not None else f"{waited:.0f} s"
    return (
        f"went down and has been silent at {address} for {since}: it hangs, or has no network",
        f"look at its console, or power-cycle it: {once}",
    )


def reason(lines: Sequence[str]) -> tuple[str, list[str]]:
    """(what the kernel did, the lines that tell it) from console, pstore or the previous boot's journal; ("", []) where
    they tell nothing."""
    for pattern, what in _REASONS:
        found = [_plain(line) for line in lines if re.search(pattern, line)]
        if found:
            beside = [_plain(line) for line in lines if re.search(_BESIDE, line)]
            return what, list(dict.fromkeys([*found, *beside]))[:4]
    return "", []


def _plain(line: str) -> str:
    return re.sub(r"^\s*(?:<\d>)?(?:\[[^]]*\]\s*)?", "", line).strip()


def fell_back(seen: Seen, build: Build, seconds: float | None, lines: Sequence[str], why: str) -> tuple[str, list[str]]:
    """(what is to be said after the node's name, evidence) of one that runs another kernel than its trial."""
    after = f" after {seconds:.0f} s" if seconds is not None else ""
    if seen.release == build.release:
        on = f"on another build of {seen.release}"
    else:
        on = f"on {seen.release}"
    what, evidence = reason(lines)
    if what:
        told = f"the new kernel {what}"
    elif why:
        told = why
    else:
        told = "the new kernel did not stay, and left no word why"
    return f"came back{after} {on}: {told}", evidence
