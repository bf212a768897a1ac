"""Who asks a node: the project, which others must leave alone what it did there, and the run, which ends.

A project is its directory on one machine: two clones are two. A run is a process: doit does one and ends; its name
says nothing, so that it cannot be told wrong by a clock.
"""

from __future__ import annotations

import os
import secrets

from kbuild_tasks.core import buildmode
from kbuild_tasks.core.model import Cluster
from kbuild_tasks.effects.files import sha256_text

TOKEN = secrets.token_hex(8)


def values(cluster: Cluster) -> dict[str, str | int]:
    """What effects/enter.sh and release.sh are given of the one who asks."""
    boot, machine = _first_line("/proc/sys/kernel/random/boot_id"), _first_line("/etc/machine-id")
    digest = sha256_text(machine.encode() + b"\0" + os.fsencode(cluster.root))
    return {
        "owner": f"{cluster.build.coordinator}-{digest[:12]}",
        "project": buildmode.project(cluster),
        "token": TOKEN,
        "coordinator": cluster.build.coordinator,
        "machine_of": f"{boot} {machine}",  # as facts.sh reads the two
    }


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""
