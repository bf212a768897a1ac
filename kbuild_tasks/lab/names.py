"""What a lab is called and where it lies: pure, from the project's path alone.

Two labs on one machine never meet: the name of every directory and cgroup that a lab makes on the machine carries a
hash of the project's path, and all else (bridge, addresses, mounts, processes) lives in namespaces of its own, so
the addresses can be the same in every lab.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kbuild_tasks.core.errors import ConfigError

MAX_NODES = 16
DEFAULT_NODES = 3
COORDINATOR = "kubenode1"
NODES = tuple(f"kubenode{i}" for i in range(1, MAX_NODES + 1))
FIRST_VM = 7  # kubenode7, unless there are containers of that name
VM_KINDS = ("systemd-boot", "grub", "extlinux")  # by the loader that boots them; the first is the default
SUBNET = "10.77.0"
GATEWAY = f"{SUBNET}.1"
PREFIX_LENGTH = 24
REMOTE_USER = "ansible"
BUILD_USER = "builder"


def address(node: str) -> str:
    """kubenode1 -> 10.77.0.11"""
    return f"{SUBNET}.{10 + int(node.removeprefix('kubenode'))}"


def known(node: str) -> str:
    """The name itself, or ConfigError where a lab cannot have such a node."""
    if node not in NODES:
        raise ConfigError(f"the lab has no node {node!r}", f"the nodes are {NODES[0]} to {NODES[-1]}")
    return node


def count(text: str | int) -> int:
    """A number of nodes as the user gave it, or ConfigError."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= MAX_NODES:
        raise ConfigError(f"a lab of {text!r} nodes is not possible", f"give a number from 1 to {MAX_NODES}")
    return number


def kinds(texts: Sequence[str]) -> tuple[str, ...]:
    """The kinds of VMs as the user gave them: "2" is two of the default kind; else a kind each. ConfigError else."""
    found: list[str] = []
    for text in (part for given in texts for part in given.split(",")):
        if text.isdecimal() and 1 <= int(text) <= MAX_NODES:
            found += [VM_KINDS[0]] * int(text)
        elif text in VM_KINDS:
            found.append(text)
        else:
            raise ConfigError(
                f"{text!r} is neither a number of VMs nor a kind of them", f"the kinds are {', '.join(VM_KINDS)}"
            )
    return tuple(found)


def vms(containers: int, present: Mapping[str, str], wanted: Sequence[str]) -> dict[str, str]:
    """Name -> kind of the VMs that a lab of so many containers and `wanted` kinds has, where `present` are there.

    Those that are there keep their names; further ones follow them, from kubenode7 or after the last container.
    Raises ConfigError where that is not possible.
    """
    taken = sorted(present, key=NODES.index)
    if taken and containers > NODES.index(taken[0]):
        raise ConfigError(f"{taken[0]} is a VM of the lab that is up, not a container", "doit lab down, then up again")
    found = dict(present)
    for name, kind in zip(taken, wanted, strict=False):
        if present[name] != kind:
            raise ConfigError(f"{name} is up as a VM of kind {present[name]}", "doit lab down, then up again")
    start = NODES.index(taken[-1]) + 1 if taken else max(FIRST_VM - 1, containers)
    more = wanted[len(taken) :]
    if start + len(more) > MAX_NODES:
        raise ConfigError(
            f"{len(more)} VMs after {NODES[start - 1]} are too many", f"the last node of a lab is {NODES[-1]}"
        )
    return found | dict(zip(NODES[start:], more, strict=False))


def share(text: str) -> float | None:
    """A CPU share: "0.5" and "50%" are half of one core, "2" two cores, "max" no limit (None). ConfigError else."""
    if text == "max":
        return None
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(%?)", text)
    value = float(match[1]) / (100 if match[2] else 1) if match else 0.0
    if not 0.05 <= value <= 1024:
        raise ConfigError(
            f"{text!r} is not a CPU share",
            "give a number of cores (0.5, 2), a percentage of one core (50%), at least 0.05, or max",
        )
    return value


def shares(texts: tuple[str, ...], nodes: int) -> tuple[float | None, ...]:
    """One share per node: the last one given counts for all that follow; none given: no limit."""
    if len(texts) > nodes:
        raise ConfigError(f"{len(texts)} CPU shares were given for {nodes} nodes")
    values = [share(text) for text in texts] or [None]
    return tuple(values[min(i, len(values) - 1)] for i in range(nodes))


@dataclass(frozen=True)
class Places:
    """Where a lab keeps its things.

    root     the project directory, bound at the same path in the coordinator
    home     keys, the nodes' disks, logs: <root>/.lab, or ${KBUILD_LAB_DIR}/<id>
    bases    base-<recipe>/, vm-<recipe>/: <root>/.lab, or ${KBUILD_LAB_DIR} (then several projects share them)
    """

    root: Path
    home: Path
    bases: Path

    @classmethod
    def of(cls, root: Path, bases: Path | None = None) -> Places:
        root = root.resolve()
        given = os.environ.get("KBUILD_LAB_DIR")
        if given:
            return cls(root, Path(given).resolve() / _digest(root), (bases or Path(given)).resolve())
        return cls(root, root / ".lab", (bases or root / ".lab").resolve())

    @property
    def id(self) -> str:
        """Name of what the lab makes on the machine: "kbuild-lab-1f2e3d4c"."""
        return f"kbuild-lab-{_digest(self.root)}"

    @property
    def run(self) -> Path:
        """Only while the lab is up: control socket and state."""
        return Path("/run") / self.id

    @property
    def control(self) -> Path:
        return self.run / "control"

    @property
    def state(self) -> Path:
        return self.run / "state.json"

    @property
    def keys(self) -> Path:
        return self.home / "keys"

    @property
    def disks(self) -> Path:
        return self.home / "nodes"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def lock(self) -> Path:
        return self.home / "lock"


def _digest(root: Path) -> str:
    return hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
