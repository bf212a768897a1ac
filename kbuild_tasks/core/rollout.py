"""Who gets the kernel, in which order, how many at once. Imported by every run of doit: nothing heavy here.

Canary first; then nodes without k3s and k3s agents, in batches; then k3s servers one at a time, because a control plane
outlives one missing member; the coordinator last, because nobody goes on while it boots. Every node of a batch waits
until every node of the batch before has passed verify: at most one batch is down, ever. If the kernel is bad, the first
canary is all that it costs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.core.model import Cluster, Node

NOT_FOR_NODES = ("-headers", "-docs")  # stay in artifacts/: a node boots without them
SHORT = 12  # digits of packages_sha256 that name a build
# What a manifest may say, as the helper wants it (kbuild_tasks/node, PATTERNS).
_NAME = "(?=[A-Za-z0-9])[A-Za-z0-9@._+:-]{1,200}"
_RELEASE = "(?=[0-9])[A-Za-z0-9._+~-]{1,64}"
_SHA256 = "[0-9a-f]{64}"


@dataclass(frozen=True)
class Build:
    """One set of packages, and what a node must show that runs it.

    build     what names it: 12 hex digits of the hash over all packages
    release   what `uname -r` must say
    build_id  GNU build id of vmlinux in hex, None where the linker makes none
    version   what `uname -v` must say, None where it is not known
    config    sha256 of the .config, None where it is not known
    files     file name -> bytes: packages, signatures, manifest.json
    """

    build: str
    release: str
    build_id: str | None = None
    version: str | None = None
    config: str | None = None
    files: Mapping[str, int] | None = None
    signed: bool = False

    @property
    def named(self) -> str:
        """For people: two builds may have one release."""
        return f"{self.release} (build {self.build})"

    @property
    def entry(self) -> str:
        """The loader entry of the trial."""
        return f"kbuild-{self.build}"


def build_of(manifest: Mapping[str, Any], config: str | None = None) -> Build:
    """The build that a manifest.json describes; `config` where an older manifest does not tell it. KeyError: none.

    What a node is asked with and what files are called is taken from here, so it is held against its form: a manifest
    that somebody edited is none.
    """
    named = manifest["packages"]
    if not isinstance(named, list) or not named or not all(isinstance(package, Mapping) for package in named):
        raise KeyError("packages")
    packages = [package for package in named if not str(package.get("pkgname")).endswith(NOT_FOR_NODES)] or named
    files = {_text(package, "file", _NAME): _size(package["size"]) for package in packages}
    return Build(
        build=_text(manifest, "packages_sha256", _SHA256)[:SHORT],
        release=_text(manifest, "kernelrelease", _RELEASE),
        build_id=_told(manifest, "build_id", "[0-9a-f]{2,128}"),
        version=_told(manifest, "uname_version", r"[ -~]{1,200}"),
        config=_told(manifest, "config_sha256", _SHA256) or config,
        files=files,
        signed=all(package.get("signature") for package in packages),
    )


def _text(value: Mapping[str, Any], key: str, form: str) -> str:
    text = value[key]
    if not isinstance(text, str) or not re.fullmatch(form, text):
        raise KeyError(key)
    return text


def _told(value: Mapping[str, Any], key: str, form: str) -> str | None:
    """The same of what a manifest need not tell."""
    return None if value.get(key) in (None, "") else _text(value, key, form)


def _size(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise KeyError("size")
    return value


def taking_part(cluster: Cluster, only: Sequence[str] = ()) -> tuple[Node, ...]:
    """Nodes that get the kernel, in the order of cluster.yaml; `only` chooses among them.

    Raises ConfigError for a name in `only` that is no node, or one that is left out of roll-outs.
    """
    for name in only:
        if name not in cluster.nodes:
            from kbuild_tasks.core import suggest

            near = suggest.closest(name, list(cluster.nodes))
            raise ConfigError(f"only={name}: there is no such node" + (f", did you mean {near}?" if near else ""),
                              f"nodes are {', '.join(list(cluster.nodes)[:8])}")  # fmt: skip
        node = cluster.nodes[name]
        if node.hold or not node.rollout:
            why = "hold: true" if node.hold else "rollout: false"
            raise ConfigError(
                f"only={name}: {name} has {why} in {cluster.source}", "take it out there, or name another"
            )
    chosen = [node for node in cluster.nodes.values() if node.rollout and not node.hold]
    return tuple(node for node in chosen if not only or node.name in only)


def order(cluster: Cluster, only: Sequence[str] = ()) -> tuple[tuple[str, ...], ...]:
    """Batches of node names; those of one batch may be down together."""
    nodes = {node.name: node for node in taking_part(cluster, only)}
    last = [name for name in nodes if name == cluster.build.coordinator]
    canary = [name for name in cluster.rollout.canary if name in nodes and name not in last]
    rest = [name for name in nodes if name not in canary and name not in last]
    servers = [name for name in rest if nodes[name].k3s == "server"]
    workers = [name for name in rest if name not in servers]
    found: list[tuple[str, ...]] = [(name,) for name in canary]
    sizes = list(cluster.rollout.batches)
    while workers:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        found.append(tuple(workers[:size]))
        workers = workers[size:]
    found += [(name,) for name in (*servers, *last)]
    return tuple(found)


# How a roll-out that stopped has left a node -> the states that it is told for. Of nodes that are done nothing is told.
LEFT = {
    "not touched": ("",),
    "installed, not rebooted": ("STAGED", "INSTALLED", "BOOTFILES_OK"),
    "drained": ("DRAINED",),
    "armed": ("ARMED",),
    "rebooting": ("REBOOTING",),
    "on trial": ("BACK", "VERIFIED", "VERIFIED2"),
    "held": ("HELD",),
    "fell back": ("FELL_BACK",),
    "rolling back": ("ROLLING_BACK",),
    "rolled back": ("ROLLED_BACK",),
    "journal damaged": ("DAMAGED",),
}


def halted(states: Mapping[str, str]) -> str:
    """How a roll-out that stopped has left the other nodes. `states`: node -> its state of this build, "" for one that
    nothing was done to."""
    told = []
    for words, among in LEFT.items():
        if found := [name for name, state in states.items() if state in among]:
            told.append(f"{words}: {' '.join(found)}")
    return "roll-out halted; " + ("; ".join(told) or "no other node was left to do")
