"""The example kernel in the lab: the coordinator and two workers, as `doit lab up` makes them; or ("middle") the same
project with allnoconfig and a few options, a third of the objects. Limited, each node has SHARE of a core, so that
together they take no more than a machine of two has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kbuild_tasks.effects import makepkg
from kbuild_tasks.lab.lab import Lab
from tests.bench.place import TOOK, Place
from tests.lab.project import COORDINATOR, WORKDIR, WORKERS, Project

SHARE = "0.6"
PORT = 3633  # the hand's; build mode's distccd has another
JOBS = 8
PATCH, SOURCE = "0001-virtio_blk-say-how-deep-the-queues-are.patch", "drivers/block/virtio_blk.c"
SAYS = "requests a queue"
CONFIG = """\
CONFIG_64BIT=y
CONFIG_MODULES=y
CONFIG_MODULE_UNLOAD=y
CONFIG_PRINTK=y
CONFIG_PROC_FS=y
CONFIG_NET=y
CONFIG_INET=y
CONFIG_BLOCK=y
CONFIG_PCI=y
CONFIG_VIRTIO_MENU=y
CONFIG_VIRTIO_PCI=y
CONFIG_BLK_DEV=y
CONFIG_VIRTIO_BLK=y
CONFIG_EXT4_FS=m
CONFIG_CRC8=m
"""


class Example(Place):
    source, part, goals = SOURCE, "net/core/ fs/", True

    def __init__(self, lab: Lab, size: str) -> None:
        self.lab, self.size = lab, size
        self.rounds = 2 if size == "middle" else 1
        if size == "middle":
            self.project = Project.small(lab, "bench", "x86_64", CONFIG)
            text = (self.project.root / "cluster.yaml").read_text()
            (self.project.root / "cluster.yaml").write_text(
                text.replace("kernel:\n", "kernel:\n  patches: patches\n", 1)
            )
            (self.project.root / "patches/series").write_text(f"{PATCH}\n")
        else:
            self.project = Project.make(lab, "bench")
        self.root, self.workdir = self.project.root, WORKDIR
        self.number = 0
        self.project.edit(f"patches/{PATCH}", SAYS, self.line)
        self.plain = (self.root / "cluster.yaml").read_text()

    def command(self, script: str) -> list[str]:
        python = str(self.lab.root / ".venv/bin/python")
        return self.lab.command(COORDINATOR, [python, str(TOOK), script])

    def doit_command(self, *words: str) -> str:
        return " ".join([str(self.lab.root / ".venv/bin/doit"), *words])

    @property
    def line(self) -> str:
        return f"{SAYS}, {self.number}"

    @property
    def other_line(self) -> str:
        return f"{SAYS}, {self.number + 500}"

    def edit(self) -> None:
        before = self.line
        self.number += 1
        self.project.edit(f"patches/{PATCH}", before, self.line)

    def limit(self) -> None:
        for node in (COORDINATOR, *WORKERS):
            self.lab.cpu(node, SHARE)

    def lose(self) -> None:
        self.doit("release")

    def serve(self) -> list[str]:
        own = {status.name: status.address for status in self.lab.status()}
        for node in WORKERS:
            self.project.node(
                f"systemd-run -q --unit=bench-distccd distccd --no-detach --daemon --user distccd --listen {own[node]} "
                f"--allow {own[COORDINATOR]} --jobs {JOBS} --port {PORT}",
                node,
                "root",
            )
        return [f"{own[node]}:{PORT}" for node in WORKERS]

    def unserve(self) -> None:
        for node in WORKERS:
            self.project.node("systemctl stop bench-distccd", node, "root")

    def scratch_makepkg(self, directory: str) -> str:
        """Without the series and the fragments, so with less to do than ours; "middle": with its configuration."""
        env = {k: v for k, v in makepkg.environment().items() if k not in ("HOME", "USER", "LOGNAME")}
        words = " ".join(f"{name}='{value}'" for name, value in env.items())
        own = f"cp {self.root}/build/config config && " if self.size == "middle" else ""
        return (
            f"rm -rf {directory} && cp -r {self.root}/kernel {directory} && cd {directory} && {own}"
            f'env -i {words} HOME="$HOME" USER=builder MAKEFLAGS=-j{self.cores} PKGEXT={makepkg.PKGEXT} '
            "makepkg --nodeps --force"
        )

    def ccache(self, on: bool) -> None:
        text = self.plain.replace("build:\n", "build:\n  ccache: 2G\n", 1) if on else self.plain
        (self.root / "cluster.yaml").write_text(text)


@contextmanager
def example(root: Path, size: str) -> Iterator[Example]:
    """Build mode is left and nodes are unlimited afterwards; the lab stays up."""
    lab = Lab(root)
    lab.up()
    place = Example(lab, size)
    try:
        yield place
    finally:
        for node in (COORDINATOR, *WORKERS):
            lab.cpu(node, "max")
        place.project.doit("release", status=None)
