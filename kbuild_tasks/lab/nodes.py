"""One node, and the network that joins them, as the holder sees them: inside the lab's namespaces.

What all nodes have in common is Node: a process in a cgroup of its own, which is the node as long as it lives. Here is
the container; vm.py has the other kind.

A container's root is an overlay: the shared base below, the node's own disk (a directory under .lab/nodes) above. Its
network is a namespace with one veth, so address and link survive a reboot and a power cut of the node, as a cable
does. systemd runs in it under systemd-nspawn, which we start again when it says that the node rebooted.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbuild_tasks.lab import linux, names
from kbuild_tasks.lab.cgroups import Tree
from kbuild_tasks.lab.furnish import Furniture, furnish

ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


@dataclass(frozen=True)
class NodeSpec:
    """A container as lab.py asks for it.

    binds  (path, writable) of the machine that the node sees at the same path
    hide   path covered by an empty tmpfs in the node; None: nothing
    logs   path at which the node sees the consoles of all nodes; None: nowhere
    """

    name: str
    furniture: Furniture
    binds: tuple[tuple[str, bool], ...] = ()
    hide: str | None = None
    logs: str | None = None

    def as_json(self) -> dict[str, Any]:
        value = {"name": self.name, "furniture": self.furniture.as_json(), "binds": self.binds}
        return value | {"hide": self.hide, "logs": self.logs}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> NodeSpec:
        binds = tuple((path, writable) for path, writable in value["binds"])
        return cls(value["name"], Furniture.from_json(value["furniture"]), binds, value["hide"], value["logs"])


class Network:
    """br0 with the gateway's address, and a port lab<N> a node: a container's is one end of a veth pair (eth0
    inside), a VM's a tap."""

    def __init__(self) -> None:
        self.cut: set[str] = set()

    def make(self) -> None:
        os.mkdir("/run/netns")
        ip(
            "link set lo up",
            "link add br0 type bridge forward_delay 0 stp_state 0",
            f"address add {names.GATEWAY}/{names.PREFIX_LENGTH} dev br0",
            "link set br0 up",
        )

    def attach_tap(self, node: str) -> None:
        port = self.port(node)
        ip(f"tuntap add dev {port} mode tap", f"link set {port} master br0 up")

    def attach(self, node: str) -> None:
        port = self.port(node)
        run(["ip", "netns", "add", node])
        ip(
            f"link add {port} type veth peer name eth0 netns {node}",
            f"link set {port} master br0 up",
        )
        ip(
            "link set lo up",
            f"address add {names.address(node)}/{names.PREFIX_LENGTH} dev eth0",
            "link set eth0 up",
            f"route add default via {names.GATEWAY}",
            netns=node,
        )

    def link(self, node: str, up: bool) -> None:
        """Pull or plug the cable: the switch's end goes down, so no one gets a reset."""
        ip(f"link set {self.port(node)} {'up' if up else 'down'}")
        (self.cut.discard if up else self.cut.add)(node)

    @staticmethod
    def port(node: str) -> str:
        return "lab" + node.removeprefix("kubenode")


