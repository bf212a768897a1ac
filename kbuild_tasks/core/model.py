"""The cluster, as frozen values. Built by core/config.py from cluster.yaml; nothing here touches the world.

Sizes are bytes, durations are seconds, shares are 0..1, paths are as design.md §5 writes them: those of the
project are relative to its directory, workdir is absolute on the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

STATE_DIR = "/var/lib/kbuild-tasks"  # on every node: what sync leaves there and the record of build mode
DISTCC_PORT = 3632  # distcc(1): "The default port is 3632"


@dataclass(frozen=True)
class Waiver:
    """A requested option that may stay unmet until a date (ISO, "2027-01-31"), and why."""

    symbol: str
    until: str
    why: str
    line: int = 0


@dataclass(frozen=True)
class Kernel:
    pkgbuild: str  # "kernel/PKGBUILD"
    arch: str  # x86_64 | aarch64 | armv7h
    config: str  # a project file, or the name of a defconfig ("defconfig", "bcm2711_defconfig")
    fragments: tuple[str, ...] = ()
    patches: str | None = None  # directory
    require: tuple[str, ...] = ()  # symbols without CONFIG_, to end up y or m
    require_lines: Mapping[str, int] = field(default_factory=dict)  # symbol -> line in cluster.yaml
    waivers: tuple[Waiver, ...] = ()


@dataclass(frozen=True)
class Workdir:
    path: str  # absolute, on the coordinator and on workers
    tmpfs: str | int = "auto"  # "auto" | "off" | bytes


@dataclass(frozen=True)
class Build:
    coordinator: str
    workdir: Workdir
    max_jobs: int | None = None  # None: auto
    fail_local_share: float = 0.5
    check_share: float = 0.01  # of the objects that workers make, those that are made here once more and compared
    keep: int = 4 << 30  # bytes on disk for what was built on a tmpfs; 0: nothing is kept
    ccache: int = 0  # bytes on the coordinator's disk; 0: not used
    ccache_dir: str | None = None  # absolute; None: beside the workdir
    k3s: str = "leave"  # "stop": the agent is stopped while a node is in build mode
    reproducible: bool = False  # True: options with which no two builds are the same bytes are refused
    sign_key: str | None = None  # OpenPGP fingerprint; packages get a .sig


@dataclass(frozen=True)
class Ssh:
    user: str = "ansible"
    identity: str | None = None  # "~" is expanded by the user of it (effects/node.py)
    known_hosts: str | None = None
    connect_timeout: int = 5
    sudo: str = "all"  # "all" | "helper": what the account may run as root on the nodes


@dataclass(frozen=True)
class Node:
    name: str
    address: str
    connection: str = "ssh"  # "ssh" | "local"
    slots: int | None = None  # None: auto; 0: compiles nothing
    memory_per_job: int = 200 << 20
    k3s: str | None = None  # "server" | "agent"
    hold: bool = False
    port: int = 22
    line: int = 0  # in cluster.yaml
    rollout: bool = True  # False: compiles, but does not get the kernel


@dataclass(frozen=True)
class Window:
    """When nodes may be rebooted: minutes after midnight, UTC; `days` (0: Monday) are those on which it opens."""

    start: int
    end: int  # not after start: on the next day
    days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)


@dataclass(frozen=True)
class Rollout:
    canary: tuple[str, ...] = ()
    batches: tuple[int, ...] = (1,)
    bootloader: str = "auto"
    panic_timeout: int = 10
    reboot_timeout: int = 600
    settle: int = 20
    verify_modules: tuple[str, ...] = ()
    verify_commands: tuple[str, ...] = ()
    verify_ignore: tuple[str, ...] = ()  # parts of kernel messages
    window: Window | None = None  # None: at any time
    drain_timeout: int = 300
    kubeconfig: str | None = None
    signature: str = "auto"  # "auto" | "required" | "off"


@dataclass(frozen=True)
class Cluster:
    """A whole cluster.yaml. `root` is the project directory that relative paths start from."""

    root: Path
    source: str  # name of the file, for messages: "cluster.yaml"
    kernel: Kernel
    build: Build
    ssh: Ssh
    nodes: Mapping[str, Node]  # in the order of the file
    rollout: Rollout = field(default_factory=Rollout)

    @property
    def coordinator(self) -> Node:
        return self.nodes[self.build.coordinator]

    @property
    def workers(self) -> tuple[Node, ...]:
        """Nodes other than the coordinator that lend slots."""
        return tuple(n for n in self.active if n.name != self.build.coordinator and n.slots != 0)

    @property
    def active(self) -> tuple[Node, ...]:
        """Nodes that the user does not hold: nothing is asked of one on hold, nothing is changed there."""
        return tuple(n for n in self.nodes.values() if not n.hold)


@dataclass(frozen=True)
class Inputs:
    """What a stage depends on, declared: pure, made by stages/*.inputs(), hashed by the plugin.

    files     project files whose content counts, relative to the root, in an order that counts
    values    plain JSON values that count
    receipts  names of the receipts it follows; their content counts
    """

    files: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)
    receipts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a stage's run() returns.

    message  one line for the terminal: "24 applied; 0003-sched-wakeup.patch changed (line 41)"
    results  plain JSON that goes into the receipt: content only, no times, nothing of speed
    run      plain JSON that goes into build/last-run.json only (seconds, shares, fallbacks)
    warnings lines that the terminal shows under the task
    lines    the same, of a result that has more than one: no warning
    final    False: no receipt is written, the stage is tried again next time (a node left out)
    """

    message: str
    results: Mapping[str, Any] = field(default_factory=dict)
    run: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    final: bool = True
