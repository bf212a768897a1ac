"""The order of k3s servers held against what it is for: three real members of etcd, one on each server, in their own
processes and on loopback. A roll-out of the servers restarts each of them once, while somebody writes all the time.

Needs etcd in PATH: script/test takes it from Debian's package.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.effects import k3s, kubectl, kubernetes
from tests.fake_kubernetes import Kubernetes, certificates
from tests.stages.test_rollout_k3s import Cluster
from tests.stages.test_rollout_k3s import Node as K3sNode

pytestmark = [pytest.mark.real, pytest.mark.skipif(not shutil.which("etcd"), reason="etcd is not installed")]
NAMES = ("n2", "n3", "n4")
AWAY = 1.5  # real seconds between a member's end and its start: a boot
GIVE_UP = 8.0  # seconds after which a write counts as failed; k3s' API server retries as long


def ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [made.getsockname()[1] for made in sockets]


class Etcd:
    def __init__(self, root: Path) -> None:
        self.root = root
        chosen = ports(2 * len(NAMES))
        self.clients = dict(zip(NAMES, chosen[: len(NAMES)], strict=True))
        self.peers = dict(zip(NAMES, chosen[len(NAMES) :], strict=True))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.starts = dict.fromkeys(NAMES, 0)
        self.most_away = 0
        self.guard = threading.Lock()

    def start(self, name: str) -> None:
        with self.guard:
            if name in self.processes:
                return
            client, peer = f"http://127.0.0.1:{self.clients[name]}", f"http://127.0.0.1:{self.peers[name]}"
            others = ",".join(f"{other}=http://127.0.0.1:{port}" for other, port in self.peers.items())
            words = ["etcd", "--name", name, "--data-dir", str(self.root / name), "--logger", "zap"]
            words += ["--listen-client-urls", client, "--advertise-client-urls", client, "--initial-cluster", others]
            words += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--log-level", "error"]
            with open(self.root / f"{name}.log", "ab") as log:
                self.processes[name] = subprocess.Popen(words, stdout=log, stderr=log)
            self.starts[name] += 1

    def stop(self, name: str) -> None:
        with self.guard:
            process = self.processes.pop(name, None)
            self.most_away = max(self.most_away, len(NAMES) - len(self.processes))
        if process:
            process.terminate()
            process.wait(20)

    def healthy(self, name: str) -> bool:
        """What the member says of itself: it has a leader, and a read by quorum goes through."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.clients[name]}/health", timeout=2) as answer:
                return bool(json.load(answer)["health"] == "true")
        except (OSError, ValueError, KeyError):
            return False

    def ask(self, name: str, what: str, body: dict[str, str]) -> Any:
        url = f"http://127.0.0.1:{self.clients[name]}/v3/kv/{what}"
        data = json.dumps({key: base64.b64encode(value.encode()).decode() for key, value in body.items()}).encode()
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=2) as answer:
            return json.load(answer)

    def write(self, key: str, value: str) -> bool:
        """To whichever member takes it, as an API server does; False: none did in time."""
        until = time.monotonic() + GIVE_UP
        while time.monotonic() < until:
            for name in NAMES:
                with contextlib.suppress(OSError, ValueError):
                    self.ask(name, "put", {"key": key, "value": value})
                    return True
            time.sleep(0.05)
        return False

    def read(self, name: str, key: str) -> str | None:
        found = self.ask(name, "range", {"key": key}).get("kvs")
        return base64.b64decode(found[0]["value"]).decode() if found else None


class Writer(threading.Thread):
    def __init__(self, etcd: Etcd) -> None:
        super().__init__(daemon=True)
        self.etcd, self.enough = etcd, threading.Event()
        self.written: dict[str, str] = {}
        self.failed: list[str] = []
        self.longest = 0.0

    def run(self) -> None:
        number = 0
        while not self.enough.is_set():
            number += 1
            began = time.monotonic()
            done = self.etcd.write(f"key-{number}", f"value {number}")
            self.longest = max(self.longest, time.monotonic() - began)
            if done:
                self.written[f"key-{number}"] = f"value {number}"
            else:
                self.failed.append(f"key-{number}")
            time.sleep(0.01)


