"""The base images of VMs: one userland for all kinds, and from it a disk image for each kind that is asked for.

They lie in vm-<recipe>/ beside base-<recipe>: the userland as a directory (tree), its kernel, and the images, which
are named after the scripts that make them of the tree. What base.py says of recipes and whole names is so here too.
A node's disk holds only its difference to one image, byte for byte: an image that was made again, from the same
recipe, is another. So each has an identity, which the disks remember (vm_disk.py).
"""

from __future__ import annotations

import platform
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.effects import shell
from kbuild_tasks.effects.files import sha256_text
from kbuild_tasks.lab import base, names
from kbuild_tasks.lab.base import Recipe
from kbuild_tasks.lab.names import Places

DISK_BYTES = 4 << 30
DEBIAN = [
    "busybox",
    "dbus",
    "dosfstools",
    "e2fsprogs",
    "fakeroot",
    "file",
    "gnupg",
    "initramfs-tools",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "libarchive-tools",
    "linux-image-cloud-amd64",
    "makepkg",
    "openssh-client",
    "openssh-server",
    "pacman-package-manager",
    "procps",
    "sudo",
    "systemd",
    "systemd-sysv",
    "udev",
    "xz-utils",
    "zstd",
]
DEBIAN_LOADERS = {
    "systemd-boot": ["systemd-boot"],
    "grub": ["grub-pc-bin", "grub2-common"],
    "extlinux": ["extlinux", "syslinux", "syslinux-common"],
}
ARCH = [
    "base",
    "dosfstools",
    "fakeroot",
    "gnupg",
    "grub",
    "iproute2",
    "iputils",
    "kmod",
    "less",
    "linux",
    "mkinitcpio",
    "mtools",
    "openssh",
    "procps-ng",
    "sudo",
    "syslinux",
    "zstd",
]
HERE = Path(__file__).parent
# Nobody compiles in a VM: base.sh makes its one package without strip, which comes with all of binutils.
BEFORE = "sed -i 's/^OPTIONS=.*/OPTIONS=(!strip !debug)/' /etc/makepkg.conf\n"
# Fixed, so that a boot entry can name them; the disks of all nodes share them as they share the blocks.
ROOT_UUID = "6b627569-6c64-4c61-8b00-726f6f740001"
GPT_ROOT = "6b627569-6c64-4c61-8b00-726f6f740002"
MBR_ID = "6b627569"
ROOT_PARTUUID = {"systemd-boot": GPT_ROOT, "grub": f"{MBR_ID}-01", "extlinux": f"{MBR_ID}-02"}


@dataclass(frozen=True)
class Images:
    """The images that were asked for, whole and there."""

    directory: Path
    scripts: str  # digest of what makes images of the tree

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    def path(self, kind: str) -> Path:
        return self.directory / f"{kind}-{self.scripts}.qcow2"

    def identity(self, kind: str) -> str:
        return self.path(kind).with_suffix(".id").read_text().strip()


def recipe() -> Recipe:
    """The userland's recipe for this machine. Raises KbuildError where there is none."""
    found = base.this_recipe()
    if platform.machine() != "x86_64":
        raise ConfigError(f"the lab has no VMs for {platform.machine()}", "doit lab up without --vms")
    debian = found.distribution == "debian"
    packages = [*DEBIAN, *(name for loader in DEBIAN_LOADERS.values() for name in loader)] if debian else ARCH
    script = BEFORE + found.script + (HERE / "vm_tree.sh").read_text()
    return Recipe(found.distribution, found.release, tuple(packages), script, found.machine)


