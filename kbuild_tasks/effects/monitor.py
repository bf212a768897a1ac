"""Watches one compilation from beside it: counts, phase, slots in use, workers that vanish; tells it in events.

on_line() is called by the thread that reads make's output, tick() by the ticker (effects/shell.py); only tick()
touches distcc's record and the watch.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kbuild_tasks.core import progress
from kbuild_tasks.core.distcc_log import LOCAL
from kbuild_tasks.effects.distcc import Client
from kbuild_tasks.effects.distcc_watch import Loss, Watch, end_client
from kbuild_tasks.effects.remaining import Remaining

EVERY = 0.5  # seconds between events
BUSY_OVER = 3.0  # seconds over which the coordinator's CPU is shown: two samples next to each other jump
LONG = 3.0  # seconds from which on an object is named while it is made
AFTER_COMPILE = ("link", "modpost", "image")
NET = Path("/proc/net/dev")
ENOUGH = 20  # objects, before the rest is asked for


class Monitor:
    """One compilation. `error` is what the ticker's thread met; who owns the monitor raises it when make has ended."""

    def __init__(
        self,
        client: Client,
        coordinator: str,
        tree: Path,
        emit: Callable[[str, Mapping[str, Any]], None],
        clock: Callable[[], float] = time.monotonic,
        began: float | None = None,
    ) -> None:
        """began: of the compilation, on `clock`; default: now."""
        self.error: Exception | None = None
        self.phase = "prepare"
        self.phases: list[tuple[float, str]] = [(0.0, "prepare")]
        self.cpu: list[tuple[float, float]] = []  # second, busy share of the coordinator
        self.sent: list[tuple[float, float]] = []  # second, bytes that its interfaces had sent by then
        self._client, self._coordinator, self._emit, self._clock = client, coordinator, emit, clock
        self._watch = Watch(client.plan.nodes, client.log, client.set_gone, end_client)
        self._remaining = Remaining(tree)
        self._meter = progress.Meter()
        self._meters: dict[str, progress.Meter] = {}
        self._began = clock() if began is None else began
        self._told = float("-inf")
        self._ticks: deque[tuple[float, tuple[int, int]]] = deque()

    @property
    def losses(self) -> list[Loss]:
        return self._watch.losses

    def on_line(self, line: str) -> None:
        phase = progress.phase_of(line) or self.phase
        if phase != self.phase:
            self.phases.append((self._clock() - self._began, phase))
        self.phase = phase

    def tick(self) -> None:
        if self.error is not None:
            return
        try:
            now = self._clock()
            self._client.poll(now)
            self._watch.tick(now)
            self._count(now)
            if now - self._told >= EVERY:
                self._told = now
                self._emit("compile", asdict(self.snapshot(now)))
        except Exception as error:  # a thread's exception would end the watch without a word
            self.error = error

    def snapshot(self, now: float) -> progress.Snapshot:
        plan, done, seconds = self._client.plan, self._client.done(), now - self._began
        self._meter.add(now, done)
        total = self._total()
        counts: dict[str, int] = {}
        for job in list(self._client.log.ended.values()):
            node = self._node(job.host)
            counts[node] = counts.get(node, 0) + 1
        for node, count in counts.items():
            self._meters.setdefault(node, progress.Meter()).add(now, count)
        return progress.Snapshot(
            done=done,
            total=total,
            phase=self.phase,
            seconds=seconds,
            rate=self._meter.rate(),
            eta=progress.eta(done, total, self._meter.rate(progress.PACE), seconds),
            in_use={self._node(where): n for where, n in self._client.log.in_use().items()},
            slots=dict(plan.slots) if plan.hosts else {},
            per_node=counts,
            rates={node: meter.rate() for node, meter in self._meters.items()},
            fallbacks=sum(1 for job in list(self._client.log.ended.values()) if job.fallback),
            gone=self._watch.gone,
            cpu=self._busy(now),
            longest=self._longest(now),
        )

    def _busy(self, now: float) -> float | None:
        """Busy share of this machine's CPUs of late."""
        try:
            ticks = progress.cpu_ticks(Path("/proc/stat").read_text())
        except OSError:
            return None
        if ticks is None:
            return None
        self._ticks.append((now, ticks))
        while len(self._ticks) > 2 and now - self._ticks[0][0] > BUSY_OVER:
            self._ticks.popleft()
        share = progress.busy(self._ticks[0][1], ticks)
        if share is not None and (not self.cpu or now - self._began - self.cpu[-1][0] >= 1.0):
            self.cpu.append((round(now - self._began, 2), round(share, 3)))
            with contextlib.suppress(OSError):
                self.sent.append((self.cpu[-1][0], float(progress.bytes_sent(NET.read_text()))))
        return share

    def _longest(self, now: float) -> tuple[str, float] | None:
        """The object that distcc is at for the longest time, where that is long."""
        jobs = [(job.since, job.object) for job in list(self._client.log.running.values()) if job.object]
        since, name = min(jobs, default=(now, ""))
        return (name, now - since) if now - since >= LONG else None

    def close(self) -> None:
        self._remaining.stop()
        self._watch.close()

    def _count(self, now: float) -> None:
        if self._client.done() >= ENOUGH:
            self._remaining.tick(now - self._began, self._finished)

    def _finished(self) -> frozenset[str]:
        here = [name for name, what in self._client.given.items() if what == "here"]
        # the last ones handed to a compiler here may not be finished: the front does not wait for them
        return frozenset([*self._client.log.ended, *here[: -2 * max(1, self._client.plan.jobs)], *self._client.had])

    def _total(self) -> int | None:
        names = self._remaining.names
        if names is None:
            return None
        given = self._client.given.keys() | self._client.had
        return len(given) if self.phase in AFTER_COMPILE else len(names | given)

    def _node(self, where: str) -> str:
        return self._coordinator if where in ("", LOCAL) else self._client.plan.nodes.get(where, where)
