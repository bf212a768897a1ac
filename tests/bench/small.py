"""The small kernel (tests/exact/small_kernel.py) with a hundred sources more, on this machine: distccds on loopback
addresses, each in a cgroup of its own, and the coordinator's commands in another; half a core each, where asked for.

What a bench of this size shows is that it comes to its end, and our own seconds, which a kernel ten times as large
costs too; prepare and release touch no node here. Sources of the kind that a kernel has cost 0.3 s each, a third of it
preprocessing: a header of macros and inline functions stands for the kernel's headers.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import makepkg
from kbuild_tasks.lab.cgroups import Tree
from tests.bench.place import TOOK, Place
from tests.exact import small_kernel
from tests.exact.bench import State, new_bench
from tests.exact.edits import CORE
from tests.exact.mounted import Mounted, mounted, possible
from tests.stages.compile_world import free_port

MANY = 100
JOBS = 8  # of each distccd, at most
SIZE = "2g"  # of the tmpfs
SHARE = 0.5  # cores of each node
WORKERS = {"n2": "127.0.0.2", "n3": "127.0.0.3"}
CLUSTER = """\
version: 1
kernel: {{pkgbuild: kernel/PKGBUILD, arch: x86_64, config: kernel/config, patches: patches}}
build: {{coordinator: n1, workdir: {{path: {workdir}}}{build}}}
nodes:
  n1: {{address: 127.0.0.1, connection: local}}
  n2: {{address: 127.0.0.2}}
  n3: {{address: 127.0.0.3}}
