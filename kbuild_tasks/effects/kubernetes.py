"""k3s nodes in a roll-out, by kubectl: cordon, drain, wait until Ready in this boot, uncordon.

A cordon of ours and the mark that it is ours are one write: `kubectl patch`, not `kubectl cordon`, because a run that
is killed between two writes would leave a cordon that nobody dares to lift. Each write names the version of the node
that it was decided on, so that an operator's cordon in that moment is a conflict, and is read again.

A drain never forces: no --disable-eviction (it passes over PodDisruptionBudgets) and no --force. It looks for what
would block it first, while the node still takes pods; what may pass is waited for, what cannot is told at once. When
it fails all the same, its own cordon is undone. kubectl ends by its own --timeout also when we are killed.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from kbuild_tasks.core import kubernetes as k8s
from kbuild_tasks.core.errors import KbuildError, NodeRefused
from kbuild_tasks.core.kubectl import ApiUnreachable, Conflict
from kbuild_tasks.core.model import Cluster, Node
from kbuild_tasks.effects import shell
from kbuild_tasks.effects.kubectl import K3S_CONFIG, Kubectl, find

OFF = "off"  # rollout.kubeconfig
LATE = 10  # seconds that a drain's kubectl may outlive its own --timeout
UNDO = 30  # seconds for undoing a cordon, or lifting it: the API may be away for a moment
PAUSE = 1.0  # seconds between two looks
TRIES = 5  # writes that somebody else's write came before

T = TypeVar("T")


@dataclass(frozen=True)
class Drained:
    """was_cordoned: by an operator, who also lifts it. evicted: how many pods had to move."""

    was_cordoned: bool
    evicted: int = 0


@dataclass(frozen=True)
class Kubernetes:
    """A k3s cluster. Every method has a deadline, and may be called again after a crash of any other."""

    kubectl: Kubectl

    @classmethod
    def of(cls, cluster: Cluster, node: Node) -> Kubernetes | None:
        """None where the node runs no k3s, or where emptying it is the user's own affair (rollout.kubeconfig: off).

        Raises KbuildError where there is no kubeconfig, one that cannot be read, or no kubectl.
        """
        if not node.k3s or cluster.rollout.kubeconfig == OFF:
            return None
        kubectl = find(cluster)
        if kubectl is None:
            raise NodeRefused(
                f"{node.name} runs k3s, and there is no kubeconfig here to empty it with",
                f"copy {K3S_CONFIG} of a k3s server and name it: rollout.kubeconfig in {cluster.source}; "
                "off there: nodes are rebooted under their pods",
            )
        return cls(kubectl)

    def cordon_and_drain(self, node: Node, deadline_seconds: float) -> Drained:
        """Move all pods off a node, within the deadline. Already so is success.

        Raises KbuildError that names the pod and what holds it; then no cordon of ours is left.
        """
        name, until = k8s.node_name(node.name), time.monotonic() + deadline_seconds
        self._node(name)  # unknown, or no API: nothing was changed then, and there is nothing to undo
        try:
            moving = self._wait_for_budgets(name, until)
            was_cordoned = self._cordon(name)
            self._drain(name, until)
        except BaseException as error:
            self._undo(name, error)
            raise
        return Drained(was_cordoned, moving)

    def wait_ready(
        self, node: Node, boot_id: str, kernelrelease: str, deadline_seconds: float, since: str | None = None
    ) -> str:
        """Wait until the kubelet works in this very boot, which the node is known to be in; the renewal of its lease
        that showed it. An API that is away meanwhile (the only server reboots) is waited for.

        since  lease() of when k3s was stopped there; without it the kubelet's next renewal (every 10 s) is waited for
        Raises KbuildError that says what was missing, and at once when the boot runs another kernel; ApiUnreachable
        when at the end nobody told.
        """
        name, until = k8s.node_name(node.name), time.monotonic() + deadline_seconds
        k8s.check_boot_id(boot_id)
        trouble: KbuildError | None
        while True:
            try:
                renewed, seen = self.lease(node), self._node(name)
            except KbuildError as error:
                why, trouble = error.message, error
            else:
                since = renewed if since is None else since
                missing = k8s.not_ready(seen, boot_id, kernelrelease)
                if missing is None and renewed != since:
                    return renewed
                why, trouble = missing or "its kubelet does not renew its lease", None
            if time.monotonic() + PAUSE >= until:
                unit = "k3s" if node.k3s == "server" else "k3s-agent"
                kind = ApiUnreachable if trouble else KbuildError
                raise kind(
                    f"{node.name} was not Ready within {deadline_seconds:g} s: {why}",
                    trouble.hint if trouble else f"on {node.name}: journalctl -b -u {unit}",
                    evidence=trouble.evidence if trouble else (),
                )
            time.sleep(PAUSE)

    def lease(self, node: Node) -> str:
        """When the node's kubelet last renewed its lease, by its own clock: to be compared with itself only."""
        name = k8s.node_name(node.name)
        words = ["lease", name, "--namespace=kube-node-lease"]
        lease = self.kubectl.get(words, f"read the lease of {name}")
        return str((lease.get("spec") or {}).get("renewTime"))

    def uncordon(self, node: Node, was_cordoned: bool = False) -> bool:
        """Lift our own cordon, also one that a killed run left; never an operator's. Says whether it did."""
        name = k8s.node_name(node.name)
        return False if was_cordoned else _patiently(lambda: self._uncordon(name), ApiUnreachable)

    def server_may_go(self, sick: Node | None = None) -> str | None:
        """None, or what is to be said when a server reboots now. Raises KbuildError when none may.

        sick  it is the one that goes, and need not be well itself: the others must be
        """
        return k8s.server_may_go(k8s.quorum(self._nodes()), k8s.node_name(sick.name) if sick else "")

    def is_empty(self, node: Node) -> bool:
        """Whether it takes no pods, and has none that a drain would have to move."""
        name = k8s.node_name(node.name)
        return k8s.cordoned(self._node(name)) and not k8s.staying(self._pods(name), ())

    def is_ours(self, node: Node) -> bool:
        """Whether the cordon that it has is the roll-out's own."""
        return k8s.cordoned_by_us(self._node(k8s.node_name(node.name)))

    def _node(self, name: str) -> k8s.Json:
        return self.kubectl.get(["node", name], f"read node {name}")

    def _nodes(self) -> list[k8s.Json]:
        return k8s.items(self.kubectl.get(["nodes"], "list the nodes"))

    def _pods(self, name: str) -> list[k8s.Json]:
        words = ["pods", "--all-namespaces", f"--field-selector=spec.nodeName={name}"]
        return k8s.items(self.kubectl.get(words, f"list the pods of {name}"))

    def _budgets(self) -> list[k8s.Json]:
        words = ["poddisruptionbudgets", "--all-namespaces"]
        return k8s.items(self.kubectl.get(words, "list the PodDisruptionBudgets"))

    def _wait_for_budgets(self, name: str, until: float) -> int:
        """Until no budget would refuse a pod of the node; the number of pods that are to move."""
        while True:
            pods, budgets = self._pods(name), self._budgets()
            blocked = k8s.blockers(pods, budgets)
            if not blocked:
                return len(k8s.to_evict(pods))
            if blocked[0].forever or time.monotonic() + PAUSE >= until:
                raise _cannot(name, blocked)
            time.sleep(PAUSE)

    def _cordon(self, name: str) -> bool:
        """Whether an operator had cordoned it before; else it is cordoned by us now, and is marked so."""

        def once() -> bool:
            node = self._node(name)
            if k8s.cordoned(node):
                return not k8s.cordoned_by_us(node)
            self._patch(node, True, f"by a roll-out from {socket.gethostname()}", f"cordon {name}")
            return False

        return _again(once)

    def _drain(self, name: str, until: float) -> None:
        """kubectl drain until the node is empty by our own count: its status is not believed. kubectl 1.20 ends with
        0 when the API falls while it waits for a pod's end, for it takes that error for the pod being gone."""
        while True:
            seconds = max(1, int(until - time.monotonic()))
            words = ["drain", name, "--ignore-daemonsets", "--delete-emptydir-data", f"--timeout={seconds}s"]
            error: KbuildError | None = None
            left: list[k8s.Blocker] = []
            try:
                self.kubectl.run(words, f"drain {name}", timeout=seconds + LATE)
            except KbuildError as failed:
                error = failed
            try:
                left = k8s.staying(self._pods(name), self._budgets())
                if not left:
                    return
            except ApiUnreachable as failed:
                error = error or failed
            final = error is not None and not isinstance(error, ApiUnreachable)
            if final or time.monotonic() + PAUSE >= until:
                raise _cannot(name, left, error) if left or error is None else error
            time.sleep(PAUSE)

    def _undo(self, name: str, error: BaseException) -> None:
        """Lift our cordon after a failure, with patience for any trouble: the API may be away for a moment. Also in a
        run that is being stopped. Else the mark stays, and the next run lifts it."""
        try:
            with shell.permitted():
                _patiently(lambda: self._uncordon(name), KbuildError)
        except KbuildError as failed:
            if isinstance(error, KbuildError):
                error.evidence = (f"its cordon is left: {failed.message}; the next roll-out lifts it", *error.evidence)

    def _uncordon(self, name: str) -> bool:
        def once() -> bool:
            node = self._node(name)
            if k8s.OURS not in (node["metadata"].get("annotations") or {}):
                return False
            lifted = k8s.cordoned(node)  # if not, an operator lifted it, and only our mark is left
            self._patch(node, None, None, f"uncordon {name}")
            return lifted

        return _again(once)

    def _patch(self, node: k8s.Json, unschedulable: bool | None, mark: str | None, what: str) -> None:
        meta = node["metadata"]
        patch = {
            "metadata": {"resourceVersion": meta["resourceVersion"], "annotations": {k8s.OURS: mark}},
            "spec": {"unschedulable": unschedulable},
        }
        words = ["patch", "node", str(meta["name"]), "--type=merge", f"--patch={json.dumps(patch)}"]
        self.kubectl.run(words, what)


def _cannot(name: str, blocked: list[k8s.Blocker], error: KbuildError | None = None) -> KbuildError:
    first, *others = blocked
    return KbuildError(
        f"{name} cannot be drained: pod {first.pod} stays, {first.why}",
        first.hint,
        evidence=[f"also pod {other.pod}: {other.why}" for other in others] + list(error.evidence if error else ()),
    )


def _again(once: Callable[[], T]) -> T:
    """Read and write once more where somebody else's write came between."""
    for _ in range(TRIES - 1):
        with contextlib.suppress(Conflict):
            return once()
    return once()


def _patiently(act: Callable[[], T], passing: type[KbuildError]) -> T:
    """Try again for a while where the trouble may pass."""
    until = time.monotonic() + UNDO
    while True:
        try:
            return act()
        except passing:
            if time.monotonic() + PAUSE >= until:
                raise
            time.sleep(PAUSE)
