"""Workers that vanish in the middle of a build: noticed in seconds, their jobs moved, tried again later.

What distcc 3.4 does by itself, measured: a worker that refuses costs a preprocessor each time it is tried, every
DISTCC_BACKOFF_PERIOD; one that is killed closes its connections, and its jobs go elsewhere; but one that is cut off
sends nothing at all, and each of its jobs waits for DISTCC_IO_TIMEOUT, which cannot be short, since a long compile is
silent too. So a worker that has jobs and has been quiet for QUIET seconds, or has failed twice in a row, is asked for a
connection, and

    no connection within CONNECT seconds, or refused    it is gone
    connections, but no object for SILENT seconds       it is frozen, or slower than help is worth
    connections, but FAILURES failures in a row         it refuses the work

Then it is taken out of distcc's host list, and its clients are ended: the front (front.sh) starts them again, and they
read the new list. It comes back with the next connection that succeeds, after a frozen worker's REST at the earliest.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from kbuild_tasks.core.distcc_log import DistccLog

QUIET = 3.0
CONNECT = 3.0
SILENT = 45.0
RETRY = 5.0  # how often a quiet or lost worker is asked
FAILURES = 5
REST = 60.0  # how long a worker that connects and does no work is left alone


@dataclass(frozen=True)
class Loss:
    """A worker was given up: node, why, clients that were ended."""

    node: str
    why: str
    jobs: int


@dataclass
class _Worker:
    node: str
    address: str
    port: int
    gone: bool = False
    rest_until: float = 0.0
    asked: float = float("-inf")
    probe: socket.socket | None = None


class Watch:
    """tick() a few times a second; it never waits. `losses` grows, `gone` names nodes that are out now.

    set_gone  is told the new set of names whenever it changes
    end       ends a client by its PID; False where it is none any more
    """

    def __init__(
        self,
        nodes: Mapping[str, str],
        log: DistccLog,
        set_gone: Callable[[Collection[str]], None],
        end: Callable[[int], bool],
    ) -> None:
        self.losses: list[Loss] = []
        self._log, self._set_gone, self._end = log, set_gone, end
        self._workers = {where: _Worker(node, *_address(where)) for where, node in nodes.items()}

    @property
    def gone(self) -> tuple[str, ...]:
        return tuple(worker.node for worker in self._workers.values() if worker.gone)

    def tick(self, now: float) -> None:
        before = self.gone
        for where, worker in self._workers.items():
            self._judge(where, worker, now)
        if self.gone != before:
            self._set_gone(self.gone)

    def close(self) -> None:
        for worker in self._workers.values():
            self._drop(worker)

    def _judge(self, where: str, worker: _Worker, now: float) -> None:
        since = self._quiet_since(where)
        quiet = since is not None and now - since > QUIET
        failures = self._log.failing.get(where, 0)
        answer = self._answer(worker, now)
        if answer is False and not worker.gone:
            self._give_up(where, worker, "does not answer any more")
        elif answer is False:
            self._move(where, "does not answer")  # clients that had read the old list
        elif answer is True and worker.gone and now >= worker.rest_until:
            worker.gone = False
            self._log.failing.pop(where, None)
        elif not worker.gone and since is not None and now - since > SILENT:
            self._give_up(where, worker, f"sent nothing for {SILENT:.0f} s", now + REST)
        elif not worker.gone and answer is True and failures >= FAILURES:
            self._give_up(where, worker, f"failed {failures} jobs in a row", now + REST)
        every = QUIET if failures >= 2 and not worker.gone else RETRY
        if (quiet or worker.gone or failures >= 2) and worker.probe is None and now - worker.asked > every:
            self._ask(worker, now)

    def _quiet_since(self, where: str) -> float | None:
        """Since when a worker that has jobs has sent nothing; None: it has none."""
        begun = [job.since for job in list(self._log.running.values()) if job.host == where]
        return max(min(begun), self._log.heard.get(where, 0.0)) if begun else None

    def _give_up(self, where: str, worker: _Worker, why: str, rest_until: float = 0.0) -> None:
        worker.gone, worker.rest_until = True, rest_until
        self._set_gone(self.gone)  # before its clients start again
        self.losses.append(Loss(worker.node, why, self._move(where, why)))

    def _move(self, where: str, why: str) -> int:
        """End the clients that wait for a worker; the front starts each again."""
        ended = 0
        for pid, job in list(self._log.running.items()):
            if job.host == where and self._end(pid):
                self._log.killed(pid, why)
                ended += 1
        return ended

    def _ask(self, worker: _Worker, now: float) -> None:
        worker.asked = now
        try:
            family = socket.getaddrinfo(worker.address, worker.port, type=socket.SOCK_STREAM)[0]
        except OSError:
            return  # a resolver that is away says nothing about the worker
        probe = socket.socket(family[0], socket.SOCK_STREAM)
        probe.setblocking(False)
        worker.probe = probe
        probe.connect_ex(family[4])

    def _answer(self, worker: _Worker, now: float) -> bool | None:
        """True: connected; False: not, or not in time; None: nothing was asked, or it is still open."""
        if worker.probe is None:
            return None
        poll = select.poll()
        poll.register(worker.probe, select.POLLOUT)
        if poll.poll(0):
            failed = worker.probe.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            self._drop(worker)
            return failed in (0, errno.EISCONN)
        if now - worker.asked > CONNECT:
            self._drop(worker)
            return False
        return None

    @staticmethod
    def _drop(worker: _Worker) -> None:
        if worker.probe is not None:
            worker.probe.close()
            worker.probe = None


def end_client(pid: int) -> bool:
    """SIGTERM to a process if it is a distcc of ours; a PID that is another's by now is left alone."""
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(pid)
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == "distcc":
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                return True
        finally:
            os.close(handle)
    return False


def _address(where: str) -> tuple[str, int]:
    address, _, port = where.rpartition(":")
    return address.strip("[]"), int(port)
