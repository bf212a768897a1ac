"""The base image: one directory tree that all nodes of all labs share as the lower layer of their roots.

It is kept as base-<recipe>, where the recipe is what we ask for (distribution, release, packages, base.sh), not what
the mirror answered: a newer package there does not throw a working base away, an edit here does. Built under a
temporary name and renamed, so a directory of that name is always whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kbuild_tasks.core.errors import CommandFailed, KbuildError
from kbuild_tasks.effects import shell
from kbuild_tasks.effects.files import sha256_text
from kbuild_tasks.lab.names import Places

DEBIAN = [
    "bc",
    "bison",
    "bzip2",
    "ccache",
    "cpio",
    "curl",
    "dbus",
    "distcc",
    "fakeroot",
    "file",
    "flex",
    "gcc",
    "gcc-aarch64-linux-gnu",
    "git",
    "gnupg",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "libarchive-tools",
    "libc6-dev",
    "libelf-dev",
    "libssl-dev",
    "m4",
    "make",
    "makepkg",
    "openssh-client",
    "openssh-server",
    "pacman-package-manager",
    "patch",
    "perl",
    "procps",
    "python3",
    "rsync",
    "sudo",
    "systemd",
    "systemd-sysv",
    "xz-utils",
    "zstd",
]
ARCH = [
    "aarch64-linux-gnu-gcc",
    "base",
    "base-devel",
    "bc",
    "ccache",
    "cpio",
    "curl",
    "distcc",
    "git",
    "gnupg",
    "iproute2",
    "iputils",
    "kmod",
    "less",
    "libelf",
    "openssh",
    "openssl",
    "pacman",
    "perl",
    "procps-ng",
    "python",
    "rsync",
    "sudo",
    "systemd",
    "xz",
    "zstd",
]
LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")
SCRIPT = Path(__file__).with_name("base.sh")
BUILD_SECONDS = 1800


@dataclass(frozen=True)
class Recipe:
    """What a base is made of: "debian" | "arch", release ("bookworm", ""), packages, text of base.sh, machine."""

    distribution: str
    release: str
    packages: tuple[str, ...]
    script: str
    machine: str

    @property
    def name(self) -> str:
        text = "\0".join([self.distribution, self.release, *self.packages, *LEFT_OUT, self.script, self.machine])
        return f"base-{sha256_text(text)[:12]}"


def recipe(os_release: str, script: str, machine: str) -> Recipe:
    """The recipe for a machine with this /etc/os-release; nodes run the machine's own release, so that the
    interpreter behind .venv exists in them. Raises KbuildError on other distributions."""
    fields = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    values = {key: value.strip("\"'") for key, value in fields.items()}
    likes = [values.get("ID", ""), *values.get("ID_LIKE", "").split()]
    if values.get("ID") == "debian" and values.get("VERSION_CODENAME"):
        return Recipe("debian", values["VERSION_CODENAME"], tuple(DEBIAN), script, machine)
    if "arch" in likes:
        return Recipe("arch", "", tuple(ARCH), script, machine)
    raise KbuildError(
        f"the lab has no base image for {values.get('PRETTY_NAME', 'this distribution')}",
        "run the lab on Debian or Arch",
    )


def this_recipe() -> Recipe:
    with open("/etc/os-release", encoding="utf-8") as file:
        return recipe(file.read(), SCRIPT.read_text(), platform.machine())


def sources(listing: str, release: str) -> tuple[str, ...]:
    """The machine's own Debian mirrors as sources.list lines, from `apt-get indextargets` (see _mirrors); Debian's
    public mirror where it names none."""
    suites: dict[tuple[str, str], list[str]] = {}
    for line in listing.splitlines():
        address, suite, component, origin, kind = (*line.split("|"), "", "", "", "", "")[:5]
        if origin == "Debian" and kind == "Packages" and suite.split("-")[0] == release:
            suites.setdefault((address, suite), []).append(component)
    lines = tuple(f"deb {address} {suite} {' '.join(parts)}" for (address, suite), parts in suites.items())
    return lines or (f"deb http://deb.debian.org/debian {release} main",)


def ensure(places: Places, tell: Callable[[str], None]) -> Path:
    """The base directory, built if it is not there. Raises KbuildError family; a failed build leaves only its log."""
    wanted = this_recipe()
    base = places.bases / wanted.name
    if base.is_dir():
        return base
    if os.geteuid() != 0:
        raise KbuildError("the lab's base image is not built, and building it needs root", "sudo script/setup")
    places.bases.mkdir(parents=True, exist_ok=True)
    log = places.logs / "base.log"
    with only_one(places.bases / ".lock"), told("the lab's base image", log):
        if not base.is_dir():
            tell("building the lab's base image (once, about 90 s)")
            for stale in base.parent.glob("base-*.tmp"):
                shutil.rmtree(stale)
            scratch = base.with_name(f"{base.name}.tmp")
            try:
                make_tree(wanted, scratch, log)
                scratch.rename(base)
            finally:
                if scratch.exists():
                    shutil.rmtree(scratch)
            remove_unused(base, "base-*")
    return base


@contextlib.contextmanager
def told(what: str, log: Path) -> Iterator[None]:
    """A new log for the making of an image; a program that fails is told as what the user misses."""
    log.parent.mkdir(parents=True, exist_ok=True)
    log.unlink(missing_ok=True)
    try:
        yield
    except CommandFailed as error:
        raise KbuildError(
            f"{what} could not be built",
            "see the log; script/setup installs what it needs",
            evidence=[error.message, *error.evidence],
            log=str(log),
        ) from None


def make_tree(wanted: Recipe, root: Path, log: Path, hooks: Sequence[str] = ()) -> None:
    """Install and furnish a userland. hooks: more options for mmdebstrap."""
    if wanted.distribution == "debian":
        _install_debian(wanted, root, log, hooks)
    else:
        _install_arch(wanted, root, log)
    inside(root, wanted.script, [wanted.distribution], log)


def remove_unused(current: Path, pattern: str) -> None:
    """Bases of older recipes go, unless a lab that is up holds one; then a later build removes it."""
    for other in current.parent.glob(pattern):
        if other == current or not other.is_dir():
            continue
        with unused(other) as free:
            if free:
                scratch = other.with_name(f"{other.name}.tmp")  # never half a base under a base's name
                other.rename(scratch)
                shutil.rmtree(scratch)


@contextlib.contextmanager
def unused(directory: Path) -> Iterator[bool]:
    """Whether no lab that is up holds this directory (its holder locks it), and none takes it meanwhile."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        yield free
    finally:
        os.close(fd)


