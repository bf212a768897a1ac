"""k3s nodes, decided: the JSON of `kubectl get -o json` in, decisions and sentences out.

What is decided here, and why this way:
- *What a drain must evict* is what kubectl drain itself evicts: all but pods of a DaemonSet and mirror pods.
- *What blocks it* is looked for before anything is touched. A budget that allows 0 evictions now may allow one when a
  replica elsewhere is well again, so it is waited for; one that wants as many pods as there are never will.
- *Ready* lies: the condition lives on for 40 s after the kubelet's death, so a fast reboot is never seen in it (Kernel
  Module Management #1062). nodeInfo.bootID and kernelVersion are what the kubelet read in this boot.
- *Alive* is a lease that is seen to change while we look. Its time is not compared with a clock: a node without a
  battery starts with an old one, and its lease from before the reboot would then look newer than the boot.
- *Quorum*: with embedded etcd a server may go when all members are well and those that stay are a quorum. A single
  server (sqlite, or etcd of one member) may go too: the API is away meanwhile, and that is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kbuild_tasks.core.errors import KbuildError

Json = Mapping[str, Any]

OURS = "kbuild-tasks/cordon"  # annotation: this cordon is the roll-out's own, and may be lifted by it
_NODE_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")  # RFC 1123 subdomain, as the API demands of a node
_BOOT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Blocker:
    """A pod that a drain cannot move, and why; forever: waiting will not help."""

    pod: str  # "namespace/name"
    why: str
    hint: str
    forever: bool = False


@dataclass(frozen=True)
class Quorum:
    """The servers: how many are well, how many there are, and what holds the cluster's state; unwell: the others."""

    ready: int
    total: int
    etcd: bool
    unwell: tuple[str, ...] = ()


def node_name(name: str) -> str:
    """A node's name in k3s: the kubelet writes the host's name in lower case.

    Raises KbuildError for one that k3s cannot have: nothing else may reach a command line or an address.
    """
    lower = name.lower()
    if len(lower) > 253 or not _NODE_NAME.fullmatch(lower):
        raise KbuildError(
            f"{name!r} cannot be the name of a k3s node: letters, digits, '-' and '.' only",
            "name the node in cluster.yaml as kubectl get nodes does",
        )
    return lower


def check_boot_id(boot_id: str) -> None:
    """An error text that was taken for a boot id is as new as a real one (ansible #83018)."""
    if not _BOOT_ID.fullmatch(boot_id):
        raise KbuildError(f"{boot_id[:60]!r} is not a boot id", "it is what /proc/sys/kernel/random/boot_id holds")


def to_evict(pods: Iterable[Json]) -> list[Json]:
    """The pods of a node that a drain must move."""
    return [
        pod
        for pod in pods
        if "kubernetes.io/config.mirror" not in _map(pod, "annotations") and _controller(pod).get("kind") != "DaemonSet"
    ]


def blockers(pods: Iterable[Json], budgets: Iterable[Json]) -> list[Blocker]:
    """Which pods of a node cannot be evicted as things are, those that never can be first."""
    known = list(budgets)
    found = [blocker for pod in to_evict(pods) if (blocker := _blocker(pod, known))]
    return sorted(found, key=lambda blocker: not blocker.forever)


def staying(pods: Iterable[Json], budgets: Iterable[Json]) -> list[Blocker]:
    """After a drain that did not end: every pod that it should have moved, and why it is still there."""
    known = list(budgets)
    found = []
    for pod in to_evict(pods):
        kubectl = f"kubectl -n {_namespace(pod)} describe pod {_name(pod)}"
        if pod["metadata"].get("deletionTimestamp"):
            found.append(Blocker(_label(pod), "it was evicted, and does not end", f"see why: {kubectl}"))
        else:
            found.append(_blocker(pod, known) or Blocker(_label(pod), "it was not evicted", f"see why: {kubectl}"))
    return sorted(found, key=lambda blocker: not blocker.forever)


def _blocker(pod: Json, budgets: list[Json]) -> Blocker | None:
    status = pod.get("status") or {}
    phase, label = status.get("phase"), _label(pod)
    if phase in ("Succeeded", "Failed") or pod["metadata"].get("deletionTimestamp"):
        return None
    if not _controller(pod):
        return Blocker(
            label,
            "it has no controller that would start it elsewhere",
            f"delete it or let a Deployment own it: kubectl -n {_namespace(pod)} get pod {_name(pod)}",
            forever=True,
        )
    mine = [budget for budget in budgets if selects(budget, pod)] if phase != "Pending" else []
    if len(mine) > 1:  # the API refuses such an eviction with status 500, whatever they allow
        names = " and ".join(_label(budget) for budget in mine)
        return Blocker(label, f"two PodDisruptionBudgets select it: {names}", "let one of them select it", forever=True)
    if not mine or _allows(mine[0], _is_true(status, "Ready")):
        return None
    budget = mine[0]
    return Blocker(
        label,
        f"PodDisruptionBudget {_label(budget)} allows no eviction",
        f"kubectl -n {_namespace(budget)} get pdb {_name(budget)}: start one more replica, or let it allow one less",
        forever=_never(budget),
    )


def _allows(budget: Json, pod_is_ready: bool) -> bool:
    """As the API's eviction does. A pod that is not ready counts for nothing where its budget is met without it."""
    state = budget.get("status") or {}
    if state.get("disruptionsAllowed", 0) > 0:
        return True
    if pod_is_ready:
        return False
    wanted = state.get("desiredHealthy", 0)
    always: bool = (budget.get("spec") or {}).get("unhealthyPodEvictionPolicy") == "AlwaysAllow"
    return always or 0 < wanted <= state.get("currentHealthy", 0)


