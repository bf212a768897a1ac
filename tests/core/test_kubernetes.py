"""Which pods must go, what blocks them, who is Ready, what a quorum is: tables, with JSON as kubectl prints it."""

from __future__ import annotations

from typing import Any

import pytest

from kbuild_tasks.core import kubernetes as k8s
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.kubectl import ApiUnreachable, Conflict, trouble

BOOT = "2222222b-2222-4222-8222-222222222222"


def pod(name: str = "web-1", owner: str = "ReplicaSet", **status: Any) -> dict[str, Any]:
    owners = [{"kind": owner, "name": "o", "controller": True}] if owner else []
    return {
        "metadata": {
            "name": name,
            "namespace": "shop",
            "labels": {"app": "web", "tier": "1"},
            "ownerReferences": owners,
        },
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], **status},
    }


def budget(
    allowed: int = 0, expected: int = 3, wanted: int = 2, healthy: int | None = None, **spec: Any
) -> dict[str, Any]:
    return {
        "apiVersion": "policy/v1",
        "metadata": {"name": "web", "namespace": "shop", "generation": 2},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, **spec},
        "status": {
            "observedGeneration": 2,
            "disruptionsAllowed": allowed,
            "expectedPods": expected,
            "desiredHealthy": wanted,
            "currentHealthy": wanted + allowed if healthy is None else healthy,
        },
    }


def test_daemon_sets_and_mirror_pods_stay():
    mirror = pod("etcd", owner="Node")
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    pods = [pod("a"), pod("b", owner="DaemonSet"), mirror, pod("c", owner=""), pod("done", phase="Succeeded")]
    assert [p["metadata"]["name"] for p in k8s.to_evict(pods)] == ["a", "c", "done"]


NOT_READY = {"conditions": [{"type": "Ready", "status": "False"}]}


@pytest.mark.parametrize(
    ("one", "budgets", "why", "forever"),
    [
        (pod(), [], None, None),
        (pod(), [budget(allowed=1)], None, None),
        (pod(), [budget()], "shop/web allows no eviction", False),
        (pod(), [budget(expected=1, wanted=1)], "shop/web allows no eviction", True),
        (pod(), [budget(expected=3, wanted=3)], "shop/web allows no eviction", True),
        (pod(), [budget(expected=0, wanted=0)], "shop/web allows no eviction", False),  # not counted yet
        (pod(), [budget(allowed=1), budget(allowed=1)], "two PodDisruptionBudgets select it", True),
        (pod(owner=""), [budget(allowed=1)], "no controller", True),
        (pod(owner="DaemonSet"), [budget()], None, None),
        (pod(owner="", phase="Succeeded"), [budget()], None, None),
        (pod(phase="Pending"), [budget()], None, None),  # the API lets these go without asking a budget
        (pod(phase="Failed"), [budget()], None, None),
        (pod(**NOT_READY), [budget(healthy=2)], None, None),  # met without this pod
        (pod(**NOT_READY), [budget(healthy=1)], "shop/web allows no eviction", False),
        (pod(**NOT_READY), [budget(healthy=1, unhealthyPodEvictionPolicy="AlwaysAllow")], None, None),
        (pod(), [budget(healthy=1, unhealthyPodEvictionPolicy="AlwaysAllow")], "shop/web allows no eviction", False),
    ],
)
def test_what_blocks_a_pod(one: dict[str, Any], budgets: list[Any], why: str | None, forever: bool | None):
    found = k8s.blockers([one], budgets)
    if why is None:
        assert found == []
    else:
        assert [(why in blocker.why, blocker.forever) for blocker in found] == [(True, forever)]


def test_a_budget_whose_controller_has_not_counted_yet_may_allow_later():
    changed = budget(expected=1, wanted=1)
    changed["metadata"]["generation"] = 3
    (found,) = k8s.blockers([pod()], [changed])
    assert not found.forever


def test_what_never_goes_is_told_first():
    others = budget(selector={"matchLabels": {"app": "none"}})
    found = k8s.blockers([pod("waits"), pod("bare", owner="")], [budget(), others])
    assert [blocker.pod for blocker in found] == ["shop/bare", "shop/waits"]


