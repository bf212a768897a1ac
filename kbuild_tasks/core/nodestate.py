"""What is to be done next on a node: its journal and what it shows now -> one act. Decides, does nothing.

The journal says what was about to happen, the node what did; after a kill -9 anywhere only both together tell. Rules:
- A reboot is asked for only while the node still runs the boot in which it was armed. Another boot id means that the
  reboot is over, whoever caused it: what runs then says how it ended.
- A build that failed here is not tried again: the node's deny list and the journal must both be free of it.
- What is not understood is refused in words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from kbuild_tasks.core.history import ENDED, IN_FLIGHT, History, rolls_back
from kbuild_tasks.core.rollout import Build
from kbuild_tasks.core.when import when

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Act(StrEnum):
    """DONE and the refusals end a stage; the others are carried out by the stage that knows them."""

    DONE = "done"
    REFUSE = "refuse"
    DENIED = "denied"
    STAGE = "stage"
    INSTALL = "install"
    BOOTFILES = "bootfiles"
    DRAIN = "drain"
    ARM = "arm"
    REBOOT = "reboot"
    WAIT = "wait"
    BACK = "back"
    FELL_BACK = "fell-back"
    NOT_TRIED = "not-tried"
    EXPIRED = "expired"
    VERIFY = "verify"
    SETTLE = "settle"
    COMMIT = "commit"
    UNCORDON = "uncordon"
    ABANDON = "abandon"


@dataclass(frozen=True)
class Step:
    act: Act
    why: str = ""
    hint: str | None = None


@dataclass(frozen=True)
class Seen:
    """What a node showed of itself (verb observe), as far as decisions need it.

    build              the build that runs, "" where the kernel's command line does not tell
    known_good, trial  builds ("" is a kernel that is not ours), None where there is none
    """

    boot_id: str
    release: str
    build_id: str = ""
    version: str = ""
    default: str = ""
    armed: str = ""
    selected: str = ""
    cmdline: str = ""
    known_good: str | None = None
    known_release: str = ""
    trial: str | None = None
    denied: Mapping[str, str] = field(default_factory=dict)
    fence: int = 0
    helper: str = ""
    expired: bool = False
    build: str = ""


def seen(answer: Mapping[str, Any]) -> Seen:
    """From the answer of verb observe. Raises ValueError where it holds no valid boot id: the words of a host that is
    half shut down are not taken for one."""
    boot_id = answer.get("boot_id")
    if not isinstance(boot_id, str) or not valid_boot_id(boot_id):
        raise ValueError(f"{str(boot_id)[:60]!r} is no boot id")
    loader = answer.get("loader") or {}
    good, trial = answer.get("known_good"), answer.get("trial")
    return Seen(
        boot_id=boot_id,
        release=str(answer.get("release") or ""),
        build_id=str(answer.get("build_id") or ""),
        build=str(answer.get("build") or ""),
        version=str(answer.get("version") or ""),
        default=str(loader.get("default") or ""),
        armed=str(loader.get("armed") or ""),
        selected=str(loader.get("selected") or ""),
        cmdline=str(answer.get("cmdline") or ""),
        known_good=str(good.get("build") or "") if good else None,
        known_release=str(good.get("release") or "") if good else "",
        trial=str(trial.get("build") or "") if trial else None,
        denied={str(entry["build"]): str(entry.get("why") or "") for entry in answer.get("deny") or ()},
        fence=int(answer.get("fence") or 0),
        helper=str(answer.get("helper") or ""),
        expired=bool(answer.get("deadman")),
    )


def valid_boot_id(text: str) -> bool:
    """random(4): /proc/sys/kernel/random/boot_id is a UUID."""
    return _UUID.fullmatch(text) is not None


def runs(seen: Seen, build: Build) -> bool:
    """Whether the node runs this build's kernel, booted from its entry as far as the node can tell."""
    if seen.release != build.release:
        return False
    if build.build_id and seen.build_id and seen.build_id != build.build_id:
        return False
    if not (build.build_id and seen.build_id) and build.version and seen.version != build.version:
        return False
    if seen.build and seen.build != build.build:  # builds that differ in modules alone share all of the above
        return False
    if seen.selected:
        return seen.selected == build.entry
    ours = re.search(r"(?:^|[/=\s])kbuild/([0-9a-f]{12}|keep-[0-9a-f]+)/", seen.cmdline)
    return ours is None or ours[1] == build.build


