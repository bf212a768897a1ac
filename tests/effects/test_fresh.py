"""Where inputs of a manifest are taken from, what is told of those that are nowhere; a fresh place at an old path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from kbuild_tasks.core.pkgbuild import Source
from kbuild_tasks.effects import fresh, startdir
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import sha256_text
from tests.makepkg_world import NOBODY, as_builder


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    root = tmp_path / "project"
    (root / "patches").mkdir(parents=True)
    return Paths(root, tmp_path / "work", tmp_path / "work.state")


def commit(root: Path, name: str, text: bytes) -> str:
    (root / name).write_bytes(text)
    git = ["git", "-C", root, "-c", "user.name=a", "-c", "user.email=a@localhost"]
    subprocess.run(["git", "init", "-q", root], check=True)
    subprocess.run([*git, "add", name], check=True)
    subprocess.run([*git, "commit", "-qm", "one"], check=True)
    return subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()


def test_each_file_is_found_where_it_is_as_it_was(paths: Paths, tmp_path: Path) -> None:
    texts = {"patches/a": b"one\n", "patches/b": b"two\n", "patches/c": b"\xff three\n"}
    head = commit(paths.root, "patches/c", texts["patches/c"])
    (paths.root / "patches/a").write_bytes(texts["patches/a"])
    (paths.root / "patches/c").write_bytes(b"edited\n")
    sums = {name: sha256_text(text) for name, text in texts.items()}
    (paths.build / "inputs").mkdir(parents=True)
    (paths.build / "inputs" / sums["patches/b"]).write_bytes(texts["patches/b"])
    assert fresh.gather(paths, tmp_path / "new", sums, head) == []
    assert {name: (tmp_path / "new" / name).read_bytes() for name in texts} == texts

    (missing,) = fresh.gather(paths, tmp_path / "newer", sums, None)
    assert missing.startswith("patches/c: is not the one that went in, nor in build/inputs (sha256 ")
    (missing,) = fresh.gather(paths, tmp_path / "newest", {"patches/d": "0" * 64}, head)
    assert missing == f"patches/d: is not there, nor in {head[:12]} (sha256 000000000000...)"
    assert not (tmp_path / "newest").exists()


def test_a_damaged_copy_is_none(paths: Paths, tmp_path: Path) -> None:
    total = sha256_text("two\n")
    (paths.build / "inputs").mkdir(parents=True)
    (paths.build / "inputs" / total).write_text("other\n")
    assert len(fresh.gather(paths, tmp_path / "new", {"patches/b": total}, None)) == 1


def test_sources_that_are_on_this_machine_alone(tmp_path: Path) -> None:
    there = tmp_path / "there.tar"
    there.touch()
    sources = [
        Source("config", "config", "local"),
        Source(f"file://{there}", "there.tar", "file"),
        Source("file:///nowhere/gone.tar", "gone.tar", "file"),
        Source("file:///nowhere/kept.tar", "kept.tar", "file"),
        Source("https://example.org/far.tar", "far.tar", "https"),
    ]
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources/kept.tar").touch()

    class Read:
        pass

    read = Read()
    read.sources = sources  # type: ignore[attr-defined]
    found = fresh.missing_sources(read, tmp_path, tmp_path / "sources")  # type: ignore[arg-type]
    assert found == [
        ("config", "it does not lie beside the PKGBUILD"),
        ("gone.tar", f"neither /nowhere/gone.tar nor {tmp_path}/sources/gone.tar is there"),
    ]


def test_a_fresh_place_is_seen_by_the_process_alone(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    script = (
        "import os, sys; from kbuild_tasks.effects import fresh\n"
        "fresh.enter([(sys.argv[1], sys.argv[2])])\n"
        "open(sys.argv[2] + '/made', 'w').close()\n"
        "print(os.getuid(), *sorted(os.listdir(sys.argv[2])))\n"
    )
    argv = [sys.executable, "-c", script, str(tmp_path / "new"), str(tmp_path / "old")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.stdout.split() == [str(os.getuid()), "made", "new"], done.stderr
    assert sorted(os.listdir(tmp_path / "old")) == ["old"]
    assert sorted(os.listdir(tmp_path / "new")) == ["made", "new"]


def test_a_directory_that_its_owner_may_not_read_is_removed(tmp_path: Path) -> None:
    """$pkgdir while makepkg fills it, and what it was filled with; nothing behind a link is touched."""
    for parent in (tmp_path, *tmp_path.parents):
        if not os.stat(parent).st_mode & 0o001:
            parent.chmod(0o711)
    place, other = tmp_path / "place", tmp_path / "other"
    (place / "pkg/linux/usr").mkdir(parents=True)
    other.mkdir(mode=0o500)
    (place / "pkg/link").symlink_to(other)
    for path in (place, place / "pkg", place / "pkg/linux", place / "pkg/linux/usr", tmp_path, other):
        os.chown(path, NOBODY, NOBODY) if os.geteuid() == 0 else None
    (place / "pkg/linux").chmod(0o500)
    (place / "pkg").chmod(0o111)
    as_builder(tmp_path, startdir.remove_tree, place)
    assert not place.exists() and other.stat().st_mode & 0o777 == 0o500
