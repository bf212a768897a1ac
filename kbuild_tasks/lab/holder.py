"""The holder: the one process in which a lab lives, and the init of the lab's own pid namespace.

Why a pid namespace with us as its init: everything the lab started is in it, and the kernel ends all of it when its
init ends, whoever killed it and how. The bridge and the mounts lie in the same life-span: they belong to a network
and a mount namespace that nothing but this family of processes holds. So a lab has no clean-up code that a kill -9
could skip, except for the empty cgroups and the directory in /run, which the next `up` or `down` removes.

Start: lab.py runs this module as a program with a Spec on stdin. That process (the launcher) enters the lab's
cgroups, binds the control socket, makes the namespaces, forks the holder, writes state.json and ends. The holder does
nothing before state.json is there. It answers "ready" or the error on stdout, and then only on the control socket:
one JSON request a connection, one JSON answer.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import selectors
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from kbuild_tasks.effects.files import write_json
from kbuild_tasks.lab import linux
from kbuild_tasks.lab.cgroups import Tree
from kbuild_tasks.lab.nodes import Container, Network, Node, NodeSpec
from kbuild_tasks.lab.vm import Vm, VmSpec

REQUEST_BYTES = 1 << 20
REBOOT = 133  # systemd-nspawn(1), --keep-unit: "exit ... with the special exit status 133" when the container reboots


class Holder:
    def __init__(self, spec: dict[str, Any], listener: socket.socket) -> None:
        self.spec = spec
        self.listener = listener
        self.tree = Tree(spec["id"])
        self.network = Network()
        self.nodes: dict[str, Node] = {}

    def boot(self) -> None:
        """Make this namespace a place for nodes: own /proc and /run, the bridge, what the nodes' roots lie on."""
        linux.mount("none", "/", "none", linux.MS_REC | linux.MS_SLAVE)
        linux.mount("proc", "/proc", "proc", linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC)
        disks = os.open(self.spec["disks"], os.O_PATH | os.O_DIRECTORY)
        base = os.open(self.spec["base"], os.O_RDONLY | os.O_DIRECTORY)
        fcntl.flock(base, fcntl.LOCK_SH)  # in use as long as we live: base.py removes no such base
        bases = os.open(self.spec["bases"], os.O_PATH | os.O_DIRECTORY)
        logs = os.open(self.spec["logs"], os.O_PATH | os.O_DIRECTORY)
        linux.mount("tmpfs", "/run", "tmpfs", linux.MS_NOSUID | linux.MS_NODEV, "mode=755")
        for name, fd in (
            ("disks", disks),
            ("base", base),
            ("bases", bases),
            ("logs", logs),
        ):  # under /run no path needs escaping
            os.mkdir(f"/run/{name}")
            linux.mount(f"/proc/self/fd/{fd}", f"/run/{name}", "none", linux.MS_BIND)
        self.network.make()
        self.add(self.spec["nodes"])

    def add(self, specs: list[dict[str, Any]]) -> None:
        """Make nodes and switch them on; those that are there stay as they are."""
        for value in specs:
            if value["name"] not in self.nodes:
                node: Node
                if "kind" in value:
                    node = Vm(VmSpec.from_json(value), self.tree)
                else:
                    node = Container(NodeSpec.from_json(value), self.tree)
                node.make(self.network)
                self.nodes[node.name] = node
                node.start()

    def serve(self) -> None:
        """Answer requests and tend the nodes until somebody kills us."""
        wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.reap()  # what ended before the handler was there
        with selectors.DefaultSelector() as selector:
            selector.register(self.listener, selectors.EVENT_READ)
            selector.register(wake_read, selectors.EVENT_READ)
            while True:
                for key, _ in selector.select():
                    if key.fileobj is self.listener:
                        self.answer()
                    else:
                        with contextlib.suppress(BlockingIOError):
                            os.read(wake_read, 4096)
                        self.reap()

    def reap(self) -> None:
        """Collect ended children (orphans of the nodes' supervisors too) and start rebooted nodes again."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for node in self.nodes.values():
                if node.pid == pid:
                    node.ended(os.waitstatus_to_exitcode(status))
                    if node.exit == REBOOT and node.wanted:
                        node.start()

    def answer(self) -> None:
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(5)
            try:
                request = json.loads(_read_line(connection))
                reply = self.handle(request)
            except Exception as error:  # the lab outlives a bad request; the asker gets the reason
                reply = {"error": f"{type(error).__name__}: {error}"}
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps(reply).encode() + b"\n")

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        verb = request["verb"]
        if verb == "add":
            self.add(request["nodes"])
        elif verb in ("start", "stop", "cut", "join"):
            node = self.nodes[request["node"]]
            if verb == "start":
                node.start()
            elif verb == "stop":
                node.stop()
            else:
                self.network.link(node.name, verb == "join")
        elif verb != "status":
            raise ValueError(f"unknown verb {verb!r}")
        self.reap()
        return {
            "base": self.spec["base"],
            "nodes": {name: node.state() | {"cut": name in self.network.cut} for name, node in self.nodes.items()},
        }


def _read_line(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\n") and len(data) < REQUEST_BYTES:
        piece = connection.recv(65536)
        if not piece:
            break
        data += piece
    return data


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), field 22): with the pid, its identity."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[19])


def launch(spec: dict[str, Any]) -> None:
    """The launcher: see the head of this module. Does not return in the holder."""
    os.closerange(3, 4096)  # what a caller's caller left open must not stay open as long as the lab
    run = Path(spec["run"])
    tree = Tree(spec["id"])
    tree.enter("holder")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(spec["control"])
    os.chmod(spec["control"], 0o600)
    listener.listen(64)
    try:
        linux.unshare(linux.CLONE_NEWNS | linux.CLONE_NEWNET | linux.CLONE_NEWPID)
    except OSError as error:
        why = f"this machine does not let us make namespaces ({error.strerror}); is it a container without privileges?"
        os.write(1, json.dumps({"error": why}).encode())
        return
    go_read, go_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_write)
        if os.read(go_read, 1) != b"g":  # the launcher died before it could say who we are
            os._exit(1)
        os.close(go_read)
        os.setsid()
        os.chdir("/")
        _hold(spec, listener)
    write_json(run / "state.json", {"pid": pid, "start": start_time(pid), "root": spec["root"], "since": time.time()})
    os.write(go_write, b"g")


def _hold(spec: dict[str, Any], listener: socket.socket) -> None:
    holder = Holder(spec, listener)
    try:
        holder.boot()
        answer: dict[str, Any] = {"ready": True}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    os.write(1, json.dumps(answer).encode() + b"\n")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    if "error" not in answer:
        holder.serve()
    os._exit(1)


if __name__ == "__main__":
    launch(json.load(sys.stdin))
