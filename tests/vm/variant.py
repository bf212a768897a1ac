"""Another build of the same kernel: the packages of artifacts/ with one file more, packed as makepkg packs them. Same
release, same vmlinux, another name of the build: what a roll-out of a small change looks like, without compiling.

    python -m tests.vm.variant PROJECT WORD       changes PROJECT/artifacts/
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from pathlib import Path

MTREE = "!all,use-set,type,uid,gid,mode,time,size,md5,sha256,link"  # as makepkg has it


def make(project: Path, word: str) -> str:
    """The name of the new build."""
    artifacts = project / "artifacts"
    manifest = json.loads((artifacts / "manifest.json").read_text())
    for package in manifest["packages"]:
        if package["pkgname"].endswith(("-headers", "-docs")):
            continue
        path = artifacts / package["file"]
        with tempfile.TemporaryDirectory() as scratch:
            _repack(path, Path(scratch), manifest["kernelrelease"], word)
        data = path.read_bytes()
        package |= {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    lines = [f"{p['sha256']}  {p['file']}\n" for p in sorted(manifest["packages"], key=lambda p: str(p["file"]))]
    manifest["packages_sha256"] = hashlib.sha256("".join(lines).encode()).hexdigest()
    (artifacts / "manifest.json").write_text(json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    return str(manifest["packages_sha256"])[:12]


def _repack(path: Path, scratch: Path, release: str, word: str) -> None:
    subprocess.run(["bsdtar", "-xf", path, "-C", scratch], check=True)
    (scratch / "usr/lib/modules" / release / "variant").write_text(f"{word}\n")
    (scratch / ".MTREE").unlink()
    pack(scratch, path)


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
