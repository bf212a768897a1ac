"""Nodes as small true things: each keeps state like a machine's (entries, default, one-shot, boot id, packages),
answers the helper's verbs on it, and boots what its loader says. No process, and a clock of their own: thousands of
roll-outs can be walked through. Beside it stand the tests with the real helper (tests/effects) and real VMs (tests/vm).

Faults of a build's kernel, by node: "panic", "hang", "no-net", "no-sshd", "host-key", "no-login", "slow", "stuck"
(does not go down), "wrong-release", "other-build-id", "crash" (some seconds after it booted), "not-tried" (the loader
ignores the one-shot). `lies` changes answers.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from kbuild_tasks.core import diagnosis, model
from kbuild_tasks.core.errors import NodeRefused, NodeUnreachable
from kbuild_tasks.core.rollout import Build, order
from kbuild_tasks.effects import clock, commands, helper, journal, lease, reach
from kbuild_tasks.effects import node as remote
from kbuild_tasks.effects.context import Context, Paths
from kbuild_tasks.effects.files import write_json
from kbuild_tasks.effects.rollout import Run

OLD = {"release": "6.1.190-cluster", "build_id": "0" * 40, "build": "", "version": "#1 SMP old", "config": "c" * 64}
APPEND = journal.Journal.append
NEW_CONFIG = hashlib.sha256(b"config").hexdigest()


class Killed(BaseException):
    """kill -9 of the coordinator."""


@dataclass
class FakeNode:
    world: World
    name: str
    boot_id: str = ""
    running: dict[str, Any] = field(default_factory=lambda: dict(OLD))
    entries: dict[str, dict[str, Any]] = field(default_factory=lambda: {"old": dict(OLD)})
    default: str = "old"
    armed: str = ""
    selected: str = "old"
    known_good: dict[str, Any] | None = None
    previous: dict[str, Any] | None = None
    trial: dict[str, Any] | None = None
    deny: dict[str, str] = field(default_factory=dict)
    staged: dict[str, dict[str, bytes]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    installed: set[str] = field(default_factory=set)
    fence: int = 0
    holder: dict[str, Any] | None = None
    boots: list[str] = field(default_factory=list)  # entries, in the order in which they were booted
    asked: int = 0  # reboots that were carried out because a roll-out asked
    faults: set[str] = field(default_factory=set)  # of the trial's kernel
    goes: float | None = None  # when it goes down
    back: float | None = None  # when it is up again; None: up now
    unplugged: bool = False
    crashes: float | None = None
    lies: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = field(default_factory=dict)
    health: dict[str, Any] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.boot_id = self.boot_id or self.world.uuid()
        self.health = {
            "kernel_errors": ["ACPI: noise 17"],
            "failed_units": ["old.service"],
            "mounts": ["/ ext4 /dev/vda2", "/boot vfat /dev/vda1"],
            "taint": 0,
            "modules": ["ext4"],
            "pstore": [],
            "synchronized": True,
            "previous": {"kernel_errors": []},
        }

    @property
    def up(self) -> bool:
        return self.back is None and not self.unplugged

    def settle(self) -> None:
        """Let happen what is due."""
        now = self.world.time
        if self.crashes is not None and now >= self.crashes:
            self.crashes = None
            self._boot(self.world.time, asked=False)
        if self.goes is not None and now >= self.goes:
            when, self.goes = self.goes, None
            if "stuck" not in self.faults:
                self.asked += 1
                self._boot(when + (300 if "slow" in self.faults else 0), asked=True)
        if self.back is not None and now >= self.back:
            self.back = None

    def power_cut(self) -> None:
        """And power back."""
        self.goes = None
        self._boot(self.world.time, asked=False)

    def _boot(self, when: float, asked: bool) -> None:
        entry = self.armed if self.armed in self.entries and "not-tried" not in self.faults else self.default
        if "not-tried" not in self.faults:
            self.armed = ""
        self.boots.append(entry)
        self.back = when + 20
        faults = self.faults if entry == f"kbuild-{self.world.build.build}" else set()
        if "panic" in faults:
            self.boots.append(self.default)
            self.back += 18
            entry = self.default
        if "hang" in faults or "no-net" in faults:
            self.back = float("inf")
        self.running, self.selected = dict(self.entries[entry]), entry
        if "wrong-release" in faults:
            self.running["release"] += "-other"
        if "other-build-id" in faults:
            self.running["build_id"] = "f" * 40
        if "crash" in faults:
            self.crashes = self.back + 5
        self.boot_id = self.world.uuid()

    # what the network shows

    def sight(self) -> str:
        """ "" where the helper can be asked."""
        self.settle()
        if not self.up:
            return "silent"
        trial = self.selected == f"kbuild-{self.world.build.build}"
        for fault in ("no-sshd", "host-key", "no-login"):
            if trial and fault in self.faults:
                return fault
        return ""

    # verbs

    def ask(self, verb: str, values: dict[str, Any], payload: bytes | None) -> dict[str, Any]:
        values = dict(values)
        if verb == "lease":
            return self._lease(**values)
        if "fence" in values:
            if int(values.pop("fence")) < self.fence:
                raise NodeRefused(f"{self.name} is in another roll-out: {(self.holder or {}).get('who')}")
            self.log.append(verb)
        answer: dict[str, Any] = getattr(self, "_" + verb.replace("-", "_"))(payload=payload, **values)
        lie = self.lies.get(verb)
        return lie(answer) if lie else answer

    def _lease(self, fence: int, who: str, boot_id: str, force: int = 0) -> dict[str, Any]:
        name = base64.b64decode(who).decode()
        theirs = (self.holder or {}).get("who")
        if fence < self.fence or (not force and theirs and name and theirs != name):
            raise NodeRefused(f"{self.name} is in another roll-out: {theirs} (number {self.fence})")
        self.fence, self.holder = fence, {"who": name, "since": 0} if name else None
        return {"fence": fence}

    def _observe(self, payload: None) -> dict[str, Any]:
        return {
            **{key: self.running[key] for key in ("release", "version", "build_id")},
            "boot_id": self.boot_id,
            "time": int(self.world.epoch()),
            "loader": {"kind": "systemd-boot", "default": self.default, "armed": self.armed, "selected": self.selected},
            "known_good": self.known_good,
            "previous": self.previous,
            "trial": self.trial,
            "deny": [{"build": build, "why": why} for build, why in self.deny.items()],
            "builds": sorted({*self.staged, *(entry[7:] for entry in self.entries if entry.startswith("kbuild-"))}),
            "fence": self.fence,
            "lease": self.holder,
            "helper": "fake",
            "synchronized": True,
        }

    def _baseline(self, payload: None) -> dict[str, Any]:
        return {key: list(value) if isinstance(value, list) else value for key, value in self.health.items()}

    def _stage_list(self, payload: None, build: str) -> dict[str, Any]:
        files = {}
        for name, data in self.staged.get(build, {}).items():
            whole = len(data) == self.sizes[name]
            files[name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest() if whole else None}
        return {"files": files}

    def _stage_put(self, payload: bytes, build: str, name: str, size: int, sha256: str, offset: int) -> dict[str, Any]:
        have = self.staged.setdefault(build, {}).get(name, b"")
        if offset == 0:
            have = b""
        assert offset == len(have), "offset is the size of what is there"
        self.staged[build][name] = have + payload
        self.sizes[name] = size
        complete = len(self.staged[build][name]) == size
        if complete and hashlib.sha256(self.staged[build][name]).hexdigest() != sha256:
            del self.staged[build][name]
            raise NodeRefused(f"{self.name} has other bytes of {name}")
        return {"size": len(have) + len(payload), "complete": complete}

    def _check(self, payload: None, build: str, signed: int = 0) -> dict[str, Any]:
        if build in self.deny:
            raise NodeRefused(f"{self.name} denied")
        return {"ok": True, "signed": bool(signed)}

    def _install(self, payload: None, build: str, signed: int = 0) -> dict[str, Any]:
        if self.known_good is None:
            self.known_good = {**OLD, "entry": self.default}
        self.installed.add(build)
        return {"pacman": 0, "said": [], "repaired": []}

    def _bootfiles(self, payload: None, build: str, modules: str, panic: int) -> dict[str, Any]:
        assert build in self.installed
        new = self.world.build
        kernel = {"release": new.release, "build_id": new.build_id, "version": new.version, "config": new.config}
        self.entries[f"kbuild-{build}"] = {**kernel, "build": build}
        return {"files": 9, "missing": [], "changed": [], "modules_missing": [], "entry": f"kbuild-{build}"}

    def _arm(self, payload: None, build: str, panic: int, timeout: int) -> dict[str, Any]:
        assert f"kbuild-{build}" in self.entries and build not in self.deny
        assert self.default != f"kbuild-{build}" or self.known_good
        self.armed = f"kbuild-{build}"
        self.trial = {**self.entries[self.armed], "since": 0}
        return {"armed": self.armed, "default": self.default}

    def _disarm(self, payload: None) -> dict[str, Any]:
        self.armed, self.trial = "", None
        return {}

    def _reboot(self, payload: None, delay: int, boot_id: str) -> dict[str, Any]:
        if boot_id != self.boot_id:
            raise NodeRefused(f"{self.name} has been rebooted meanwhile")
        if self.goes is None:
            self.goes = self.world.time + delay
            self.world.goes_down(self)
        return {"boot_id": self.boot_id}

    def _probe(self, payload: None, modules: str, release: str, build: str) -> dict[str, Any]:
        kernel = {key: self.running[key] for key in ("release", "build_id", "version")}
        told = {"loaded": modules.split(), "builtin": [], "failed": {}, "config_sha256": self.running["config"]}
        files = {"count": 9, "wrong": [] if self.running.get("build") == build else ["overlay.ko"]}
        return {**kernel, **told, "boot_id": self.boot_id, "build": self.running.get("build", ""), "files": files}

    def _commit(self, payload: None, build: str) -> dict[str, Any]:
        if (self.known_good or {}).get("build") != build:
            assert self.trial and self.trial["build"] == build == self.running["build"]
            self.default = f"kbuild-{build}"
            self.previous = self.known_good
            self.known_good = {**self.running, "entry": self.default}
            self.trial = None
        return {"default": self.default}

    def _rollback(self, payload: None, to: str = "known-good") -> dict[str, Any]:
        if to == "previous":
            assert self.previous
            self.known_good, self.previous = self.previous, self.known_good
        good = self.known_good or {**OLD, "entry": "old"}
        self.armed, self.trial, self.default = "", None, good["entry"]
        return {"default": self.default, "release": good["release"]}

    def _deny(self, payload: None, build: str, why: str) -> dict[str, Any]:
        self.deny[build] = base64.b64decode(why).decode()
        return {}

    def _allow(self, payload: None, build: str) -> dict[str, Any]:
        self.deny.pop(build, None)
        return {}

    def _forget(self, payload: None, build: str, kept: int = 0) -> dict[str, Any]:
        name = f"keep-{build}" if kept else build
        needed = [self.default, self.selected, *((r or {}).get("entry") for r in (self.known_good, self.previous))]
        assert self.trial is None and f"kbuild-{name}" not in needed
        files = self.staged.pop(build, {})
        self.entries.pop(f"kbuild-{name}", None)
        self.installed.discard(build)
        return {"forgotten": name, "freed": sum(map(len, files.values())), "freed_boot": 20 << 20}

    def _k3s(self, payload: None, action: str) -> dict[str, Any]:
        return {"state": action}

    def _journal(self, payload: None, boot: str) -> dict[str, Any]:
        panic = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"
        return {"lines": [f"[    1.2] {panic}"] if "panic" in self.faults else [], "pstore": []}


class World:
    """A cluster of fake nodes, its project directory, and the coordinator that may be killed."""

    def __init__(self, root: Path, monkeypatch: Any, names: str = "n7 n2 n3", **rollout: Any) -> None:
        self.time = 1000.0
        self.step = 0.0
        self.start = datetime(2027, 1, 4, 2, 0, tzinfo=UTC)  # a Monday
        self.kill_at: int | None = None
        self.back_to, self.only_build = "known-good", ""
        self.points = 0
        self.max_down = 0
        self._uuids = 0
        nodes = {"n1": model.Node("n1", "127.0.0.1", "local", rollout=False)}
        nodes |= {name: model.Node(name, f"10.0.0.{index}") for index, name in enumerate(names.split(), 10)}
        settings = {"canary": (names.split()[0],), "settle": 20, "verify_modules": ("overlay",), **rollout}
        self.cluster = model.Cluster(
            root,
            "cluster.yaml",
            model.Kernel("kernel/PKGBUILD", "x86_64", "kernel/config"),
            model.Build("n1", model.Workdir("/srv/kbuild")),
            model.Ssh(),
            nodes,
            model.Rollout(**settings),
        )
        self.paths = Paths.of(self.cluster)
        self.build = self.package(b"the kernel" * 100)
        self.nodes = {name: FakeNode(self, name) for name in names.split()}
        self.events: list[tuple[str, Any]] = []
        self._patch(monkeypatch)

    def package(self, data: bytes, release: str = "6.1.192-cluster") -> Build:
        """Put a package set into artifacts/."""
        digest = hashlib.sha256(data).hexdigest()
        self.paths.artifacts.mkdir(parents=True, exist_ok=True)
        name = f"linux-{digest[:6]}.pkg.tar.zst"
        (self.paths.artifacts / name).write_bytes(data)
        manifest = {
            "packages_sha256": digest,
            "kernelrelease": release,
            "build_id": hashlib.sha1(data).hexdigest(),
            "uname_version": "#1 SMP new",
            "config_sha256": NEW_CONFIG,
            "packages": [{"file": name, "size": len(data), "sha256": digest}],
        }
        write_json(self.paths.artifacts / "manifest.json", manifest)
        from kbuild_tasks.effects import artifacts

        self.build = artifacts.load(self.paths)
        return self.build

    def uuid(self) -> str:
        self._uuids += 1
        return str(uuid.UUID(int=self._uuids, version=4))

    def epoch(self) -> float:
        return self.start.timestamp() + self.time

    def goes_down(self, node: FakeNode) -> None:
        down = [other for other in self.nodes.values() if other is node or other.goes is not None or not other.up]
        self.max_down = max(self.max_down, len(down))

    def point(self) -> None:
        """A moment at which the coordinator may be killed."""
        self.points += 1
        if self.kill_at is not None and self.points == self.kill_at:
            raise Killed

    def _patch(self, monkeypatch: Any) -> None:
        def tick() -> float:
            self.time += 0.01
            return self.time

        def sleep(seconds: float) -> None:
            self.point()
            self.time += seconds

        def ask(cluster: Any, node: Any, verb: str, values: Any = None, payload: Any = None, **_: Any) -> Any:
            fake = self.nodes[node.name]
            self.point()
            self.time += self.step
            self._reachable(fake)
            answer = fake.ask(verb, dict(values or {}), payload)
            self.point()
            return answer

        def record(file: Any, *args: Any) -> Any:
            self.point()
            written = APPEND(file, *args)
            self.point()
            return written

        monkeypatch.setattr(clock, "monotonic", tick)
        monkeypatch.setattr(clock, "sleep", sleep)
        monkeypatch.setattr(clock, "now", self.epoch)
        monkeypatch.setattr(clock, "utc", lambda: self.start + timedelta(seconds=self.time))
        monkeypatch.setattr(helper, "ask", ask)
        monkeypatch.setattr(helper, "version", lambda: "fake")
        monkeypatch.setattr(journal.Journal, "append", record)
        monkeypatch.setattr(reach, "knock", self._knock)
        monkeypatch.setattr(remote, "hang_up", lambda cluster, node: None)
        monkeypatch.setattr(commands, "run", self._commands)
        monkeypatch.setattr(lease, "who", lambda root: f"builder@n1:{root}")

    def _reachable(self, fake: FakeNode) -> None:
        words = {
            "silent": "ssh: connect to host: Connection timed out",
            "no-sshd": "ssh: connect to host: Connection refused",
            "host-key": "REMOTE HOST IDENTIFICATION HAS CHANGED!",
            "no-login": "ansible@10.0.0.10: Permission denied (publickey).",
        }
        if sight := fake.sight():
            self.time += 1
            raise NodeUnreachable(f"{fake.name} cannot be reached", evidence=[words[sight]])

    def _knock(self, node: Any, timeout: float = 1.0) -> str:
        sight = self.nodes[node.name].sight()
        return {"silent": diagnosis.SILENT, "no-sshd": diagnosis.REFUSED}.get(sight, "")

    def _commands(self, cluster: Any, node: Any, wanted: Any) -> list[dict[str, Any]]:
        status = self.nodes[node.name].health.get("commands", {})
        return [{"command": command, "status": status.get(command, 0), "out": ""} for command in wanted]

    def run(self) -> Run:
        """A new run of doit: nothing is remembered but what lies on disk."""
        from kbuild_tasks.effects import artifacts

        self.build = artifacts.load(self.paths)
        chosen = {"back_to": self.back_to, "only_build": self.only_build}
        return Run(self.cluster, self.paths, self.build, order(self.cluster), **chosen)

    def context(self, run: Run, verb: str, name: str) -> Context:
        def emit(kind: str, data: Any) -> None:
            self.events.append((kind, data))

        return Context(self.cluster, self.paths, f"{verb}:{name}", self.cluster.nodes[name], emit=emit, rollout=run)
