"""The program kubectl: where it is, which kubeconfig it gets, a deadline on each call, and its failures as errors."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import CommandFailed, KbuildError
from kbuild_tasks.core.kubectl import away, trouble
from kbuild_tasks.core.model import Cluster
from kbuild_tasks.effects import shell

K3S_CONFIG = "/etc/rancher/k3s/k3s.yaml"  # k3s writes it on a server, for root alone (--write-kubeconfig-mode)
REQUEST = 10  # seconds for one request to the API
CALL = 25  # seconds for one kubectl, which may make several


@dataclass(frozen=True)
class Kubectl:
    """kubectl for one cluster. kubeconfig: one path, or several as $KUBECONFIG has them."""

    program: tuple[str, ...]
    kubeconfig: str

    def get(self, words: list[str], what: str) -> dict[str, Any]:
        """`kubectl get WORDS -o json`. what: "read node kubenode2", for the error."""
        out = self.run(["get", *words, "--output=json"], what)
        try:
            answer = json.loads(out)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise KbuildError(f"kubectl gave no JSON: could not {what}", evidence=out.splitlines()[:3])
        return answer

    def run(self, words: list[str], what: str, timeout: float | None = None) -> str:
        """What kubectl prints. Raises ApiUnreachable, Conflict, or KbuildError with kubectl's own last lines."""
        argv = [*self.program, *words, f"--request-timeout={REQUEST}s"]
        environment = {**os.environ, "KUBECONFIG": self.kubeconfig}
        try:
            done = shell.run(argv, env=environment, timeout=timeout or CALL, check=False)
        except CommandFailed as error:  # only a deadline: the status is not checked there
            raise away(what, [error.message]) from None
        if done.code != 0:
            raise trouble(done.err, what)
        return done.out


def find(cluster: Cluster) -> Kubectl | None:
    """None where no kubeconfig is given and none is found.

    Raises KbuildError when the given one cannot be read, or when there is no program.
    """
    kubeconfig = _kubeconfig(cluster)
    if kubeconfig is None:
        return None
    if kubectl := shutil.which("kubectl"):
        return Kubectl((kubectl,), kubeconfig)
    if k3s := shutil.which("k3s"):
        return Kubectl((k3s, "kubectl"), kubeconfig)
    raise KbuildError("kubectl is not installed on this machine", "script/setup installs it")


def _kubeconfig(cluster: Cluster) -> str | None:
    given: str | None = getattr(cluster.rollout, "kubeconfig", None)
    if given:
        path = cluster.root / Path(given).expanduser()
        if not path.is_file() or not os.access(path, os.R_OK):
            raise KbuildError(
                f"{cluster.source}: rollout.kubeconfig: {given} cannot be read here",
                f"copy {K3S_CONFIG} of a k3s server there, readable for the user that runs doit",
            )
        return str(path)
    if os.access(K3S_CONFIG, os.R_OK):
        return K3S_CONFIG
    listed = os.environ.get("KUBECONFIG", "")
    return listed if any(path and os.access(path, os.R_OK) for path in listed.split(os.pathsep)) else None