class Node:
    """A node of either kind: subclasses say how it is made and which program it is."""

    kind = ""
    volatile = False  # the disk is a tmpfs

    def __init__(self, name: str, tree: Tree) -> None:
        self.name = name
        self.tree = tree
        self.pid: int | None = None  # of its program, in the holder's pid namespace
        self.wanted = False  # switched on
        self.exit: int | None = None  # of the last such process: status, or minus the signal
        self.boots = 0

    def make(self, network: Network) -> None:
        """Make all but the process. Raises OSError."""
        raise NotImplementedError

    def argv(self) -> list[str]:
        """The program that is the node."""
        raise NotImplementedError

    def start(self) -> None:
        """Switch on; a node that is on stays so."""
        self.wanted = True
        if self.pid is not None:
            return
        self.tree.reset(self.name)
        fresh = os.O_APPEND if self.boots else os.O_TRUNC
        log = os.open(f"/run/logs/{self.name}-console.log", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | fresh, 0o644)
        pid = os.fork()
        if pid == 0:
            self._become(log)
        os.close(log)
        self.pid = pid
        self.boots += 1

    def _become(self, log: int) -> None:
        """In the child: never returns."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            self.tree.enter(self.name)
            null = os.open(os.devnull, os.O_RDONLY)
            for source, target in ((null, 0), (log, 1), (log, 2)):
                os.dup2(source, target)
            os.closerange(3, 1024)
            argv = self.argv()
            os.execvpe(argv[0], argv, ENVIRONMENT)
        except BaseException as error:
            os.write(2, f"{self.name} could not be started: {error}\n".encode())
        finally:
            os._exit(127)

    def stop(self, timeout: float = 10.0) -> None:
        """Pull the plug: every process of the node is killed, frozen or not; its disk stays."""
        self.wanted = False
        own = self.pid
        if own is None:
            return
        deadline = time.monotonic() + timeout
        os.kill(own, signal.SIGKILL)
        self.tree.kill(self.name, timeout)
        while self.pid == own:
            pid, status = os.waitpid(own, os.WNOHANG)
            if pid:
                self.ended(os.waitstatus_to_exitcode(status))
            elif time.monotonic() > deadline:
                raise TimeoutError(f"{self.name}: its process does not end")
            else:
                time.sleep(0.01)

    def ended(self, code: int) -> None:
        self.pid = None
        self.exit = code
        if code == 0:  # switched off from inside
            self.wanted = False

    def state(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "on": self.pid is not None,
            "wanted": self.wanted,
            "exit": self.exit,
            "boots": self.boots,
            "volatile": self.volatile,
        }


class Container(Node):
    kind = "container"

    def __init__(self, spec: NodeSpec, tree: Tree) -> None:
        super().__init__(spec.name, tree)
        self.spec = spec

    @property
    def root(self) -> str:
        return f"/run/nodes/{self.name}"

    def make(self, network: Network) -> None:
        self.tree.make(self.name)
        os.makedirs(self.root)
        disk = f"/run/disks/{self.name}"
        try:
            self._overlay(disk)
        except OSError:  # such as a project that itself lies on an overlay, as in a container
            self.volatile = True
            disk = f"/run/volatile/{self.name}"
            os.makedirs(disk)
            linux.mount("tmpfs", disk, "tmpfs", 0, "mode=755")
            self._overlay(disk)
        furnish(Path(self.root), self.spec.furniture)
        network.attach(self.name)

    def _overlay(self, disk: str) -> None:
        upper, work = f"{disk}/root", f"{disk}/work"
        for directory in (upper, work):
            os.makedirs(directory, mode=0o755, exist_ok=True)
        linux.mount("overlay", self.root, "overlay", 0, f"lowerdir=/run/base,upperdir={upper},workdir={work}")

    def argv(self) -> list[str]:
        return nspawn_argv(self.spec, self.root)


def nspawn_argv(spec: NodeSpec, root: str) -> list[str]:
    """systemd-nspawn(1) as measured to work without machined, without a systemd of the machine, on cgroup v1.

    --keep-unit: it exits on a reboot instead of looping, so that the reboot is ours to see.
    --console=read-only: what the node prints goes to a log, and a full console never blocks it.
    """
    argv = ["systemd-nspawn", "--quiet", "--settings=no", "--register=no", "--keep-unit", "--boot"]
    argv += [f"--directory={root}", f"--machine={spec.name}", f"--hostname={spec.name}"]
    argv += [f"--network-namespace-path=/run/netns/{spec.name}", "--console=read-only"]
    argv += ["--resolv-conf=off", "--timezone=off", "--link-journal=no"]
    for path, writable in spec.binds:
        quoted = _quoted(path)
        argv.append(f"--bind={quoted}:{quoted}:norbind" if writable else f"--bind-ro={quoted}:{quoted}:norbind")
    if spec.hide:
        argv.append(f"--tmpfs={_quoted(spec.hide)}:mode=0755")
    if spec.logs:
        argv.append(f"--bind-ro=/run/logs:{_quoted(spec.logs)}:norbind")
    return argv


def _quoted(path: str) -> str:
    """A path as one field of nspawn's options."""
    return path.replace("\\", "\\\\").replace(":", "\\:")


def ip(*commands: str, netns: str | None = None) -> None:
    """One ip(8) for several commands of it."""
    run(["ip", *(["-netns", netns] if netns else []), "-batch", "-"], "\n".join(commands) + "\n")


def run(argv: Sequence[str], text: str = "") -> None:
    """A short program of the lab's set-up. Raises OSError with what it said."""
    done = subprocess.run(argv, input=text, env=ENVIRONMENT, capture_output=True, text=True, timeout=30)
    if done.returncode != 0:
        raise OSError(f"{argv[0]} failed: {(done.stderr or done.stdout).strip()[:500]}")
