"""Cordon, drain, Ready, uncordon with the real kubectl, over real HTTPS, against a stand-in for k3s' API server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.kubectl import ApiUnreachable
from kbuild_tasks.core.kubernetes import OURS
from kbuild_tasks.core.model import Build, Cluster, Kernel, Node, Ssh, Workdir
from kbuild_tasks.effects import kubectl, kubernetes, shell
from kbuild_tasks.effects.kubernetes import Kubernetes
from tests.fake_kubernetes import BOOT_1, BOOT_2, certificates
from tests.fake_kubernetes import Kubernetes as Fake

AGENT = Node("kubenode2", "10.0.0.12", k3s="agent")
SERVER = Node("kubenode1", "127.0.0.1", "local", k3s="server")
NEW = "6.1.192"
ROOT = Path(__file__).parent.parent.parent


def cluster(root: Path, *nodes: Node, kubeconfig: str | None = None) -> Any:
    """A Cluster, with the key that rollout gets."""
    made = Cluster(
        root,
        "cluster.yaml",
        Kernel("kernel/PKGBUILD", "x86_64", "defconfig"),
        Build("kubenode1", Workdir("/home/builder/buildtmp")),
        Ssh(),
        {node.name: node for node in nodes or (SERVER, AGENT)},
    )
    object.__setattr__(made, "rollout", SimpleNamespace(kubeconfig=kubeconfig))
    return made


@pytest.fixture(scope="session")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("certs"))


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kubectl keeps what an API offers in its home for ten minutes, by address; and no cluster of this machine's."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setattr(kubectl, "K3S_CONFIG", str(tmp_path / "k3s.yaml"))
    monkeypatch.setattr(kubernetes, "PAUSE", 0.2)


@pytest.fixture
def fake(request: pytest.FixtureRequest, certs: Path) -> Iterator[Fake]:
    with Fake(certs, old=getattr(request, "param", False)) as made:
        made.node("kubenode1", roles=("control-plane", "etcd"))
        made.node("kubenode2")
        yield made


@pytest.fixture
def kube(fake: Fake, tmp_path: Path) -> Kubernetes:
    found = Kubernetes.of(cluster(tmp_path, kubeconfig=str(fake.kubeconfig(tmp_path / "kubeconfig"))), AGENT)
    assert found
    return found


def later(seconds: float, act: Callable[[], object]) -> threading.Timer:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
    return timer


def untouched(fake: Fake, name: str = "kubenode2") -> bool:
    return not fake.cordoned(name) and OURS not in fake.nodes[name]["metadata"]["annotations"]


def marked(fake: Fake, name: str = "kubenode2") -> bool:
    return fake.cordoned(name) and "roll-out" in fake.nodes[name]["metadata"]["annotations"].get(OURS, "")


@pytest.mark.real
@pytest.mark.parametrize("fake", [False, True], indirect=True, ids=["v1", "v1beta1"])
def test_drain_moves_what_it_must_and_uncordon_leaves_nothing(fake: Fake, kube: Kubernetes):
    fake.pod("web-1", "kubenode2")
    fake.pod("db-0", "kubenode2", owner="StatefulSet")
    fake.pod("flannel-1", "kubenode2", owner="DaemonSet")
    fake.pod("web-2", "kubenode1")
    fake.budget("web", "web", allowed=1)
    drained = kube.cordon_and_drain(AGENT, 20)
    assert (drained.was_cordoned, drained.evicted) == (False, 2)
    assert sorted(fake.evicted) == ["default/db-0", "default/web-1"]
    assert marked(fake)
    assert len(fake.patches) == 1, "the cordon and its mark are one write"
    assert kube.is_ours(AGENT) and [name for name in fake.nodes if marked(fake, name)] == ["kubenode2"]
    assert kube.cordon_and_drain(AGENT, 20).evicted == 0, "already so is success"
    assert kube.uncordon(AGENT)
    assert untouched(fake)
    assert not kube.uncordon(AGENT), "and again: nothing to do"
    assert len(fake.patches) == 2


@pytest.mark.real
def test_a_budget_that_never_allows_is_told_before_anything_is_touched(fake: Fake, kube: Kubernetes):
    fake.pod("web-1", "kubenode2")
    fake.pod("other-1", "kubenode2")
    fake.budget("only-one", "web", allowed=0, expected=1, wanted=1)
    began = time.monotonic()
    with pytest.raises(KbuildError) as caught:
        kube.cordon_and_drain(AGENT, 60)
    assert time.monotonic() - began < 20
    assert "pod default/web-1 stays" in caught.value.message
    assert "PodDisruptionBudget default/only-one" in caught.value.message
    assert "kubectl -n default get pdb only-one" in (caught.value.hint or "")
    assert (fake.patches, fake.evicted, fake.refused) == ([], [], [])


@pytest.mark.real
def test_a_pod_without_a_controller_is_not_forced(fake: Fake, kube: Kubernetes):
    fake.pod("bare", "kubenode2", owner="")
    with pytest.raises(KbuildError, match=r"default/bare stays, it has no controller"):
        kube.cordon_and_drain(AGENT, 60)
    assert untouched(fake)
    assert ("default", "bare") in fake.pods


@pytest.mark.real
def test_a_budget_that_may_allow_later_is_waited_for_while_the_node_takes_pods(fake: Fake, kube: Kubernetes):
    fake.pod("web-1", "kubenode2")
    budget = fake.budget("web", "web", allowed=0)
    cordoned_early = []

    def replica_is_well_again() -> None:
        cordoned_early.append(fake.cordoned("kubenode2"))
        budget["status"]["disruptionsAllowed"] = 1

    later(1, replica_is_well_again)
    assert kube.cordon_and_drain(AGENT, 30).evicted == 1
    assert (fake.evicted, fake.refused, cordoned_early) == (["default/web-1"], [], [False])


@pytest.mark.real
def test_waiting_for_a_budget_is_bounded(fake: Fake, kube: Kubernetes):
    fake.pod("web-1", "kubenode2")
    fake.budget("web", "web", allowed=0)
    began = time.monotonic()
    with pytest.raises(KbuildError, match=r"default/web-1 stays, PodDisruptionBudget default/web"):
        kube.cordon_and_drain(AGENT, 1)
    assert time.monotonic() - began < 20
    assert untouched(fake)
    assert fake.evicted == []


@pytest.mark.real
@pytest.mark.parametrize(
    ("fake", "operator"), [(False, False), (True, True)], indirect=["fake"], ids=["v1", "v1beta1, operator's cordon"]
)
def test_a_drain_that_a_budget_stops_half_way_is_bounded_and_undone(fake: Fake, kube: Kubernetes, operator: bool):
    fake.pod("web-1", "kubenode2")
    fake.pod("web-2", "kubenode2")
    fake.budget("web", "web", allowed=1)
    if operator:
        fake.change("kubenode2", {"spec": {"unschedulable": True}})
    began = time.monotonic()
    with pytest.raises(KbuildError) as caught:
        kube.cordon_and_drain(AGENT, 3)
    assert time.monotonic() - began < 3 + kubernetes.LATE + kubernetes.UNDO
    assert len(fake.evicted) == 1, "the budget held"
    (left,) = {"default/web-1", "default/web-2"} - set(fake.evicted)
    assert f"pod {left} stays, PodDisruptionBudget default/web allows no eviction" in caught.value.message
    assert fake.cordoned("kubenode2") == operator
    assert OURS not in fake.nodes["kubenode2"]["metadata"]["annotations"]


@pytest.mark.real
def test_a_pod_that_does_not_end_is_named(fake: Fake, kube: Kubernetes):
    fake.linger = 60
    fake.pod("slow-1", "kubenode2")
    with pytest.raises(KbuildError, match=r"pod default/slow-1 stays, it was evicted, and does not end"):
        kube.cordon_and_drain(AGENT, 3)
    assert untouched(fake)


@pytest.mark.real
def test_an_operators_cordon_survives(fake: Fake, kube: Kubernetes):
    fake.pod("web-1", "kubenode2")
    fake.change("kubenode2", {"spec": {"unschedulable": True}})
    drained = kube.cordon_and_drain(AGENT, 20)
    assert drained.was_cordoned
    assert not kube.uncordon(AGENT, drained.was_cordoned)
    assert not kube.uncordon(AGENT), "nor without the word of the run that drained"
    assert fake.cordoned("kubenode2")
    assert (fake.evicted, fake.patches) == (["default/web-1"], [])


@pytest.mark.real
def test_an_operator_who_cordons_in_that_moment_is_seen(fake: Fake, kube: Kubernetes):
    def operator() -> None:
        fake.before_patch = lambda: None
        fake.change("kubenode2", {"spec": {"unschedulable": True}})

    fake.before_patch = operator
    assert kube.cordon_and_drain(AGENT, 20).was_cordoned
    assert OURS not in fake.nodes["kubenode2"]["metadata"]["annotations"]
    assert not kube.uncordon(AGENT)
    assert fake.cordoned("kubenode2")


@pytest.mark.real
def test_a_change_by_others_between_reading_and_writing_is_read_again(fake: Fake, kube: Kubernetes):
    def kubelet() -> None:
        fake.before_patch = lambda: None
        fake.change("kubenode2", {"status": {"capacity": {"cpu": "4"}}})

    fake.before_patch = kubelet
    assert not kube.cordon_and_drain(AGENT, 20).was_cordoned
    assert marked(fake)


DRAIN = """
import sys
from kbuild_tasks.core.model import Node
from kbuild_tasks.effects.kubectl import Kubectl
from kbuild_tasks.effects.kubernetes import Kubernetes
Kubernetes(Kubectl(("kubectl",), sys.argv[1])).cordon_and_drain(Node("kubenode2", "10.0.0.12", k3s="agent"), 8)
"""


def drain_under_way(fake: Fake, kube: Kubernetes) -> subprocess.Popen[bytes]:
    """Another process in the middle of a drain: one pod is on its way out and takes its time."""
    fake.linger = 60
    fake.pod("web-1", "kubenode2")
    child = subprocess.Popen([sys.executable, "-c", DRAIN, kube.kubectl.kubeconfig], cwd=ROOT)
    until = time.monotonic() + 20
    while not fake.evicted:
        assert time.monotonic() < until
        assert child.poll() is None
        time.sleep(0.05)
    return child


@pytest.mark.real
def test_killed_in_drain_and_resumed_nothing_is_left_cordoned(fake: Fake, kube: Kubernetes):
    child = drain_under_way(fake, kube)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert marked(fake), "the dead run's cordon is known as ours"
    fake.pods["default", "web-1"]["ends"] = time.monotonic() + 0.5
    drained = kube.cordon_and_drain(AGENT, 20)
    assert not drained.was_cordoned, "it is not taken for an operator's"
    assert fake.evicted == ["default/web-1"], "evicted once"
    assert kube.uncordon(AGENT, drained.was_cordoned)
    assert untouched(fake)
    assert not [name for name in fake.nodes if marked(fake, name)]


@pytest.mark.real
def test_killed_in_drain_and_given_up_uncordon_alone_is_right(fake: Fake, kube: Kubernetes):
    child = drain_under_way(fake, kube)
    child.send_signal(signal.SIGKILL)
    child.wait()
    fake.pods["default", "web-1"]["ends"] = time.monotonic()
    assert kube.uncordon(AGENT)
    assert untouched(fake)


@pytest.mark.real
def test_stopped_in_drain_its_cordon_is_undone(fake: Fake, kube: Kubernetes, monkeypatch: pytest.MonkeyPatch):
    """As Ctrl-C does it (plugin/record.py): children are ended, and none starts any more but for cleaning up."""
    monkeypatch.setattr(shell, "_stopping", threading.Event())
    fake.linger = 60
    fake.pod("web-1", "kubenode2")
    caught: list[BaseException] = []

    def drain() -> None:
        try:
            kube.cordon_and_drain(AGENT, 60)
        except KbuildError as error:
            caught.append(error)

    thread = threading.Thread(target=drain)
    thread.start()
    while not fake.evicted:
        time.sleep(0.05)
    shell.stop_all()
    thread.join(20)
    assert caught
    assert untouched(fake)


def fall_in_drain(fake: Fake, back: float, gone: float | None = None) -> None:
    """The API goes away when the first pod is on its way out, and is back after some seconds; the pod ends later."""

    def fall() -> None:
        while not fake.evicted:
            time.sleep(0.05)
        fake.stop()
        later(back, fake.start)
        if gone is not None:
            later(gone, lambda: fake.pods["default", "web-1"].update(ends=0))

    fake.linger = 60
    fake.pod("web-1", "kubenode2")
    threading.Thread(target=fall, daemon=True).start()


@pytest.mark.real
def test_an_api_that_falls_in_the_drain_is_not_taken_for_drained(fake: Fake, kube: Kubernetes):
    """kubectl 1.20 ends with status 0 then, with the pod still there: it looks once a second."""
    fall_in_drain(fake, back=2.5)
    with pytest.raises(KbuildError, match="default/web-1 stays, it was evicted, and does not end"):
        kube.cordon_and_drain(AGENT, 7)
    assert untouched(fake)


@pytest.mark.real
def test_a_drain_goes_on_when_the_api_is_back(fake: Fake, kube: Kubernetes):
    fall_in_drain(fake, back=2, gone=3)
    assert kube.cordon_and_drain(AGENT, 30).evicted == 1
    assert marked(fake)
    assert fake.evicted[0] == "default/web-1"


@pytest.mark.real
def test_a_cordon_is_undone_when_the_api_is_back_only_after_the_drains_deadline(fake: Fake, kube: Kubernetes):
    fall_in_drain(fake, back=4)
    with pytest.raises(KbuildError):
        kube.cordon_and_drain(AGENT, 3)
    assert untouched(fake)


@pytest.mark.real
def test_a_cordon_that_cannot_be_undone_is_told_and_lifted_by_the_next_run(
    fake: Fake, kube: Kubernetes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(kubernetes, "UNDO", 1)
    fall_in_drain(fake, back=600)
    with pytest.raises(KbuildError) as caught:
        kube.cordon_and_drain(AGENT, 2)
    assert "the next roll-out lifts it" in caught.value.evidence[0]
    assert marked(fake)
    fake.start()
    assert kube.is_ours(AGENT) and [name for name in fake.nodes if marked(fake, name)] == ["kubenode2"]
    assert kube.uncordon(AGENT)


# -- Ready ------------------------------------------------------------------------------------------------------


@pytest.mark.real
def test_ready_is_by_boot_id_kernel_and_a_lease_that_moves(fake: Fake, kube: Kubernetes):
    later(0.5, lambda: fake.boot("kubenode2"))
    kube.wait_ready(AGENT, BOOT_2, NEW, 20)


@pytest.mark.real
def test_with_the_lease_of_before_nothing_is_waited_for(fake: Fake, kube: Kubernetes):
    before = kube.lease(AGENT)
    fake.boot("kubenode2", dies=True)
    kube.wait_ready(AGENT, BOOT_2, NEW, 1, since=before)


@pytest.mark.real
def test_a_stale_ready_is_not_believed(fake: Fake, kube: Kubernetes):
    """A fast reboot: the condition is still that of the boot before, and True."""
    fake.renew("kubenode2")
    with pytest.raises(KbuildError, match=r"not Ready within 1 s: its kubelet has not reported since the reboot") as at:
        kube.wait_ready(AGENT, BOOT_2, NEW, 1)
    assert at.value.hint == "on kubenode2: journalctl -b -u k3s-agent"


@pytest.mark.real
def test_a_kubelet_that_reported_once_and_died_is_not_ready(fake: Fake, kube: Kubernetes):
    fake.boot("kubenode2", dies=True)
    with pytest.raises(KbuildError, match="its kubelet does not renew its lease"):
        kube.wait_ready(AGENT, BOOT_2, NEW, 1)


@pytest.mark.real
def test_a_kubelet_that_says_not_ready_is_not(fake: Fake, kube: Kubernetes):
    before = kube.lease(AGENT)
    fake.boot("kubenode2")
    fake.nodes["kubenode2"]["status"]["conditions"] = [
        {"type": "Ready", "status": "False", "message": "container runtime is down"}
    ]
    with pytest.raises(KbuildError, match="k3s says: container runtime is down"):
        kube.wait_ready(AGENT, BOOT_2, NEW, 1, since=before)


@pytest.mark.real
def test_another_kernel_in_this_boot_is_told_at_once(fake: Fake, kube: Kubernetes):
    fake.boot("kubenode2", kernel="6.1.190")
    began = time.monotonic()
    with pytest.raises(KbuildError, match=r"kubenode2 runs 6\.1\.190 in k3s' words, not 6\.1\.192"):
        kube.wait_ready(AGENT, BOOT_2, NEW, 60)
    assert time.monotonic() - began < 20


@pytest.mark.real
def test_the_api_is_away_while_the_only_server_reboots_and_comes_back(fake: Fake, kube: Kubernetes):
    fake.stop()

    def up() -> None:
        fake.start()
        later(0.5, lambda: fake.boot("kubenode1"))

    later(1, up)
    kube.wait_ready(SERVER, BOOT_2, NEW, 30)


@pytest.mark.real
def test_an_api_that_stays_away_is_told_in_a_sentence(fake: Fake, kube: Kubernetes):
    fake.stop()
    began = time.monotonic()
    with pytest.raises(KbuildError, match="not Ready within 1 s: k3s' API does not answer") as caught:
        kube.wait_ready(AGENT, BOOT_2, NEW, 1)
    assert "systemctl status k3s" in (caught.value.hint or "")
    assert time.monotonic() - began < 20
    with pytest.raises(ApiUnreachable, match="could not read node kubenode2"):
        kube.cordon_and_drain(AGENT, 60)


@pytest.mark.real
def test_uncordon_waits_for_an_api_that_is_coming_up(fake: Fake, kube: Kubernetes):
    kube.cordon_and_drain(AGENT, 20)
    fake.stop()
    later(1.5, fake.start)
    assert kube.uncordon(AGENT)
    assert untouched(fake)


@pytest.mark.real
def test_an_api_that_accepts_and_says_nothing_is_away(tmp_path: Path, certs: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kubectl, "CALL", 1.5)
    silent = Fake(certs)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        silent.port = listening.getsockname()[1]
        found = kubectl.Kubectl(("kubectl",), str(silent.kubeconfig(tmp_path / "kubeconfig")))
        began = time.monotonic()
        with pytest.raises(ApiUnreachable, match="does not answer: could not list the nodes"):
            Kubernetes(found).server_may_go()
        assert time.monotonic() - began < 6


@pytest.mark.real
def test_another_clusters_certificate_is_told(fake: Fake, tmp_path: Path):
    (tmp_path / "other").mkdir()
    fake.certs = certificates(tmp_path / "other")
    found = kubectl.Kubectl(("kubectl",), str(fake.kubeconfig(tmp_path / "kubeconfig")))
    with pytest.raises(KbuildError, match="certificate that is not valid here") as caught:
        Kubernetes(found).server_may_go()
    assert caught.value.hint == "is the kubeconfig this cluster's?"


# -- who, where, quorum -----------------------------------------------------------------------------------------


@pytest.mark.real
def test_quorum_by_what_the_api_says(fake: Fake, kube: Kubernetes):
    assert "only k3s server" in (kube.server_may_go() or "")
    for name in ("kubenode3", "kubenode4"):
        fake.node(name, roles=("control-plane", "etcd"))
    assert kube.server_may_go() is None
    fake.nodes["kubenode4"]["status"]["conditions"][0]["status"] = "Unknown"
    with pytest.raises(KbuildError, match="2 of 3 are well"):
        kube.server_may_go()
    with pytest.raises(KbuildError, match="2 of 3 are well"):
        kube.server_may_go(sick=SERVER)
    assert kube.server_may_go(sick=Node("KubeNode4", "10.0.0.14", k3s="server")) is None, "the others are well"


@pytest.mark.real
def test_a_node_that_k3s_does_not_know(fake: Fake, kube: Kubernetes):
    with pytest.raises(KbuildError, match="k3s does not know it: could not read node kubenode9"):
        kube.cordon_and_drain(Node("kubenode9", "10.0.0.19", k3s="agent"), 5)


@pytest.mark.parametrize(
    "name", ["--all", "-A", "a b", "a;reboot", "$(reboot)", "../pods", "a/b", "a,b", "a\nb", "", "a_b", "x" * 254, "é"]
)
def test_hostile_names_reach_nothing(name: str, tmp_path: Path):
    program = tmp_path / "kubectl"
    program.write_text(f"#!/bin/sh\n: > '{tmp_path}/called'\n")
    program.chmod(0o755)
    kube = Kubernetes(kubectl.Kubectl((str(program),), "none"))
    node = Node(name, "10.0.0.12", k3s="agent")
    for act in (
        lambda: kube.cordon_and_drain(node, 5),
        lambda: kube.wait_ready(node, BOOT_1, NEW, 5),
        lambda: kube.uncordon(node),
        lambda: kube.lease(node),
    ):
        with pytest.raises(KbuildError, match="cannot be the name of a k3s node"):
            act()
    assert not (tmp_path / "called").exists()


def test_what_is_no_boot_id_is_refused(tmp_path: Path):
    kube = Kubernetes(kubectl.Kubectl(("false",), "none"))
    with pytest.raises(KbuildError, match="is not a boot id"):
        kube.wait_ready(AGENT, "System is going down.", NEW, 5)


def test_kubeconfig_given_found_or_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "kubectl").write_text("#!/bin/sh\n")
    (directory / "kubectl").chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))

    def path(**settings: Any) -> str | None:
        found = Kubernetes.of(cluster(tmp_path, **settings), AGENT)
        return found.kubectl.kubeconfig if found else None

    def none_is_found() -> None:
        with pytest.raises(KbuildError, match="kubenode2 runs k3s, and there is no kubeconfig here") as caught:
            path()
        assert "rollout.kubeconfig in cluster.yaml" in (caught.value.hint or "")

    none_is_found()
    assert path(kubeconfig="off") is None, "by the user's word"
    with pytest.raises(KbuildError, match=r"rollout\.kubeconfig: gone\.yaml cannot be read here"):
        path(kubeconfig="gone.yaml")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "gone"))
    none_is_found()
    (tmp_path / "own").write_text("")
    monkeypatch.setenv("KUBECONFIG", f"{tmp_path}/gone:{tmp_path}/own")
    assert path() == f"{tmp_path}/gone:{tmp_path}/own", "kubectl itself joins them"
    (tmp_path / "k3s.yaml").write_text("")
    assert path() == f"{tmp_path}/k3s.yaml"
    (tmp_path / "given.yaml").write_text("")
    assert path(kubeconfig="given.yaml") == f"{tmp_path}/given.yaml"
    assert path(kubeconfig="~/given.yaml") == f"{tmp_path}/given.yaml"
    assert Kubernetes.of(cluster(tmp_path), Node("kubenode3", "10.0.0.13")) is None, "it runs no k3s"
    (directory / "kubectl").unlink()
    with pytest.raises(KbuildError, match="kubectl is not installed"):
        path()


@pytest.mark.real
def test_k3s_own_kubectl_where_there_is_no_other(fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    directory = tmp_path / "bin"
    directory.mkdir()
    text = f'#!/bin/sh\n[ "$1" = kubectl ] || exit 9\nshift\nexec {shutil.which("kubectl")} "$@"\n'
    (directory / "k3s").write_text(text)
    (directory / "k3s").chmod(0o755)
    monkeypatch.setenv("PATH", str(directory))
    found = Kubernetes.of(cluster(tmp_path, kubeconfig=str(fake.kubeconfig(tmp_path / "kubeconfig"))), AGENT)
    assert found
    assert found.kubectl.program == (str(directory / "k3s"), "kubectl")
    assert "only k3s server" in (found.server_may_go() or "")


@pytest.mark.real
def test_the_stand_in_lets_nobody_in_without_a_certificate(fake: Fake, certs: Path):
    """Else the tests above would show nothing about certificates."""
    shown = subprocess.run(
        ["curl", "-sS", "--cacert", certs / "ca.crt", f"https://127.0.0.1:{fake.port}/api"],
        capture_output=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert shown.returncode != 0
