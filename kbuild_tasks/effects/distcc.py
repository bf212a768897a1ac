"""distcc's client on the coordinator, for one build: its environment, its record while it grows, its lost workers.

    <state>/distcc/log       distcc's log: 20 kB for an object, so pieces of it are dropped once they are read
    <state>/distcc/objects   the front's record, one line for an object
    <state>/distcc/times     when it was asked for each object, and had it: read once, at the end
    <state>/distcc/hosts     distcc's host list, read anew for each job: a worker that is gone is taken out
    <state>/distcc/lock      distcc's own slots and backoff marks
    <workdir>/tmp            preprocessed files, 3 MB each, gone in a second: beside the tree, on its tmpfs; and what
                             is being checked (check.sh)

Nothing of it outlives the build: what counts goes into build/last-run.json.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Collection
from pathlib import Path

from kbuild_tasks.core.distcc_log import DistccLog
from kbuild_tasks.core.distribution import COMPARED, Distribution, distribution
from kbuild_tasks.core.hosts import HostPlan
from kbuild_tasks.core.trust import draws
from kbuild_tasks.effects import trace
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import write_atomic

LOG_BYTES = 16 << 20  # beyond that the log is started anew
READ_BYTES = 1 << 20


class Client:
    """Everything of one build's distribution. start(), then poll() a few times a second, then finish()."""

    def __init__(self, paths: Paths, plan: HostPlan, front: Path, check: float = 0.0) -> None:
        """check: share of the workers' objects that are made here once more and compared."""
        self.check = draws(check)
        self.plan, self.front = plan, front
        self.directory = paths.state / "distcc"
        self.temporary = paths.workdir / "tmp"
        self.log = DistccLog()
        self.given: dict[str, str] = {}  # object -> "far" | "here", as far as the front's record was read
        self.dead = 0  # questions that the compiler did not live to answer
        self.had: set[str] = set()  # objects that ccache has given or stored
        self.began = 0.0  # on the clock that the front reads
        self.started = 0.0  # the same moment on the monotonic clock
        self._main = self.directory / "log"
        self._times = self.directory / "times"
        self._record = _Follower(self.directory / "objects")
        self._lines: list[str] = []
        self._logs: list[_Follower] = []

    def start(self) -> None:
        """Begin with empty directories: leftovers of a killed build are old locks, old marks and dead files."""
        for directory in (self.directory, self.temporary):
            if directory.is_symlink() or directory.is_file():
                directory.unlink()
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True, mode=0o700)
        (self.directory / "lock").mkdir()
        self._main.touch()
        self._record.path.touch()
        self._times.touch()
        self.began, self.started = trace.uptime(), time.monotonic()
        self.set_gone(())
        self._logs = [_Follower(self._main)]

    def set_gone(self, gone: Collection[str]) -> None:
        """Nodes that get no jobs from now on."""
        if self.plan.hosts:
            write_atomic(self.directory / "hosts", self.plan.without(gone) + "\n", durable=False)

    def environment(self, path: str) -> dict[str, str]:
        """What the front and distcc need; `path` is the PATH behind the front."""
        return {
            "PATH": f"{self.front}:{path}",
            "TMPDIR": str(self.temporary),
            "KBUILD_TASKS_RECORD": str(self._record.path),
            **({"KBUILD_TASKS_TIMES": str(self._times)} if trace.UPTIME.exists() else {}),
            "KBUILD_TASKS_WORKERS": " ".join(self.plan.workers),
            **({"KBUILD_TASKS_FAR": self.plan.far} if self.plan.far else {}),
            **({"KBUILD_TASKS_CHECK": str(self.check)} if self.check else {}),
            "KBUILD_TASKS_CHECKS": str(self.plan.carries),
            **self.plan.env,
            "DISTCC_DIR": str(self.directory),
            "DISTCC_LOG": str(self._main),
            "DISTCC_VERBOSE": "1",  # the only level that tells which host made an object
        }

    def poll(self, now: float) -> None:
        """Read what was written since. Not to be called by two threads at a time."""
        for data in self._record.read():
            for line in data.decode("utf-8", "backslashreplace").splitlines():
                self._lines.append(line)
                what, _, rest = line.partition("\t")
                name = rest.partition("\t")[2]
                if what == "had":
                    self.had.add(name)
                elif what == "dead":
                    self.dead += 1
                elif what != "lost" and what not in COMPARED:
                    self.given[name] = what
        for follower in list(self._logs):
            for data in follower.read():
                self.log.feed(data, now)
            if follower.writers is not None and not follower.writers & self.log.running.keys():
                follower.close()  # its last client has ended
                self._logs.remove(follower)
        current = self._logs[-1]
        if current.offset > LOG_BYTES:
            self._rotate(current)

    def _rotate(self, current: _Follower) -> None:
        """New clients open a new log; the old one loses its name now and its blocks with its last client."""
        old = self._main.with_name("log.old")
        try:
            os.rename(self._main, old)
        except FileNotFoundError:
            pass
        except OSError:
            return  # it grows on
        with contextlib.suppress(OSError):  # on a full disk the next client tries to make it
            old.unlink(missing_ok=True)
            self._main.touch()
        # A client that has opened the old log and written nothing yet is not known: it is then read from mid-job on
        # only if it starts within this poll; its object is still in the front's record.
        current.writers = set(self.log.running)
        self._logs.append(_Follower(self._main))

    def times(self) -> list[str]:
        """The front's lines (core/spans.py)."""
        try:
            return self._times.read_text("utf-8", "backslashreplace").splitlines()
        except OSError:
            return []

    def done(self) -> int:
        """Objects that are finished, as far as is known now."""
        here = sum(1 for what in self.given.values() if what == "here")
        return len(self.log.ended) + here + len(self.had - self.given.keys())

    def finish(self, now: float, coordinator: str, root: Path) -> Distribution:
        """Read to the end, remove the temporary files, and say where everything was made."""
        self.poll(now)
        told = distribution("\n".join(self._lines), self.log, self.plan.nodes, coordinator, str(root))
        self.close()
        return told

    def close(self) -> None:
        """Drop files and directories, also after a failure."""
        for follower in (*self._logs, self._record):
            follower.close()
        shutil.rmtree(self.temporary, ignore_errors=True)
        with contextlib.suppress(OSError):
            self._main.unlink()


class _Follower:
    """Reads a growing file in whole lines.

    writers  after a rotation: PIDs of clients that may still write to it
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.offset = 0
        self.writers: set[int] | None = None
        self._fd: int | None = None
        self._rest = b""

    def read(self) -> list[bytes]:
        """Whole lines written since the last call, in pieces of about READ_BYTES."""
        if self._fd is None:
            try:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return []
        pieces = []
        while data := os.read(self._fd, READ_BYTES):
            self.offset += len(data)
            whole = self._rest + data
            cut = whole.rfind(b"\n") + 1
            self._rest = whole[cut:]
            if cut:
                pieces.append(whole[:cut])
        return pieces

    def close(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
