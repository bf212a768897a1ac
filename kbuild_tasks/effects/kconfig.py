"""The tree's own kconfig, run so that it leaves no trace in the tree.

Every run works on a private KCONFIG_CONFIG and, by KCONFIG_AUTOCONFIG, on a private auto.conf: `make olddefconfig`
creates include/config/auto.conf from its candidate where there is none yet (conf.c: conf_write_autoconf(0)), and a
candidate that is then refused must not stay behind. The environment is the one of compile (effects/makepkg.py): the
compiler's version text, which Kconfig stores, has to be the same in both, or make would start over. CC, PATH and ARCH
differ in nothing that reaches a recorded command line.

.config is replaced only by other content, so that its time stays; then `make syncconfig` brings auto.conf up to it,
which `make kernelrelease` reads (scripts/setlocalversion) and compile would have to do anyway.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kbuild_tasks.core.arch import KERNEL_ARCH
from kbuild_tasks.core.errors import CommandFailed, ConfigError, KbuildError
from kbuild_tasks.effects import makepkg, shell
from kbuild_tasks.effects.compiler import unanswered
from kbuild_tasks.effects.files import write_atomic

SHOWN = 100  # characters of a release that is refused
DEADLINE = 600.0  # seconds; olddefconfig takes 1.5 on an idle machine
_RELEASE = re.compile(r"[0-9]+\.[0-9]+[A-Za-z0-9._+~-]*")


@dataclass(frozen=True)
class Kbuild:
    """One source tree and a private directory that this run may fill.

    arch         x86_64 | aarch64 | armv7h
    log          gets all that make says
    environment  of the toolchain, with the compiler front in PATH (effects/compiler.py)
    """

    tree: Path
    scratch: Path
    arch: str
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def kernel_arch(self) -> str:
        return KERNEL_ARCH[self.arch]

    def prepare(self) -> None:
        """Make the private directory. Raises KbuildError where there is no source tree."""
        if not (self.tree / "Kconfig").is_file():
            raise KbuildError(f"{self.tree} is no kernel source tree: it has no Kconfig", "doit forget extract && doit")
        self.scratch.mkdir(parents=True, exist_ok=True)
        (self.scratch / "auto.conf").touch()

    def make(self, *words: str, env: dict[str, str] | None = None, log: bool = True) -> shell.Done:
        """`make` in the tree, silent but for what goes wrong. Raises CommandFailed; KbuildError where the compiler was
        killed when it was asked for something: to Kconfig that is a "no"."""
        dead = self.scratch.with_name(f"{self.scratch.name}.dead")
        dead.unlink(missing_ok=True)
        done = shell.run(
            ["make", "-s", f"ARCH={self.kernel_arch}", *words],
            cwd=self.tree,
            env=makepkg.environment({**self.environment, "KBUILD_TASKS_RECORD": str(dead), **(env or {})}),
            timeout=DEADLINE,
            log=self.log if log else None,
        )
        if dead.exists() and "dead\t" in dead.read_text():
            raise unanswered(str(self.log))
        return done

    def private(self, target: str, candidate: Path, *words: str, env: dict[str, str] | None = None) -> None:
        """A configuration target on `candidate`, a file of the private directory."""
        self.make(
            f"KCONFIG_CONFIG={candidate}",
            *words,
            target,
            env={"KCONFIG_AUTOCONFIG": str(self.scratch / "auto.conf"), **(env or {})},
        )

    def preset(self, name: str) -> str:
        """The .config that `make <name>` gives. Raises ConfigError where the tree has no such defconfig."""
        path = self.scratch / "base"
        path.unlink(missing_ok=True)
        try:
            self.private(name, path)
        except CommandFailed:
            self._refuse_unknown(name)
            raise
        return path.read_text("utf-8")

    def _refuse_unknown(self, name: str) -> None:
        directory = self.tree / "arch" / self.kernel_arch / "configs"
        known = sorted(p.name for p in directory.glob("*defconfig"))
        if name in known or not name.endswith("_defconfig"):
            return
        import difflib

        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        raise ConfigError(
            f"kernel.config: this tree has no {name} for {self.kernel_arch}",
            f"did you mean {near[0]}?" if near else f"it has {', '.join(known[:8]) or 'none'}",
            log=str(self.log),
        )

    def olddefconfig(self, merged: str) -> str:
        """The final .config that kconfig makes of a merged one."""
        write_atomic(self.candidate, merged, durable=False)
        self.private("olddefconfig", self.candidate)
        return self.candidate.read_text("utf-8")

    @property
    def candidate(self) -> Path:
        return self.scratch / "candidate"

    @property
    def config(self) -> Path:
        return self.tree / ".config"

    def install(self, final: str, known: str | None = None) -> str:
        """Put `final` into the tree if other content is there; its release, see release(). What is refused there is
        taken out again: the former .config is back, with a new time, so that auto.conf follows it."""
        former = self.config.read_bytes() if self.config.is_file() else None
        replace(self.config, final)
        try:
            return self.release(known)
        except KbuildError:
            if former is None:
                self.config.unlink()
            elif former != final.encode():
                write_atomic(self.config, former)
            raise

    def release(self, known: str | None = None) -> str:
        """`make kernelrelease` of the installed .config; `known`, where that was made of it and nothing is to be
        brought up to it. Raises KbuildError on what can be no release."""
        synced = self.tree / "include" / "config" / "auto.conf"
        header = self.tree / "include" / "generated" / "autoconf.h"  # make asks for both, and makes neither alone
        if _time(synced) < _time(self.config) or not header.is_file():
            self.make("syncconfig")
        elif known is not None:
            return known
        said = self.make("kernelrelease", log=False).out.split("\n")
        release = next((line.strip() for line in reversed(said) if line.strip()), "")
        if not _RELEASE.fullmatch(release):
            raise KbuildError(
                f"make kernelrelease printed {release[:80]!r}, which can be no release of a kernel",
                "look at CONFIG_LOCALVERSION and at the localversion* files of the tree",
                log=str(self.log),
            )
        if len(release) > 64:  # top Makefile, uts_len
            shown = release if len(release) <= SHOWN else f"{release[:SHOWN]}..."
            raise ConfigError(
                f"the kernel release {shown} has {len(release)} characters, 64 is the most",
                "shorten CONFIG_LOCALVERSION",
            )
        return release


def replace(path: Path, text: str) -> bool:
    """Write a file atomically unless it has that content already; whether it was written."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == text.encode():
            return False
    write_atomic(path, text)
    return True


