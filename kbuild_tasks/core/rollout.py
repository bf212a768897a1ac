"""Who gets the kernel, in which order, how many at once. Imported by every run of doit: nothing heavy here.

Canary first; then nodes without k3s and k3s agents, in batches; then k3s servers one at a time, because a control plane
outlives one missing member; the coordinator last, because nobody goes on while it boots. Every node of a batch waits
until every node of the batch before has passed verify: at most one batch is down, ever. If the kernel is bad, the first
canary is all that it costs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.core.model import Cluster, Node

NOT_FOR_NODES = ("-headers", "-docs")  # stay in artifacts/: a node boots without them
SHORT = 12  # digits of packages_sha256 that name a build


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
    def entry(self) -> str:
        """The loader entry of the trial."""
        return f"kbuild-{self.build}"


def build_of(manifest: Mapping[str, Any], config: str | None = None) -> Build:
    """The build that a manifest.json describes; `config` where an older manifest does not tell it. KeyError: none."""
    named = manifest["packages"]
    if not isinstance(named, list) or not all(isinstance(package, Mapping) for package in named):
        raise KeyError("packages")
    packages = [package for package in named if not str(package.get("pkgname")).endswith(NOT_FOR_NODES)] or named
    files = {str(package["file"]): int(package["size"]) for package in packages}
    return Build(
        build=str(manifest["packages_sha256"])[:SHORT],
        release=str(manifest["kernelrelease"]),
        build_id=manifest.get("build_id"),
        version=manifest.get("uname_version"),
        config=manifest.get("config_sha256") or config,
        files=files,
        signed=all(package.get("signature") for package in packages),
    )


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


def halted(order: Iterable[Sequence[str]], states: Mapping[str, str]) -> str:
    """Which nodes a roll-out that stopped has left as they were. `states`: node -> its state of this build, "" for one
    that nothing was done to."""
    names = [name for batch in order for name in batch]
    untouched = [name for name in names if not states.get(name)]
    waiting = [name for name in names if states.get(name) in ("STAGED", "INSTALLED", "BOOTFILES_OK")]
    told = [f"not touched: {' '.join(untouched)}"] if untouched else []
    told += [f"installed, not rebooted: {' '.join(waiting)}"] if waiting else []
    return "roll-out halted; " + ("; ".join(told) or "no other node was left to do")
