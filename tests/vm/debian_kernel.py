"""A kernel to roll out that nobody has to compile: Debian's own for virtual machines, of another version than the one
in the VMs' image, as a package with a manifest such as stage package makes.

It comes from where that image comes from (apt), boots for real, needs an initramfs, which the node makes with its own
tool, and has its own release, build id and `uname -v`, which are read from the kernel itself. What it does not show:
that what compile and package made boots (script/demo does), and /proc/config.gz, which Debian's kernel has not.

The receipts of the build half are written as if it had run, with the inputs as they are: deploy refuses without.

    python -m tests.vm.debian_kernel PROJECT      in the coordinator: the receipts alone
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

from kbuild_tasks.core import elf, manifest
from kbuild_tasks.effects.files import write_json
from kbuild_tasks.lab import vm_image
from kbuild_tasks.lab.lab import Lab
from tests.vm.variant import pack

NAME = "linux-debian-cloud"
IMAGE = re.compile(r"^linux-image-((6\.\d+\.\d+)-(\d+)-cloud-amd64) - ", re.MULTILINE)
MODULES = {  # what a VM of the lab loads, and what cluster.yaml's verify asks for; with all that they depend on
    *("virtio_pci", "virtio_blk", "virtio_net", "virtio_rng", "qemu_fw_cfg", "vfat", "nls_ascii", "nls_cp437"),
    *("nls_utf8", "efivarfs", "efi_pstore", "autofs4", "button", "evdev", "loop", "dm_mod", "ip_tables", "x_tables"),
    *("serio_raw", "overlay", "br_netfilter"),
}
INFO = """\
pkgname = {name}
pkgbase = {name}
pkgver = {version}-1
pkgdesc = Debian's kernel {release}, for tests
url = https://www.debian.org
builddate = 1704067200
packager = kbuild-tasks <kbuild-tasks@localhost>
size = {size}
arch = x86_64
license = GPL-2.0-only
"""


def package(lab: Lab, cache: Path, artifacts: Path) -> str:
    """Fill `artifacts`; the kernel's release. Downloads into `cache` once."""
    release = _other_than(vm_image.ensure(lab.places, [], print).directory / "tree/usr/share/kbuild-lab/kernel")
    unpacked = _unpacked(release, cache)
    kernel = (unpacked / f"boot/vmlinuz-{release}").read_bytes()
    config = (unpacked / f"boot/config-{release}").read_bytes()
    tree = cache / "package.tmp"
    shutil.rmtree(tree, ignore_errors=True)
    place = tree / "usr/lib/modules" / release
    place.mkdir(parents=True)
    (place / "vmlinuz").write_bytes(kernel)
    (place / "config").write_bytes(config)
    (place / "pkgbase").write_text(f"{NAME}\n")
    _modules(unpacked / "lib/modules" / release, place)
    size = sum(path.stat().st_size for path in tree.rglob("*") if path.is_file())
    version = _uname_version(kernel)
    number = release.replace("-cloud-amd64", "").replace("-", ".")
    (tree / ".PKGINFO").write_text(INFO.format(name=NAME, version=number, release=release, size=size))
    (tree / ".BUILDINFO").write_text(f"format = 2\npkgname = {NAME}\npkgbase = {NAME}\npkgver = {number}-1\n")
    artifacts.mkdir(parents=True, exist_ok=True)
    file = artifacts / f"{NAME}-{number}-1-x86_64.pkg.tar.zst"
    pack(tree, file)
    shutil.rmtree(tree)
    data = file.read_bytes()
    made = manifest.Package(file.name, NAME, hashlib.sha256(data).hexdigest(), len(data))
    results = {
        "build_id": elf.build_id(io.BytesIO(_vmlinux(kernel))),
        "config_sha256": hashlib.sha256(config).hexdigest(),
        "uname_version": version,
    }
    told = manifest.build_manifest(
        [made], release, {"compile": {"results": results}}, package_inputs={}, nodes=None, commit=None
    )
    write_json(artifacts / "manifest.json", told)
    return release


def _other_than(installed: Path) -> str:
    """The newest release in the archive but the one that is in the VMs' image."""
    there = installed.read_text().split()[0]
    found = subprocess.run(["apt-cache", "search", "--names-only", "^linux-image-.*-cloud-amd64$"], check=True,
                           capture_output=True, text=True).stdout  # fmt: skip
    releases = {release: [*map(int, number.split(".")), int(abi)] for release, number, abi in IMAGE.findall(found)}
    releases.pop(there, None)
    assert releases, f"apt knows no other kernel for clouds than {there}: apt-get update"
    return max(releases, key=lambda release: releases[release])


def _unpacked(release: str, cache: Path) -> Path:
    tree = cache / release
    if not tree.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        scratch = cache / f"{release}.tmp"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        name = f"linux-image-{release}"
        subprocess.run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name], cwd=scratch, check=True)
        (archive,) = scratch.glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", archive, scratch], check=True)
        archive.unlink()
        subprocess.run(["depmod", "-b", scratch, release], check=True)
        scratch.rename(tree)
    return tree


def _modules(source: Path, target: Path) -> None:
    """Those named in MODULES, with their dependencies, and the lists that depmod needs."""
    needs = {}
    for line in (source / "modules.dep").read_text().splitlines():
        path, _, others = line.partition(": ")
        needs[path.rstrip(":")] = others.split()
    for path, others in needs.items():
        if Path(path).stem.replace("-", "_") in MODULES:
            for name in (path, *others):
                (target / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, target / name)
    for name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
        shutil.copyfile(source / name, target / name)


def _uname_version(kernel: bytes) -> str:
    """What `uname -v` will say: after the release and the builder in the text that the setup header points to
    (Documentation/arch/x86/boot.rst: kernel_version)."""
    at = struct.unpack_from("<H", kernel, 0x20E)[0] + 0x200
    text = kernel[at : kernel.index(b"\0", at)].decode()
    return text[text.index("#") :]


def _vmlinux(kernel: bytes) -> bytes:
    """The kernel in a bzImage: packed, behind the setup sectors (boot.rst: payload_offset, payload_length); its last
    four bytes say how long it is unpacked (scripts/Makefile.lib: size_append)."""
    start = (kernel[0x1F1] + 1) * 512
    offset, length = struct.unpack_from("<II", kernel, 0x248)
    payload = kernel[start + offset : start + offset + length]
    made = subprocess.run(["bsdcat"], input=payload[:-4], check=True, capture_output=True).stdout
    assert len(made) == struct.unpack("<I", payload[-4:])[0]
    return made


def write_receipts(project: Path) -> None:
    """Of all stages, in order: each with its inputs as they are now."""
    from kbuild_tasks.plugin.tasks import STAGES, Pipeline

    os.chdir(project)
    pipeline = Pipeline(project / "cluster.yaml")
    for stage in STAGES:
        inputs = pipeline.receipts.now(pipeline.declared(stage))
        packages = {path.name: "" for path in (project / "artifacts").glob("*.pkg.tar.zst")}
        pipeline.receipts.write(stage, inputs, {"packages": packages} if stage == "package" else {})


if __name__ == "__main__":
    write_receipts(Path(sys.argv[1]).resolve())
