"""The user's project as it lies on disk now: cluster.yaml, the series, the PKGBUILD; read once, never written."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from kbuild_tasks.core.errors import ConfigError, KbuildError
from kbuild_tasks.core.finding import Finding
from kbuild_tasks.core.model import Cluster
from kbuild_tasks.core.pkgbuild import Pkgbuild
from kbuild_tasks.core.series import order_series
from kbuild_tasks.effects.context import Paths

SERIES = "series"  # quilt(1): the file that names the patches, in order


@dataclass(frozen=True)
class Project:
    """Inputs of the build half. Everything but `cluster` is looked up when first asked for, so that a broken
    PKGBUILD does not stand in the way of, say, `doit release`."""

    cluster: Cluster
    paths: Paths = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "paths", Paths.of(self.cluster))

    @classmethod
    def load(cls, cluster_yaml: Path) -> Project:
        """Raises ConfigError; opens no connection and starts no process."""
        from kbuild_tasks.effects.cluster_file import load_cluster

        cache = cluster_yaml.parent / "build" / "cache" / "cluster.json"
        return cls(load_cluster(cluster_yaml, cache))

    @cached_property
    def series_file(self) -> str | None:
        """patches/series, relative to the project, where there is one."""
        directory = self.cluster.kernel.patches
        if not directory or not os.path.lexists(self.cluster.root / directory / SERIES):
            return None
        self._regular(f"{directory}/{SERIES}")
        return f"{directory}/{SERIES}"

    @cached_property
    def series(self) -> tuple[str, ...]:
        """Patches in the order in which they are applied, relative to the project. Raises ConfigError."""
        directory = self.cluster.kernel.patches
        if not directory:
            return ()
        text = None
        if self.series_file:
            text = (self.cluster.root / self.series_file).read_text("utf-8", "surrogateescape")
        names = sorted(os.listdir(self.cluster.root / directory))
        patches = tuple(f"{directory}/{name}" for name in order_series(names, text))
        for patch in patches:
            self._regular(patch, missing=True)
        return patches

    def _regular(self, name: str, missing: bool = False) -> None:
        """Refuse what cannot be read to its end, a fifo say, or what is not what it seems, a link that leads nowhere;
        `missing`: one that is not there is told elsewhere."""
        path = self.cluster.root / name
        if path.is_file() or (missing and not os.path.lexists(path)):
            return
        what = "a symbolic link that leads nowhere" if path.is_symlink() and not path.exists() else "no regular file"
        raise ConfigError(f"{name} is {what}", f"ls -l {name}; correct it or remove it")

    @property
    def pkgbuild(self) -> Pkgbuild:
        """What bash says of the PKGBUILD; starts bash only when the file changed. Raises ConfigError."""
        if isinstance(self._pkgbuild, KbuildError):
            raise self._pkgbuild.with_traceback(None)
        return self._pkgbuild

    @cached_property
    def _pkgbuild(self) -> Pkgbuild | KbuildError:
        """A refusal is remembered too: every stage asks, and bash may take its whole deadline to be refused."""
        from kbuild_tasks.effects.pkgbuild import load_pkgbuild

        kernel = self.cluster.kernel
        path = self.cluster.root / kernel.pkgbuild
        try:
            pkgbuild = load_pkgbuild(path, self.paths.build / "cache" / "pkgbuild.json", kernel.arch)
        except KbuildError as error:
            return error
        refused = [finding for finding in self._findings(pkgbuild) if finding.kind == "refuse"]
        if not refused:
            return pkgbuild
        first, *more = refused
        name = os.path.basename(kernel.pkgbuild)
        return ConfigError(first.told(name), first.hint, evidence=[finding.told(name) for finding in more])

    def remarks(self, stage: str) -> tuple[str, ...]:
        """What in the PKGBUILD works otherwise than it seems, of what `stage` runs; nothing where no one read it."""
        if not isinstance(self.__dict__.get("_pkgbuild"), Pkgbuild):
            return ()
        name = os.path.basename(self.cluster.kernel.pkgbuild)
        return tuple(f"{f.told(name)}; {f.hint}" for f in self._findings(self.pkgbuild) if f.stage == stage)

    def _findings(self, pkgbuild: Pkgbuild) -> list[Finding]:
        """Those that hold on this machine, which is the coordinator, and for this cluster."""
        if not pkgbuild.findings:
            return []
        from kbuild_tasks.effects.makepkg import SYSTEM_PATH

        return [
            finding
            for finding in pkgbuild.findings
            if not (finding.program and shutil.which(finding.program, path=SYSTEM_PATH))
            and not (finding.several and len(self.cluster.active) == 1)
        ]

    @cached_property
    def beside_pkgbuild(self) -> tuple[str, ...]:
        """Regular files in the PKGBUILD's directory (local sources, .install files), relative to the project."""
        directory = self.cluster.root / self.cluster.kernel.pkgbuild
        base = directory.parent
        names = sorted(e.name for e in os.scandir(base) if e.is_file() and not e.name.startswith("."))
        return tuple(os.path.relpath(base / name, self.cluster.root) for name in names)

    @cached_property
    def compiler(self) -> dict[str, str]:
        """Identity of the compiler on this machine; starts it only when its files changed."""
        from kbuild_tasks.effects.compiler import toolchain

        return toolchain(self.cluster.kernel.arch, self.paths).identity