def test_a_pod_that_is_going_blocks_nothing_but_is_told_when_it_stays():
    going = pod()
    going["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert k8s.blockers([going], [budget()]) == []
    assert [blocker.why for blocker in k8s.staying([going], [budget()])] == ["it was evicted, and does not end"]
    assert [blocker.why for blocker in k8s.staying([pod()], [])] == ["it was not evicted"]
    assert k8s.staying([pod(owner="DaemonSet")], []) == []


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ({"matchLabels": {"app": "web"}}, True),
        ({"matchLabels": {"app": "web", "tier": "2"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["web", "db"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db"]}]}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}, False),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["web"]}]}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "NotIn", "values": ["a"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Exists"}]}, True),
        ({"matchExpressions": [{"key": "zone", "operator": "Exists"}]}, False),
        ({"matchExpressions": [{"key": "zone", "operator": "DoesNotExist"}]}, True),
        ({"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}, False),
        ({}, True),
        (None, False),
    ],
)
def test_selectors(selector: Any, expected: bool):
    assert k8s.selects(budget(selector=selector), pod()) == expected


def test_an_empty_selector_means_nothing_in_v1beta1_and_a_namespace_is_a_border():
    assert not k8s.selects({**budget(selector={}), "apiVersion": "policy/v1beta1"}, pod())
    other = budget()
    other["metadata"]["namespace"] = "bank"
    assert not k8s.selects(other, pod())


def node(
    ready: str = "True", boot: str = BOOT, kernel: str = "6.1.192", roles: str = "", **more: Any
) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready, "message": "kubelet stopped"}]
    if "voter" in more:
        conditions.append({"type": "EtcdIsVoter", "status": more["voter"]})
    return {
        "metadata": {"name": "n", "labels": {f"node-role.kubernetes.io/{role}": "true" for role in roles.split()}},
        "spec": {},
        "status": {"nodeInfo": {"bootID": boot, "kernelVersion": kernel}, "conditions": conditions},
    }


@pytest.mark.parametrize(
    ("seen", "missing"),
    [
        (node(), None),
        (node(boot="11111111-1111-4111-8111-111111111111"), "has not reported since the reboot"),
        (node(boot="11111111-1111-4111-8111-111111111111", kernel="6.1.190"), "has not reported since the reboot"),
        (node(ready="False"), "k3s says: kubelet stopped"),
        (node(ready="Unknown"), "k3s says: kubelet stopped"),
        ({"metadata": {"name": "n"}}, "has not reported since the reboot"),
    ],
)
def test_ready_in_this_boot(seen: dict[str, Any], missing: str | None):
    why = k8s.not_ready(seen, BOOT, "6.1.192")
    assert (why is None) if missing is None else (missing in (why or ""))


def test_another_kernel_in_this_boot_is_final():
    with pytest.raises(KbuildError, match=r"n runs 6\.1\.190 in k3s' words"):
        k8s.not_ready(node(kernel="6.1.190"), BOOT, "6.1.192")


@pytest.mark.parametrize(
    "text",
    ["", "System is going down.", BOOT.upper(), BOOT[:-1], BOOT + "\n", "x" * 4000, BOOT.replace("-", "")],
)
def test_what_is_no_boot_id(text: str):
    with pytest.raises(KbuildError):
        k8s.check_boot_id(text)


def test_cordons():
    def made(unschedulable: bool, mark: bool) -> dict[str, Any]:
        annotations = {k8s.OURS: "by a roll-out"} if mark else {}
        return {"metadata": {"annotations": annotations}, "spec": {"unschedulable": unschedulable}}

    table = {(0, 0): (False, False), (1, 0): (True, False), (0, 1): (False, False), (1, 1): (True, True)}
    for (unschedulable, mark), expected in table.items():
        seen = made(bool(unschedulable), bool(mark))
        assert (k8s.cordoned(seen), k8s.cordoned_by_us(seen)) == expected


ETCD = "control-plane etcd"


