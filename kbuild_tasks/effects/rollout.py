"""One run of the roll-out and its part on one node: what was seen, the journal, questions and acts. The stages deploy,
reboot, verify and rollback are written in these words; what comes next is decided in core/nodestate.py."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kbuild_tasks.core import nodestate
from kbuild_tasks.core.errors import Interrupted, KbuildError, NodeRefused, NodeUnreachable
from kbuild_tasks.core.history import TAKEN_BACK, History
from kbuild_tasks.core.model import Cluster, Node
from kbuild_tasks.core.nodestate import Seen, Step
from kbuild_tasks.core.rollout import Build, taking_part
from kbuild_tasks.effects import clock, helper
from kbuild_tasks.effects.context import Context, Paths
from kbuild_tasks.effects.files import read_record, write_json
from kbuild_tasks.effects.journal import Journal
from kbuild_tasks.effects.lease import Lease

OBSERVE = 60  # seconds for a node to tell of itself


@dataclass
class Run:
    """What the tasks of one run share. `order`: batches of names; `ready`: raises where the build half is stale."""

    cluster: Cluster
    paths: Paths
    build: Build
    order: Sequence[Sequence[str]]
    ready: Any = None  # () -> None
    back_to: str = "known-good"  # what rollback goes to; "previous": the known-good before the last commit
    only_build: str = ""  # of prune; "": every build that nothing needs
    away: dict[str, float] = field(default_factory=dict)  # node -> seconds for which it was down
    _seen: dict[str, Any] = field(default_factory=dict)
    _asked: bool = False
    _guard: threading.Lock = field(default_factory=threading.Lock)
    lease: Lease = field(init=False)

    def __post_init__(self) -> None:
        self.lease = Lease(self.cluster, self.paths, self.order, self.build.build)

    def names(self) -> list[str]:
        return [name for batch in self.order for name in batch]

    def others(self, node: Node) -> list[Node]:
        """Nodes that must be up while this one is down: all that take part, but for those of its own batch."""
        batch: Sequence[str] = next((batch for batch in self.order if node.name in batch), (node.name,))
        return [other for other in taking_part(self.cluster) if other.name not in batch]

    def leaving(self, nodes: Sequence[Node]) -> list[str]:
        """Names of those that were asked to reboot by an earlier run and have not gone down: they may at any moment."""
        found = []
        for node in nodes:
            if asked_in := Journal(journal_file(self.paths, node.name)).history.asked_in:
                answer = self._try(node)
                if isinstance(answer, dict) and answer.get("boot_id") == asked_in:
                    found.append(node.name)
        return found

    def first_look(self, node: Node) -> dict[str, Any]:
        """The node's answer to observe; the first call asks all nodes of the run at once. Raises as helper.ask()."""
        with self._guard:
            if not self._asked:
                self._asked = True
                nodes = [self.cluster.nodes[name] for name in self.names()]
                with ThreadPoolExecutor(max(1, len(nodes))) as pool:
                    self._seen = dict(zip(self.names(), pool.map(self._try, nodes), strict=True))
            found = self._seen.get(node.name)
        if found is None:
            found = self._try(node)
        if isinstance(found, Exception):
            raise found
        return dict(found)

    def remember(self, node: Node, answer: Mapping[str, Any]) -> None:
        """What a task saw last; the next one need not ask again."""
        with self._guard:
            self._seen[node.name] = dict(answer)

    def forget(self, node: Node) -> None:
        """What was seen of it is out of date."""
        with self._guard:
            self._seen.pop(node.name, None)

    def _try(self, node: Node) -> dict[str, Any] | Exception:
        try:
            return observe(self.cluster, self.paths, node)
        except (KbuildError, OSError) as error:
            return error


def observe(
    cluster: Cluster, paths: Paths, node: Node, *, timeout: float = OBSERVE, alone: bool = False
) -> dict[str, Any]:
    """Ask a node for its state, and keep the answer for `doit status`. Raises as helper.ask(); NodeUnreachable where
    what answers is not in a state to tell."""
    sent = clock.now()
    answer = helper.ask(cluster, node, "observe", timeout=timeout, alone=alone)
    received = clock.now()
    try:
        nodestate.seen(answer)
    except ValueError as error:
        raise NodeUnreachable(f"{node.name} is not up yet: {error}", "wait for it") from None
    answer["skew"] = skew(sent, answer.get("time"), received)
    write_json(seen_file(paths, node.name), {"at": sent, "observe": answer}, durable=False)
    return answer


def skew(sent: float, told: Any, received: float) -> float:
    """Seconds by which the node's clock is ahead of ours: at least so much, whatever the way took."""
    if not isinstance(told, int | float):
        return 0.0
    if told + 1 < sent:  # it tells whole seconds
        return round(told + 1 - sent, 1)
    return round(max(0.0, told - received), 1)


def journal_file(paths: Paths, node: str) -> Path:
    return paths.build / "rollout" / f"{node}.jsonl"


def seen_file(paths: Paths, node: str) -> Path:
    return paths.build / "rollout" / f"{node}-seen.json"


