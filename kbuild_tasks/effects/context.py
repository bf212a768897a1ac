"""Where a project's own files lie, and what a stage is given to run."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kbuild_tasks.core.model import Cluster, Node


@dataclass(frozen=True)
class Paths:
    """The fixed names of design.md §4, under the project directory; and the coordinator's own directories.

    workdir  cluster.yaml's build.workdir.path: may be a tmpfs; the source tree and everything compiled
    state    workdir + ".state": on disk, survives a reboot: repository, downloaded sources, compiler front
    """

    root: Path
    workdir: Path
    state: Path

    @classmethod
    def of(cls, cluster: Cluster) -> Paths:
        workdir = Path(cluster.build.workdir.path)
        return cls(cluster.root, workdir, workdir.with_name(workdir.name + ".state"))

    @property
    def build(self) -> Path:
        return self.root / "build"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    def receipt(self, stage: str) -> Path:
        return self.build / "receipts" / f"{stage.replace(':', '-')}.json"

    def log(self, task: str) -> Path:
        return self.build / "logs" / f"{task.replace(':', '-')}.log"

    def facts(self, node: str) -> Path:
        return self.build / "facts" / f"{node}.json"

    def calibration(self, node: str) -> Path:
        """What `doit calibrate` measured of a node (core/calibration.py)."""
        return self.build / "calibration" / f"{node}.json"

    @property
    def quarantine(self) -> Path:
        """Nodes that returned wrong objects (effects/quarantine.py)."""
        return self.build / "quarantine"

    @property
    def makers(self) -> Path:
        """Who made each object (effects/makers.py)."""
        return self.state / "makers.json"

    @property
    def repository(self) -> Path:
        """Bare git repository of source trees (design.md §8)."""
        return self.state / "repo.git"

    @property
    def kept(self) -> Path:
        """What kbuild made, for when a tmpfs is lost (effects/keep.py)."""
        return self.state / "kept"

    @property
    def sources(self) -> Path:
        """makepkg's SRCDEST."""
        return self.state / "sources"

    @property
    def startdir(self) -> Path:
        """makepkg's startdir: our copy of the PKGBUILD and the files beside it; the user's is never written."""
        return self.workdir / "startdir"

    @property
    def builddir(self) -> Path:
        """makepkg's BUILDDIR: $srcdir is <builddir>/<pkgbase>/src."""
        return self.workdir / "makepkg"


@dataclass(frozen=True)
class Context:
    """What a stage's run() gets.

    receipts  parsed receipts of the stages it follows: {"extract": {"inputs": ..., "results": ...}}
    emit      progress events for whoever shows them; a stage never prints
    anew      nothing that is remembered of former runs may shorten it: doit forget, doit -a
    rollout   what the tasks of one roll-out share
    """

    cluster: Cluster
    paths: Paths
    task: str  # "prepare:kubenode2"
    node: Node | None = None
    receipts: Mapping[str, Any] = field(default_factory=dict)
    emit: Callable[[str, Mapping[str, Any]], None] = lambda kind, data: None
    anew: bool = False
    rollout: Any = None  # effects.rollout.Run, for the stages of the roll-out half

    @property
    def log(self) -> Path:
        return self.paths.log(self.task)

    def shown(self, path: str | os.PathLike[str]) -> str:
        """A path as a message names it: relative to the project where it lies inside."""
        return os.path.relpath(path, self.paths.root) if Path(path).is_relative_to(self.paths.root) else str(path)
