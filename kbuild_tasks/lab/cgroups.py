"""The lab's cgroups: what belongs to it, what share a node has, and how a node is frozen.

Every process of a lab is born in a cgroup named after the lab (<id>/holder, <id>/kubenode2), in each hierarchy that
we use. So membership answers "what is left of a dead lab?" without a guess by name or by pid, whatever was killed
when. Works with version 1 (one hierarchy a controller, or hybrid) and version 2; ControlGroup says which file does
what. Files: Documentation/admin-guide/cgroup-v1/ and cgroup-v2.rst of the kernel.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError

PERIOD = 20_000  # microseconds; short, so that a share of 10 % still answers within 20 ms
WANTED_V1 = frozenset({"cpu", "freezer", "name=systemd"})  # nspawn lives in name=systemd


@dataclass(frozen=True)
class Hierarchy:
    mount: Path
    version: int
    controllers: frozenset[str]


def parse_mountinfo(text: str) -> tuple[Hierarchy, ...]:
    """The hierarchies that a lab uses, from /proc/self/mountinfo (proc(5)): writable ones, each once."""
    found: dict[Path, Hierarchy] = {}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(), after.split()
        if len(fields) < 6 or len(tail) < 3 or fields[3] != "/" or "ro" in fields[5].split(","):
            continue
        path = Path(fields[4].encode().decode("unicode_escape"))
        if tail[0] == "cgroup2":
            found[path] = Hierarchy(path, 2, frozenset())
        elif tail[0] == "cgroup" and WANTED_V1 & (options := frozenset(tail[2].split(","))):
            found[path] = Hierarchy(path, 1, options & WANTED_V1)
    return tuple(found.values())


class Tree:
    """The cgroups of one lab: <hierarchy>/<id>/<member>, in every hierarchy that was found."""

    def __init__(self, name: str, hierarchies: tuple[Hierarchy, ...] | None = None) -> None:
        self.name = name
        if hierarchies is None:
            hierarchies = parse_mountinfo(Path("/proc/self/mountinfo").read_text())
        self.hierarchies = hierarchies

    def require(self) -> None:
        """Raises KbuildError where this machine has no cgroup that a lab could use."""
        if not self.hierarchies:
            raise KbuildError(
                "the lab needs a writable cgroup hierarchy, and this machine mounts none",
                "mount one, for example: mount -t cgroup2 cgroup2 /sys/fs/cgroup",
            )

    def make(self, member: str) -> None:
        """The cgroups of a member in every hierarchy; controllers are handed down where version 2 wants it."""
        for tree in self.hierarchies:
            path = tree.mount / self.name
            path.mkdir(exist_ok=True)
            if tree.version == 2:
                for level in (tree.mount, path):
                    self._hand_down(level)
            (path / member).mkdir(exist_ok=True)

    @staticmethod
    def _hand_down(level: Path) -> None:
        offered = (level / "cgroup.controllers").read_text().split()
        if "cpu" in offered and "cpu" not in (level / "cgroup.subtree_control").read_text().split():
            (level / "cgroup.subtree_control").write_text("+cpu")

    def reset(self, member: str) -> None:
        """Remove what an ended systemd left below a member's cgroups. In version 2 a cgroup that hands controllers
        down takes no process, so a node could not be started a second time without this."""
        for tree in self.hierarchies:
            top = tree.mount / self.name / member
            for directory in reversed(list(_walk(top))[1:]):
                _rmdir(directory)
            if tree.version == 2 and (handed := (top / "cgroup.subtree_control").read_text().split()):
                (top / "cgroup.subtree_control").write_text(" ".join(f"-{name}" for name in handed))

    def enter(self, member: str) -> None:
        """Move the calling process into a member's cgroups."""
        for tree in self.hierarchies:
            (tree.mount / self.name / member / "cgroup.procs").write_text("0")

    def pids(self, member: str = "") -> tuple[int, ...]:
        """All processes of a member, or of the whole lab, as the machine numbers them."""
        found: set[int] = set()
        for tree in self.hierarchies:
            for directory in _walk(tree.mount / self.name / member):
                with contextlib.suppress(OSError):  # removed meanwhile
                    found |= {int(pid) for pid in (directory / "cgroup.procs").read_text().split()}
        return tuple(sorted(found - {0}))

    def set_share(self, member: str, cores: float | None) -> None:
        """Limit a member to so many cores (None: no limit). KbuildError where the machine cannot."""
        for tree in self.hierarchies:
            path = tree.mount / self.name / member
            if (quota := path / "cpu.cfs_quota_us").exists():
                (path / "cpu.cfs_period_us").write_text(str(PERIOD))
                quota.write_text("-1" if cores is None else str(max(1000, round(cores * PERIOD))))
                return
            if (limit := path / "cpu.max").exists():
                limit.write_text(f"{'max' if cores is None else max(1000, round(cores * PERIOD))} {PERIOD}")
                return
        if cores is not None:
            raise KbuildError(
                f"{member} cannot be given a CPU share: this machine has no cpu controller with bandwidth control",
                "leave --cpus out",
            )

    def get_share(self, member: str) -> float | None:
        """Cores that a member may use; None: no limit."""
        for tree in self.hierarchies:
            path = tree.mount / self.name / member
            with contextlib.suppress(FileNotFoundError):
                quota = int((path / "cpu.cfs_quota_us").read_text())
                return None if quota < 0 else quota / int((path / "cpu.cfs_period_us").read_text())
            with contextlib.suppress(FileNotFoundError):
                most, period = (path / "cpu.max").read_text().split()
                return None if most == "max" else int(most) / int(period)
        return None

    def freeze(self, member: str, frozen: bool) -> None:
        """Stop or go on, the whole member at once; returns when it is so. SIGSTOP where there is no freezer."""
        state, on, off, proof = self._freezer(member)
        if state is None:
            for pid in self.pids(member):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGSTOP if frozen else signal.SIGCONT)
            return
        state.write_text(on if frozen else off)
        deadline = time.monotonic() + 10
        while self.frozen(member) != frozen:
            if time.monotonic() > deadline:
                raise KbuildError(
                    f"{member} did not {'freeze' if frozen else 'thaw'} within 10 s", evidence=[str(proof)]
                )
            time.sleep(0.01)

    def frozen(self, member: str) -> bool:
        """Whether the whole member stands still."""
        state, on, _, proof = self._freezer(member)
        if state is None or proof is None:
            pids = self.pids(member)
            return bool(pids) and all(_stopped(pid) for pid in pids)
        text = proof.read_text()
        return text.strip() == on if proof == state else "frozen 1" in text

    def _freezer(self, member: str) -> tuple[Path | None, str, str, Path | None]:
        """(file to write, value that freezes, value that thaws, file that tells)"""
        for tree in self.hierarchies:
            path = tree.mount / self.name / member
            if (state := path / "freezer.state").exists():
                return state, "FROZEN", "THAWED", state
            if (state := path / "cgroup.freeze").exists():
                return state, "1", "0", path / "cgroup.events"
        return None, "", "", None

    def members(self) -> tuple[str, ...]:
        """Names of the cgroups right under the lab's."""
        names: set[str] = set()
        for tree in self.hierarchies:
            with contextlib.suppress(FileNotFoundError):
                names |= {entry.name for entry in (tree.mount / self.name).iterdir() if entry.is_dir()}
        return tuple(sorted(names))

    def kill(self, member: str = "", timeout: float = 10.0) -> None:
        """End all processes of a member or of the lab, frozen ones too; returns when none is left.

        The signal goes first and the thaw after it: a frozen process then dies without running one more instruction.
        """
        deadline = time.monotonic() + timeout
        while pids := self.pids(member):
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            for name in [member] if member else self.members():
                self.freeze(name, False)
            if time.monotonic() > deadline:
                raise KbuildError(
                    f"{len(pids)} processes of the lab do not end", evidence=[_described(p) for p in pids]
                )
            time.sleep(0.02)

    def end(self, timeout: float = 15.0) -> None:
        """End all processes of the lab and remove its cgroups. Raises KbuildError, OSError.

        A launcher whose command was killed may join its cgroup after we looked: it keeps the cgroup busy and is ended
        in the next round. One that comes later still finds no cgroup, and ends by itself.
        """
        deadline = time.monotonic() + timeout
        while True:
            self.kill()
            try:
                return self._remove()
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise

    def _remove(self) -> None:
        for tree in self.hierarchies:
            for directory in reversed(list(_walk(tree.mount / self.name))):
                _rmdir(directory)

    def exists(self) -> bool:
        return any((tree.mount / self.name).exists() for tree in self.hierarchies)


def _walk(top: Path) -> Iterator[Path]:
    """A cgroup and all below it, parents first."""
    if not top.is_dir():
        return
    yield top
    with contextlib.suppress(FileNotFoundError):
        for entry in sorted(top.iterdir()):
            if entry.is_dir():
                yield from _walk(entry)


def _rmdir(directory: Path) -> None:
    deadline = time.monotonic() + 1
    while True:
        try:
            return directory.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:  # a process that was just killed still counts for a moment
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.02)


def _stopped(pid: int) -> bool:
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] in "Tt"
    except OSError:
        return True


def _described(pid: int) -> str:
    with contextlib.suppress(OSError):
        return f"{pid} {(Path('/proc') / str(pid) / 'comm').read_text().strip()}"
    return str(pid)
