"""A small API server for the real kubectl: no k3s binary can be had here, so this stands in for it.

True to the API: HTTPS with its own CA and client certificates, discovery, field selectors, merge patches with
resourceVersion (409), the eviction subresource with PodDisruptionBudgets (429, and 500 where two select one pod),
deletion that takes its time. Not here: watches, controllers (nothing starts an evicted pod elsewhere, no budget is
counted anew), admission, other verbs. policy/v1 can be left out, as an old server does (`old=True`).

What happened is in `evicted` ("namespace/pod"), `refused` (the same, by a budget) and `patches` (bodies).
"""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kbuild_tasks.core.kubernetes import selects

BOOT_1 = "11111111-1111-4111-8111-111111111111"
BOOT_2 = "22222222-2222-4222-8222-222222222222"


def certificates(directory: Path) -> Path:
    """A CA, a certificate for 127.0.0.1 and one for the client, valid for a day."""

    def make(name: str, subject: str, *more: str) -> None:
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", f"{name}.key"]
        words = ["openssl", "req", "-x509", "-days", "1", "-subj", subject, *key, "-out", f"{name}.crt", *more]
        subprocess.run(words, cwd=directory, check=True, capture_output=True)

    signed = ["-CA", "ca.crt", "-CAkey", "ca.key", "-addext", "basicConstraints=critical,CA:FALSE"]
    make("ca", "/CN=k3s-server-ca")
    make("server", "/CN=k3s", *signed, "-addext", "subjectAltName=IP:127.0.0.1")
    make("client", "/O=system:masters/CN=system:admin", *signed)
    return directory


