"""A lab from outside: bring it up, look at it, break it on purpose, take it down.

Everything here can be repeated: `up` on a lab that is up only checks it, on a half-dead one clears what is left and
starts anew; `down` on nothing is done at once. What is there is asked of the kernel (who is in our cgroups?) and of
the holder (control socket), not of files that may lie.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import EVIDENCE_LINES, CommandFailed, KbuildError, NodeUnreachable
from kbuild_tasks.effects import shell
from kbuild_tasks.lab import accel, base, control, disks, names, ready, vm_disk, vm_image
from kbuild_tasks.lab.cgroups import Tree
from kbuild_tasks.lab.names import Places
from kbuild_tasks.lab.nodes import NodeSpec
from kbuild_tasks.lab.session import Session, holder, leader
from kbuild_tasks.lab.vm import VmSpec

START_SECONDS = 30
SSH_FAILED = 255  # ssh(1), EXIT STATUS


@dataclass(frozen=True)
class NodeStatus:
    """One node as `status` shows it. share: cores, None: no limit; exit: how its last process ended."""

    name: str
    address: str
    state: str  # "on" | "off" | "crashed" | "frozen"
    cut: bool
    share: float | None
    boots: int
    exit: int | None
    volatile: bool
    kind: str  # "container", or one of names.VM_KINDS


class Lab:
    """The lab of the project directory `root`. See names.Places for `bases`."""

    def __init__(self, root: Path, bases: Path | None = None) -> None:
        self.places = Places.of(root, bases)
        self.root = self.places.root
        self.tree = Tree(self.places.id)

    # -- life ------------------------------------------------------------------------------------------------------

    def up(
        self,
        nodes: int | None = None,
        shares: Sequence[str] = (),
        tell: Callable[[str], None] = lambda line: None,
        vms: int | Sequence[str] | None = None,
    ) -> list[NodeStatus]:
        """Bring up so many containers (None: those there are, or 3) and VMs (a number, or a kind each; None: those
        there are), working and reachable as `ansible` by ssh.

        More nodes than before are added; more than asked are left alone. A node that is off, frozen or cut off is
        made well. Raises KbuildError.
        """
        kinds = names.kinds([str(vms)] if isinstance(vms, int) else vms or ())
        ready.require_root()
        ready.require_programs(vms=bool(kinds))
        self.tree.require()
        with self._alone():
            found = self._ask("status", missing_ok=True)
            there = {name: str(node["kind"]) for name, node in found["nodes"].items()} if found else {}
            machines = {name: kind for name, kind in there.items() if kind in names.VM_KINDS}
            wanted = nodes or (len(there) - len(machines) if found else names.DEFAULT_NODES)
            all_vms = names.vms(max(wanted, len(there) - len(machines)), machines, kinds)
            everyone = [*names.NODES[:wanted], *all_vms]
            values = names.shares(tuple(shares), len(everyone))
            lower = Path(found["base"]) if found else base.ensure(self.places, tell)
            new_vms = {name: kind for name, kind in all_vms.items() if name not in there}
            disks.lend(self.root)
            specs: list[NodeSpec | VmSpec] = []
            specs += disks.specs(self.places, lower, [name for name in everyone if name not in there | all_vms])
            specs += self._vm_specs(new_vms, tell) if new_vms else []
            if found is None:
                self._clear()
                self._launch(lower, specs)
            else:
                self._heal(found, specs)
            if all_vms:
                tell(f"waiting for {', '.join(all_vms)}")
            self._wait_for(everyone)
            if shares:  # after the boot, which is nobody's measurement
                for name, value in zip(everyone, values, strict=True):
                    self.tree.set_share(name, value)
            return self.status()

    def _vm_specs(self, nodes: Mapping[str, str], tell: Callable[[str], None]) -> list[VmSpec]:
        images = vm_image.ensure(self.places, nodes.values(), tell)
        accelerator = accel.choose(images.kernel, self.places.bases / "accelerator.json", tell)
        return vm_disk.specs(self.places, images, nodes, accelerator)

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
        for name, node in sorted(found["nodes"].items(), key=lambda item: names.NODES.index(item[0])):
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
                    node["kind"],
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

        Raises CommandFailed like shell.run, and NodeUnreachable for a VM."""
        session = self._session(node, user, env or {})
        done = shell.run(session.command(argv), stdin=stdin, timeout=timeout, check=False)
        if check and done.code != 0:
            said = (done.err.strip() or done.out.strip()).splitlines()[-EVIDENCE_LINES:]
            if session.leader.is_vm and done.code == SSH_FAILED:
                raise NodeUnreachable(f"{node} could not be reached by ssh", "doit lab status", evidence=said)
            raise CommandFailed(f"{node}: {argv[0]} ended with status {done.code}", evidence=said, code=done.code)
        return done

    def command(
        self, node: str, argv: Sequence[str], user: str | None = None, env: Mapping[str, str] | None = None
    ) -> list[str]:
        """The machine's command line that runs argv in a node: for subprocess and the like.

        user  default `builder` on the coordinator, in the project directory and with its .venv/bin first in PATH;
              `ansible` elsewhere, at home
        env   more variables; nothing else is handed on
        """
        return self._session(node, user, env or {}).command(argv)

    def run_here(self, node: str, argv: Sequence[str], user: str | None = None) -> int:
        """Run argv with our own stdin, stdout, stderr and terminal; the status as a shell tells it.

        TERM, NO_COLOR and LANG pass. The calling process should end soon after: its children are the node's now; for a
        VM it becomes ssh."""
        passed = {name: os.environ[name] for name in ("TERM", "NO_COLOR", "LANG") if name in os.environ}
        return self._session(node, user, passed).run_here(argv)

    def _session(self, node: str, user: str | None, more: Mapping[str, str]) -> Session:
        ready.require_root()
        return Session.of(self.places, self.tree, node, user, more)

    def leader(self, node: str) -> int:
        """The pid of a container's init or a VM's QEMU, as the machine numbers it. KbuildError when the node is off."""
        return leader(self.tree, node).pid

    # -- trouble, on purpose ------------------------------------------------------------------------------------------

    def stop(self, node: str) -> None:
        """Power cut: every process of the node is gone at once; its disk stays."""
        self._tell("stop", node)

    def start(self, node: str, wait: bool = True) -> None:
        """Power back, with the same disk; returns when ssh answers, or at once with wait=False."""
        self._tell("start", node)
        if wait:
            self._wait_for([node])

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

    def _heal(self, found: dict[str, Any], specs: Sequence[NodeSpec | VmSpec]) -> None:
        if specs:
            self._ask("add", nodes=[spec.as_json() for spec in specs])
        for name, node in found["nodes"].items():
            if node["cut"]:
                self._ask("join", node=name)
            if not node["on"]:
                self._ask("start", node=name)
            elif self.tree.frozen(name):
                self.tree.freeze(name, False)

    def _wait_for(self, nodes: Sequence[str]) -> None:
        listed = self._ask("status")["nodes"]
        slow = any(listed[node]["kind"] in names.VM_KINDS for node in nodes)

        def crashed() -> list[str]:
            found = self._ask("status")["nodes"]
            return [name for name, node in found.items() if node["wanted"] and not node["on"]]

        seconds = ready.VM_SSH_SECONDS if slow else ready.SSH_SECONDS
        ready.wait_for_ssh(holder(self.places), nodes, self.places, seconds, crashed)

    def _launch(self, lower: Path, specs: Sequence[NodeSpec | VmSpec]) -> None:
        self.places.logs.mkdir(parents=True, exist_ok=True)
        self.places.run.mkdir(mode=0o700)
        self.tree.make("holder")
        request = {
            "id": self.places.id,
            "root": str(self.root),
            "run": str(self.places.run),
            "control": str(self.places.control),
            "disks": str(self.places.disks),
            "base": str(lower),
            "bases": str(self.places.bases),
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

    def _ask(self, verb: str, missing_ok: bool = False, **more: Any) -> Any:
        """The holder's answer; None where there is no holder and missing_ok."""
        return control.ask(self.places.control, {"verb": verb, **more}, missing_ok)

    def _alone(self) -> contextlib.AbstractContextManager[None]:
        """One change of the lab at a time."""
        return control.alone(self.places.lock)
