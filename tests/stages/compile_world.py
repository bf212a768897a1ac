"""A small kernel that kbuild might have made, distccd on loopback addresses, and workers that misbehave.

The tree has what the front and the stage look at: C of the kernel (-D__KERNEL__ -c), a host program, assembly, records
beside objects, an image. 24 objects of kernel C, and the headers of the C library, so that preprocessing is no nothing.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from kbuild_tasks.core.model import Cluster, Node
from kbuild_tasks.effects import distcc_watch
from kbuild_tasks.effects.context import Context
from kbuild_tasks.effects.files import sha256_file, write_json
from kbuild_tasks.effects.tree import Trees
from kbuild_tasks.stages import compile as stage
from tests.makepkg_world import NOBODY, World

COUNT = 24
MAKEFILE = r"""
objects := $(patsubst %.c,%.o,$(sort $(wildcard fs/*.c)))
flags = -Wp,-MMD,$(@D)/.$(@F).d -I./include -D__KERNEL__ -O1 -Wall -Werror=implicit-function-declaration
all: include/config/kernel.release vmlinux
include/config/kernel.release:
	mkdir -p $(@D) && echo 6.1.1-small > $@
scripts/tool: scripts/tool.c
	@echo "  HOSTCC  $@"
	gcc -O1 -o $@ $<
%.o: %.c include/common.h scripts/tool
	@echo "  CC      $@"
	@gcc $(flags) -c -o $@ $<
	@printf 'cmd_%s := %s\n' '$@' 'gcc $(flags) -c -o $@ $<' > $(@D)/.$(@F).cmd
head.o: head.S
	@echo "  AS      $@"
	@gcc -D__KERNEL__ -D__ASSEMBLY__ -c -o $@ $<
	@printf 'cmd_%s := %s\n' '$@' 'gcc -c -o $@ $<' > .$@.cmd
vmlinux: head.o $(objects)
	@echo "  LD      $@"
	@ld -r -o $@ $^
.DELETE_ON_ERROR:
"""

PKGBUILD = """\
pkgbase=linux-small
pkgname=linux-small
pkgver=6.1.1
pkgrel=1
arch=(x86_64 aarch64)
build() {
  cd linux
  make all
}
package() { :; }
"""


def source(number: int) -> str:
    body = "\n".join(f"int f{number}_{i}(int x) {{ return x * {i + number} + (int)sizeof(FILE); }}" for i in range(40))
    head = f'#include "common.h"\n#include <stdio.h>\n#include <stdlib.h>\nconst char *base{number} = __BASE_FILE__;'
    return f"{head}\n{body}\n"


class Small(World):
    """A project whose sources were extracted, patched and configured already."""

    srctree = "linux"

    def prepared(self, **workers: Any) -> Small:
        self.nodes = {"n1": Node("n1", "127.0.0.1", connection="local", slots=1)}
        self.nodes |= {name: Node(name, where[0], slots=2) for name, where in workers.items()}
        for name, (address, port) in {"n1": ("127.0.0.1", 0), **workers}.items():
            facts = {"cores": 2, "memory": 8 << 30, "available": 4 << 30}
            mode = {"address": address, "port": port, "jobs": 3} if name != "n1" else {}
            write_json(self.facts(name), {"node": name, "state": "ready", "why": "", "facts": facts, "mode": mode})
        if not self.tree.exists():
            self._make_tree()
        self._own()
        return self

    @property
    def cluster(self) -> Cluster:
        cluster = super().cluster
        build = replace(cluster.build, ccache=getattr(self, "ccache", 0))
        return replace(cluster, build=build, nodes=getattr(self, "nodes", {"n1": Node("n1", "127.0.0.1")}))

    @property
    def tree(self) -> Path:
        return self.paths.builddir / "linux-small" / "src" / self.srctree

    def facts(self, name: str) -> Path:
        return self.paths.facts(name)

    def leave_out(self, name: str, why: str) -> None:
        write_json(self.facts(name), {"node": name, "state": "left-out", "why": why, "facts": {}, "mode": {}})
        self._own()

    def compile(self, touched: dict[str, list[str]] | None = None, silent: float | None = None) -> Any:
        """stage.run() as the user who builds; (Outcome, events)."""
        if not hasattr(self, "source"):
            self.source = self.run(Trees(self.paths.repository).import_directory, self.tree)
        return self.run(_compile, self, touched or {}, silent)

    def _make_tree(self) -> None:
        for name, text in {
            "Makefile": MAKEFILE,
            ".config": "CONFIG_A=y\n",
            "include/common.h": "extern int common;\n",
            "scripts/tool.c": "int main(void) { return 0; }\n",
            "head.S": '.text\n nop\n.section .note.GNU-stack,"",%progbits\n',
            **{f"fs/o{n}.c": source(n) for n in range(COUNT)},
        }.items():
            path = self.tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.pkgbuild.write_text(PKGBUILD.replace("cd linux\n", f"cd {self.srctree}\n"))

    def _own(self) -> None:
        if os.geteuid() == 0:
            for directory, names, files in os.walk(self.home):
                for name in names + files:
                    os.chown(os.path.join(directory, name), NOBODY, NOBODY, follow_symlinks=False)


def _compile(world: Small, touched: dict[str, list[str]], silent: float | None) -> Any:
    if silent is not None:
        distcc_watch.QUIET, distcc_watch.SILENT = silent / 2, silent
    events: list[dict[str, Any]] = []
    receipts = {
        "extract": {"pkgbase": "linux-small", "srctree": world.srctree, "pkgver": "6.1.1"},
        "patch": {"touched": touched, "tree": world.source},
        "configure": {"config_sha256": getattr(world, "config_sha256", None) or sha256_file(world.tree / ".config")},
    }
    context = Context(
        world.cluster,
        world.paths,
        "compile",
        receipts={name: {"results": results} for name, results in receipts.items()},
        emit=lambda kind, data: events.append(dict(data)),
    )
    return stage.run(context), events


def free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


class Daemon:
    """A real distccd; count() objects by its own log."""

    def __init__(self, address: str, directory: Path, search: str = "/usr/bin:/bin") -> None:
        """search: the PATH in which it looks for compilers."""
        self.address, self.port, self.log = address, free_port(address), directory / f"{address}.log"
        self.log.touch()
        os.chmod(self.log, 0o666)
        argv = ["distccd", "--no-detach", "--daemon", "--listen", address, "-p", str(self.port)]
        argv += ["--allow", "127.0.0.0/8", "--jobs", "3", "--log-file", str(self.log), "--log-level", "info"]
        argv += ["--user", "nobody"] if os.geteuid() == 0 else []
        env = {"PATH": search, "TMPDIR": str(directory)}
        self.process = subprocess.Popen(argv, env=env, start_new_session=True)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection((address, self.port), 1):
                return
            time.sleep(0.05)
        raise AssertionError("distccd does not listen")

    @property
    def where(self) -> tuple[str, int]:
        return self.address, self.port

    def count(self) -> int:
        return self.log.read_text().count(" COMPILE_OK ")

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Mute:
    """A worker that takes connections and requests and says nothing: frozen, or cut off after the connection."""

    def __init__(self, address: str, closes: bool = False) -> None:
        self._listener = socket.create_server((address, 0), backlog=64)
        self.where = self._listener.getsockname()[:2]
        self.taken: list[socket.socket] = []
        self._closes = closes
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.taken.append(client)
                threading.Thread(target=self._swallow, args=(client,), daemon=True).start()

    def _swallow(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while client.recv(1 << 16):
                if self._closes:
                    client.close()

    def stop(self) -> None:
        self._listener.close()
        for client in self.taken:
            client.close()


@contextlib.contextmanager
def daemons(directory: Path, *addresses: str) -> Iterator[list[Daemon]]:
    started: list[Daemon] = []
    try:
        for address in addresses:
            started.append(Daemon(address, directory))
        yield started
    finally:
        for daemon in started:
            daemon.stop()
