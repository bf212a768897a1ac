"""In what two packages differ, told of packages that a real bsdtar, gcc and zstd made."""

from __future__ import annotations

import gzip
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.package_diff import first
from kbuild_tasks.effects.package_members import compare

INFO = "format = 2\nbuilddir = /b\ninstalled = bash-5-x86_64\ninstalled = gcc-12-x86_64\n"
MODULE = "usr/lib/modules/6.1/veth.ko"


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> dict[int, bytes]:
    """The same module twice, but for a constant in .data."""
    top = tmp_path_factory.mktemp("objects")
    found = {}
    for value in (1, 2):
        (top / "a.c").write_text(f"int value = {value}; int f(int x) {{ return x; }}\n")
        subprocess.run(["gcc", "-O2", "-c", "-o", "a.o", "a.c"], cwd=top, check=True)
        found[value] = (top / "a.o").read_bytes()
    return found


@pytest.fixture
def pack(tmp_path: Path, objects: dict[int, bytes]) -> Callable[..., Path]:
    def make(name: str, *options: str, mode: int = 0o644, link: str = "a", **changed: bytes | None) -> Path:
        top = tmp_path / name
        files = {
            ".BUILDINFO": INFO.encode(),
            MODULE: objects[1],
            f"{MODULE}.gz": gzip.compress(objects[1], mtime=0),
            "usr/text": b"one\ntwo\nthree\n",
            "usr/image": bytes(5000),
        }
        files |= {{"info": ".BUILDINFO", "module": MODULE, "packed": f"{MODULE}.gz"}.get(k, f"usr/{k}"): v
                  for k, v in changed.items()}  # fmt: skip
        for path, data in files.items():
            if data is not None:
                (top / path).parent.mkdir(parents=True, exist_ok=True)
                (top / path).write_bytes(data)
                (top / path).chmod(mode if path == "usr/text" else 0o644)
        (top / "usr/link").symlink_to(link)
        subprocess.run(["find", top, "-exec", "touch", "-hd", "@1704067200", "{}", "+"], check=True)
        names = sorted(str(path.relative_to(top)) for path in top.rglob("*"))
        archive = ["bsdtar", "-cnf", f"{name}.tar", "-C", top, *names]
        subprocess.run(archive, cwd=tmp_path, check=True)
        package = tmp_path / f"{name}.pkg.tar.zst"
        subprocess.run(["zstd", "-qf", *(options or ["-3"]), "-o", package, f"{name}.tar"], cwd=tmp_path, check=True)
        return package

    return make


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        ({"info": INFO.replace("/b", "/c").encode()}, [".BUILDINFO: builddir: /b -> /c"]),
        (
            {"info": INFO.replace("gcc-12", "gcc-13").encode()},
            [".BUILDINFO: installed: -gcc-12-x86_64 +gcc-13-x86_64"],
        ),
        ({"text": b"one\nTWO\nthree\n"}, ["usr/text: differs from line 2 on"]),
        ({"text": None}, ["usr/text: only in the package of the manifest"]),
        ({"more": b""}, ["usr/more: only in the one made now"]),
        ({"image": bytes(4999) + b"x"}, ["usr/image: differs from byte 4999 on"]),
        ({"image": bytes(4000)}, ["usr/image: differs from byte 4000 on, 5000 -> 4000 bytes"]),
        ({"mode": 0o755}, ["usr/text: mode 0644 -> 0755"]),
        ({"link": "b"}, ["usr/link: leads to a -> b"]),
    ],
)
def test_each_difference_is_named(pack: Callable[..., Path], changed: dict, lines: list[str], tmp_path: Path) -> None:
    old, new, scratch = pack("old"), pack("new", **changed), tmp_path / "scratch"
    assert compare(old, new, scratch) == lines
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("member", ["module", "packed"])
def test_an_object_is_told_by_its_section(
    pack: Callable[..., Path], objects: dict, member: str, tmp_path: Path
) -> None:
    data = objects[2] if member == "module" else gzip.compress(objects[2], mtime=0)
    (line,) = compare(pack("old"), pack("new", **{member: data}), tmp_path / "scratch")
    assert line == f"{MODULE}{'' if member == 'module' else '.gz'}: section .data differs from its byte 0 on"


def test_what_was_only_packed_otherwise(pack: Callable[..., Path], objects: dict, tmp_path: Path) -> None:
    """Not the archive's compression, nor a member's, is taken for another content."""
    old = pack("old")
    assert compare(old, pack("new", "-19"), tmp_path / "scratch") == [
        "its members are the same: the archive was written or compressed otherwise"
    ]
    packed = gzip.compress(objects[1], compresslevel=1, mtime=5)
    assert compare(old, pack("newer", packed=packed), tmp_path / "scratch") == [
        f"{MODULE}.gz: the same when unpacked: it was compressed otherwise"
    ]


@pytest.mark.parametrize("damaged", ["old", "new"])
def test_a_package_that_is_damaged_is_named(pack: Callable[..., Path], damaged: str, tmp_path: Path) -> None:
    packages = {name: pack(name) for name in ("old", "new")}
    packages[damaged].write_bytes(packages[damaged].read_bytes()[:200])
    with pytest.raises(KbuildError, match=f"^{damaged}.pkg.tar.zst cannot be read"):
        compare(packages["old"], packages["new"], tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize(("old", "new", "at"), [(b"abc", b"abd", 2), (b"xbc", b"abc", 0), (b"ab", b"abc", 2)])
def test_first_byte(old: bytes, new: bytes, at: int) -> None:
    assert first(old, new) == at
