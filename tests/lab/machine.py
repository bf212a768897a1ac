"""What a lab could leave on the machine, looked up without asking the lab."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

from kbuild_tasks.lab.lab import Lab

KINDS = ("net", "pid", "mnt", "uts", "ipc", "cgroup")


def links() -> str:
    """The machine's interfaces and addresses."""
    return subprocess.run(["ip", "-o", "address"], capture_output=True, text=True, check=True).stdout


def namespaces(pids: Iterable[int]) -> set[str]:
    """The namespaces of these processes that are not our own: "net:[4026532]"."""
    found: set[str] = set()
    for pid in pids:
        for kind in KINDS:
            with contextlib.suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/ns/{kind}"))
    return found - {os.readlink(f"/proc/self/ns/{kind}") for kind in KINDS}


def alive_in(spaces: set[str]) -> list[int]:
    """Processes that are in any of these namespaces."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and namespaces([int(entry.name)]) & spaces:
            found.append(int(entry.name))
    return found


def _ended(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    return True


def leftovers(lab: Lab, spaces: set[str]) -> list[str]:
    """All that is left of a lab whose processes lived in `spaces`: processes, namespaces, mounts, cgroups, /run.

    The ended holder is a child of the machine's init, which may take a second or two to collect it.
    """
    deadline = time.monotonic() + 10
    while all(_ended(pid) for pid in alive_in(spaces)) and alive_in(spaces) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = [f"process {pid}" for pid in alive_in(spaces)]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    left += [line for line in mounts if lab.places.id in line or str(lab.root) in line]
    left += [line for line in mounts if any(space in line for space in spaces)]
    left += [line for line in mounts if " /run/netns" in line or " /run/nodes" in line or " nsfs " in line]
    for top in {Path(line.split()[4]) for line in mounts if " - cgroup" in line}:
        left += [str(path) for path in top.rglob(f"*{lab.places.id}*")]
    left += [str(path) for path in Path("/run").glob(f"*{lab.places.id}*")]
    left += [str(path) for path in Path("/run/systemd/nspawn").rglob("*") if "kubenode" in path.name]
    return left