class Kubernetes:
    """The cluster's state, and the server in front of it. Use as a context manager."""

    def __init__(self, certs: Path, *, old: bool = False) -> None:
        self.certs, self.old = certs, old
        self.nodes: dict[str, Any] = {}
        self.leases: dict[str, Any] = {}
        self.pods: dict[tuple[str, str], Any] = {}
        self.budgets: list[Any] = []
        self.evicted: list[str] = []
        self.refused: list[str] = []
        self.patches: list[Any] = []
        self.linger = 0.0  # seconds between a pod's eviction and its end
        self.before_patch: Callable[[], None] = lambda: None
        self.lock = threading.RLock()
        self.port = 0
        self._kubelets: dict[str, int] = {}  # node -> which of its kubelets is the one that lives
        self._version = 100
        self._server: ThreadingHTTPServer | None = None

    # -- what a test arranges -----------------------------------------------------------------------------------

    def node(self, name: str, *, roles: tuple[str, ...] = (), boot_id: str = BOOT_1, kernel: str = "6.1.190") -> None:
        self.nodes[name] = {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {
                "name": name,
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "labels": {f"node-role.kubernetes.io/{role}": "true" for role in roles},
                "annotations": {},
            },
            "spec": {},
            "status": {
                "nodeInfo": {"bootID": boot_id, "kernelVersion": kernel},
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        }
        self.leases[name] = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": name, "renewTime": "2026-01-01T00:00:00.000000Z"},
        }

    def pod(self, name: str, node: str, *, owner: str = "ReplicaSet", namespace: str = "default") -> Any:
        owners = [{"apiVersion": "apps/v1", "kind": owner, "name": "web", "uid": "u", "controller": True}]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": f"uid-{name}",
                "resourceVersion": "1",
                "labels": {"app": name.rsplit("-", 1)[0]},
                "ownerReferences": owners if owner else [],
            },
            "spec": {"nodeName": node, "containers": [{"name": "c"}], "volumes": [{"name": "v", "emptyDir": {}}]},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
        }
        self.pods[namespace, name] = pod
        return pod

    def budget(self, name: str, app: str, *, allowed: int, expected: int = 3, wanted: int = 2) -> Any:
        budget = {
            "apiVersion": "policy/v1beta1" if self.old else "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": name, "namespace": "default", "generation": 1},
            "spec": {"selector": {"matchLabels": {"app": app}}, "minAvailable": wanted},
            "status": {
                "observedGeneration": 1,
                "disruptionsAllowed": allowed,
                "currentHealthy": wanted + allowed,
                "desiredHealthy": wanted,
                "expectedPods": expected,
            },
        }
        self.budgets.append(budget)
        return budget

    def renew(self, name: str) -> None:
        """The kubelet's heartbeat. By a clock that is wrong: nobody may compare it with another."""
        with self.lock:
            self._version += 1
            self.leases[name]["spec"]["renewTime"] = f"1970-01-01T00:00:00.{self._version:06d}Z"

    def boot(self, name: str, boot_id: str = BOOT_2, kernel: str = "6.1.192", *, dies: bool = False) -> None:
        """What the kubelet of a new boot reports; then it renews its lease, unless it dies."""
        self.nodes[name]["status"]["nodeInfo"] = {"bootID": boot_id, "kernelVersion": kernel}
        self.renew(name)
        if not dies:
            self.kubelet(name)

    def kubelet(self, name: str, every: float = 0.2) -> None:
        """One that renews its lease until it is stopped, or another one starts, or the API is away."""
        mine = self._kubelets[name] = self._kubelets.get(name, 0) + 1

        def live() -> None:
            while not self.away and self._kubelets[name] == mine:
                self.renew(name)
                time.sleep(every)

        threading.Thread(target=live, daemon=True).start()

    def stop_kubelet(self, name: str) -> None:
        with self.lock:
            self._kubelets[name] = self._kubelets.get(name, 0) + 1

    def cordoned(self, name: str) -> bool:
        return bool(self.nodes[name]["spec"].get("unschedulable"))

    def kubeconfig(self, path: Path) -> Path:
        text = (
            "apiVersion: v1\nkind: Config\ncurrent-context: c\n"
            f"clusters: [{{name: c, cluster: {{server: 'https://127.0.0.1:{self.port}', "
            f"certificate-authority: '{self.certs}/ca.crt'}}}}]\n"
            f"users: [{{name: u, user: {{client-certificate: '{self.certs}/client.crt', "
            f"client-key: '{self.certs}/client.key'}}}}]\n"
            "contexts: [{name: c, context: {cluster: c, user: u}}]\n"
        )
        path.write_text(text)
        return path

    # -- the server ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Also after stop(): on the same port, as a server that has rebooted."""

        class Handler(_Handler):
            cluster = self

        self._server = server = _Server(("127.0.0.1", self.port), Handler)
        self.port = server.server_port
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certs / "server.crt", self.certs / "server.key")
        context.load_verify_locations(self.certs / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        server, self._server = self._server, None
        if server:
            server.shutdown()
            server.server_close()

    @property
    def away(self) -> bool:
        return self._server is None

    def __enter__(self) -> Kubernetes:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- the API ------------------------------------------------------------------------------------------------

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
        with self.lock:
            if method == "GET" and (found := self._discovery(path)):
                return 200, found
            if match := re.fullmatch(r"/api/v1/nodes(?:/([^/]+))?", path):
                return self._node(method, match[1], body)
            if match := re.fullmatch(r"/api/v1/pods|/api/v1/namespaces/([^/]+)/pods(?:/([^/]+))?(/eviction)?", path):
                if method == "POST" and match[3]:
                    return self._evict(match[1], match[2])
                if match[2]:
                    return self._pod(match[1], match[2])
                node = query.get("fieldSelector", "").removeprefix("spec.nodeName=")
                return 200, _list("v1", "Pod", [p for p in self._alive() if p["spec"]["nodeName"] == node])
            if match := re.fullmatch(r"/apis/policy/(\w+)/poddisruptionbudgets", path):
                return 200, _list(f"policy/{match[1]}", "PodDisruptionBudget", self.budgets)
            if match := re.fullmatch(r"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/([^/]+)", path):
                return (200, self.leases[match[1]]) if match[1] in self.leases else _missing("leases", match[1])
            if match := re.fullmatch(r"/apis/apps/v1/namespaces/[^/]+/daemonsets/([^/]+)", path):
                return 200, {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": match[1]}, "spec": {}}
            return _status(404, "NotFound", f"the fake does not know {method} {path}")

    def _discovery(self, path: str) -> Any:
        pods = [("pods", "Pod", True), ("pods/eviction", "Eviction", True), ("nodes", "Node", False)]
        policy = "v1beta1" if self.old else "v1"
        groups = {
            "/apis/policy/" + policy: [("poddisruptionbudgets", "PodDisruptionBudget", True)],
            "/apis/coordination.k8s.io/v1": [("leases", "Lease", True)],
            "/apis/apps/v1": [("daemonsets", "DaemonSet", True)],
        }
        if path == "/version":
            minor = "20" if self.old else "30"
            return {"major": "1", "minor": minor, "gitVersion": f"v1.{minor}.2+k3s1"}
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            names = [key.removeprefix("/apis/") for key in groups]
            versions = [{"groupVersion": name, "version": name.split("/")[1]} for name in names]
            return {
                "kind": "APIGroupList",
                "apiVersion": "v1",
                "groups": [
                    {"name": v["groupVersion"].split("/")[0], "versions": [v], "preferredVersion": v} for v in versions
                ],
            }
        resources = pods if path == "/api/v1" else groups.get(path)
        if resources is None:
            return None
        eviction = {"group": "policy", "version": policy}
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": path.removeprefix("/apis/").removeprefix("/api/"),
            "resources": [
                {"name": name, "singularName": kind.lower(), "kind": kind, "namespaced": namespaced}
                | {"verbs": ["get", "list", "patch", "create"]}
                | (eviction if kind == "Eviction" else {})
                for name, kind, namespaced in resources
            ],
        }

    def _node(self, method: str, name: str | None, body: Any) -> tuple[int, Any]:
        if name is None:
            return 200, _list("v1", "Node", list(self.nodes.values()))
        if name not in self.nodes:
            return _missing("nodes", name)
        if method == "PATCH":
            self.before_patch()
            node = self.nodes[name]
            wanted = (body.get("metadata") or {}).pop("resourceVersion", None)
            if wanted and wanted != node["metadata"]["resourceVersion"]:
                return _status(409, "Conflict", f'Operation cannot be fulfilled on nodes "{name}"')
            self.patches.append(body)
            self.change(name, body)
        return 200, self.nodes[name]

    def change(self, name: str, patch: Any) -> None:
        """A merge patch (RFC 7386), by kubectl or by a test that plays an operator."""
        self._version += 1
        self.nodes[name] = _merge(self.nodes[name], patch)
        self.nodes[name]["metadata"]["resourceVersion"] = str(self._version)

    def _alive(self) -> list[Any]:
        for key, pod in list(self.pods.items()):
            if pod.get("ends", float("inf")) <= time.monotonic():
                del self.pods[key]
        return [{key: value for key, value in pod.items() if key != "ends"} for pod in self.pods.values()]

    def _pod(self, namespace: str, name: str) -> tuple[int, Any]:
        for pod in self._alive():
            if (pod["metadata"]["namespace"], pod["metadata"]["name"]) == (namespace, name):
                return 200, pod
        return _missing("pods", name)

    def _evict(self, namespace: str, name: str) -> tuple[int, Any]:
        code, pod = self._pod(namespace, name)
        if code != 200:
            return code, pod
        if "deletionTimestamp" in pod["metadata"]:  # evicted once: it ends when it was to end, and costs no budget
            return 201, {"kind": "Status", "apiVersion": "v1", "status": "Success"}
        mine = [budget for budget in self.budgets if selects(budget, pod)]
        if len(mine) > 1:
            return _status(500, "InternalError", "This pod has more than one PodDisruptionBudget")
        if mine and mine[0]["status"]["disruptionsAllowed"] < 1:
            self.refused.append(f"{namespace}/{name}")
            return _status(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.")
        if mine:
            mine[0]["status"]["disruptionsAllowed"] -= 1
        self.evicted.append(f"{namespace}/{name}")
        held = self.pods[namespace, name]
        held["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        held["ends"] = time.monotonic() + self.linger
        return 201, {"kind": "Status", "apiVersion": "v1", "status": "Success"}


class _Server(ThreadingHTTPServer):
    allow_reuse_address = True
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away, or that has no certificate, is no news."""


class _Handler(BaseHTTPRequestHandler):
    cluster: Kubernetes
    protocol_version = "HTTP/1.1"
    timeout = 30

    def _do(self) -> None:
        if self.cluster.away:  # a connection of before stop()
            self.close_connection = True
            return
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        code, answer = self.cluster.answer(self.command, url.path, query, body)
        data = json.dumps(answer).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PATCH = _do

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


def _list(version: str, kind: str, items: list[Any]) -> Any:
    return {"apiVersion": version, "kind": f"{kind}List", "metadata": {"resourceVersion": "1"}, "items": items}


def _status(code: int, reason: str, message: str) -> tuple[int, Any]:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code}
    return code, body | {"reason": reason, "message": message}


def _missing(kind: str, name: str) -> tuple[int, Any]:
    return _status(404, "NotFound", f'{kind} "{name}" not found')


def _merge(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merge(merged.get(key), value)
    return merged