class Api(Kubernetes):
    """A server is Ready, and a voter, when its member of etcd is well."""

    etcd: Etcd

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        if method == "GET" and path.startswith("/api/v1/nodes"):
            for name in NAMES:
                status = "True" if self.etcd.healthy(name) else "False"
                kinds = ("Ready", "EtcdIsVoter")
                self.nodes[name]["status"]["conditions"] = [{"type": kind, "status": status} for kind in kinds]
        return super().answer(method, path, query, body)


@pytest.fixture
def etcd(tmp_path: Path) -> Iterator[Etcd]:
    made = Etcd(tmp_path)
    for name in NAMES:
        made.start(name)
    try:
        until = time.monotonic() + 60
        while not all(made.healthy(name) for name in NAMES):
            assert time.monotonic() < until, "etcd does not come up"
            time.sleep(0.1)
        yield made
    finally:
        for name in NAMES:
            made.stop(name)


@pytest.fixture
def cluster(etcd: Etcd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(kubectl, "K3S_CONFIG", str(tmp_path / "none"))
    monkeypatch.setattr(kubernetes, "PAUSE", 0.2)
    monkeypatch.setattr(k3s, "READY", 60)
    (tmp_path / "certs").mkdir()
    with Api(certificates(tmp_path / "certs")) as api:
        api.etcd = etcd
        made = Cluster(tmp_path, monkeypatch, api, {"n7": "agent", **dict.fromkeys(NAMES, "server")})
        for name in NAMES:
            with_etcd(monkeypatch, made, etcd, name)
        yield made


def with_etcd(monkeypatch: pytest.MonkeyPatch, cluster: Cluster, etcd: Etcd, name: str) -> None:
    """Embedded etcd: it ends with k3s, and comes with the boot."""
    node = cluster.nodes[name]
    assert isinstance(node, K3sNode)
    boot, verb = node._boot, node._k3s

    def booted(when: float, asked: bool) -> None:
        etcd.stop(name)
        boot(when, asked)
        threading.Timer(AWAY, etcd.start, [name]).start()

    def k3s_verb(payload: None, action: str) -> dict[str, Any]:
        (etcd.stop if action == "stop" else etcd.start)(name)
        return verb(payload, action)

    monkeypatch.setattr(node, "_boot", booted)
    monkeypatch.setattr(node, "_k3s", k3s_verb)


def test_a_roll_out_of_three_servers_loses_no_write(cluster: Cluster, etcd: Etcd) -> None:
    writer = Writer(etcd)
    writer.start()
    run = cluster.run()
    order = [name for batch in run.order for name in batch]
    assert order == ["n7", *NAMES] and max(len(batch) for batch in run.order) == 1
    for name in order:
        cluster.act("deploy", "reboot", "verify", name=name)
    writer.enough.set()
    writer.join(2 * GIVE_UP)
    assert etcd.starts == dict.fromkeys(NAMES, 2), "each was restarted once"
    assert etcd.most_away == 1
    assert writer.failed == [] and len(writer.written) > 100
    for name in NAMES:
        lost = [key for key, value in writer.written.items() if etcd.read(name, key) != value]
        assert lost == [], f"{name} lost writes that were acknowledged"
    print(f"{len(writer.written)} writes, 0 failed, 0 lost; the longest took {writer.longest:.2f} s")


def test_while_a_member_is_down_no_server_goes_and_why_that_matters(cluster: Cluster, etcd: Etcd) -> None:
    cluster.act("deploy", name="n3")
    etcd.stop("n2")
    error = cluster.refused("reboot", name="n3")
    assert error.message == "no k3s server may reboot: 2 of 3 are well"
    assert etcd.starts["n3"] == 1 and etcd.write("key", "value"), "two of three still write"
    etcd.stop("n3")  # what was refused
    assert not etcd.write("key", "another"), "this is what a second server that goes costs"
