"""git as a library of trees: one bare repository, apart from every source tree, that nobody else's settings reach.

Each call has an environment of its own: GIT_DIR and friends of the caller never come in, and none of ours goes out
(kbuild changes the release when it sees one). System and user configuration, hooks, attributes that would convert
line ends, replace refs and automatic gc are off. Settings are given with each call, so that a repository made by an
older version behaves like a new one.

Objects are written uncompressed (the sources come in in 12 s rather than 24 s, for 1.4 GB on disk). They have to be
on disk before a receipt names them: those of a whole source by one sync() of the file system, the few that a series
adds one by one (durable=True), for a sync of everything would wait for all that a compilation just wrote. An object
that was cut short all the same is told apart from a user's mistake: Git.damaged().
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from kbuild_tasks.core.errors import EVIDENCE_LINES, CommandFailed, KbuildError
from kbuild_tasks.effects import shell
from kbuild_tasks.effects.files import write_atomic

FULL = 32 << 20  # bytes; the largest file of a kernel source has 23 MB
DEADLINE = 1800  # seconds: importing a kernel to a slow SD card takes minutes

_SETTINGS = {
    "core.preloadIndex": "true",
    "index.threads": "true",
    "index.version": "2",
    "core.untrackedCache": "false",
    "core.splitIndex": "false",
    "core.fsmonitor": "false",
    "core.looseCompression": "0",
    "core.compression": "0",
    "core.bigFileThreshold": "1g",
    "core.autocrlf": "false",
    "core.safecrlf": "false",
    "core.fileMode": "true",
    "core.symlinks": "true",
    "core.ignoreCase": "false",
    "core.trustctime": "true",
    "core.checkStat": "default",
    "core.quotePath": "false",
    "core.hooksPath": os.devnull,
    "core.attributesFile": os.devnull,
    "core.excludesFile": os.devnull,
    "apply.whitespace": "nowarn",
    "apply.ignoreWhitespace": "no",
    "checkout.workers": "0",  # as many as there are cores
    "gc.auto": "0",
    "maintenance.auto": "false",
}
# gitattributes(5): this file comes before every .gitattributes in a tree. Bytes go in and out as they are.
_ATTRIBUTES = "* -text -eol -crlf -ident -filter -working-tree-encoding -export-ignore -export-subst\n"
# What git says of objects that are missing or cut short; git-apply names sound ones too, so it has a list of its own.
_DAMAGE = re.compile(r"^(?:error|fatal): (?:.*\b[0-9a-f]{40}\b|object file |inflate: |failed to unpack tree)", re.M)
_DAMAGE_APPLY = re.compile(
    r"^(?:error|fatal): (?:object file |loose object |header for |inflate: |failed to read )", re.M
)
_DAMAGED_INDEX = re.compile(r"index file (?:corrupt|smaller than expected|open failed)|bad signature|bad index file")


class DamagedIndex(KbuildError):
    """The list of what lies in a work tree cannot be read: it is made anew from the work tree."""


@dataclass(frozen=True)
class Output:
    """How git ended; `out` is bytes: file names and contents are."""

    code: int
    out: bytes
    err: str


@dataclass(frozen=True)
class Git:
    """git on one repository, with an index and a work tree where a call needs them; durable: objects are synced."""

    repository: Path
    index: Path | None = None
    worktree: Path | None = None
    durable: bool = False

    def __call__(self, *arguments: str | Path, stdin: bytes | None = None, ok: Sequence[int] = (0,)) -> Output:
        """Run `git *arguments`. Raises KbuildError for a damaged repository, a full disk, a status not in `ok`."""
        argv: list[str | Path] = ["git", "--no-replace-objects", "--no-pager", *arguments]
        with shell.spawn(
            argv,
            cwd=self.worktree or self.repository,
            env=self._environment(),
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            umask=0o022,  # makepkg's own: modes in packages are none of the caller's
        ) as child:
            try:
                out, err = child.communicate(stdin, timeout=DEADLINE)
            except subprocess.TimeoutExpired:
                shell.end(child)
                raise CommandFailed(
                    f"git {arguments[0]} did not end within {DEADLINE} s", code=-1, timed_out=True
                ) from None
        done = Output(child.returncode, out, err.decode("utf-8", "backslashreplace"))
        if done.code not in ok:
            raise self._failed(str(arguments[0]), done)
        return done

    def _environment(self) -> Mapping[str, str]:
        env = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(self.repository),
            "LC_ALL": "C",
            "TZ": "UTC",
            "GIT_DIR": str(self.repository),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_SYSTEM": os.devnull,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_CONFIG_COUNT": str(len(_SETTINGS)),
        }
        settings = {**_SETTINGS, "core.fsync": "loose-object" if self.durable else "none"}
        for number, (key, value) in enumerate(settings.items()):
            env[f"GIT_CONFIG_KEY_{number}"] = key
            env[f"GIT_CONFIG_VALUE_{number}"] = value
        if self.index:
            env["GIT_INDEX_FILE"] = str(self.index)
        if self.worktree:
            env["GIT_WORK_TREE"] = str(self.worktree)
        return env

    def _failed(self, verb: str, done: Output) -> KbuildError:
        lines = [line for line in done.err.splitlines() if line.strip()][-EVIDENCE_LINES:]
        if self._is_full(done.err):
            places = [str(place) for place in (self.worktree, self.repository) if place]
            return KbuildError(
                f"no space left for {' or '.join(places)}",
                f"df -h {shlex.join(places)}; free some, or give build.workdir in cluster.yaml another path or size",
                evidence=lines,
            )
        if _DAMAGED_INDEX.search(done.err):
            return DamagedIndex(f"the index {self.index} is damaged", evidence=lines)
        if _DAMAGE.search(done.err):
            return self.damaged(lines)
        how = f"was ended by signal {-done.code}" if done.code < 0 else f"ended with status {done.code}"
        return CommandFailed(f"git {verb} {how}", evidence=lines, code=done.code)

    def _is_full(self, said: str) -> bool:
        """git does not always give the system's reason ("unable to write file x"): then the file system tells."""
        if "No space left on device" in said or "Disk quota exceeded" in said:
            return True
        if "unable to write" not in said and "unable to create" not in said:
            return False
        free = os.statvfs(self.worktree or self.repository)
        return free.f_bavail * free.f_frsize < FULL or (free.f_files > 0 and free.f_favail == 0)

    def damaged(self, evidence: Sequence[str] = ()) -> KbuildError:
        """The error for objects that are missing or cut short (a power cut, a full disk, somebody's rm)."""
        return KbuildError(
            f"the repository of source trees {self.repository} is damaged",
            f"rm -rf {shlex.quote(str(self.repository))} && doit forget extract patch, then doit: it is made anew",
            evidence=evidence,
        )

    def unpack(self, pack: IO[bytes]) -> bool:
        """Take in the objects of a pack, each under the name that its content has, whatever who sent it calls it; they
        are durable after sync(). False: it was cut short, or is no pack. Raises KbuildError for a full disk."""
        argv = ["git", "--no-replace-objects", "unpack-objects", "-q"]
        with (
            tempfile.TemporaryFile() as said,
            shell.spawn(
                argv, cwd=self.repository, env=self._environment(),
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, umask=0o022,
            ) as child,
        ):  # fmt: skip
            assert child.stdin is not None
            try:
                shutil.copyfileobj(pack, child.stdin, 1 << 20)
            except BrokenPipeError:
                pass  # it says why
            finally:
                with contextlib.suppress(BrokenPipeError):
                    child.stdin.close()
            code = child.wait()
            said.seek(0)
            err = said.read().decode("utf-8", "backslashreplace")
        if code != 0 and self._is_full(err):
            raise self._failed("unpack-objects", Output(code, b"", err))
        return code == 0

    def create(self) -> None:
        """Make the repository if it is not there; one that was left half made is completed."""
        marker = self.repository / "kbuild-tasks"
        if marker.exists():
            return
        if self.repository.exists() and not (self.repository / "HEAD").exists() and any(self.repository.iterdir()):
            raise KbuildError(
                f"{self.repository} is in the way: it is not a repository of ours", f"move {self.repository} away"
            )
        self.repository.mkdir(mode=0o700, parents=True, exist_ok=True)  # a prepare() may put signing keys in a tree
        self("init", "--quiet", "--bare", "--template=", "--object-format=sha1", str(self.repository))
        write_atomic(self.repository / "info" / "attributes", _ATTRIBUTES)
        write_atomic(marker, "source trees of kbuild-tasks; may be deleted when no doit runs\n")

    def sync(self) -> None:
        """Make all objects durable, in one go: syncfs(2) by coreutils' sync."""
        shell.run(["sync", "-f", self.repository], timeout=DEADLINE)

    def scratch(self, name: str) -> Path:
        """An empty directory of this process in the repository; the caller removes it. Those of dead ones go now."""
        base = self.repository / "scratch"
        base.mkdir(exist_ok=True)
        for left in base.iterdir():
            if not Path("/proc", left.name.partition(".")[0]).exists():
                shutil.rmtree(left, ignore_errors=True)
        path = base / f"{os.getpid()}.{name}"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path


def apply_tells_damage(done: Output) -> bool:
    """Whether git-apply failed over an object of the repository, and not over the patch."""
    return _DAMAGE_APPLY.search(done.err) is not None


def names(output: bytes) -> list[str]:
    """The NUL-terminated names that git's -z prints."""
    return [os.fsdecode(name) for name in output.split(b"\0") if name]


def as_input(paths: Sequence[str] | set[str]) -> bytes:
    """Names for git's -z --stdin."""
    return b"".join(os.fsencode(path) + b"\0" for path in paths)