"""


def many() -> dict[str, str]:
    """Path -> text of the sources more."""
    macros = "".join(
        f"#define MANY_{n}(x) (((x) << {n % 7 + 1}) + MANY_{n - 1}(x) * {n % 13 + 2})\n"
        if n % 8
        else f"#define MANY_{n}(x) ((x) + {n})\n"
        for n in range(6000)
    )
    calls = "".join(
        f"static inline int many_{n}(int x)\n{{\n\tint i, y = 0;\n\tfor (i = 0; i < x; i++)\n"
        f"\t\ty += MANY_{n * 8 + 3}(i) ^ MANY_{n * 8 + 5}(y);\n\treturn y;\n}}\n"
        for n in range(700)
    )
    found = {"include/linux/many.h": f"#ifndef MANY_H\n#define MANY_H\n{macros}{calls}#endif\n"}
    for number in range(MANY):
        used = " + ".join(f"many_{(number * 7 + n) % 700}(x + {n})" for n in range(24))
        text = f"#include <linux/many.h>\nint all_{number}(int x);\nint all_{number}(int x)\n{{\n\treturn {used};\n}}\n"
        found[f"kernel/many/all_{number}.c"] = text
    names = " ".join(f"all_{number}.o" for number in range(MANY))
    found["kernel/many/Makefile"] = f"obj-y := {names}\n"
    found["Documentation/Makefile"] = ""  # make clean goes there
    found["kernel/Makefile"] = small_kernel.FILES["kernel/Makefile"] + "obj-y += many/\n"
    return found


class Project(Mounted):
    """Its archive and its cluster."""

    def prepare_sources(self, linux: Path) -> None:
        self.archives = [self.home / "linux.tar"]
        self.sums = [small_kernel.pack(self.archives[0], self.tops[0], small_kernel.source(linux, **many()))]

    def write(self, state: State) -> None:
        super().write(state)
        file = self.project / "cluster.yaml"
        file.write_text(CLUSTER.format(workdir=self.work, build=self.build))
        self.own(file)


class Small(Place):
    source, part, rounds, goals = "kernel/core.c", "kernel/many/", 2, False

    def __init__(self, project: Project, cgroups: Tree) -> None:
        self.project, self.cgroups = project, cgroups
        self.root, self.workdir = project.project, str(project.work)
        self.said = 10
        self.servers: list[subprocess.Popen[bytes]] = []
        for member in ("n1", *WORKERS):
            cgroups.make(member)
        dodo = project.project / "dodo.py"
        dodo.write_text(dodo.read_text().replace("tests.exact import local_nodes", "tests.bench import nodes"))
        dodo.write_text(dodo.read_text().replace("local_nodes.install", "nodes.install"))
        project.mount(project.work, SIZE)
        ports = {name: free_port(address) for name, address in WORKERS.items()}
        self.where = [f"{address}:{ports[name]}" for name, address in WORKERS.items()]
        modes = {name: {"address": at, "port": ports[name], "jobs": JOBS} for name, at in WORKERS.items()}
        (self.root / "workers.json").write_text(json.dumps(modes))
        self._write()
        for name, address in WORKERS.items():
            self._start(name, address, ports[name])

    def _start(self, name: str, address: str, port: int) -> None:
        log = self.project.home / f"{name}.log"
        log.touch()
        log.chmod(0o666)
        argv = ["distccd", "--no-detach", "--daemon", "--listen", address, "-p", str(port), "--jobs", str(JOBS)]
        argv += ["--allow", "127.0.0.0/8", "--log-file", str(log), "--user", "nobody"]
        env = {"PATH": "/usr/bin:/bin", "TMPDIR": "/tmp"}
        self.servers.append(subprocess.Popen(self._in(name, argv), env=env, start_new_session=True))
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            with suppress(OSError), socket.create_connection((address, port), 1):
                return
            time.sleep(0.05)
        raise KbuildError(f"the distccd of {name} does not listen", f"cat {log}")

    def _in(self, member: str, argv: list[str]) -> list[str]:
        """argv in a node's cgroups."""
        files = [str(h.mount / self.cgroups.name / member / "cgroup.procs") for h in self.cgroups.hierarchies]
        script = 'for file in $0; do echo $$ >"$file"; done; exec "$@"'
        return ["sh", "-c", script, " ".join(files), *argv]

    def _write(self) -> None:
        self.project.write(State(patches=(("core", CORE.replace("return 1 +", f"return {self.said} +")),)))

    def command(self, script: str) -> list[str]:
        env = ["env", f"HOME={self.project.home}", "PYTHONDONTWRITEBYTECODE=1"]
        return self._in("n1", self.project.as_builder(*env, sys.executable, str(TOOK), script))

    def doit_command(self, *words: str) -> str:
        return shlex.join([sys.executable, "-m", "doit", *words])

    def edit(self) -> None:
        self.said += 1
        self._write()

    @property
    def line(self) -> str:
        return f"return {self.said} +"

    @property
    def other_line(self) -> str:
        return f"return {self.said + 500} +"

    def limit(self) -> None:
        for member in ("n1", *WORKERS):
            self.cgroups.set_share(member, SHARE)

    def lose(self) -> None:
        self.project.root("umount", self.project.work)
        self.project.mount(self.project.work, SIZE)

    def serve(self) -> list[str]:
        """They stay until the end: ours and the hand's use the same."""
        return self.where

    def unserve(self) -> None:
        return

    def scratch_makepkg(self, directory: str) -> str:
        """With the series: the small PKGBUILD has neither it nor a .config."""
        root, file = self.root, self.project.home / "PKGBUILD"
        more = [f"patch -p1 <{root}/patches/core", f"cp {root}/kernel/config .config", "make olddefconfig"]
        before, rest = (root / "kernel/PKGBUILD").read_text().split("}\nbuild() {", 1)
        file.write_text("\n  ".join([before.rstrip(), *more]) + "\n}\nbuild() {" + rest)
        env = makepkg.environment({"MAKEFLAGS": f"-j{self.cores}", "PKGEXT": makepkg.PKGEXT})
        env |= {"HOME": str(self.project.home), "PACKAGER": makepkg.PACKAGER}
        return (
            f"rm -rf {directory} && mkdir {directory} && cd {directory} && cp {file} PKGBUILD && "
            f"env -i {shlex.join(f'{name}={value}' for name, value in env.items())} makepkg --nodeps --force"
        )

    def ccache(self, on: bool) -> None:
        self.project.build = ", ccache: 1G" if on else ""
        self._write()


@contextmanager
def small(linux: Path) -> Iterator[Small]:
    """Raises KbuildError without root."""
    if not possible():
        raise KbuildError("the small size needs root, for a mount namespace and cgroups", "sudo script/bench")
    cgroups = Tree(f"kbuild-bench-{os.getpid()}")
    cgroups.require()
    for project in new_bench(linux, kind=Project):
        try:
            with mounted(project):
                yield Small(project, cgroups)
        finally:
            cgroups.end()
