"""Two machines in one: mount namespaces in which workdir, its state and what sync leaves are each one's own, each with
an sshd of its own on loopback. One builds as n1, the other takes its place as n2."""

from __future__ import annotations

import copy
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.effects.test_node_ssh import free_port, keygen
from tests.exact.bench import ROOT, new_bench
from tests.exact.mounted import Mounted, mounted
from tests.makepkg_world import NOBODY

SIZE = "3g"  # adopt leaves 1 GiB to others
CLUSTER = """\
version: 1
kernel: {{pkgbuild: kernel/PKGBUILD, arch: x86_64, config: kernel/config, patches: patches, fragments: [{fragments}]}}
build: {{coordinator: {coordinator}, workdir: {{path: {workdir}}}{build}}}
ssh: {{user: root, identity: {home}/id, known_hosts: {home}/known}}
nodes:
  n1: {{address: 127.0.0.1, port: {ports[0]}, slots: {slots[0]}, rollout: false}}
  n2: {{address: 127.0.0.1, port: {ports[1]}, slots: {slots[1]}, rollout: false}}
"""
DODO = f"""\
import sys
sys.path.insert(0, {str(ROOT)!r})
from kbuild_tasks.stages import sync
from tests.exact import local_nodes
local_nodes.install()
local_nodes.sync_others(sync)
from kbuild_tasks import Pipeline
pipeline = Pipeline("cluster.yaml")
DOIT_CONFIG = pipeline.doit_config()
def task_kernel():
    yield from pipeline.tasks()
"""


class Machine(Mounted):
    """A bench whose project is in `project` and that is the node `name` where it builds."""

    name: str
    ports: list[int]

    def write(self, state) -> None:
        super().write(state)
        self.configure(", ".join(f"fragments/{name}" for name, _ in state.fragments))

    def configure(self, fragments: str) -> None:
        path = self.project / "cluster.yaml"
        path.write_text(
            CLUSTER.format(
                fragments=fragments, coordinator=self.name, workdir=self.work, build=self.build, home=self.home,
                ports=self.ports, slots=(2, 0) if self.name == "n1" else (0, 2),
            )
        )  # fmt: skip
        self.own(path)


@dataclass
class Two:
    """The old coordinator and the new one; sshds: of n1 and n2."""

    old: Machine
    new: Machine
    sshds: list[subprocess.Popen[bytes]]

    def hang_up(self) -> None:
        """End the connections that runs have left for those after them."""
        for config in Path("/tmp", f"kbuild-tasks-{NOBODY}").glob("*/config"):
            if str(self.old.home) in config.read_text():
                for name in ("n1", "n2"):
                    subprocess.run(["ssh", "-F", config, "-O", "exit", name], capture_output=True)


@contextmanager
def two(linux: Path) -> Iterator[Two]:
    for old in new_bench(linux, kind=Machine):
        old.name, old.ports = "n1", [free_port(), free_port()]
        new = copy.copy(old)
        new.name, new.project = "n2", old.home / "second"
        (old.project / "dodo.py").write_text(DODO)
        keygen(old.home / "id")
        (old.home / "authorized").write_text((old.home / "id.pub").read_text())
        known = keygen(old.home / "host")
        (old.home / "known").write_text("".join(f"[127.0.0.1]:{p} ssh-ed25519 {known}\n" for p in old.ports))
        old.own(old.home / "id")
        with ExitStack() as stack:
            sshds = []
            for machine, port in zip((old, new), old.ports, strict=True):
                stack.enter_context(mounted(machine))
                for name in ("work", "work.state"):
                    (machine.home / name).mkdir(exist_ok=True)
                    machine.mount(machine.home / name, SIZE)
                machine.root("mkdir", "-p", "/var/lib/kbuild-tasks")
                machine.root("mount", "-t", "tmpfs", "-o", "mode=755", "sets", "/var/lib/kbuild-tasks")
                sshds.append(sshd(machine, port))
                stack.callback(sshds[-1].wait, 5)
                stack.callback(sshds[-1].terminate)
            both = Two(old, new, sshds)
            stack.callback(both.hang_up)
            yield both


def sshd(machine: Machine, port: int) -> subprocess.Popen[bytes]:
    """In the machine's namespace; answers when this returns."""
    config = machine.home / f"sshd-{port}"
    config.write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {machine.home}/host\nPidFile none\n"
        f"AuthorizedKeysFile {machine.home}/authorized\nPasswordAuthentication no\n"
        "PermitRootLogin prohibit-password\nUsePAM no\nStrictModes no\n"
    )
    Path("/run/sshd").mkdir(exist_ok=True)
    argv = [*machine.enter, "/usr/sbin/sshd", "-D", "-e", "-f", str(config)]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    for _ in range(100):
        if subprocess.run(["ssh-keyscan", "-p", str(port), "127.0.0.1"], capture_output=True).stdout:
            break
        time.sleep(0.05)
    return process


def possible() -> bool:
    from tests.exact.mounted import possible

    return possible() and os.path.exists("/usr/sbin/sshd")