def ensure(places: Places, kinds: Iterable[str], tell: Callable[[str], None]) -> Images:
    """The images of these kinds, made if they are not there. Raises KbuildError; a failure leaves only its log."""
    wanted = recipe()
    scripts = sha256_text("\0".join((HERE / name).read_text() for name in ("vm_loader.sh", "vm_image.sh")))[:8]
    images = Images(places.bases / wanted.name.replace("base-", "vm-", 1), scripts)
    missing = [kind for kind in names.VM_KINDS if kind in set(kinds) and not _there(images, kind)]
    if images.directory.is_dir() and not missing:
        return images
    places.bases.mkdir(parents=True, exist_ok=True)
    log = places.logs / "vm-image.log"
    with base.only_one(places.bases / ".vm-lock"), base.told("the image of the lab's VMs", log):
        if not images.directory.is_dir():
            tell("building the userland of the lab's VMs (once, about 90 s)")
            _build_tree(wanted, images.directory, log)
            base.remove_unused(images.directory, "vm-*")
        for kind in missing:
            if not _there(images, kind):
                tell(f"making the disk image of a VM with {kind} (once, about 15 s)")
                _build_image(wanted, images, kind, log)
        _remove_old(images, missing)
    return images


def _there(images: Images, kind: str) -> bool:
    return images.path(kind).exists() and images.path(kind).with_suffix(".id").exists()


def _remove_old(images: Images, kinds: Iterable[str]) -> None:
    """Images of these kinds that other scripts made go, unless a lab that is up holds the directory (vm.py)."""
    with base.unused(images.directory) as free:
        for kind in kinds if free else ():
            for old in images.directory.glob(f"{kind}-*"):
                if old.stem != images.path(kind).stem:
                    old.unlink()


def _build_tree(wanted: Recipe, directory: Path, log: Path) -> None:
    scratch = directory.with_name(f"{directory.name}.tmp")
    if scratch.exists():
        shutil.rmtree(scratch)
    scratch.mkdir()
    tree = scratch / "tree"
    hooks = [f"--customize-hook={_download(kind, packages)}" for kind, packages in DEBIAN_LOADERS.items()]
    debian = wanted.distribution == "debian"
    try:
        base.make_tree(replace(wanted, packages=tuple(DEBIAN)) if debian else wanted, tree, log, hooks)
        kernel = (tree / "usr/share/kbuild-lab/kernel").read_text().splitlines()[1]
        shutil.copyfile(tree / "boot" / kernel, scratch / "vmlinuz")
        scratch.rename(directory)
    finally:
        if scratch.exists():
            shutil.rmtree(scratch)


def _download(kind: str, packages: list[str]) -> str:
    """A hook of mmdebstrap that keeps the loader's packages, with all that they need, in the tree for later."""
    cache = f"/var/cache/loaders/{kind}"
    options = f"--no-install-recommends --download-only -o Dir::Cache::archives={cache}"
    return f'mkdir -p "$1"{cache}/partial && chroot "$1" apt-get install -qq -y {options} {" ".join(packages)}'


def _build_image(wanted: Recipe, images: Images, kind: str, log: Path) -> None:
    for stale in images.directory.glob("*.tmp"):
        shutil.rmtree(stale)
    partuuid = ROOT_PARTUUID[kind]
    with tempfile.TemporaryDirectory(prefix=f"{kind}.", suffix=".tmp", dir=images.directory) as name:
        work = Path(name)
        root = work / "root"
        shell.run(["cp", "-a", "--reflink=auto", images.directory / "tree", root], log=log, timeout=base.BUILD_SECONDS)
        script = (HERE / "vm_loader.sh").read_text()
        base.inside(root, script, [wanted.distribution, kind, partuuid, ROOT_UUID], log)
        argv: list[str | Path] = [
            "sh",
            HERE / "vm_image.sh",
            root,
            kind,
            partuuid,
            ROOT_UUID,
            str(DISK_BYTES),
            "result",
        ]
        shell.run(argv, cwd=work, log=log, timeout=base.BUILD_SECONDS, hint="script/setup installs what it needs")
        (work / "result").rename(images.path(kind))
        images.path(kind).with_suffix(".id").write_text(secrets.token_hex(16) + "\n")
