"""Work in a node from outside: the process that is the node, and the command line that runs something there.

A container is entered (enter.py). A VM is reached as from the coordinator: by ssh, as `ansible`, with the lab's key
and a checked host key; for another user through sudo.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.lab import enter, keys, names, vm
from kbuild_tasks.lab.cgroups import Tree
from kbuild_tasks.lab.names import Places

PATHS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


@dataclass(frozen=True)
class Leader:
    """The process that a node ends with, as the machine numbers it: a container's init, or a VM's QEMU."""

    pid: int
    is_vm: bool


def leader(tree: Tree, node: str) -> Leader:
    """Raises KbuildError when the node is off."""
    for pid in tree.pids(names.known(node)):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            text = Path(f"/proc/{pid}/status").read_text()
            chain = text.partition("NSpid:")[2].split("\n")[0].split()
            if len(chain) > 2 and chain[-1] == "1":  # machine, holder, node: init of the innermost
                return Leader(pid, False)
            if len(chain) == 2 and text.startswith(f"Name:\t{vm.PROGRAM[:15]}\n"):
                return Leader(pid, True)
    if not tree.pids("holder"):
        raise KbuildError("the lab is not up", "doit lab up")
    if node not in tree.members():
        number = names.NODES.index(node) + 1
        more = f"--nodes {number}" if number < names.FIRST_VM else f"--nodes {number}, or --vms N"
        raise KbuildError(f"the lab that is up has no {node}", f"doit lab up {more}")
    raise KbuildError(f"{node} is not running", f"doit lab start {node}; doit lab status")


def holder(places: Places) -> int:
    """The pid of the lab's holder, as the machine numbers it. Raises KbuildError where there is none."""
    try:
        return int(json.loads(places.state.read_text())["pid"])
    except (OSError, ValueError, KeyError):
        raise KbuildError("the lab is not up", "doit lab up") from None


@dataclass(frozen=True)
class Session:
    """A user at a node. directory: where a command starts; environment: all of it."""

    places: Places
    node: str
    leader: Leader
    user: str
    directory: str
    environment: Mapping[str, str]

    @classmethod
    def of(cls, places: Places, tree: Tree, node: str, user: str | None, more: Mapping[str, str]) -> Session:
        """The default user is builder on the coordinator, in the project; ansible elsewhere, at home."""
        coordinator = names.known(node) == names.COORDINATOR
        user = user or (names.BUILD_USER if coordinator else names.REMOTE_USER)
        home = "/root" if user == "root" else f"/home/{user}"
        paths = [f"{places.root}/.venv/bin", *PATHS] if coordinator else PATHS
        environment = {"HOME": home, "USER": user, "LOGNAME": user, "SHELL": "/bin/bash", "PATH": ":".join(paths)}
        environment |= {"LANG": "C.UTF-8"} | dict(more)
        found = leader(tree, node)
        if tree.frozen(node):
            raise KbuildError(f"{node} is frozen: a command there would not start", f"doit lab thaw {node}")
        return cls(places, node, found, user, str(places.root) if coordinator else home, environment)

    def command(self, argv: Sequence[str]) -> list[str]:
        """The machine's command line that runs argv there."""
        if self.leader.is_vm:
            return self._ssh(argv)
        pairs = [f"{name}={value}" for name, value in self.environment.items()]
        program = [sys.executable, "-m", "kbuild_tasks.lab.enter"]
        return [*program, str(self.leader.pid), self.user, self.directory, *pairs, "--", *argv]

    def run_here(self, argv: Sequence[str]) -> int:
        """Run argv with our own stdin, stdout, stderr and terminal; the status as a shell tells it. For a VM this
        process becomes ssh, and does not return."""
        if not self.leader.is_vm:
            return enter.enter(self.leader.pid, enter.command_line(argv, self.user, self.environment), self.directory)
        terminal = ["-t"] if sys.stdin.isatty() and sys.stdout.isatty() else []
        line = self._ssh(argv, terminal)
        sys.stdout.flush()
        sys.stderr.flush()
        os.execvp(line[0], line)

    def _ssh(self, argv: Sequence[str], options: Sequence[str] = ()) -> list[str]:
        line = ["nsenter", f"--net=/proc/{holder(self.places)}/ns/net", f"--wd={self.places.keys}", "--"]
        return line + ssh(self.node, options) + ["--", remote_words(argv, self.user, self.directory, self.environment)]


def ssh(node: str, options: Sequence[str] = (), timeout: int = 20) -> list[str]:
    """ssh to a node as the coordinator does it; the host key is checked. To be run in the directory of the keys: no
    path of the project's needs quoting then, nor its % escaping (ssh_config(5), TOKENS)."""
    settings = {
        "IdentityFile": keys.LOGIN,
        "UserKnownHostsFile": "known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "LogLevel": "ERROR",
        "ConnectTimeout": str(timeout),
        "ServerAliveInterval": "10",
        "ServerAliveCountMax": "3",
    }
    argv = ["ssh", "-F", "none", *options]
    for name, value in settings.items():
        argv += ["-o", f"{name}={value}"]
    return [*argv, f"{names.REMOTE_USER}@{names.address(node)}"]


def remote_words(argv: Sequence[str], user: str, directory: str, environment: Mapping[str, str]) -> str:
    """One line for the login shell at the other end."""
    sudo = [] if user == names.REMOTE_USER else ["sudo", "-n", "-u", user, "--"]
    pairs = [f"{name}={value}" for name, value in environment.items()]
    return "exec " + shlex.join([*sudo, "env", "-i", *pairs, "sh", "-c", 'cd -- "$0" && exec "$@"', directory, *argv])
