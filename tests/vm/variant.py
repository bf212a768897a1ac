"""Another build of the same kernel: the packages of artifacts/ with one file more, packed as makepkg packs them. Same
release, same vmlinux, another name of the build: what a roll-out of a small change looks like, without compiling.
With `build_id` also another vmlinux of the same release, with `pkgrel` another release (image.py).

    python -m tests.vm.variant PROJECT WORD       changes PROJECT/artifacts/
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.vm.image import renamed

MTREE = "!all,use-set,type,uid,gid,mode,time,size,md5,sha256,link"  # as makepkg has it


def make(project: Path, word: str, *, pkgrel: int | None = None, build_id: str = "", install: str | None = None) -> str:
    """The name of the new build. install: its packages' scriptlet, "": none, None: as it was."""
    artifacts = project / "artifacts"
    manifest = json.loads((artifacts / "manifest.json").read_text())
    release, old_id = manifest["kernelrelease"], manifest["build_id"]
    names: dict[bytes, bytes] = {}
    if build_id:
        names[bytes.fromhex(old_id)] = bytes.fromhex(build_id)
        manifest["build_id"] = build_id
    if pkgrel is not None:
        manifest["kernelrelease"] = re.sub(r"-\d(?=-)", f"-{pkgrel}", release, count=1)
        names[release.encode()] = manifest["kernelrelease"].encode()
    for package in manifest["packages"]:
        if package["pkgname"].endswith(("-headers", "-docs")):
            continue
        path = artifacts / package["file"]
        with tempfile.TemporaryDirectory() as scratch:
            _unpack(path, Path(scratch), release, word, install)
            if names:
                _rename(Path(scratch), release, manifest["kernelrelease"], names)
            if pkgrel is not None:
                path = _number(Path(scratch), path, package, pkgrel)
            pack(Path(scratch), path)
        data = path.read_bytes()
        package |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    lines = [f"{p['sha256']}  {p['file']}\n" for p in sorted(manifest["packages"], key=lambda p: str(p["file"]))]
    manifest["packages_sha256"] = hashlib.sha256("".join(lines).encode()).hexdigest()
    (artifacts / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    receipt = project / "build/receipts/package.json"
    if pkgrel is not None and receipt.exists():  # deploy looks whether the packages that were made are there
        value = json.loads(receipt.read_text())
        value["results"]["packages"] = {package["file"]: package["sha256"] for package in manifest["packages"]}
        receipt.write_text(json.dumps(value))
    return str(manifest["packages_sha256"])[:12]


def _unpack(path: Path, scratch: Path, release: str, word: str, install: str | None) -> None:
    subprocess.run(["bsdtar", "-xf", path, "-C", scratch], check=True)
    (scratch / "usr/lib/modules" / release / "variant").write_text(f"{word}\n")
    (scratch / ".MTREE").unlink()
    if install is not None:
        (scratch / ".INSTALL").unlink(missing_ok=True)
        if install:
            (scratch / ".INSTALL").write_text(install)


def _rename(scratch: Path, old: str, new: str, names: dict[bytes, bytes]) -> None:
    modules = scratch / "usr/lib/modules"
    if old != new:
        (modules / old).rename(modules / new)
        for module in (modules / new).rglob("*.ko"):  # unsigned, and packed with the package alone
            module.write_bytes(module.read_bytes().replace(old.encode(), new.encode()))
    kernel = modules / new / "vmlinuz"
    kernel.write_bytes(renamed(kernel.read_bytes(), names))


def _number(scratch: Path, path: Path, package: dict[str, Any], pkgrel: int) -> Path:
    """The package's version follows; where its file lies then."""
    for name in (".PKGINFO", ".BUILDINFO"):
        info = scratch / name
        info.write_text(re.sub(r"(?m)^(pkgver = .*-)\d+$", rf"\g<1>{pkgrel}", info.read_text()))
    package["file"] = re.sub(r"-\d+(-[^-]+)$", rf"-{pkgrel}\1", package["file"])
    return path.rename(path.with_name(package["file"]))


def pack(tree: Path, path: Path) -> None:
    """A package of a directory with .PKGINFO and .BUILDINFO in it."""
    tops = sorted(entry.name for entry in tree.iterdir())
    listed = subprocess.run(
        ["bsdtar", "-cf", "-", "--format=mtree", f"--options={MTREE}", "--uid", "0", "--gid", "0", *tops],
        cwd=tree, check=True, capture_output=True,
    )  # fmt: skip
    packed = subprocess.run(["gzip", "-c", "-n"], input=listed.stdout, check=True, capture_output=True)
    (tree / ".MTREE").write_bytes(packed.stdout)
    meta = [name for name in (".BUILDINFO", ".MTREE", ".PKGINFO", ".INSTALL") if (tree / name).exists()]
    rest = [name for name in tops if name not in meta]
    subprocess.run(["bsdtar", "--uid", "0", "--gid", "0", "--zstd", "-cf", path, *meta, *rest], cwd=tree, check=True)


if __name__ == "__main__":
    print(make(Path(sys.argv[1]).resolve(), sys.argv[2]))