def _time(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return -1


def read_text(root: Path, name: str, key: str) -> str:
    """A configuration file of the project. Raises ConfigError, which names `key` of cluster.yaml."""
    try:
        return (root / name).read_text("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{name}:{line}: is not UTF-8 text", "save the file as UTF-8") from None
    except (FileNotFoundError, NotADirectoryError):
        raise ConfigError(f"{key}: there is no file {name}", "create it, or correct its name in cluster.yaml") from None
    except IsADirectoryError:
        raise ConfigError(f"{key}: {name} is a directory", "name the files in it one by one") from None


def foreign(tree: Path, names: Iterable[str], arch: str) -> dict[str, str]:
    """name -> "arch/sh/Kconfig:12" for names that only another architecture's Kconfig defines; reads all of arch/."""
    wanted = set(names)
    found: dict[str, str] = {}
    entry = re.compile(r"^\s*(?:menu)?config\s+([A-Za-z0-9_]+)", re.MULTILINE)
    for directory, below, files in os.walk(tree / "arch") if wanted else ():
        if Path(directory) == tree / "arch":
            below[:] = sorted(name for name in below if name != arch)
            continue
        for file in sorted(f for f in files if f.startswith("Kconfig")):
            path = Path(directory, file)
            text = path.read_text("utf-8", "replace")
            for match in entry.finditer(text):
                if match[1] in wanted:
                    line = text.count("\n", 0, match.start(1)) + 1
                    found.setdefault(match[1], f"{path.relative_to(tree)}:{line}")
    return found


def explain_failure(error: CommandFailed, what: str) -> CommandFailed:
    """A failed make, told by what it was to do."""
    return CommandFailed(
        f"{what}: {error.message}", error.hint, evidence=error.evidence, log=error.log, code=error.code
    )
