"""The stages with the real kubectl over real HTTPS (tests/fake_kubernetes.py) on fake nodes (tests/fake_nodes.py) whose
boots the API sees: what is drained, what a budget stops, whose cordon stays, and what counts as Ready afterwards."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.kubernetes import OURS
from kbuild_tasks.effects import journal, k3s, kubectl, kubernetes
from kbuild_tasks.effects.rollout import journal_file
from kbuild_tasks.stages import deploy, reboot, rollback, verify
from tests.fake_kubernetes import Kubernetes, certificates
from tests.fake_nodes import FakeNode, Killed, World

pytestmark = pytest.mark.real
STAGES = {"deploy": deploy, "reboot": reboot, "verify": verify, "rollback": rollback}
ROLES = {"agent": (), "server": ("control-plane", "etcd")}


class Node(FakeNode):
    """Its kubelet lives with k3s, and reports each boot."""

    api: Kubernetes
    kubelet_dies = False  # in the new kernel
    stopped = False

    def _boot(self, when: float, asked: bool) -> None:
        self.down_with = len([pod for pod in self.api.pods.values() if pod["spec"]["nodeName"] == self.name])
        super()._boot(when, asked)
        self.api.stop_kubelet(self.name)
        if "panic" not in self.faults or self.selected == "old":
            dies = self.kubelet_dies and self.selected != "old"
            self.api.boot(self.name, self.boot_id, self.running["release"], dies=dies)

    def _k3s(self, payload: None, action: str) -> dict[str, Any]:
        if action == "stop":
            self.api.stop_kubelet(self.name)
        else:
            self.api.kubelet(self.name)
        return super()._k3s(payload, action)


class Cluster(World):
    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, api: Kubernetes, roles: dict[str, str]) -> None:
        rollout = {"kubeconfig": str(api.kubeconfig(root / "kubeconfig")), "drain_timeout": 4, "settle": 0}
        super().__init__(root / "project", monkeypatch, " ".join(roles), **rollout)
        self.api = api
        nodes = dict(self.cluster.nodes)
        for name, role in roles.items():
            self.nodes[name] = node = Node(self, name)
            node.api = api
            nodes[name] = replace(nodes[name], k3s=role)
            api.node(name, roles=ROLES[role], boot_id=node.boot_id, kernel=node.running["release"])
            api.kubelet(name)
        self.cluster = replace(self.cluster, nodes=nodes)

    def act(self, *verbs: str, name: str = "n7") -> Any:
        outcome = None
        for verb in verbs:
            outcome = STAGES[verb].run(self.context(self.run(), verb, name))
        return outcome

    def refused(self, *verbs: str, name: str = "n7") -> KbuildError:
        with pytest.raises(KbuildError) as caught:
            self.act(*verbs, name=name)
        return caught.value

    def states(self, name: str = "n7") -> list[str]:
        return [record.state for record in journal.read(journal_file(self.paths, name))]

    def as_before(self, name: str = "n7") -> bool:
        """Never rebooted, not armed, k3s runs, nothing of ours on it."""
        node, first = self.nodes[name], self.api.leases[name]["spec"]["renewTime"]
        time.sleep(0.5)
        lives = self.api.leases[name]["spec"]["renewTime"] != first
        return lives and not node.boots and not node.armed and OURS not in self.marks(name)

    def marks(self, name: str = "n7") -> dict[str, str]:
        annotations: dict[str, str] = self.api.nodes[name]["metadata"]["annotations"]
        return annotations


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("certs"))


@pytest.fixture
def api(certs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kubernetes]:
    monkeypatch.setenv("HOME", str(tmp_path))  # kubectl's cache
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(kubectl, "K3S_CONFIG", str(tmp_path / "k3s.yaml"))
    monkeypatch.setattr(kubernetes, "PAUSE", 0.2)
    monkeypatch.setattr(k3s, "READY", 3)
    with Kubernetes(certs) as made:
        yield made


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: Kubernetes) -> Cluster:
    return Cluster(tmp_path, monkeypatch, api, {"n7": "agent", "n2": "agent"})


def test_emptied_rebooted_ready_and_open_again(cluster: Cluster, api: Kubernetes) -> None:
    api.pod("web-1", "n7")
    api.pod("flannel-1", "n7", owner="DaemonSet")
    api.pod("web-2", "n2")
    api.budget("web", "web", allowed=1)
    cordoned: list[bool] = []
    append = journal.Journal.append

    def watch(file: Any, build: str, state: str, *more: Any) -> Any:
        cordoned.append(api.cordoned("n7"))
        return append(file, build, state, *more)

    journal.Journal.append = watch  # type: ignore[method-assign]
    try:
        cluster.act("deploy", "reboot", "verify")
    finally:
        journal.Journal.append = append  # type: ignore[method-assign]
    told = dict(zip(cluster.states(), cordoned, strict=True))
    assert [state for state, closed in told.items() if closed] == [
        *("DRAINED", "ARMED", "REBOOTING", "BACK", "VERIFIED", "VERIFIED2", "COMMITTED")
    ]
    assert api.evicted == ["default/web-1"]
    assert cluster.nodes["n7"].down_with == 1, "the pod of a DaemonSet"
    assert not api.cordoned("n7") and OURS not in cluster.marks()
    assert cluster.nodes["n7"].asked == 1
    patches = len(api.patches)
    cluster.act("deploy", "reboot", "verify")
    assert len(api.patches) == patches, "again it changes nothing"


def test_a_budget_stops_it_before_anything_is_touched(cluster: Cluster, api: Kubernetes) -> None:
    api.pod("web-1", "n7")
    api.budget("only", "web", allowed=0, expected=1, wanted=1)
    error = cluster.refused("deploy", "reboot")
    assert "n7 cannot be drained: pod default/web-1 stays, PodDisruptionBudget default/only" in error.message
    assert api.patches == [] and api.evicted == [] and cluster.as_before()
    api.budgets.clear()
    cluster.act("reboot", "verify")
    assert cluster.states()[-1] == "UNCORDONED"


def test_a_drain_that_does_not_end_is_bounded_and_undone(cluster: Cluster, api: Kubernetes) -> None:
    api.linger = 600
    api.pod("slow-1", "n7")
    began = time.monotonic()
    assert "pod default/slow-1 stays, it was evicted, and does not end" in cluster.refused("deploy", "reboot").message
    assert time.monotonic() - began < 60
    assert not api.cordoned("n7") and cluster.as_before() and cluster.states()[-1] == "HELD"


@pytest.mark.parametrize("ends", ["verified", "fallen back", "not drained"])
def test_an_operators_cordon_survives(ends: str, cluster: Cluster, api: Kubernetes) -> None:
    api.change("n7", {"spec": {"unschedulable": True}})
    api.pod("web-1", "n7")
    if ends == "verified":
        cluster.act("deploy", "reboot", "verify")
    elif ends == "fallen back":
        cluster.nodes["n7"].faults = {"panic"}
        cluster.refused("deploy", "reboot")
        assert cluster.states()[-1] == "FELL_BACK"
    else:
        api.budget("only", "web", allowed=0, expected=1, wanted=1)
        cluster.refused("deploy", "reboot")
    assert api.cordoned("n7") and OURS not in cluster.marks()


def test_a_fall_back_is_waited_for_and_takes_pods_again(cluster: Cluster, api: Kubernetes) -> None:
    cluster.nodes["n7"].faults = {"panic"}
    error = cluster.refused("deploy", "reboot")
    assert "the new kernel panicked" in error.message and "still cordoned" not in error.render()
    assert not api.cordoned("n7")


def test_a_kubelet_that_reports_once_and_dies_is_not_committed(cluster: Cluster, api: Kubernetes) -> None:
    """Ready is still True for 40 s, and boot id and kernel are the new ones."""
    node = cluster.nodes["n7"]
    assert isinstance(node, Node)
    node.kubelet_dies = True
    told: list[str] = []
    real = k3s.ready

    def second(visit: Any, release: str) -> Any:
        told.append(visit.state)
        return real(visit, release)

    k3s.ready = second
    try:
        error = cluster.refused("deploy", "reboot", "verify")
    finally:
        k3s.ready = real
    assert "n7 was not Ready within 3 s: its kubelet does not renew its lease" in error.message
    assert told == ["BACK", "VERIFIED"], "its one report was enough for the first look, not for the second"
    assert node.default == "old" and cluster.states()[-1] == "HELD" and api.cordoned("n7")
    cluster.act("rollback")
    assert not api.cordoned("n7") and node.boots[-1] == "old"


def test_killed_in_the_drain_and_resumed(cluster: Cluster, api: Kubernetes) -> None:
    """A real kill -9 of a process in the middle of kubectl drain."""
    cluster.act("deploy")
    api.linger = 600
    api.pod("web-1", "n7")
    child = os.fork()
    if child == 0:
        try:
            cluster.act("reboot")
        finally:
            os._exit(9)
    deadline = time.monotonic() + 30
    while not api.evicted:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert api.cordoned("n7") and OURS in cluster.marks() and cluster.states()[-1] == "BOOTFILES_OK"
    api.pods["default", "web-1"]["ends"] = time.monotonic() + 1
    cluster.act("reboot", "verify")
    assert api.evicted == ["default/web-1"] and cluster.nodes["n7"].asked == 1
    assert not api.cordoned("n7") and OURS not in cluster.marks()


@pytest.mark.parametrize("state", ["DRAINED", "ARMED", "REBOOTING", "BACK", "VERIFIED", "COMMITTED"])
def test_killed_after_a_record_and_resumed(state: str, cluster: Cluster, api: Kubernetes) -> None:
    append = journal.Journal.append

    def kill(file: Any, build: str, said: str, *more: Any) -> Any:
        written = append(file, build, said, *more)
        if said == state:
            raise Killed
        return written

    journal.Journal.append = kill  # type: ignore[method-assign]
    try:
        with pytest.raises(Killed):
            cluster.act("deploy", "reboot", "verify")
    finally:
        journal.Journal.append = append  # type: ignore[method-assign]
    assert api.cordoned("n7")
    cluster.act("deploy", "reboot", "verify")
    assert cluster.states()[-1] == "UNCORDONED" and cluster.nodes["n7"].asked == 1
    assert not api.cordoned("n7") and OURS not in cluster.marks()


def test_without_a_way_to_the_api_it_is_refused_before_it_is_touched(
    cluster: Cluster, api: Kubernetes, tmp_path: Path
) -> None:
    settings = replace(cluster.cluster.rollout, kubeconfig=None)
    cluster.cluster = replace(cluster.cluster, rollout=settings)
    error = cluster.refused("deploy")
    assert error.message == "n7 runs k3s, and there is no kubeconfig here to empty it with"
    assert "rollout.kubeconfig in cluster.yaml" in (error.hint or "")
    assert cluster.states() == [] and cluster.nodes["n7"].log == []
    cluster.cluster = replace(cluster.cluster, rollout=replace(settings, kubeconfig="off"))
    api.pod("web-1", "n7")
    cluster.act("deploy", "reboot", "verify")  # by the user's word
    assert cluster.nodes["n7"].down_with == 1 and api.patches == [] and api.evicted == []
    assert [verb for verb in cluster.nodes["n7"].log if verb in ("k3s", "arm", "reboot")] == ["k3s", "arm", "reboot"]


def test_a_kubeconfig_that_is_lost_on_the_way_is_not_held_against_the_kernel(cluster: Cluster, api: Kubernetes) -> None:
    cluster.act("deploy", "reboot")
    kept = cluster.cluster
    for kubeconfig, says in (("gone.yaml", "gone.yaml cannot be read here"), (None, "there is no kubeconfig here")):
        cluster.cluster = replace(kept, rollout=replace(kept.rollout, kubeconfig=kubeconfig))
        assert says in cluster.refused("verify").message
        assert cluster.nodes["n7"].default == "old" and not cluster.nodes["n7"].deny and api.cordoned("n7")
    cluster.cluster = kept
    cluster.act("verify")
    assert cluster.states()[-1] == "UNCORDONED" and not api.cordoned("n7")


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: Kubernetes) -> Cluster:
    return Cluster(tmp_path, monkeypatch, api, {"n7": "agent", "n2": "server", "n3": "server", "n4": "server"})


def test_servers_go_one_at_a_time_while_the_others_are_well(servers: Cluster, api: Kubernetes) -> None:
    run = servers.run()
    assert [list(batch) for batch in run.order] == [["n7"], ["n2"], ["n3"], ["n4"]]
    api.nodes["n4"]["status"]["conditions"][0]["status"] = "Unknown"
    error = servers.refused("deploy", "reboot", name="n2")
    assert error.message == "no k3s server may reboot: 2 of 3 are well"
    assert api.patches == [] and servers.as_before("n2")
    api.nodes["n4"]["status"]["conditions"][0]["status"] = "True"
    for name in ("n2", "n3", "n4"):
        servers.act("deploy", "reboot", "verify", name=name)
    assert servers.max_down == 1 and [servers.nodes[name].asked for name in ("n2", "n3", "n4")] == [1, 1, 1]


def test_a_server_that_dies_during_the_drain_of_another_stops_it(servers: Cluster, api: Kubernetes) -> None:
    api.linger = 1.5
    api.pod("web-1", "n2")

    def dies() -> None:
        while not api.evicted:
            time.sleep(0.02)
        api.nodes["n3"]["status"]["conditions"][0]["status"] = "Unknown"

    threading.Thread(target=dies, daemon=True).start()
    assert "2 of 3 are well" in servers.refused("deploy", "reboot", name="n2").message
    assert not api.cordoned("n2") and servers.as_before("n2")


@pytest.mark.parametrize("fault", ["", "panic"])
def test_the_only_server_takes_its_api_with_it(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, api: Kubernetes
) -> None:
    cluster = Cluster(tmp_path, monkeypatch, api, {"n7": "agent", "n2": "server"})
    monkeypatch.setattr(k3s, "READY", 60)
    node = cluster.nodes["n2"]
    node.faults = {fault} - {""}
    stop, boot = node._k3s, node._boot

    def k3s_verb(payload: None, action: str) -> dict[str, Any]:
        answer = stop(payload, action)
        if action == "stop":
            api.stop()
        return answer

    def booted(when: float, asked: bool) -> None:
        boot(when, asked)
        api.stop_kubelet("n2")

        def up() -> None:
            time.sleep(3)  # k3s takes its time
            api.start()
            api.kubelet("n2")

        threading.Thread(target=up, daemon=True).start()

    monkeypatch.setattr(node, "_k3s", k3s_verb)
    monkeypatch.setattr(node, "_boot", booted)
    if fault:
        error = cluster.refused("deploy", "reboot", name="n2")
        assert "the new kernel panicked" in error.message and "still cordoned" not in error.render()
        assert cluster.states("n2")[-1] == "FELL_BACK" and not api.cordoned("n2")
        return
    outcome = cluster.act("deploy", "reboot", name="n2")
    assert outcome.warnings == ("the only k3s server: its API is away while it reboots, pods elsewhere run on",)
    cluster.act("verify", name="n2")
    assert cluster.states("n2")[-1] == "UNCORDONED" and not api.cordoned("n2")
