"""makepkg's check of a PKGBUILD is left out where it passed before with nothing changed since, and only there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import CommandFailed
from kbuild_tasks.effects import checked, makepkg, startdir
from tests.makepkg_world import World, new_world

world = pytest.fixture(new_world)

PKGBUILD = """\
pkgname=linux-probe
pkgver=1
pkgrel=1
arch=(x86_64 aarch64)
install=probe.install
build() { env > environment; }
package() { :; }
"""


class Calls:
    """Runs build() with a grep that counts: the check starts dozens, makepkg itself none."""

    def __init__(self, world: World) -> None:
        self.world, self.told = world, world.home / "greps"
        self.bin = world.home / "bin"
        self.bin.mkdir()
        (self.bin / "grep").write_text(f'#!/bin/sh\necho >>{self.told}\nexec /usr/bin/grep "$@"\n')
        (self.bin / "grep").chmod(0o755)
        world.pkgbuild.with_name("probe.install").write_text("post_install() { :; }\n")
        world.write(PKGBUILD)
        world.pkgbuild.parent.chmod(0o777)

    def __call__(self, function: str = "build", arch: str = "x86_64") -> bool:
        """Whether makepkg checked."""
        self.told.write_text("")
        self.told.chmod(0o666)
        self.world.run(self._run, function, arch)
        return len(self.told.read_text()) > 10

    def _run(self, function: str, arch: str) -> None:
        paths = self.world.paths
        env = makepkg.environment({"PATH": f"{self.bin}:{makepkg.SYSTEM_PATH}"})
        makepkg.run_function(
            paths, function, pkgbuild=self.world.pkgbuild, arch=arch, env=env, jobs=1, log=paths.log(function)
        )

    def edit(self, name: str, text: str) -> None:
        self.world.pkgbuild.with_name(name).write_text(text)


@pytest.fixture
def calls(world: World) -> Calls:
    return Calls(world)


@pytest.mark.real
def test_once_until_something_changes(calls: Calls) -> None:
    assert calls()
    assert not calls()
    calls.edit("probe.install", "post_install() { echo; }\n")
    assert calls()
    assert not calls()
    calls.edit("PKGBUILD", PKGBUILD.replace("pkgrel=1", "pkgrel=2"))
    assert calls()
    assert calls(arch="aarch64")
    assert calls(), "the last one is remembered, of one architecture"
    assert not calls()
    (calls.world.paths.build / "cache" / "checked.json").write_text("[]")
    assert calls()


@pytest.mark.real
def test_a_check_that_failed_is_made_again(calls: Calls) -> None:
    assert calls()
    calls.edit("PKGBUILD", PKGBUILD.replace("install=probe", "install=another"))
    for _ in range(2):
        with pytest.raises(CommandFailed) as raised:
            calls()
        assert "install file (another.install) does not exist" in str(raised.value.evidence)
    calls.edit("PKGBUILD", PKGBUILD)
    assert not calls(), "this text did pass"


@pytest.mark.real
def test_build_sees_nothing_of_it(calls: Calls) -> None:
    calls()
    assert not calls()
    environment = calls.world.paths.builddir / "linux-probe" / "src" / "environment"
    assert checked.WORD not in environment.read_text()


def test_another_makepkg_checks(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world.write(PKGBUILD)
    (tmp_path / "lint_pkgbuild").mkdir()
    for name in ("makepkg", "lint_pkgbuild.sh", "lint_pkgbuild/arch.sh"):
        (tmp_path / name).write_text("one")
    monkeypatch.setattr(checked, "LIBRARY", tmp_path)
    monkeypatch.setattr(checked, "PROGRAM", tmp_path / "makepkg")
    startdir.sync(world.paths, world.pkgbuild)

    def check() -> checked.Check:
        return checked.Check(world.paths, "PKGBUILD", "x86_64")

    check().remember()
    assert check().passed()
    assert not checked.Check(world.paths, ".build.PKGBUILD", "x86_64").passed()
    (tmp_path / "lint_pkgbuild/arch.sh").write_text("another")
    assert not check().passed()
    monkeypatch.setattr(checked, "LIBRARY", tmp_path / "nowhere")
    check().remember()
    assert not check().passed(), "what cannot be told apart is not remembered"


def test_makepkg_that_starts_itself_again_has_checked(tmp_path: Path) -> None:
    (tmp_path / "conf").write_text(checked.CONFIG)
    for before, wanted in (("", "own"), ("INFAKEROOT=0;", "own"), ("INFAKEROOT=1;", ""), (f"{checked.WORD}=1;", "")):
        script = f"{before} lint_pkgbuild() {{ echo own; }}; . {tmp_path}/conf; lint_pkgbuild; echo ${checked.WORD}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        assert done.stdout.split() == wanted.split(), before
