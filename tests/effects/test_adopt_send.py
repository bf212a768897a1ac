"""The script that sends what another coordinator has, run here: what it cannot read is told where no sum would tell."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from kbuild_tasks.effects import node as remote

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to run as one who may not read a file")
NOBODY = 65534


def send(work: Path, what: str, payload: bytes) -> tuple[int, list[str]]:
    """Status, and the names that came."""
    values = {"there": str(work), "workdir": str(work), "what": what, "trees": "", "place": "linux/src/linux-6.1"}
    done = subprocess.run(
        ["sh", "-uc", remote.script("adopt", "adopt_send")],
        input=payload, env={**os.environ, **values}, capture_output=True, user=NOBODY, group=NOBODY, extra_groups=[],
    )  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        return done.returncode, sorted(archive.getnames())


@pytest.fixture
def work(tmp_path: Path) -> Path:
    tree = tmp_path / "work/makepkg/linux/src/linux-6.1"
    (tree / "kernel").mkdir(parents=True)
    for name in ("Makefile", "vmlinux", "kernel/core.c", "kernel/core.o"):
        (tree / name).write_text(name)
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_uid == 0 and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o011)
    return tmp_path / "work"


SOURCES = b"Makefile\0kernel/core.c\0" * 2


def test_what_kbuild_made(work: Path) -> None:
    assert send(work, "tree", SOURCES) == (0, ["kernel/core.o", "vmlinux"])


def test_a_tree_of_which_something_cannot_be_read_is_not_sent_as_whole(work: Path) -> None:
    tree = work / "makepkg/linux/src/linux-6.1"
    (tree / "kernel/core.o").chmod(0)
    status, names = send(work, "tree", SOURCES)
    assert status == 2 and names == ["vmlinux"]
    (tree / "kernel/core.o").chmod(0o644)
    (tree / "kernel").chmod(0)
    status, names = send(work, "tree", SOURCES)
    assert status == 2


def test_where_sums_follow_it_is_left_out(work: Path) -> None:
    (work / "secret").write_text("x")
    (work / "secret").chmod(0)
    paths = [str(work / name)[1:].encode() for name in ("secret", "makepkg/linux/src/linux-6.1/vmlinux", "nothing")]
    assert send(work, "files", b"\0".join(paths) + b"\0") == (0, [paths[1].decode()])


def test_a_directory_comes_only_where_it_is_asked_for_as_one(work: Path) -> None:
    """What lies in sources/ may be the mirror of a repository: gigabytes."""
    top = str(work / "makepkg/linux/src/linux-6.1/kernel")[1:]
    assert send(work, "files", f"{top}\0".encode()) == (0, [])
    assert send(work, "files", f"{top}/\0".encode()) == (0, [top, f"{top}/core.c", f"{top}/core.o"])


def test_what_it_tells_of_sizes(work: Path) -> None:
    state = Path(f"{work}.state")
    for name in ("sources/linux.git/objects", "srcdir/linux", "kept/files"):
        (state / name).mkdir(parents=True)
    (state / "sources/linux.tar.xz").write_bytes(b"x" * 100000)
    (work / "makepkg/linux/.linux-6.1.built").write_text("{}")
    (work / "makepkg/linux/src/other").mkdir()
    values = {"there": str(work), "workdir": str(work), "what": "", "trees": "", "place": ""}
    done = subprocess.run(
        ["sh", "-uc", remote.script("adopt", "adopt_look")],
        env={**os.environ, **values},
        capture_output=True,
        check=True,
    )
    told = json.loads(done.stdout)
    sizes = {base64.b64decode(entry["name"]).decode(): entry["kib"] for entry in told["sizes"]}
    assert set(sizes) == {"sources/linux.tar.xz", "srcdir/linux", "kept", "linux/src/linux-6.1"}
    assert 98 <= sizes["sources/linux.tar.xz"] < 200
    assert base64.b64decode(told["root"]).decode() == str(work) and told["extract"] == ""
    assert base64.b64decode(told["built"][0]["name"]) == b"linux/.linux-6.1.built"
