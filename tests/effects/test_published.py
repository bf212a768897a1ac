"""The sets of packages that are kept to be compared: whole, or not at all with a word of why."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from kbuild_tasks.core.manifest import Package
from kbuild_tasks.effects import published
from kbuild_tasks.effects.context import Paths

pytestmark = pytest.mark.skipif(shutil.which("bsdtar") is None, reason="needs bsdtar")
LIST = gzip.compress(
    b"#mtree\n/set type=file\n./boot time=1.0 type=dir\n./boot/a time=1.0 size=7 sha256digest=abc\n", mtime=0
)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    made = Paths(tmp_path, tmp_path / "work", tmp_path / "state")
    made.artifacts.mkdir()
    made.build.mkdir()
    return made


def package(paths: Paths, mtree: bytes | None = LIST) -> Package:
    file = paths.artifacts / "linux-1-1-x86_64.pkg.tar.zst"
    member = paths.root / (".MTREE" if mtree is not None else "other")
    member.write_bytes(mtree or b"")
    subprocess.run(["bsdtar", "-cf", file, "-C", paths.root, member.name], check=True)
    return Package(file.name, "linux", "x", 1)


def keep(paths: Paths, made: Package, sha: str) -> str | None:
    return published.keep(paths, [made], {"packages_sha256": sha})


def sha_of(file: Path) -> str:
    return str(json.loads(file.read_text())["manifest"]["packages_sha256"])


def test_two_sets_are_kept(paths: Paths) -> None:
    for sha in ("one", "two", "three"):
        assert keep(paths, package(paths), sha) is None
    assert (sha_of(published.before(paths)), sha_of(published.now(paths))) == ("two", "three")
    assert json.loads(published.now(paths).read_text())["files"] == {"linux": {"boot/a": [7, "abc"]}}
    assert sorted(os.listdir(paths.build)) == ["published"]


@pytest.mark.parametrize("mtree", [None, b"", b"no gzip", LIST[:-12], LIST[:20] + b"\xff" * 20 + LIST[40:]])
def test_a_list_that_cannot_be_read_is_told_and_no_empty_package_kept(paths: Paths, mtree: bytes | None) -> None:
    assert keep(paths, package(paths), "one") is None
    told = keep(paths, package(paths, mtree), "two")
    assert told is not None and told.startswith("the next build cannot be compared with this one: ")
    assert sha_of(published.now(paths)) == "one"
    assert not published.before(paths).exists()
    assert sorted(os.listdir(paths.build)) == ["published"]


def test_a_package_that_is_not_there(paths: Paths) -> None:
    made = package(paths)
    (paths.artifacts / made.file).unlink()
    assert "cannot be compared" in (keep(paths, made, "one") or "")
    assert not published.now(paths).exists()


def test_a_set_that_cannot_be_written_costs_neither_of_the_two(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    for sha in ("one", "two"):
        keep(paths, package(paths), sha)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(published, "write_json", full)
    assert "No space left" in (keep(paths, package(paths), "three") or "")
    assert (sha_of(published.before(paths)), sha_of(published.now(paths))) == ("one", "two")


def test_a_list_without_end_is_refused(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "LIST_BYTES", 20)
    assert "list of files" in (keep(paths, package(paths), "one") or "")
