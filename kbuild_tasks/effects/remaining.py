"""How many objects a build still has to make: asked of make itself, while the build goes on.

`make -n .` walks the tree with the variables of the running make and prints the compiles it would do, and writes
nothing (the goal is the top directory, not vmlinux: link-vmlinux.sh is run even under -n). It costs about what a make
with nothing to do costs (Linux 6.1, 1,300 objects: 4 CPU s), so it starts only after START seconds, at low priority;
a build that is shorter needs no estimate. The names it prints, joined with those that are done by then, are all
objects of the walk whenever it began: each was either made before the walk came to it, or printed.

It would tell far too many if it were called with other variables than the build, or while a tool that objects depend
on is still being made. So of what was finished before it began it must not print half again; if it does, or if it
fails, nothing is said, and it is tried again later, TRIES times in all. A few it prints always: under -n make takes a
file for changed whose recipe only looks whether it must change (init/version.o, kernel/configs.o, the vdso's image).
Those are off the total when the link begins. Objects that are made after the link (the boot loader's part of
arch/x86/boot) join it when they are made.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Callable
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import shell

START = 6.0
AGAIN = 15.0
TRIES = 4
_COMPILE = re.compile(rb" -D__KERNEL__ .* -c -o (\S+) (?:\S+\.c)(?=[ ;]|$)")
_OURS = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKE_TERMOUT", "MAKE_TERMERR", "KBUILD_TASKS_RECORD")


class Remaining:
    """tick() now and then; `names` is None until a walk has ended well. stop() ends it."""

    def __init__(self, tree: Path) -> None:
        self.names: frozenset[str] | None = None
        self._tree = tree
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._tries = 0
        self._next = START

    def tick(self, seconds: float, finished: Callable[[], frozenset[str]]) -> None:
        """Begin a walk if one is due `seconds` after the build's start; finished() tells objects that are made."""
        if self.names is not None or self._tries >= TRIES or seconds < self._next:
            return
        if self._thread and self._thread.is_alive():
            return
        self._tries += 1
        self._next = seconds + AGAIN * self._tries
        self._thread = threading.Thread(target=self._walk, args=(finished(),), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        if self._thread:
            self._thread.join()

    def _walk(self, finished: frozenset[str]) -> None:
        make = running_make(self._tree)
        if make is None:
            return
        variables, env = make
        argv = ["nice", "-n", "10", "make", "--no-print-directory", "-n", *variables, "."]
        names: set[str] = set()
        with contextlib.suppress(KbuildError), open(os.devnull, "wb") as nothing:
            import subprocess

            streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": nothing}
            with shell.spawn(argv, cwd=self._tree, env=env, **streams) as child:
                assert child.stdout is not None
                for line in child.stdout:
                    if self._stopped.is_set():
                        shell.end(child, 0.5)
                        return
                    if match := _COMPILE.search(line):
                        names.add(os.fsdecode(match[1]))
                if child.wait() == 0 and 2 * len(names & finished) <= len(finished):
                    self.names = frozenset(names)


def running_make(tree: Path) -> tuple[list[str], dict[str, str]] | None:
    """Variables on the command line and environment of the outermost make that runs in `tree`, as /proc tells them."""
    found: list[tuple[int, int]] = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            status = Path(entry.path, "stat").read_text()
            name, _, rest = status.partition("(")[2].rpartition(")")
            if name == "make" and os.path.realpath(os.readlink(f"{entry.path}/cwd")) == os.path.realpath(tree):
                found.append((int(entry.name), int(rest.split()[19])))
    for pid, _ in sorted(found, key=lambda pair: pair[1]):  # the one that started first
        with contextlib.suppress(OSError):
            words = [os.fsdecode(w) for w in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0") if w]
            if not words:
                continue  # in the middle of its exec(2), or of its end
            pairs = [os.fsdecode(w) for w in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if b"=" in w]
            env = dict(pair.split("=", 1) for pair in pairs)
            variables = [w for w in words[1:] if re.match(r"[A-Za-z_]\w*[:+?]?=", w)]
            return variables, {key: value for key, value in env.items() if key not in _OURS}
    return None
