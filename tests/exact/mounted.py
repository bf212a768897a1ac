"""A tmpfs at the project's workdir (or beside it), in a mount namespace of its own: nothing of it is seen outside."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.exact.bench import Bench
from tests.makepkg_world import NOBODY


class Mounted(Bench):
    """A bench whose doit runs in the namespace of `holder`."""

    holder: subprocess.Popen[str]

    @property
    def enter(self) -> list[str]:
        return ["nsenter", f"--mount=/proc/{self.holder.pid}/ns/mnt"]

    def command(self, *arguments: str) -> list[str]:
        return self.as_builder(*super().command(*arguments))

    def as_builder(self, *argv: str) -> list[str]:
        """A command in the namespace, in the project, as who builds."""
        who = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
        there = ["sh", "-c", 'cd "$0" && exec "$@"', str(self.project)]  # nsenter begins in /
        return [*self.enter, *there, *who, "--", *argv]

    def identity(self) -> dict[str, Any]:
        known = super().identity()
        return {key: known[key] for key in ("env", "text")} | {"cwd": self.project}

    def make_identity(self) -> dict[str, Any]:
        return super().identity()

    def root(self, *argv: str | Path) -> str:
        """A command in the namespace, as root."""
        done = subprocess.run([*self.enter, *map(str, argv)], text=True, capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def mount(self, place: Path, size: str) -> None:
        place.mkdir(exist_ok=True)
        options = f"size={size},uid={NOBODY},gid={NOBODY},mode=755"
        self.root("mount", "-t", "tmpfs", "-o", options, "small", place)

    def seen(self, path: Path) -> Path:
        """A path in the namespace, for who is outside."""
        return Path(f"/proc/{self.holder.pid}/root{path}")

    @property
    def tree(self) -> Path:
        return self.seen(super().tree)


@contextmanager
def mounted(bench: Mounted) -> Iterator[Mounted]:
    script = "mount --make-rprivate / && echo ready && exec sleep infinity"
    bench.holder = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert bench.holder.stdout is not None
        assert bench.holder.stdout.readline() == "ready\n"
        yield bench
    finally:
        bench.holder.kill()
        bench.holder.communicate()


def possible() -> bool:
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0
