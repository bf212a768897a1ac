"""A k3s node's part in its reboot: emptied before it, Ready in the new boot after it, and then it takes pods again.

What is said to the API is in effects/kubernetes.py, what is decided of it in core/kubernetes.py. A node that cannot be
emptied because nobody gave us a way to the API is refused, not rebooted under its pods; who wants exactly that says so
with `rollout.kubeconfig: off`.
"""

from __future__ import annotations

from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.kubectl import ApiUnreachable
from kbuild_tasks.effects.kubernetes import Kubernetes
from kbuild_tasks.effects.rollout import Visit

UNIT = 180  # seconds for k3s to stop or start
READY = 300  # seconds for the kubelet to work in a boot


def api(visit: Visit) -> Kubernetes | None:
    """The way to the node's API; None where it runs no k3s, or the user empties it. Raises KbuildError: no way."""
    return Kubernetes.of(visit.cluster, visit.node)


def empty(visit: Visit) -> str:
    """Pods elsewhere, and the journal says so: DRAINED. k3s still runs. What is to be said of it, "" for nothing.

    Raises KbuildError, with nothing changed: the servers would lose their quorum, a pod cannot be moved, no API.
    """
    kubernetes, told, was_cordoned = api(visit), "", False
    if kubernetes is not None:
        told = may_go(visit, kubernetes)
        visit.say("draining")
        was_cordoned = kubernetes.cordon_and_drain(visit.node, visit.cluster.rollout.drain_timeout).was_cordoned
    try:
        visit.record("DRAINED", boot_id=visit.seen.boot_id, was_cordoned=was_cordoned)
    except OSError:  # nobody would know of the cordon
        if kubernetes is not None:
            kubernetes.uncordon(visit.node, was_cordoned)
        raise
    return told


def may_go(visit: Visit, kubernetes: Kubernetes) -> str:
    """Raises KbuildError where the node is a server and the others are too few without it."""
    return (kubernetes.server_may_go() or "") if visit.node.k3s == "server" else ""


def still_empty(visit: Visit) -> None:
    """It was emptied by a run that was killed; an operator may have let pods back since. An API that is away now is
    the one that was stopped with the node."""
    kubernetes = api(visit)
    if kubernetes is None:
        return
    try:
        if kubernetes.is_empty(visit.node):
            return
    except ApiUnreachable:
        return
    visit.do("k3s", action="start", timeout=UNIT)  # without its kubelet no pod would end
    empty(visit)


def stop(visit: Visit) -> dict[str, Any]:
    """Stop k3s; what verify must know: the kubelet's last renewal, after which no old one is seen. Already so is
    success. A server that drained for minutes looks at the others once more: until here nothing is lost.

    Raises KbuildError.
    """
    kubernetes = api(visit)
    if kubernetes is not None:
        try:
            may_go(visit, kubernetes)
        except ApiUnreachable:
            visit.say("its API is away")  # after a kill: k3s was stopped already, and it is the one that answers us
    visit.say("stopping k3s")
    visit.do("k3s", action="stop", timeout=UNIT)
    return _lease(visit, kubernetes)


def _lease(visit: Visit, kubernetes: Kubernetes | None) -> dict[str, Any]:
    try:
        return {} if kubernetes is None else {"lease": kubernetes.lease(visit.node)}
    except ApiUnreachable:
        return {"lease": None}  # the only server: its first renewal in the new boot is waited for


def leave(visit: Visit) -> str:
    """The same before a reboot that takes a kernel back: nothing that this very kernel broke may stand in its way. A
    server need not be well itself, and need not answer: an API that is away may be away because of it. What is to be
    said of it, "" for nothing. Raises KbuildError."""
    kubernetes, history, told = api(visit), visit.history, ""
    was_cordoned = history.data.get("was_cordoned")
    if kubernetes is not None:
        try:
            if visit.node.k3s == "server":
                told = _others_allow(visit, kubernetes)
            visit.say("draining")
            was_cordoned = kubernetes.cordon_and_drain(visit.node, visit.cluster.rollout.drain_timeout).was_cordoned
        except ApiUnreachable as error:
            if not history.in_flight or was_cordoned is None:  # else it is empty since before its trial
                if visit.node.k3s != "server":
                    raise
                told = f"{visit.node.name} was rebooted under its pods: {error.message}"
    visit.do("k3s", action="stop", timeout=UNIT)
    data = {"was_cordoned": bool(was_cordoned), "kind": "other", **_lease(visit, kubernetes)}
    visit.journal.append(history.build or visit.build.build, "HELD", "emptied, to be rebooted", data)
    return told


def _others_allow(visit: Visit, kubernetes: Kubernetes) -> str:
    try:
        return kubernetes.server_may_go(sick=visit.node) or ""
    except ApiUnreachable:
        raise
    except KbuildError as error:
        error.hint = f"{error.hint}; rollout.kubeconfig: off takes its kernel back all the same"
        raise


def ready(visit: Visit, release: str) -> dict[str, Any]:
    """Wait until the kubelet works in the boot that ssh saw, under that kernel; the renewal that showed it. Raises
    KbuildError, ApiUnreachable."""
    kubernetes = api(visit)
    if kubernetes is None:
        return {}
    visit.say("waiting for k3s")
    since = visit.history.data.get("lease")
    return {"lease": kubernetes.wait_ready(visit.node, visit.seen.boot_id, release, READY, since=since)}


def back(visit: Visit) -> None:
    """Taken back before its reboot: k3s runs, and pods may come. Raises KbuildError."""
    if visit.node.k3s and "was_cordoned" in visit.history.data:
        visit.do("k3s", action="start", timeout=UNIT)
        uncordon(visit)


def uncordon(visit: Visit) -> None:
    """Lift our cordon, never an operator's. Raises KbuildError."""
    if (kubernetes := api(visit)) is not None:
        kubernetes.uncordon(visit.node, bool(visit.history.data.get("was_cordoned", False)))


def take_pods_again(visit: Visit) -> str:
    """On the kernel that it runs now, whatever cordon of ours is left is lifted once its kubelet works. What goes wrong
    is told, and hides nothing else: "" for nothing."""
    try:
        kubernetes = api(visit)
        if kubernetes is None:
            return ""
        if _may_be_ours(visit, kubernetes):
            ready(visit, visit.seen.release)
        uncordon(visit)
    except KbuildError as error:
        return f"{visit.node.name} is still cordoned: {error.message}; doit rollback:{visit.node.name} lifts it"
    return ""


def _may_be_ours(visit: Visit, kubernetes: Kubernetes) -> bool:
    """Whether its cordon may be the roll-out's. An API that is still away is coming up with this very node, maybe."""
    try:
        return kubernetes.is_ours(visit.node)
    except ApiUnreachable:
        return True
