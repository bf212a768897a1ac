"""The compiler on the coordinator: the front that stands before it in PATH, and its identity for fingerprints.

The front (front.sh) is a masquerade directory: a command line that says `gcc` finds it first. The kernel's Makefile
ignores an exported CC, and CC on the command line would change every recorded command; a directory in PATH changes
nothing that kbuild compares. It is left in place when no worker takes part, so that objects are the same bytes.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kbuild_tasks.core.arch import KERNEL_ARCH, PREFIXES, cross, debian_package
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_json, write_atomic, write_json

# gcc, gcc-12, cc, aarch64-linux-gnu-gcc-12; not gcc-ar, gcc-nm, gcc-ranlib. clang is left alone: -fdirectives-only is
# gcc's, and distcc's protocol cannot carry what clang has in its place (docs/distcc.md).
_COMPILER = r"cc|(?:[A-Za-z0-9_.]+-)*gcc(?:-[0-9][0-9.]*)?"
_NO_COMPILER = frozenset({"c89-gcc", "c99-gcc"})  # wrappers that run gcc themselves
MISS, CHECK, TEXT = ".miss", ".check", ".text"
_SEARCHED = ("cc1", "as", "ld")


def make_front(directory: Path, search: str) -> Path:
    """Fill `directory` with a front for each C compiler in the directories of `search` (a PATH), and with what ccache
    calls (MISS) and what checks a worker (CHECK, neither a name that is looked up in a PATH); returns it. Beside it,
    <directory>.text has what stands before the compiler for objects with debug information (text.sh).

    Files that are right already keep their times. Raises KbuildError where PATH cannot hold the directory.
    """
    if ":" in str(directory):
        raise KbuildError(
            f"{directory}: a directory in PATH cannot have a colon in its name", "choose another build.workdir.path"
        )
    scripts = {name: (Path(__file__).parent / f"{name}.sh").read_text() for name in ("front", "miss", "check", "text")}
    names = compilers(search, directory)
    if not names:
        raise KbuildError(f"no C compiler in {search}", "script/setup installs what is needed")
    _fill(directory, {**dict.fromkeys(names, scripts["front"]), MISS: scripts["miss"], CHECK: scripts["check"]})
    _fill(directory.with_name(directory.name + TEXT), dict.fromkeys(names, scripts["text"]))
    return directory


def unanswered(log: str) -> KbuildError:
    """Of a build in which a question to the compiler was killed three times (front.sh, ask)."""
    return KbuildError(
        "the compiler was killed while kbuild asked it for an option, and what was made with that answer is wrong",
        "make memory free (dmesg names what the kernel has killed), then doit: what differs is made anew",
        log=log,
    )


def _fill(directory: Path, wanted: Mapping[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for entry in list(directory.iterdir()):
        if entry.name not in wanted:
            entry.unlink()
    for name, script in wanted.items():
        front = directory / name
        if not front.is_file() or front.read_text() != script or not os.access(front, os.X_OK):
            write_atomic(front, script, 0o755)


def compilers(search: str, without: Path | None = None) -> list[str]:
    """Names of C compilers in the directories of a PATH, sorted; `without` is a directory that does not count."""
    found: set[str] = set()
    for directory in search.split(":"):
        if directory and (without is None or Path(directory) != without) and os.path.isdir(directory):
            found.update(name for name in os.listdir(directory) if re.fullmatch(_COMPILER, name))
    return sorted(found - _NO_COMPILER)


@dataclass(frozen=True)
class Toolchain:
    """The compiler of a build on the coordinator.

    cross     CROSS_COMPILE; "" where the coordinator's own gcc makes this kernel
    identity  see identity(); of a cross compiler also its "name"
    """

    arch: str
    cross: str
    identity: dict[str, str]

    @property
    def name(self) -> str:
        return f"{self.cross}gcc"

    @property
    def environment(self) -> dict[str, str]:
        """What make and every function of a PKGBUILD are told; nothing where they find out by themselves."""
        return {"ARCH": KERNEL_ARCH[self.arch], "CROSS_COMPILE": self.cross} if self.cross else {}


def toolchain(arch: str, paths: Paths) -> Toolchain:
    """What compiles kernels for `arch` (pacman's word) here. Raises KbuildError where nothing does."""
    cache = paths.build / "cache"
    own = identity(cache / "compiler.json")
    prefix = cross(arch, own["machine"], lambda name: shutil.which(name, path=_path_without_fronts()) is not None)
    if prefix is None:
        names = [f"{prefix}gcc" for prefix in PREFIXES[arch]]
        raise KbuildError(
            f"no compiler here makes kernels for {arch}: gcc makes those for {own['machine']}, and there is none of "
            f"{', '.join(names)}",
            f"install {names[0]} (Debian: {debian_package(names[0])}) on the coordinator and on every worker, "
            "or correct kernel.arch",
        )
    if not prefix:
        return Toolchain(arch, "", own)
    name = f"{prefix}gcc"
    return Toolchain(arch, prefix, {**identity(cache / f"compiler-{arch}.json", name), "name": name})


def identity(cache: Path, name: str = "gcc") -> dict[str, str]:
    """What decides the bytes that a compiler makes: {"version", "machine", "binutils", "text"}.

    version, machine  gcc -dumpfullversion, -dumpmachine
    binutils          first line of `as --version`, which ld shares
    text              first line of `gcc --version`: it has the distribution's revision, and kbuild compares it
    Starts no process while gcc, cc1, as and ld are the files that they were (path, size, mtime), by the record in
    `cache`. Raises KbuildError where there is no compiler.
    """
    path = shutil.which(name, path=_path_without_fronts())
    if path is None:
        raise KbuildError(f"{name} is not installed on this machine", "script/setup installs what is needed")
    known = read_json(cache)
    if isinstance(known, dict) and _unchanged(known, path):
        return {str(key): str(value) for key, value in known["identity"].items()}
    from kbuild_tasks.effects import shell

    env = {**os.environ, "LC_ALL": "C", "PATH": _path_without_fronts()}

    def ask(*argv: str) -> str:
        return shell.run(argv, env=env, timeout=30).out

    programs = {name: path}
    for program in _SEARCHED:
        answer = ask(path, f"-print-prog-name={program}").strip()
        programs[program] = (shutil.which(answer, path=env["PATH"]) or answer) if answer else program
    told = {
        "version": ask(path, "-dumpfullversion").strip(),  # one a call: of two -dump options gcc answers the first
        "machine": ask(path, "-dumpmachine").strip(),
        "binutils": ask(programs["as"], "--version").partition("\n")[0].strip(),
        "text": ask(path, "--version").partition("\n")[0].strip(),
    }
    files = {program: [where, _stamp(where)] for program, where in programs.items()}
    with contextlib.suppress(OSError):  # it is asked again next time
        write_json(cache, {"identity": told, "compiler": path, "files": files}, durable=False)
    return told


def _unchanged(known: Mapping[str, object], path: str) -> bool:
    files = known.get("files")
    return (
        known.get("compiler") == path
        and isinstance(files, dict)
        and bool(known.get("identity"))
        and all(stamp is not None and _stamp(where) == stamp for where, stamp in files.values())
    )


def _stamp(path: str) -> list[object] | None:
    """[real path, size, mtime in ns]; None where there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return [os.path.realpath(path), status.st_size, status.st_mtime_ns]


def _path_without_fronts() -> str:
    """Where compilers are looked for: what makepkg's environment has, so that both mean the same one."""
    from kbuild_tasks.effects.makepkg import SYSTEM_PATH

    return SYSTEM_PATH