class Visit:
    """One task's work on one node."""

    def __init__(self, ctx: Context) -> None:
        """Raises JournalDamaged."""
        assert ctx.node is not None and isinstance(ctx.rollout, Run)
        self.ctx, self.node, self.run = ctx, ctx.node, ctx.rollout
        self.cluster, self.build = ctx.cluster, ctx.rollout.build
        self.journal = Journal(journal_file(ctx.paths, self.node.name))
        self.answer: dict[str, Any] = {}
        self.seen = Seen("", "")

    @property
    def history(self) -> History:
        return self.journal.history

    @property
    def state(self) -> str:
        """Where this build's attempt stands here; "" where there is none, or it is being rolled back."""
        history = self.history
        return history.state if history.build == self.build.build and history.back is None else ""

    @property
    def data(self) -> Mapping[str, Any]:
        """What this attempt remembers."""
        return self.history.data if self.history.build == self.build.build else {}

    @property
    def fence(self) -> int:
        """The number under which this run has the node; 0: it changed nothing there yet."""
        return self.run.lease.held(self.node)

    def look(self, *, anew: bool = False) -> Seen:
        """What the node shows; without `anew` what it showed earlier in this run will do."""
        if anew:
            self.answer = observe(self.cluster, self.ctx.paths, self.node)
        else:
            self.answer = self.run.first_look(self.node)
        return self.saw(self.answer)

    def saw(self, answer: Mapping[str, Any]) -> Seen:
        self.answer = dict(answer)
        self.seen = nodestate.seen(answer)
        return self.seen

    def next(self) -> Step:
        return nodestate.decide(self.history, self.seen, self.build, drains=self.node.k3s is not None)

    def ask(self, verb: str, *, timeout: float = 60, **values: str | int) -> dict[str, Any]:
        """A question; changes nothing."""
        return helper.ask(self.cluster, self.node, verb, values, timeout=timeout)

    def do(
        self, verb: str, *, payload: bytes | None = None, timeout: float = 60, **values: str | int
    ) -> dict[str, Any]:
        """An act, under our lease. Raises NodeRefused where another operator has the node."""
        return self.act(verb, values, payload, timeout)

    def act(
        self, verb: str, values: Mapping[str, str | int], payload: bytes | None = None, timeout: float = 60
    ) -> dict[str, Any]:
        """The same with the values as a mapping."""
        number = self.run.lease.take(self.node, self.answer)
        self.run.forget(self.node)
        return helper.ask(self.cluster, self.node, verb, {**values, "fence": number}, payload, timeout=timeout)

    def free(self) -> None:
        """The node is done: the next one there may be another operator. Already so is success."""
        if self.run.lease.give_back(self.node, self.answer):
            self.run.forget(self.node)

    def record(self, state: str, note: str = "", **data: Any) -> None:
        self.journal.append(self.build.build, state, note, data)
        self.run.forget(self.node)

    def hold(self, error: KbuildError, kind: str = "other") -> KbuildError:
        """Write down why it stopped here, and give the error back to be raised. Of a run that is being stopped nothing
        is: as after a kill, journal and node tell how far it came."""
        if not isinstance(error, Interrupted):
            self.record("HELD", error.message, kind=kind)
        return error

    def say(self, step: str) -> None:
        """Progress, for whoever watches."""
        self.ctx.emit(self.ctx.task, {"step": step})

    def stop(self, step: Step) -> KbuildError:
        """A step that ends the task, as an error."""
        name = self.node.name
        if step.act == nodestate.Act.DENIED:
            why = "" if step.why == TAKEN_BACK else f": {step.why}"
            return NodeRefused(
                f"build {self.build.build} {'failed' if why else 'was rolled back'} on {name} "
                f"and is not tried again there{why}",
                nodestate.way_out(name, self.seen, self.build),
            )
        hint = step.hint.format(node=name) if step.hint else f"doit status, then doit rollback:{name}"
        return NodeRefused(f"{name} {step.why}", hint)


def baseline_file(paths: Paths, node: str) -> Path:
    return paths.build / "rollout" / f"{node}-baseline.json"


def take_baseline(visit: Visit) -> None:
    """What the node is like before its trial; kept for verify. One that was taken in this boot for this build stays.

    Raises NodeRefused where the node cannot tell something: its new kernel would be blamed for it.
    """
    path = baseline_file(visit.ctx.paths, visit.node.name)
    old = read_record(path)
    if old.get("build") == visit.build.build and (old.get("observe") or {}).get("boot_id") == visit.seen.boot_id:
        return
    visit.say("taking its baseline")
    answer = visit.ask("baseline")
    if untold := [key.replace("_", " ") for key, told in answer.items() if told is None]:
        raise NodeRefused(
            f"{visit.node.name} cannot tell its {' and '.join(untold)}: nothing to compare its new kernel with",
            "there: journalctl -k -b -p 3; systemctl --failed",
        )
    value = {"build": visit.build.build, "at": clock.stamp(), "observe": visit.answer, "baseline": answer}
    write_json(path, value | {"skew": visit.answer.get("skew", 0.0), "clock": clock.mark()})
