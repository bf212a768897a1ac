"""The real makepkg, told through its public interface alone: options, a configuration file, a build script.

A PKGBUILD is used unchanged, yet our stages need its functions one at a time. makepkg has no option for that; what
it has is `-p`: another build script. Ours sources the user's PKGBUILD and adds one function, check():

    source "$startdir/PKGBUILD"    all that makepkg would have read
    unset -f pkgver                the version was settled when the sources were unpacked
    check() { exit 0; }            makepkg runs check() right after build(): it ends there, with success

so build() runs under makepkg's own rules (errexit, build environment, $srcdir) and under its own name, and neither
fakeroot nor an empty packaging phase follows it. prepare() is run as the body of build(), because -e (the tree is
ours, nothing is unpacked again) leaves it out; the variables that makepkg exports only for build() are not exported
to it. Packaging needs no such script: `makepkg -R` does just that with the PKGBUILD itself.

SOURCE_DATE_EPOCH is in the environment of every run but the unpacking one: makepkg sets the time of every file below
$srcdir to it after unpacking, and takes the time of day for it where it is missing.
"""

from __future__ import annotations

import os
import pwd
import re
import shlex
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kbuild_tasks.core.errors import EVIDENCE_LINES, CommandFailed, KbuildError
from kbuild_tasks.core.later import later
from kbuild_tasks.effects import shell, startdir
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import write_atomic

if TYPE_CHECKING:
    from kbuild_tasks.effects import checked
else:
    checked = later("kbuild_tasks.effects.checked")

EPOCH = 1704067200  # 2024-01-01T00:00:00Z: the time in packages and in the kernel's version line, whenever it is built
PACKAGER = "kbuild-tasks <kbuild-tasks@localhost>"
PKGEXT = ".pkg.tar.zst"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CONFIG = "makepkg.conf"  # in paths.workdir
PASSED = (
    "GNUPGHOME", "XDG_CONFIG_HOME", "http_proxy", "https_proxy", "no_proxy", "ALL_PROXY", "SSH_AUTH_SOCK",
    "FAKEROOTDONTTRYCHOWN",  # plugin/rebuild.py
)  # fmt: skip
RUNNABLE = ("prepare", "build")

# Sourced by makepkg in place of /etc/makepkg.conf; the user's own file is read after it, as makepkg does.
_CONFIG_HEAD = """\
# Made by kbuild-tasks for its own runs of makepkg.
source /etc/makepkg.conf
if [[ -r ${XDG_CONFIG_HOME:-$HOME/.config}/pacman/makepkg.conf ]]; then
	source "${XDG_CONFIG_HOME:-$HOME/.config}/pacman/makepkg.conf"
elif [[ -r $HOME/.makepkg.conf ]]; then
	source "$HOME/.makepkg.conf"
fi
# The compiler front in PATH distributes and caches; makepkg's own wrappers would stand before it.
BUILDENV=(!distcc !color !ccache check !sign)
OPTIONS+=(!debug !lto)
COMPRESSZST=(zstd -c -T0 -3 -)
(( ${#PACMAN_AUTH[@]} )) || PACMAN_AUTH=(sudo -n)
"""

_SCRIPT = """\
# Made by kbuild-tasks: the PKGBUILD beside it, of which only {function}() is run.
source "$startdir/PKGBUILD" || return
unset -f pkgver
{body}check() {{ exit 0; }}
"""