@pytest.mark.parametrize(
    ("nodes", "counted", "said"),
    [
        ([node(roles="control-plane"), node()], (1, 1, False), "only k3s server"),
        ([node(roles="master")], (1, 1, False), "only k3s server"),
        ([node(roles="control-plane", ready="Unknown")], (0, 1, False), "only k3s server"),
        ([node(roles=ETCD)], (1, 1, True), "only k3s server"),
        ([node(roles=ETCD), node(roles=ETCD)], (2, 2, True), "refused: etcd has 2 members and needs 2"),
        ([node(roles=ETCD)] * 3, (3, 3, True), None),
        ([node(roles=ETCD)] * 3 + [node(roles="control-plane")], (3, 3, True), None),  # a server without etcd
        ([node(roles=ETCD)] * 2 + [node(roles=ETCD, ready="False")], (2, 3, True), "refused: 2 of 3 are well"),
        ([node(roles=ETCD)] * 2 + [node(roles=ETCD, voter="False")], (2, 3, True), "refused: 2 of 3 are well"),
        ([node(roles=ETCD, voter="True")] * 3, (3, 3, True), None),
        ([node(roles=ETCD)] * 4, (4, 4, True), None),
        ([node(roles=ETCD)] * 4 + [node(roles=ETCD, ready="Unknown")], (4, 5, True), "refused: 4 of 5 are well"),
        ([node(roles="control-plane")] * 2, (2, 2, False), None),  # an external database
        ([node(), node()], (0, 0, False), "refused: no node has the label of a k3s server"),
    ],
)
def test_quorum(nodes: list[Any], counted: tuple[int, int, bool], said: str | None):
    servers = k8s.quorum(nodes)
    assert (servers.ready, servers.total, servers.etcd) == counted
    try:
        word = k8s.server_may_go(servers)
    except KbuildError as error:
        word = f"refused: {error.message}"
    assert (word is None) if said is None else (word is not None and (said in word or said[9:] in word))
    assert (word or "").startswith("refused") == (said or "").startswith("refused")


def test_names_are_as_the_kubelet_writes_them():
    assert k8s.node_name("KubeNode1") == "kubenode1"
    assert k8s.node_name("node-1.lan") == "node-1.lan"


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        (
            "The connection to the server 127.0.0.1:6443 was refused - did you specify the right host or port?",
            ApiUnreachable,
            "does not answer",
        ),
        ("Unable to connect to the server: dial tcp 10.0.0.1:6443: i/o timeout", ApiUnreachable, "does not answer"),
        ("Unable to connect to the server: EOF", ApiUnreachable, "does not answer"),
        ("Error from server (ServiceUnavailable): apiserver not ready", ApiUnreachable, "does not answer"),
        ("Error from server: etcdserver: leader changed", ApiUnreachable, "does not answer"),
        (
            "Unable to connect to the server: x509: certificate has expired or is not yet valid: current time",
            KbuildError,
            "certificate that is not valid",
        ),
        (
            "Unable to connect to the server: x509: certificate signed by unknown authority",
            KbuildError,
            "certificate that is not valid",
        ),
        ('Error from server (Conflict): Operation cannot be fulfilled on nodes "a"', Conflict, "somebody else"),
        ('Error from server (NotFound): nodes "a" not found', KbuildError, "does not know it"),
        ("error: You must be logged in to the server (Unauthorized)", KbuildError, "does not know us"),
        ('Error from server (Forbidden): nodes "a" is forbidden', KbuildError, "does not let us"),
        ("error: something else", KbuildError, "kubectl could not read node a"),
        ("", KbuildError, "kubectl could not read node a"),
    ],
)
def test_kubectls_words(said: str, kind: type[KbuildError], message: str):
    error = trouble(said, "read node a")
    assert type(error) is kind
    assert message in error.message
    assert error.hint


def test_certificates_and_clocks():
    assert "clocks" in (trouble("x509: certificate has expired or is not yet valid", "x").hint or "")
    assert "kubeconfig" in (trouble("x509: certificate signed by unknown authority", "x").hint or "")