def _never(budget: Json) -> bool:
    """No pod more than the budget wants to have, so that none can ever go; known once its controller has counted."""
    state = budget.get("status") or {}
    if state.get("observedGeneration", 0) < budget["metadata"].get("generation", 0):
        return False
    return bool(0 < state.get("expectedPods", 0) <= state.get("desiredHealthy", 0))


def selects(budget: Json, pod: Json) -> bool:
    """Whether a PodDisruptionBudget counts a pod, as labels.Selector does. An empty selector means every pod of the
    namespace in policy/v1, and none in v1beta1."""
    if _namespace(budget) != _namespace(pod):
        return False
    selector = (budget.get("spec") or {}).get("selector")
    if selector is None:
        return False
    labels = _map(pod, "labels")
    wanted, rules = selector.get("matchLabels") or {}, selector.get("matchExpressions") or []
    if not wanted and not rules:
        return bool(budget.get("apiVersion") == "policy/v1")
    return all(labels.get(key) == value for key, value in wanted.items()) and all(
        _meets(rule, labels) for rule in rules
    )


def _meets(rule: Json, labels: Json) -> bool:
    key, values = rule["key"], rule.get("values") or []
    match rule["operator"]:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
        case "DoesNotExist":
            return key not in labels
    return True  # an operator that we do not know: rather wait for a budget than pass it over


def not_ready(node: Json, boot_id: str, kernelrelease: str) -> str | None:
    """Why a node is not Ready in this boot yet; None: it is, as far as the node object can tell.

    Raises KbuildError when it cannot become so: this boot runs another kernel.
    """
    name, info = _name(node), (node.get("status") or {}).get("nodeInfo") or {}
    if info.get("bootID") != boot_id:
        return "its kubelet has not reported since the reboot"
    if info.get("kernelVersion") != kernelrelease:
        raise KbuildError(
            f"{name} runs {info.get('kernelVersion')} in k3s' words, not {kernelrelease}",
            "the trial did not boot there: see doit status",
        )
    if not _is_true(node.get("status") or {}, "Ready"):
        condition = _condition(node.get("status") or {}, "Ready")
        return f"k3s says: {condition.get('message') or 'not Ready'}"
    return None


def cordoned(node: Json) -> bool:
    return bool((node.get("spec") or {}).get("unschedulable"))


def cordoned_by_us(node: Json) -> bool:
    return cordoned(node) and OURS in _map(node, "annotations")


def quorum(nodes: Iterable[Json]) -> Quorum:
    """k3s labels its servers control-plane, and those with embedded etcd also etcd; a member that etcd counts as a
    voter has the condition EtcdIsVoter."""
    servers = [n for n in nodes if _role(n, "control-plane") or _role(n, "master") or _role(n, "etcd")]
    members = [node for node in servers if _role(node, "etcd")]
    counted = members or servers
    well = [
        node
        for node in counted
        if _is_true(node.get("status") or {}, "Ready")
        and (not (voter := _condition(node.get("status") or {}, "EtcdIsVoter")) or voter.get("status") == "True")
    ]
    sick = tuple(_name(node) for node in counted if node not in well)
    return Quorum(len(well), len(counted), bool(members), sick)


def server_may_go(servers: Quorum, sick: str = "") -> str | None:
    """None where a server may reboot without anybody noticing, or what is to be said of it.

    sick  the server that is to go because it is not well: it counts for nothing already
    Raises KbuildError when the cluster would lose its state's quorum, or its last API.
    """
    total = servers.total
    ready = servers.ready + (sick in servers.unwell)
    if total == 0:
        raise KbuildError(
            "no node has the label of a k3s server", "kubectl get nodes: is the kubeconfig this cluster's?"
        )
    if total == 1:
        return "the only k3s server: its API is away while it reboots, pods elsewhere run on"
    if ready < total:
        raise KbuildError(
            f"no k3s server may reboot: {ready} of {total} are well",
            "kubectl get nodes: bring the others back first",
        )
    needed = total // 2 + 1
    if servers.etcd and total - 1 < needed:
        raise KbuildError(
            f"no k3s server may reboot: etcd has {total} members and needs {needed}",
            "two members tolerate no loss: add a third server, or take one away for good",
        )
    return None


def items(answer: Json) -> list[Json]:
    return list(answer.get("items") or [])


def _condition(status: Json, kind: str) -> Json:
    return next((c for c in status.get("conditions") or [] if c.get("type") == kind), {})


def _is_true(status: Json, kind: str) -> bool:
    return bool(_condition(status, kind).get("status") == "True")


def _role(node: Json, role: str) -> bool:
    return bool(_map(node, "labels").get(f"node-role.kubernetes.io/{role}") == "true")


def _controller(pod: Json) -> Json:
    return next((owner for owner in pod["metadata"].get("ownerReferences") or [] if owner.get("controller")), {})


def _name(thing: Json) -> str:
    return str(thing["metadata"].get("name"))


def _namespace(thing: Json) -> str:
    return str(thing["metadata"].get("namespace"))


def _map(thing: Json, key: str) -> Json:
    return thing["metadata"].get(key) or {}


def _label(thing: Json) -> str:
    return f"{_namespace(thing)}/{_name(thing)}"