def _install_debian(wanted: Recipe, root: Path, log: Path, hooks: Sequence[str]) -> None:
    options = ['--aptopt=Acquire::Languages "none"', "--aptopt=APT::Install-Recommends false"]
    options += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    options += [f"--include={','.join(wanted.packages)}", *hooks, *_proxies()]
    shell.run(
        _at_mnt(root, ["mmdebstrap", "--variant=minbase", *options, wanted.release, f"/mnt/{root.name}"])
        + list(_mirrors(wanted.release)),
        log=log,
        timeout=BUILD_SECONDS,
        hint="script/setup installs mmdebstrap",
    )


def _at_mnt(root: Path, argv: list[str]) -> list[str]:
    """argv, with the directory above `root` at /mnt for it alone: these tools take few characters in a path."""
    return ["unshare", "--mount", "--", "sh", "-c", 'mount --bind "$0" /mnt && exec "$@"', str(root.parent), *argv]


def _mirrors(release: str) -> tuple[str, ...]:
    fields = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)|$(CREATED_BY)"
    return sources(shell.run(["apt-get", "indextargets", "--format", fields], timeout=60).out, release)


def _proxies() -> list[str]:
    """The machine's own apt proxy, handed on."""
    lines = shell.run(["apt-config", "dump", "Acquire"], timeout=60).out.splitlines()
    return [f"--aptopt={line.rstrip(';')}" for line in lines if "::Proxy " in line and not line.endswith('"";')]


def _install_arch(wanted: Recipe, root: Path, log: Path) -> None:
    root.mkdir()
    shell.run(
        _at_mnt(root, ["pacstrap", "-c", "-G", "-K", f"/mnt/{root.name}", *wanted.packages]),
        log=log,
        timeout=BUILD_SECONDS,
        hint="script/setup installs arch-install-scripts",
    )


def inside(root: Path, script: str, arguments: Sequence[str], log: Path) -> None:
    """Run a script inside a new root: without network, and without a trace of nspawn on the machine's /run."""
    nspawn = ["systemd-nspawn", "--quiet", "--settings=no", "--register=no", "--keep-unit", "--as-pid2", "--pipe"]
    nspawn += ["--private-network", "--resolv-conf=off", "--timezone=off", "--directory", str(root)]
    private_run = 'mount -t tmpfs tmpfs /run && exec "$@"'
    shell.run(
        ["unshare", "--mount", "--", "sh", "-c", private_run, "sh", *nspawn, "/bin/sh", "-s", *arguments],
        stdin=script,
        env={"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "LANG": "C.UTF-8"},
        log=log,
        timeout=BUILD_SECONDS,
        hint="script/setup installs systemd-nspawn",
    )


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    with open(path, "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
