"""Build mode, decided: how large a tmpfs, who is fit, and what is said of it. Facts in, values and sentences out.

Facts and build mode share one round trip, so the node itself compares and computes (effects/worker.sh,
coordinator.sh) with the numbers that are given here, and answers with a word where it is not fit. What the numbers
are and what the words mean to a person is decided here.

A worker compiles preprocessed text: distccd's temporary files are all that lies on its tmpfs. The coordinator has
the tree and every object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kbuild_tasks.core.arch import debian_package
from kbuild_tasks.core.errors import KbuildError, NodeRefused
from kbuild_tasks.core.lending import SLOTS_PER_CORE
from kbuild_tasks.core.model import DISTCC_PORT, Build, Cluster, Node

MIB, GIB = 1 << 20, 1 << 30
TMPFS_SLOT = 64 * MIB  # measured: preprocessed text up to 6 MB, object with debug info 1 MB; ten times that for others
TMPFS_SHARE = 4  # a worker's tmpfs takes at most this part of its memory: the compilers need the rest
BUILD_BYTES = 8 * GIB  # tree 1.4 GiB unpacked, objects of a distribution's config 4 GiB, package and its parts 2 GiB
DISK_FIRST = 6 * GIB  # the same on a disk that nothing is packed on yet, without a distribution's debug info
DISK_MORE = 1 * GIB  # where the tree is there already: what changes, and the package
LIFETIME = 24 * 3600  # seconds; then a node that nobody released leaves build mode by itself
CLOCK_LIMIT = 5.0  # seconds; more is worth a warning: make and logs compare times


def worker_values(node: Node, build: Build, compiler: Mapping[str, str]) -> dict[str, str | int]:
    """What effects/worker.sh is given. compiler: the coordinator's "version", "machine" and "binutils", and of a cross
    compiler its "name"."""
    return {
        "cc": compiler.get("name", "gcc"),
        "lend": "auto" if node.slots is None else node.slots,
        "lend_percent": round(SLOTS_PER_CORE * 100),
        "per_job": max(1, node.memory_per_job),
        # A size is meant for the coordinator's tree; a worker's tmpfs follows from its slots.
        "tmpfs": "off" if build.workdir.tmpfs == "off" else "auto",
        "tmpfs_slot": TMPFS_SLOT,
        "tmpfs_share": TMPFS_SHARE,
        "lifetime": LIFETIME,
        "want_version": compiler["version"],
        "want_machine": compiler["machine"],
        "want_binutils": compiler["binutils"],
        "k3s_stop": _stops_k3s(node, build),
    }


def coordinator_values(
    node: Node, build: Build, uid: int, gid: int, compiler: Mapping[str, str]
) -> dict[str, str | int]:
    """What effects/coordinator.sh is given; uid and gid of the user that builds."""
    return {
        "cc": compiler.get("name", "gcc"),
        "tmpfs": build.workdir.tmpfs,
        "tmpfs_need": BUILD_BYTES,
        "disk_need": DISK_FIRST,
        "disk_more": DISK_MORE,
        "builder": f"{uid}:{gid}",
        "k3s_stop": _stops_k3s(node, build),
    }


def project(cluster: Cluster) -> str:
    """Whose build mode it is, for people who find it on a node: "/srv/kernel on kubenode1". In mode.json, so without
    what JSON or a shell's reading of it would mind."""
    text = f"{cluster.root} on {cluster.build.coordinator}"
    return "".join(char if " " <= char <= "~" and char not in '"\\' else "?" for char in text)


def _stops_k3s(node: Node, build: Build) -> int:
    return int(build.k3s == "stop" and node.k3s == "agent")


