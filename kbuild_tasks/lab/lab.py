"""A lab from outside: bring it up, look at it, break it on purpose, take it down.

Everything here can be repeated: `up` on a lab that is up only checks it, on a half-dead one clears what is left and
starts anew; `down` on nothing is done at once. What is there is asked of the kernel (who is in our cgroups?) and of
the holder (control socket), not of files that may lie.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import EVIDENCE_LINES, CommandFailed, KbuildError
from kbuild_tasks.effects import shell
from kbuild_tasks.lab import base, control, disks, enter, names, ready
from kbuild_tasks.lab.cgroups import Tree
from kbuild_tasks.lab.names import Places

START_SECONDS = 30


@dataclass(frozen=True)
class NodeStatus:
    """One node as `status` shows it. share: cores, None: no limit; exit: how its last systemd-nspawn ended."""

    name: str
    address: str
    state: str  # "on" | "off" | "crashed" | "frozen"
    cut: bool
    share: float | None
    boots: int
    exit: int | None
    volatile: bool


class Lab:
    """The lab of the project directory `root`. See names.Places for `bases`."""

    def __init__(self, root: Path, bases: Path | None = None) -> None:
        self.places = Places.of(root, bases)
        self.root = self.places.root
        self.tree = Tree(self.places.id)

    # -- life ------------------------------------------------------------------------------------------------------

    def up(
        self, nodes: int | None = None, shares: Sequence[str] = (), tell: Callable[[str], None] = lambda line: None
    ) -> list[NodeStatus]:
        """Bring up so many nodes (None: those there are, or 3), working and reachable as `ansible` by ssh.

        More nodes than before are added; more than asked are left alone. A node that is off, frozen or cut off is
        made well. Raises KbuildError.
        """
        ready.require_root()
        ready.require_programs()
        self.tree.require()
        with self._alone():
            found = self._ask("status", missing_ok=True)
            wanted = nodes or (len(found["nodes"]) if found else names.DEFAULT_NODES)
            values = names.shares(tuple(shares), wanted)
            lower = Path(found["base"]) if found else base.ensure(self.places, tell)
            disks.lend(self.root)
            if found is None:
                self._clear()
                self._launch(lower, wanted)
            else:
                self._heal(found, lower, wanted)
            ready.wait_for_ssh(self._holder(), names.NODES[:wanted], self.places.keys, self.places.logs)
            if shares:  # after the boot, which is nobody's measurement
                for name, value in zip(names.NODES, values, strict=False):
                    self.tree.set_share(name, value)
            return self.status()

    def down(self, wipe: bool = False) -> bool:
        """End everything that the lab has on the machine; with `wipe` the nodes' disks too. False: nothing was up."""
        ready.require_root()
        if not self.places.home.exists() and not self.tree.exists():
            return False
        with self._alone():
            was_up = self.tree.exists() or self.places.run.exists()
            self._clear()
            if wipe and self.places.disks.exists():
                shutil.rmtree(self.places.disks)
            return was_up

    def status(self) -> list[NodeStatus]:
        """Every node of the lab; an empty list when it is down."""
        ready.require_root()
        found = self._ask("status", missing_ok=True)
        if found is None:
            return []
        listed = []
        for name, node in found["nodes"].items():
            state = "on" if node["on"] else "crashed" if node["wanted"] else "off"
            if node["on"] and self.tree.frozen(name):
                state = "frozen"
            listed.append(
                NodeStatus(
                    name,
                    names.address(name),
                    state,
                    node["cut"],
                    self.tree.get_share(name),
                    node["boots"],
                    node["exit"],
                    node["volatile"],
                )
            )
        return listed

    # -- work in a node ----------------------------------------------------------------------------------------------

    def exec(
        self,
        node: str,
        argv: Sequence[str],
        user: str | None = None,
        *,
        stdin: bytes | str | None = None,
        timeout: float | None = None,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> shell.Done:
        """Run a command in a node and collect what it says (see command() for where and as whom).

        Raises CommandFailed like shell.run."""
        done = shell.run(self.command(node, argv, user, env), stdin=stdin, timeout=timeout, check=False)
        if check and done.code != 0:
            said = (done.err.strip() or done.out.strip()).splitlines()
            raise CommandFailed(
                f"{node}: {argv[0]} ended with status {done.code}", evidence=said[-EVIDENCE_LINES:], code=done.code
            )
        return done

    def command(
        self, node: str, argv: Sequence[str], user: str | None = None, env: Mapping[str, str] | None = None
    ) -> list[str]:
        """The machine's command line that runs argv in a node: for subprocess and the like.

        user  default `builder` on the coordinator, in the project directory and with its .venv/bin first in PATH;
              `ansible` elsewhere, at home
        env   more variables; nothing else is handed on
        """
        leader, user, directory, environment = self._session(node, user, env or {})
        pairs = [f"{name}={value}" for name, value in environment.items()]
        return [sys.executable, "-m", "kbuild_tasks.lab.enter", str(leader), user, directory, *pairs, "--", *argv]

    def run_here(self, node: str, argv: Sequence[str], user: str | None = None) -> int:
        """Run argv with our own stdin, stdout, stderr and terminal; the status as a shell tells it.

        TERM, NO_COLOR and LANG pass. The calling process should end soon after: its children are the node's now."""
        passed = {name: os.environ[name] for name in ("TERM", "NO_COLOR", "LANG") if name in os.environ}
        leader, user, directory, environment = self._session(node, user, passed)
        return enter.enter(leader, enter.command_line(argv, user, environment), directory)

    def _session(self, node: str, user: str | None, more: Mapping[str, str]) -> tuple[int, str, str, dict[str, str]]:
        ready.require_root()
        coordinator = names.known(node) == names.COORDINATOR
        user = user or (names.BUILD_USER if coordinator else names.REMOTE_USER)
        home = "/root" if user == "root" else f"/home/{user}"
        paths = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        if coordinator:
            paths.insert(0, f"{self.root}/.venv/bin")
        environment = {"HOME": home, "USER": user, "LOGNAME": user, "SHELL": "/bin/bash", "PATH": ":".join(paths)}
        environment |= {"LANG": "C.UTF-8"} | dict(more)
        leader = self.leader(node)
        if self.tree.frozen(node):
            raise KbuildError(f"{node} is frozen: a command there would not start", f"doit lab thaw {node}")
        return leader, user, str(self.root) if coordinator else home, environment

    def leader(self, node: str) -> int:
        """The pid of a node's init, as the machine numbers it. Raises KbuildError when the node is off."""
        for pid in self.tree.pids(names.known(node)):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                chain = Path(f"/proc/{pid}/status").read_text().partition("NSpid:")[2].split("\n")[0].split()
                if len(chain) > 2 and chain[-1] == "1":  # machine, holder, node: init of the innermost
                    return pid
        if not self.tree.pids("holder"):
            raise KbuildError("the lab is not up", "doit lab up")
        if node not in self.tree.members():
            raise KbuildError(f"the lab that is up has no {node}", f"doit lab up --nodes {names.NODES.index(node) + 1}")
        raise KbuildError(f"{node} is not running", f"doit lab start {node}; doit lab status")

    # -- trouble, on purpose ------------------------------------------------------------------------------------------

    def stop(self, node: str) -> None:
        """Power cut: every process of the node is gone at once; its disk stays."""
        self._tell("stop", node)

    def start(self, node: str) -> None:
        """Power back, with the same disk; returns when ssh answers."""
        self._tell("start", node)
        ready.wait_for_ssh(self._holder(), [node], self.places.keys, self.places.logs)

    def freeze(self, node: str) -> None:
        """The whole node stands still; its connections stay open and silent."""
        self.leader(node)
        self.tree.freeze(node, True)

    def thaw(self, node: str) -> None:
        self.leader(node)
        self.tree.freeze(node, False)

    def cut(self, node: str) -> None:
        """Pull the network cable: no packet passes, no connection is reset."""
        self._tell("cut", node)

    def join(self, node: str) -> None:
        """Plug it in again."""
        self._tell("join", node)

    def cpu(self, node: str, share: str) -> None:
        """Limit a node to a CPU share: see names.share."""
        value = names.share(share)
        ready.require_root()
        self.leader(node)
        self.tree.set_share(node, value)

    def _tell(self, verb: str, node: str) -> None:
        ready.require_root()
        names.known(node)
        with self._alone():
            self._ask(verb, node=node)

    # -- below ----------------------------------------------------------------------------------------------------

    def _heal(self, found: dict[str, Any], lower: Path, wanted: int) -> None:
        missing = [name for name in names.NODES[:wanted] if name not in found["nodes"]]
        if missing:
            self._ask("add", nodes=[spec.as_json() for spec in disks.specs(self.places, lower, missing)])
        for name, node in found["nodes"].items():
            if node["cut"]:
                self._ask("join", node=name)
            if not node["on"]:
                self._ask("start", node=name)
            elif self.tree.frozen(name):
                self.tree.freeze(name, False)

    def _launch(self, lower: Path, wanted: int) -> None:
        self.places.logs.mkdir(parents=True, exist_ok=True)
        specs = disks.specs(self.places, lower, names.NODES[:wanted])
        self.places.run.mkdir(mode=0o700)
        self.tree.make("holder")
        request = {
            "id": self.places.id,
            "root": str(self.root),
            "run": str(self.places.run),
            "control": str(self.places.control),
            "disks": str(self.places.disks),
            "base": str(lower),
            "logs": str(self.places.logs),
            "nodes": [spec.as_json() for spec in specs],
        }
        log = self.places.logs / "holder.log"
        try:
            with open(log, "ab") as sink:
                answer = control.ask_launcher(request, sink, START_SECONDS)
            if "error" in answer:
                raise KbuildError("the lab did not come up", evidence=[answer["error"]], log=str(log))
        except BaseException:
            self._clear()
            raise

    def _clear(self) -> None:
        """Nothing of the lab is left on the machine after this: processes (and with them their namespaces and
        mounts), cgroups, the directory in /run."""
        self.tree.end()
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.places.run)

    def _holder(self) -> int:
        try:
            return int(json.loads(self.places.state.read_text())["pid"])
        except (OSError, ValueError, KeyError):
            raise KbuildError("the lab is not up", "doit lab up") from None

    def _ask(self, verb: str, missing_ok: bool = False, **more: Any) -> Any:
        """The holder's answer; None where there is no holder and missing_ok."""
        return control.ask(self.places.control, {"verb": verb, **more}, missing_ok)

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """One change of the lab at a time."""
        return control.alone(self.places.lock)