_PREPARE_AS_BUILD = """\
build() {
	export -n CPPFLAGS CFLAGS CXXFLAGS LDFLAGS RUSTFLAGS MAKEFLAGS CHOST
	prepare
}
"""


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The clean environment of every makepkg run: nothing of the caller's shell but who runs it.

    `extra` is laid over it; for the compiler front give PATH as f"{front}:{SYSTEM_PATH}": makepkg puts nothing
    before it (BUILDENV has neither distcc nor ccache).
    """
    try:
        user = pwd.getpwuid(os.geteuid())
    except KeyError:
        raise KbuildError(f"uid {os.geteuid()} has no account, and makepkg wants one", "run doit as builder") from None
    base = {
        "PATH": SYSTEM_PATH,
        "HOME": os.environ.get("HOME") or user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "SHELL": "/bin/bash",
        "LC_ALL": "C",
        "TZ": "UTC",
        "SOURCE_DATE_EPOCH": str(EPOCH),
        "KBUILD_BUILD_TIMESTAMP": "2024-01-01 00:00:00 UTC",
        "KBUILD_BUILD_USER": "builder",
        "KBUILD_BUILD_HOST": "cluster",
        "KBUILD_BUILD_VERSION": "1",  # else the number of links so far, kept in .version
    }
    for name in PASSED:
        if name in os.environ:
            base[name] = os.environ[name]
    return {**base, **(extra or {})}


def write_config(
    paths: Paths, *, arch: str, jobs: int, builddir: Path | None = None, pkgdest: Path | None = None
) -> Path:
    """Write our makepkg.conf and return its path.

    arch      CARCH: which source_<arch> arrays count
    jobs      make's -j
    builddir  $srcdir is <builddir>/<pkgbase>/src (default paths.builddir)
    pkgdest   where packages go (default: beside the build, nobody's place)
    """
    settings = {
        "CARCH": arch,
        "MAKEFLAGS": f"-j{jobs}",
        "PKGEXT": PKGEXT,
        "PACKAGER": PACKAGER,
        "SRCDEST": str(paths.sources),
        "BUILDDIR": str(builddir or paths.builddir),
        "PKGDEST": str(pkgdest or paths.workdir / "packages"),
        "SRCPKGDEST": str(paths.workdir / "packages"),
        "LOGDEST": str(paths.workdir / "packages"),
    }
    path = paths.workdir / CONFIG
    write_atomic(path, config_text(settings) + checked.CONFIG, durable=False)
    return path


def config_text(settings: Mapping[str, str]) -> str:
    """A makepkg.conf: the system's, the user's, then what our runs need, then `settings`."""
    return _CONFIG_HEAD + "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())


def run_function(
    paths: Paths,
    function: str,
    *,
    pkgbuild: Path,
    arch: str,
    env: Mapping[str, str],
    jobs: int,
    log: Path,
    on_line: Callable[[str], None] = lambda line: None,
    tick: Callable[[], None] | None = None,
    pkgver: str | None = None,
) -> None:
    """Run build() or prepare() of the user's PKGBUILD in the $srcdir that is there.

    pkgbuild the user's file; it and the files beside it are brought to paths.startdir first
    env      the whole environment (see environment())
    on_line  gets each line of output, standard error among it, as it comes; all of it goes to `log` too
    tick     called about four times a second meanwhile
    pkgver   the version that stage extract found; it counts where the PKGBUILD has a pkgver() (see startdir.sync)
    Raises CommandFailed with the last lines before the failure; KbuildError as root or without makepkg.
    """
    if function not in RUNNABLE:
        raise ValueError(function)
    from kbuild_tasks.effects.pkgbuild import load_pkgbuild  # it needs config_text() and environment()

    refuse_root()
    has_pkgver = "pkgver" in load_pkgbuild(pkgbuild, paths.build / "cache" / "pkgbuild.json", arch).functions
    startdir.sync(paths, pkgbuild, pkgver if has_pkgver else None)
    startdir.restore(paths, prepared=function != "prepare")
    script = paths.startdir / f".{function}.PKGBUILD"
    body = _PREPARE_AS_BUILD if function == "prepare" else ""
    write_atomic(script, _SCRIPT.format(function=function, body=body), durable=False)
    config = write_config(paths, arch=arch, jobs=jobs)
    options = ("-p", script.name, "--noextract", "--nodeps", "--force", "--holdver", "--check", "--noarchive")
    what = f"{function}() of the PKGBUILD"
    check = checked.Check(paths, script.name, arch)
    run(paths, config, options, check, what=what, env=env, log=log, on_line=on_line, tick=tick)


def run(
    paths: Paths,
    config: Path,
    options: Sequence[str],
    check: checked.Check,
    *,
    what: str,
    env: Mapping[str, str],
    log: Path,
    on_line: Callable[[str], None] = lambda line: None,
    tick: Callable[[], None] | None = None,
    explain: Callable[[Sequence[str]], tuple[str, str | None] | None] = lambda lines: None,
) -> None:
    """Run makepkg in paths.startdir; `check` is left out where it passed before. `what` names the work in the message
    of a failure; `explain` may turn the last lines of output into a better sentence and a hint. Raises as run_function
    does."""
    refuse_root()
    last: deque[str] = deque(maxlen=400)

    def keep(line: str) -> None:
        last.append(line)
        on_line(line)

    argv: list[str | Path] = ["makepkg", "--config", config, "--nocolor", *options]
    passed = {checked.WORD: "1"} if check.passed() else {}
    code = shell.run_lines(argv, keep, cwd=paths.startdir, env={**env, **passed}, log=log, tick=tick)
    if code == 0:
        check.remember()
        return
    lines = list(last)
    message, hint = (
        no_space(lines, paths)
        or explain(lines)
        or (
            f"{what} failed with status {code}",
            f"read {log}, correct {what}, then doit" if "()" in what else None,
        )
    )
    raise CommandFailed(message, hint, evidence=evidence(lines), log=str(log), code=code)


def refuse_root() -> None:
    """makepkg refuses root: say so before anything is written as root."""
    if os.geteuid() == 0:
        raise KbuildError(
            "packages are never built as root: makepkg refuses it, and the PKGBUILD's code would own the machine",
            "run doit as an ordinary user: sudo -u builder -H .venv/bin/doit",
        )


def no_space(lines: Sequence[str], paths: Paths) -> tuple[str, str | None] | None:
    """The sentence for a full file system, where the output tells of one."""
    if not any("No space left on device" in line or "Disk quota exceeded" in line for line in lines):
        return None
    return (
        f"no space left below {paths.workdir} or {paths.state}",
        f"df -h {shlex.quote(str(paths.workdir))} {shlex.quote(str(paths.state))}; "
        "free some, or give build.workdir in cluster.yaml another path or size",
    )


def evidence(lines: Sequence[str]) -> list[str]:
    """The last lines that say what happened, without which of its own steps makepkg was in and "Aborting..."; where a
    function failed, without what makepkg told before it."""
    said = ("Aborting...", "==> ERROR: A failure occurred in ")
    if any(line.startswith(said[1]) for line in lines):
        starts = [n for n, line in enumerate(lines) if re.fullmatch(r"==> Starting \S+\(\)\.\.\.", line.rstrip())]
        lines = lines[starts[-1] + 1 :] if starts else lines
    told = [line for line in lines if line.strip() and not line.strip().startswith(said)]
    return told[-EVIDENCE_LINES:]