def refusal(
    node: Node, workdir: str, word: str, detail: str, facts: Mapping[str, Any], compiler: Mapping[str, str]
) -> KbuildError:
    """Why a node is not fit, from the word that its script answered with: sentence, and the fix as hint."""
    name, gcc = node.name, compiler.get("name", "gcc")
    package = f"{debian_package(gcc)} (Debian's name)" if gcc != "gcc" else "gcc and binutils"
    fitting = f"install the coordinator's versions of {gcc} and binutils on {name}"
    if (facts.get("compiler") or {}).get("machine") not in (compiler.get("machine"), None, ""):
        fitting = (
            f"a cross compiler would do, {compiler.get('machine')}-gcc {compiler.get('version')} in PATH and in "
            "/usr/lib/distcc there (docs/nodes.md)"
        )
    free = size(int(facts.get("disk_free") or 0))
    sentences = {
        "ended": (f"{name} was asked for a run that has ended", "run doit again"),
        "taken": (
            f"{name} is in build mode for {detail}",
            f"wait for it, or there: doit release; if that project is gone, on {name}: "
            "sudo sh /run/kbuild-tasks/leave.sh",
        ),
        "tree": (
            f"{name} keeps the tree of {detail} in the tmpfs at {workdir}",
            f"set another build.workdir.path, or there: doit release; if that project is gone, on {name}: "
            f"sudo umount {workdir}",
        ),
        "twin": (
            f"{name} is the same machine as {detail}",
            f"take one of the two out of cluster.yaml, or correct the address of {name}",
        ),
        "no-compiler": (f"{name} has no {gcc}", f"install {package} there (docs/nodes.md)"),
        "other-compiler": (
            f"{name} has another compiler: {_difference(facts.get('compiler') or {}, compiler)}",
            f"{fitting}, or give it slots: 0",
        ),
        "no-distccd": (f"{name} has no distccd", "install distcc there (docs/nodes.md)"),
        "old-distccd": (
            f"{name} has distccd {facts.get('distccd')}, older than 3.4",
            "update distcc there: before 3.4 a daemon sleeps a second for each new child",
        ),
        "no-masquerade": (
            f"{name}'s distccd would refuse {gcc}: it is not in /usr/lib/distcc",
            "there, as root: update-distcc-symlinks",
        ),
        "no-systemd": (f"{name} does not run systemd", "distccd is run as a transient unit (docs/nodes.md)"),
        "no-memory": (
            f"{name} has {size(int(facts.get('available') or 0))} of memory available, "
            f"a job needs {size(node.memory_per_job)}",
            "end something there, or set memory_per_job, or slots: 0",
        ),
        "peer": (f"{name} does not say from where it was reached", "allow SSH_CONNECTION through its sshd and shell"),
        "port": (
            f"{name}'s port {DISTCC_PORT} is taken by something that no service manages",
            f"see who: ss -ltnp 'sport = :{DISTCC_PORT}' there, and end it",
        ),
        "foreign": (f"{name}'s {detail} could not be stopped", f"see systemctl status {detail} there"),
        "k3s": (f"{name}'s k3s agent could not be stopped", "see systemctl status k3s-agent there"),
        "start": (
            f"{name}'s distccd does not start" + (f": {detail}" if detail else ""),
            "see /var/lib/kbuild-tasks/distccd.log and journalctl -u kbuild-distccd there",
        ),
        "workdir": (f"{name} cannot make {detail}", "is its disk full or read-only? correct build.workdir.path"),
        "occupied": (
            f"{name}'s {detail} is somebody else's: distccd's temporary files would lie there",
            f"on {name}: look at it, and move it away; or set another build.workdir.path",
        ),
        "owner": (
            f"{name}'s {detail} belongs to somebody else than the user that builds",
            f"on {name}: sudo chown -R $USER: {detail}",
        ),
        "space": (
            f"{name} has {free} free in {detail}, a build needs {size(DISK_FIRST)} ({size(DISK_MORE)} once unpacked)",
            "free some space, or set another build.workdir.path",
        ),
        "tmpfs-size": (
            f"{name} has {size(int(facts.get('memory') or 0))} of memory, less than build.workdir.tmpfs",
            "set build.workdir.tmpfs to auto, off, or less",
        ),
        "mount": (f"{name} cannot mount a tmpfs at {workdir}", "set build.workdir.tmpfs: off"),
    }
    message, hint = sentences.get(word, (f"{name} refused: {word} {detail}".rstrip(), None))
    return NodeRefused(message, hint)


def _difference(theirs: Mapping[str, Any], ours: Mapping[str, str]) -> str:
    for key, what in (("version", "gcc "), ("machine", "gcc for "), ("binutils", "")):
        if theirs.get(key) != ours.get(key):
            return f"{what}{theirs.get(key) or 'unknown'}, the coordinator has {what}{ours.get(key)}"
    return "in a part that is not shown"


def ready(mode: Mapping[str, Any], coordinator: bool) -> str:
    """The line of a node in build mode: "3 slots, tmpfs 192 MiB; stopped k3s-agent.service"."""
    where = f"tmpfs {size(int(mode['tmpfs']))}" if mode.get("tmpfs") else "on disk"
    why = {
        "memory": "a tmpfs does not fit into its memory",
        "mount": "it cannot mount a tmpfs",
        "access": "distccd's user may not enter the workdir",
        "tree": "a tree is there already",
    }.get(str(mode.get("disk_why") or ""))
    if why and not mode.get("tmpfs"):
        where += f": {why}"
    jobs = int(mode.get("jobs") or 0)
    text = where if coordinator else f"{jobs} slot{'' if jobs == 1 else 's'}, {where}"
    return f"{text}; stopped {mode['stopped']}" if mode.get("stopped") else text


def clock(sent: float, theirs: float, received: float) -> dict[str, float]:
    """How far a node's clock is ahead (seconds) and how exactly that is known: half the round trip."""
    return {"ahead": round(theirs - (sent + received) / 2, 3), "error": round((received - sent) / 2, 3)}


def clock_warning(node: str, measured: Mapping[str, float]) -> str | None:
    ahead, error = measured["ahead"], measured["error"]
    if abs(ahead) - error <= CLOCK_LIMIT:
        return None
    return f"{node}'s clock is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}; run NTP there"


def size(count: int) -> str:
    """Bytes for people: 384 MiB, 1.5 GiB."""
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count // MIB} MiB"
