"""A node in a directory: a root with what the helper looks at, a systemd-boot (or another loader's) boot partition,
real pacman with a database of its own, and small packages that look like a kernel's, made as makepkg makes them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kbuild_tasks.core.manifest import Package, build_manifest
from kbuild_tasks.effects.files import write_json
from kbuild_tasks.node import helper_text, spoken

GUID = "4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"
OLD, NEW = "6.1.1-old", "6.1.2-new"
OLD_ID, NEW_ID = "a" * 40, "b" * 40
BOOT_ID = "11111111-2222-4333-8444-555555555555"
PACMAN_CONF = "[options]\nArchitecture = x86_64\nSigLevel = Optional\nLocalFileSigLevel = Optional\n"


@dataclass
class Answer:
    status: int
    json: dict[str, Any]
    err: str

    @property
    def word(self) -> str:
        """The word of a refusal."""
        lines = [line for line in self.err.splitlines() if line.startswith("refused: ")]
        return lines[-1].split("\t")[2] if lines else ""


@functools.cache
def module_object(folder: str, text: str) -> bytes:
    """A file that kmod takes for a module: an ELF object with .modinfo."""
    source = Path(folder) / "module.c"
    source.write_text(
        f'static const char info[] __attribute__((section(".modinfo"), used)) = "license=GPL\\0vermagic={text}";\n'
    )
    subprocess.run(["gcc", "-c", "-o", source.with_suffix(".o"), source], check=True)
    return source.with_suffix(".o").read_bytes()


@dataclass
class World:
    top: Path
    shell: str = "dash"
    fence: int = 1
    env: dict[str, str] = field(default_factory=dict)

    @property
    def root(self) -> Path:
        return self.top / "node"

    def path(self, name: str) -> Path:
        return self.root / name.lstrip("/")

    def write(self, name: str, data: bytes | str, mode: int = 0o644) -> Path:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        path.chmod(mode)
        return path

    def stand_in(self, name: str, text: str) -> None:
        self.write(f"stand-in/{name}", f"#!/bin/sh\n{text}\n", 0o755)

    @functools.cached_property
    def helper(self) -> Path:
        return self.write("helper", helper_text(str(self.root)), 0o755)

    def raw(self, data: bytes, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self.shell, *(["--posix"] if self.shell == "bash" else []), self.helper, *arguments],
            input=data, capture_output=True, timeout=timeout, env={"PATH": "/usr/bin:/bin", **self.env},
        )  # fmt: skip

    def ask(self, verb: str, payload: bytes = b"", **values: str | int) -> Answer:
        from kbuild_tasks.node import VERBS

        if "fence" in VERBS[verb]:
            values.setdefault("fence", self.fence)
        done = self.raw(spoken(verb, values) + payload)
        text = done.stdout.decode()
        return Answer(done.returncode, json.loads(text) if done.returncode == 0 else {}, done.stderr.decode())

    def good(self, verb: str, payload: bytes = b"", **values: str | int) -> dict[str, Any]:
        answer = self.ask(verb, payload, **values)
        assert answer.status == 0, f"{verb}: {answer.status}\n{answer.err}"
        return answer.json

    def refused(self, verb: str, **values: str | int) -> Answer:
        answer = self.ask(verb, **values)
        assert answer.status == 3, f"{verb} was not refused: {answer}"
        return answer

    # the running kernel

    def runs(self, release: str, build_id: str, boot_id: str = BOOT_ID, build: str = "") -> None:
        """build: of an entry that says which one it boots"""
        self.write("proc/sys/kernel/osrelease", f"{release}\n")
        self.write("proc/sys/kernel/version", "#1 SMP\n")
        self.write("proc/sys/kernel/random/boot_id", f"{boot_id}\n")
        self.write("proc/sys/kernel/tainted", "0\n")
        self.write("proc/cmdline", f"BOOT_IMAGE=/vmlinuz root=/dev/vda2 ro quiet{build and f' kbuild.build={build}'}\n")
        self.write("proc/uptime", "100.00 90.00\n")
        self.write("proc/modules", "ext4 1 0 - Live 0x0\n")
        self.write("proc/self/mounts", "/dev/vda2 / ext4 rw 0 0\n")
        raw = bytes.fromhex(build_id)
        self.write(
            "sys/kernel/notes",
            b"\x06\0\0\0\x04\0\0\0\x01\x01\0\0Linux\0\0\0\x00\x00\x00\x00"
            + b"\x04\0\0\0" + len(raw).to_bytes(4, "little") + b"\x03\0\0\0GNU\0" + raw,
        )  # fmt: skip

    def old_kernel(self) -> None:
        self.runs(OLD, OLD_ID)
        base = f"usr/lib/modules/{OLD}"
        for name in ("kernel/fs/ext4/ext4.ko", "kernel/net/br.ko"):
            self.write(f"{base}/{name}", module_object(str(self.top), OLD))
        self.write(f"{base}/vmlinuz", b"OLD KERNEL" * 1000)
        self.write(f"{base}/pkgbase", "linux-cluster\n")
        self.write(f"{base}/modules.builtin", "kernel/drivers/block/virtio_blk.ko\n")
        self.write(f"{base}/modules.order", "kernel/fs/ext4/ext4.ko\n")
        subprocess.run(["depmod", "-b", self.root, OLD], check=True)

    # packages

    def package(
        self,
        release: str = NEW,
        name: str = "linux-cluster",
        version: str = "6.1.2-1",
        *,
        content: bytes = b"new",
        modules: tuple[str, ...] = ("kernel/net/br.ko", "kernel/fs/overlay.ko"),
        builtin: str = "kernel/drivers/block/virtio_blk.ko\nkernel/fs/ext4/ext4.ko\n",
        install: str = "",
        extra: dict[str, bytes] | None = None,
        arch: str = "x86_64",
    ) -> Path:
        tree = Path(tempfile.mkdtemp(dir=self.top, prefix="pkg."))
        base = f"usr/lib/modules/{release}"
        files = {
            f"{base}/vmlinuz": b"NEW KERNEL " + content * 1000,
            f"{base}/pkgbase": name.encode() + b"\n",
            f"{base}/config": b"CONFIG_A=y\n",
            f"{base}/modules.builtin": builtin.encode(),
            f"{base}/modules.order": b"",
            **{f"{base}/{module}": module_object(str(self.top), release + content.decode()) for module in modules},
            **(extra or {}),
        }
        for path, data in files.items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
        size = sum(len(data) for data in files.values())
        (tree / ".PKGINFO").write_text(
            f"pkgname = {name}\npkgbase = {name}\npkgver = {version}\npkgdesc = small\nurl = u\nbuilddate = 1\n"
            f"packager = p\nsize = {size}\narch = {arch}\nlicense = GPL\ndepend = kmod\n"
        )
        (tree / ".BUILDINFO").write_text("format = 2\n")
        if install:
            (tree / ".INSTALL").write_text(install)
        options = "!all,use-set,type,uid,gid,mode,time,size,md5,sha256,link"
        tops = sorted({path.split("/")[0] for path in files})
        meta = [".PKGINFO", ".BUILDINFO", *([".INSTALL"] if install else [])]
        mtree = subprocess.run(
            ["bsdtar", "-czf", "-", "--format=mtree", f"--options={options}", *meta, *tops],
            cwd=tree, check=True, capture_output=True,
        ).stdout  # fmt: skip
        (tree / ".MTREE").write_bytes(mtree)
        out = self.top / f"{name}-{version}-{arch}.pkg.tar.zst"
        subprocess.run(
            ["bsdtar", "--uid", "0", "--gid", "0", "--zstd", "-cf", out, ".MTREE", *meta, *tops], cwd=tree, check=True
        )
        shutil.rmtree(tree)
        return out

    def manifest(self, *packages: Path, release: str = NEW, build_id: str = NEW_ID) -> tuple[str, bytes]:
        listed = [
            Package(path.name, path.name.rsplit("-", 3)[0], hashlib.sha256(path.read_bytes()).hexdigest(),
                    path.stat().st_size)
            for path in packages
        ]  # fmt: skip
        value = build_manifest(
            listed, release, {"compile": {"results": {"build_id": build_id}}},
            package_inputs={}, nodes=None, commit=None,
        )  # fmt: skip
        write_json(self.top / "manifest.json", value, durable=False)
        return value["packages_sha256"][:12], (self.top / "manifest.json").read_bytes()

    def put(self, build: str, name: str, data: bytes) -> dict[str, Any]:
        return self.good(
            "stage-put", data, build=build, name=name, size=len(data), offset=0, sha256=hashlib.sha256(data).hexdigest()
        )

    def stage(self, *packages: Path, release: str = NEW, build_id: str = NEW_ID) -> str:
        build, manifest = self.manifest(*packages, release=release, build_id=build_id)
        for path in packages:
            self.put(build, path.name, path.read_bytes())
            signature = Path(f"{path}.sig")
            if signature.exists():
                self.put(build, signature.name, signature.read_bytes())
        self.put(build, "manifest.json", manifest)
        return build

    def deploy(self, *packages: Path, **values: Any) -> str:
        build = self.stage(*packages, **values)
        self.good("check", build=build)
        self.good("install", build=build)
        answer = self.good("bootfiles", build=build, modules="overlay br")
        assert answer["entry"] == f"kbuild-{build}", answer
        return build

    # systemd-boot

    def efi(self, name: str, value: str | None = None) -> str | None:
        path = self.path(f"sys/firmware/efi/efivars/{name}-{GUID}")
        if value is None:
            return path.read_bytes()[4:].decode("utf-16-le").rstrip("\0") if path.exists() else None
        self.write(str(path.relative_to(self.root)), b"\x07\0\0\0" + (value + "\0").encode("utf-16-le"))
        return value

    def systemd_boot(self, kernel: str = "vmlinuz-linux-cluster") -> None:
        self.write("boot/EFI/systemd/systemd-bootx64.efi", "")
        self.write("boot/loader/loader.conf", "timeout 0\n")
        self.write(f"boot/{kernel}", b"OLD KERNEL" * 1000)
        self.write("boot/initramfs-linux-cluster.img", b"OLD INITRD" * 100)
        self.write(
            "boot/loader/entries/arch.conf",
            f"title Arch\nlinux /{kernel}\ninitrd /initramfs-linux-cluster.img\noptions root=/dev/vda2 ro quiet\n",
        )
        self.efi("LoaderInfo", "systemd-boot 252")
        self.efi("LoaderEntrySelected", "arch.conf")

    def boots(self) -> str:
        """What systemd-boot would do now: the id it boots; a one-shot is used up."""
        entries = {path.name: path for path in self.path("boot/loader/entries").glob("*.conf")}
        for variable in ("LoaderEntryOneShot", "LoaderEntryDefault"):
            value = self.efi(variable)
            if variable == "LoaderEntryOneShot" and value is not None:
                self.path(f"sys/firmware/efi/efivars/{variable}-{GUID}").unlink()
            if value in entries:
                self.efi("LoaderEntrySelected", value)
                return value.removesuffix(".conf")
        return "arch"


def hashes(*tops: Path) -> dict[str, str]:
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for top in tops
        for path in ([top] if top.is_file() else sorted(top.rglob("*")))
        if path.is_file() and not path.is_symlink()
    }


@contextlib.contextmanager
def new_world(shell: str = "dash") -> Iterator[World]:
    top = Path(tempfile.mkdtemp(prefix="kbuild-node."))
    world = World(top, shell)
    try:
        for folder in ("run", "boot", "usr/lib/modules", "var/lib/pacman", "var/log", "etc/pacman.d/hooks", "root",
                       "tmp", "stand-in", "var/cache/pacman/pkg"):  # fmt: skip
            world.path(folder).mkdir(parents=True)
        world.path("lib").symlink_to("usr/lib")
        world.write("etc/pacman.conf", PACMAN_CONF)
        world.write("etc/machine-id", "0123456789abcdef0123456789abcdef\n")
        for name in ("systemctl", "journalctl", "dmesg", "timedatectl"):
            world.stand_in(name, "exit 0")
        world.old_kernel()
        yield world
    finally:
        for line in Path("/proc/self/mounts").read_text().splitlines():
            where = line.split()[1]
            if where.startswith(f"{top}/"):
                subprocess.run(["umount", "-l", where], check=True)
        shutil.rmtree(top)


def shell_of_binaries(world: World, *programs: str) -> None:
    """What hooks and scriptlets need in the root, where pacman runs them: a shell and its libraries."""
    for program in programs:
        real = shutil.which(program)
        assert real
        wanted = [real]
        listed = subprocess.run(["ldd", real], capture_output=True, text=True).stdout
        wanted += [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
        for path in wanted:
            name = path if path != real else f"/usr/bin/{program}"
            target = world.path(name)
            if name.startswith("/lib"):
                target = world.path(f"usr{name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                shutil.copy(os.path.realpath(path), target)
    for link in ("bin", "lib64"):
        if not world.path(link).exists():
            world.path(link).symlink_to(f"usr/{link}")
    if not world.path("usr/bin/sh").exists():
        world.path("usr/bin/sh").symlink_to("dash")