def way_out(name: str, seen: Seen, build: Build) -> str:
    """The hint for a build that is not tried again on a node."""
    back = f"doit rollback:{name} goes back to known-good; " if runs(seen, build) else ""
    return f"{back}doit allow:{name} lets it be tried once more"


def is_done(seen: Seen, build: Build) -> bool:
    return runs(seen, build) and seen.known_good == build.build and seen.default == build.entry


def decide(history: History, seen: Seen, build: Build, *, drains: bool = False) -> Step:
    """The next act. `drains`: the node runs k3s and is emptied before its reboot."""
    if history.back is not None:
        return Step(
            Act.REFUSE,
            f"is being rolled back since {when(history.back.at)}",
            f"{rolls_back('{node}', history.back_to)} goes on with it; then doit rollout",
        )
    if history.in_flight and history.build != build.build:
        return _of_another_build(history, seen)
    state = history.state if history.build == build.build else ""
    failed = build.build in history.failed or build.build in seen.denied
    if failed and (state not in IN_FLIGHT or build.build in history.failed):
        why = history.failed.get(build.build) or seen.denied.get(build.build) or "it failed here"
        return Step(Act.DENIED, why)
    if state == "" or state in ENDED:
        return _from_the_start(history, seen, build)
    if state == "STAGED":
        return Step(Act.INSTALL)
    if state == "INSTALLED":
        return Step(Act.BOOTFILES)
    same = seen.boot_id == history.data.get("boot_id")
    if state in ("BOOTFILES_OK", "DRAINED", "ARMED"):
        return _before_the_reboot(state, same, seen, build, drains)
    if state == "REBOOTING":
        return Step(Act.WAIT) if same else _after_the_reboot(seen, build)
    if state == "COMMITTED":
        return Step(Act.UNCORDON)
    if not same:  # BACK, VERIFIED, VERIFIED2: the boot that was being verified is over
        if state == "VERIFIED2" and not runs(seen, build) and _was_committed(history, seen):
            return Step(Act.UNCORDON)  # and somebody booted another kernel since
        return _after_the_reboot(seen, build, "it went down again before it was verified")
    return Step({"BACK": Act.VERIFY, "VERIFIED": Act.SETTLE, "VERIFIED2": Act.COMMIT}[state])


def _was_committed(history: History, seen: Seen) -> bool:
    """The node did it, and the record of it was not written any more."""
    return seen.known_good == history.build and seen.default == f"kbuild-{history.build}"


def _of_another_build(history: History, seen: Seen) -> Step:
    if history.state == "COMMITTED" or (history.state == "VERIFIED2" and _was_committed(history, seen)):
        return Step(Act.UNCORDON)
    same = seen.boot_id == history.data.get("boot_id")
    if history.state in ("DRAINED", "ARMED") and same:
        return Step(Act.ABANDON, f"build {history.build} had not been booted yet")
    return Step(
        Act.REFUSE,
        f"is in the middle of build {history.build} ({history.state} since {when(history.since)})",
        "doit rollback:{node} goes back to known-good, then doit rollout",
    )


def _from_the_start(history: History, seen: Seen, build: Build) -> Step:
    if is_done(seen, build):
        return Step(Act.DONE)
    if seen.trial is not None and seen.trial not in history.known:
        return Step(
            Act.REFUSE,
            f"tries build {seen.trial or 'of somebody else'}, which this project's journal does not know",
            "doit rollback:{node} goes back to known-good, then doit rollout",
        )
    return Step(Act.STAGE)


def _before_the_reboot(state: str, same: bool, seen: Seen, build: Build, drains: bool) -> Step:
    if not same and seen.trial == build.build and (runs(seen, build) or state == "ARMED"):
        return _after_the_reboot(seen, build, "it was rebooted by somebody else")
    if not same and seen.trial == build.build and not seen.armed:
        # The answer to `arm` was lost, and so was the node: what was armed has been booted since, or never will be.
        return _after_the_reboot(seen, build, "it was armed and rebooted while nobody saw it")
    if state == "ARMED" and same and seen.armed == build.entry:
        return Step(Act.REBOOT)
    if drains and (state == "BOOTFILES_OK" or not same):
        return Step(Act.DRAIN)
    return Step(Act.ARM)


def _after_the_reboot(seen: Seen, build: Build, why: str = "") -> Step:
    if runs(seen, build):
        return Step(Act.BACK, why)
    if seen.expired:
        return Step(Act.EXPIRED, "nobody verified it in time, so it went back by itself")
    if seen.armed == build.entry:
        return Step(Act.NOT_TRIED, "its loader did not try the armed entry")
    return Step(Act.FELL_BACK, why)
