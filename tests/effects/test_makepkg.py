"""One function of an unmodified PKGBUILD at a time, by the real makepkg."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import CommandFailed, KbuildError
from kbuild_tasks.effects import checked, makepkg, startdir
from tests.makepkg_world import new_world

world = pytest.fixture(new_world)

PKGBUILD = """\
pkgname=linux-probe
pkgver=1
pkgrel=1
arch=(x86_64)
source=(config)
sha256sums=(SKIP)
prepare() {
  pwd > prepared
  declare -p MAKEFLAGS source >> prepared
  env | grep ^MAKEFLAGS= >> prepared || :
}
build() {
  env > environment
  echo "FUNCNAME $FUNCNAME, MAKEFLAGS $MAKEFLAGS"
  type -p gcc || :
  false_if_asked
  echo "the end"
}
false_if_asked() { [[ ! $FAIL ]]; }
check() { echo checked > checked; }
package() { echo packaged > packaged; }
"""


def call(world, function, *, lines=None, pkgver=None, **extra):
    lines = [] if lines is None else lines
    env = makepkg.environment(extra)
    log = world.paths.log(function)
    makepkg.run_function(
        world.paths, function, pkgbuild=world.pkgbuild, arch="x86_64", env=env, jobs=3, log=log,
        on_line=lines.append, pkgver=pkgver,
    )  # fmt: skip
    return lines


def srcdir(world) -> Path:
    return world.paths.builddir / "linux-probe" / "src"


@pytest.mark.real
def test_build_alone_under_its_own_name_with_our_path_first(world, monkeypatch):
    monkeypatch.setenv("SECRET", "of the caller's shell")
    front = world.home / "front"
    front.mkdir()
    (front / "gcc").write_text("#!/bin/sh\n")
    (front / "gcc").chmod(0o755)
    world.write(PKGBUILD)
    lines = world.run(lambda: call(world, "build", PATH=f"{front}:{makepkg.SYSTEM_PATH}"))
    assert "FUNCNAME build, MAKEFLAGS -j3" in lines
    assert str(front / "gcc") in lines
    assert sorted(os.listdir(srcdir(world))) == ["environment"]  # no check(), no package(), nothing unpacked
    told = dict(line.partition("=")[::2] for line in (srcdir(world) / "environment").read_text().splitlines())
    assert told["SOURCE_DATE_EPOCH"] == str(makepkg.EPOCH)
    assert "SECRET" not in told
    assert sorted(os.listdir(world.pkgbuild.parent)) == ["PKGBUILD", "config"]


@pytest.mark.real
def test_prepare_alone(world):
    world.write(PKGBUILD)
    world.run(lambda: call(world, "prepare"))
    assert (srcdir(world) / "prepared").read_text().splitlines() == [
        str(srcdir(world)),
        'declare -- MAKEFLAGS="-j3"',  # set, not exported: as makepkg runs prepare()
        'declare -a source=([0]="config")',
    ]


@pytest.mark.real
def test_a_failing_function(world):
    world.write(PKGBUILD)
    with pytest.raises(CommandFailed) as raised:
        world.run(lambda: call(world, "build", FAIL="1"))
    error = raised.value
    assert error.message == "build() of the PKGBUILD failed with status 4"
    assert error.evidence[-1] == "/usr/bin/gcc"
    assert not [line for line in error.evidence if line.startswith("==> ")]
    assert error.hint == f"read {error.log}, correct build() of the PKGBUILD, then doit"
    assert error.code == 4
    assert error.log and "the end" not in Path(error.log).read_text()


@pytest.mark.real
def test_an_edit_of_build_counts_at_the_next_call(world):
    world.write(PKGBUILD)
    world.run(lambda: call(world, "build"))
    world.write(PKGBUILD.replace("the end", "another end"))
    assert "another end" in world.run(lambda: call(world, "build"))


def test_a_missing_makepkg(world, monkeypatch):
    from plumbum import local

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with local.env(PATH="/nonexistent"), pytest.raises(KbuildError, match="makepkg is not installed on this machine"):
        startdir.sync(world.paths, world.pkgbuild)
        check = checked.Check(world.paths, "PKGBUILD", "x86_64")
        makepkg.run(world.paths, world.home / "c", (), check, what="x", env={}, log=world.home / "log")


def test_root_is_refused(world, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(KbuildError, match="packages are never built as root"):
        call(world, "build")
    assert not world.paths.workdir.exists()


def test_no_space_is_told_before_anything_else(world):
    said = makepkg.no_space(["cc1: error: x", "ld: final link failed: No space left on device"], world.paths)
    assert said and said[0] == f"no space left below {world.paths.workdir} or {world.paths.state}"
    assert makepkg.no_space(["fine"], world.paths) is None


def test_startdir_follows_the_users_directory(world):
    paths, beside = world.paths, world.pkgbuild.parent
    (beside / "it's a; name $(x)").write_text("1")
    (beside / ".hidden").write_text("1")
    startdir.sync(paths, world.pkgbuild)
    assert sorted(os.listdir(paths.startdir)) == ["PKGBUILD", "config", "it's a; name $(x)"]
    before = (paths.startdir / "config").stat()
    (beside / "it's a; name $(x)").unlink()
    os.utime(beside / "config")
    startdir.sync(paths, world.pkgbuild)
    assert sorted(os.listdir(paths.startdir)) == ["PKGBUILD", "config"]
    assert (paths.startdir / "config").stat() == before  # unchanged content: untouched
    (beside / "config").write_text("CONFIG_B=y\n")
    os.utime(beside / "config", ns=(before.st_mtime_ns, before.st_mtime_ns))
    startdir.sync(paths, world.pkgbuild)
    assert (paths.startdir / "config").read_text() == "CONFIG_B=y\n"


def test_a_version_of_pkgver_is_written_as_makepkg_does(world):
    world.pkgbuild.write_text("pkgver=1 # of the file\npkgrel=4\n")
    startdir.sync(world.paths, world.pkgbuild, "1.r7")
    assert (world.paths.startdir / "PKGBUILD").read_text() == "pkgver=1.r7 # of the file\npkgrel=1\n"
    world.pkgbuild.write_text("pkgver=1\npkgrel=4\n")
    startdir.sync(world.paths, world.pkgbuild, "1")
    assert (world.paths.startdir / "PKGBUILD").read_text() == "pkgver=1\npkgrel=4\n"


def test_restore_brings_back_what_a_tmpfs_lost(world):
    paths, unpacked = world.paths, world.home / "unpacked"
    (unpacked / "tree").mkdir(parents=True)
    (unpacked / "firmware").mkdir()
    (unpacked / "firmware" / "blob").write_text("1")
    (unpacked / "config").symlink_to("/nonexistent/config")
    startdir.keep(paths, "linux-probe", unpacked, "tree", "id1")
    for _ in range(2):
        assert sorted(os.listdir(srcdir(world))) == ["config", "firmware"]
        assert (srcdir(world) / "firmware" / "blob").read_text() == "1"
        assert os.readlink(srcdir(world) / "config") == "/nonexistent/config"
        startdir.remove_tree(paths.workdir)
        startdir.restore(paths)
    assert startdir.use(paths, "linux-probe", "id1")
    assert not startdir.use(paths, "linux-probe", "id2")


def test_srcdir_goes_from_one_source_to_another_and_back(world):
    paths, unpacked = world.paths, world.home / "unpacked"
    for identity, name in (("id1", "one"), ("id2", "two")):
        unpacked.mkdir()
        (unpacked / name).write_text(identity)
        (unpacked / "config").symlink_to(paths.startdir / "config")
        startdir.keep(paths, "linux-probe", unpacked, "tree", identity)
        startdir.remove_tree(unpacked)
        assert sorted(os.listdir(srcdir(world))) == ["config", name]
    (srcdir(world) / "tree").mkdir()
    assert startdir.use(paths, "linux-probe", "id1")
    assert sorted(os.listdir(srcdir(world))) == ["config", "one", "tree"]
    assert os.readlink(srcdir(world) / "config") == str(paths.startdir / "config")
