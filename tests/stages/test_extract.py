"""extract with the real makepkg and a small kernel archive: what it gives, what it refuses and how it says so."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import CommandFailed, ConfigError, KbuildError
from kbuild_tasks.effects import places
from kbuild_tasks.effects.pkgbuild import load_pkgbuild
from kbuild_tasks.effects.tree import Trees
from kbuild_tasks.stages import extract
from tests.makepkg_world import PKGBUILD, TREE, new_world

pytestmark = pytest.mark.real
world = pytest.fixture(new_world)


def run(world):
    return world.run(extract.run, world.context("extract"))


def refusal(world, kind=CommandFailed):
    with pytest.raises(kind) as raised:
        run(world)
    assert not (world.paths.workdir / "extract").exists()
    return raised.value


def srcdir(world) -> Path:
    return world.paths.builddir / "linux-small" / "src"


def test_the_source_becomes_a_tree_and_the_first_build_tree(world):
    outcome = run(world)
    total = world.tarball()
    assert outcome.message == "linux-6.1.1 verified and unpacked"
    results = dict(outcome.results)
    tree = results.pop("tree")
    assert results.pop("beside") == {
        "linux-6.1.1.tar": f"sha256:{total}",
        "config": sha256(b"CONFIG_A=y\n").hexdigest(),
    }
    assert results == {
        "srctree": "linux-6.1.1",
        "pkgbase": "linux-small",
        "pkgver": "6.1.1",
        "sources": {"linux-6.1.1.tar": f"sha256:{total}", "config": "SKIP"},
    }
    assert world.run(Trees(world.paths.repository).files, tree) == sorted(TREE)
    assert (srcdir(world) / "linux-6.1.1" / "init.c").read_text() == TREE["init.c"]
    assert (srcdir(world) / "config").read_text() == "CONFIG_A=y\n"
    assert not (world.paths.workdir / "extract").exists()
    assert sorted(os.listdir(world.pkgbuild.parent)) == ["PKGBUILD", "config"]


def test_an_unchanged_source_is_not_unpacked_again_even_when_the_tmpfs_is_empty(world):
    first = run(world)
    world.run(lambda: __import__("shutil").rmtree(world.paths.workdir))
    world.write(PKGBUILD.replace("A small kernel", "Another"))
    second = run(world)
    assert second.message == "linux-6.1.1 is in the repository already"
    assert second.results == first.results
    assert (srcdir(world) / "config").read_text() == "CONFIG_A=y\n"


def test_going_back_to_a_known_source_removes_the_tree_of_the_other_version(world):
    """And its marks, or half an object of a build that was killed there would be told of no more."""
    run(world)
    left = {name: srcdir(world) / name for name in ("linux-6.1.2", "linux-of-another-project", "no-kernel")}
    for path in left.values():
        world.run(path.mkdir)
        for name in places.KERNEL_FILES if path.name != "no-kernel" else ("Makefile",):
            world.run((path / name).write_text, "")
    mark = places.mark(world.paths, "linux-small/src/linux-6.1.2", "compiling")
    world.run(mark.write_text, "{}")
    other = replace(world.paths, root=world.home)
    world.run(lambda: places.end_move(other, "linux-small/src/linux-of-another-project", "id", written=True))
    assert run(world).message == "linux-6.1.1 is in the repository already"
    assert {name for name, path in left.items() if path.exists()} == {"linux-of-another-project", "no-kernel"}
    assert (srcdir(world) / "linux-6.1.1").exists()
    assert not mark.exists()


def test_a_new_source_leaves_the_build_tree_alone_and_going_back_unpacks_nothing(world):
    first = run(world)
    made = srcdir(world) / "linux-6.1.1" / "init.o"
    world.run(made.write_text, "object")
    old = (world.home / "linux-6.1.1.tar").read_bytes()
    world.tarball(files={**TREE, "init.c": "int main(void) { return 1; }\n"})
    world.write()
    second = run(world)
    assert second.results["tree"] != first.results["tree"]
    assert made.read_text() == "object"
    assert (srcdir(world) / "linux-6.1.1" / "init.c").read_text() == TREE["init.c"]
    (world.home / "linux-6.1.1.tar").write_bytes(old)
    world.write()
    third = run(world)
    assert third.message == "linux-6.1.1 is in the repository already"
    assert third.results == first.results


def test_other_sources_come_to_srcdir_and_go_again(world):
    world.tarball("firmware", {"blob": "1"})
    more = PKGBUILD.replace("config)", f'config "file://{world.home}/firmware.tar")').replace("SKIP)", "SKIP SKIP)")
    world.write(more)
    outcome = run(world)
    assert (srcdir(world) / "firmware" / "blob").read_text() == "1"
    assert outcome.warnings == (
        "firmware.tar has no checksum in the PKGBUILD: another download may give another kernel",
    )
    world.write()
    run(world)
    assert sorted(os.listdir(srcdir(world))) == ["config", "linux-6.1.1", "linux-6.1.1.tar"]


def test_a_file_without_checksum_is_taken_anew_when_it_changed(world):
    text = PKGBUILD.replace("'@SUM@'", "SKIP")
    world.write(text)
    first = run(world)
    world.tarball(files={**TREE, "init.c": "other\n"})
    world.write(text)
    assert run(world).results["tree"] != first.results["tree"]


def test_pkgver_function_is_asked_once_and_remembered(world):
    world.write(PKGBUILD + "pkgver() { echo 6.1.1.r7; }\n")
    assert run(world).results["pkgver"] == "6.1.1.r7"
    assert "pkgver=6.1.1\n" in world.pkgbuild.read_text()


def test_wrong_checksum(world):
    world.write(PKGBUILD.replace("@SUM@", "0" * 64))
    error = refusal(world)
    assert error.message == "linux-6.1.1.tar does not have the sha256 sum that the PKGBUILD names"
    assert error.hint and error.log


def test_a_damaged_download_is_fetched_once_more(world):
    run(world)
    cached = world.paths.sources / "linux-6.1.1.tar"
    world.run(cached.write_bytes, b"damaged")
    world.write(PKGBUILD.replace("noextract", "").replace("pkgrel=1", "pkgrel=1\nnoextract=(config)"))
    assert run(world).message == "linux-6.1.1 verified and unpacked"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "file://@TARBALL@",
            "file:///nonexistent.tar",
            "file:///nonexistent.tar could not be downloaded: curl: (37)",
        ),
        (" config)", " nosuchfile)", "nosuchfile is named in source=() and does not lie beside the PKGBUILD"),
        ("file://@TARBALL@", "gopher://x/linux.tar", "makepkg: Unknown download protocol: gopher"),
        ("SKIP)", ")", "makepkg: Integrity checks (sha256) differ in size from the source array."),
        ("pkgrel=1", "pkgrel=x", "makepkg: pkgrel must be of the form"),
    ],
)
def test_refused_by_makepkg(world, old, new, message):
    world.write(PKGBUILD.replace(old, new))
    assert refusal(world).message.startswith(message)


def test_no_kernel_tree(world):
    world.tarball(files={"README": "nothing"})
    world.write()
    error = refusal(world, ConfigError)
    assert error.message == (
        "PKGBUILD: its sources unpack to no kernel tree (a directory with Makefile, Kconfig, Kbuild)"
    )
    assert "unpacked: linux-6.1.1" in error.evidence


def test_of_two_kernel_trees_the_one_that_build_names(world):
    world.tarball("linux-rt", TREE)
    world.write(
        PKGBUILD.replace("config)", f'config "file://{world.home}/linux-rt.tar")').replace("SKIP)", "SKIP SKIP)")
    )
    assert run(world).results["srctree"] == "linux-6.1.1"


def test_killed_in_the_middle_then_again(world):
    """kill -9 of the whole session while makepkg unpacks; what it left does not stand in the way."""
    world.write(PKGBUILD.replace("pkgver=6.1.1", "pkgver=6.1.1\n[[ -e $startdir/../slow ]] && sleep 30", 1))
    world.run((world.paths.workdir).mkdir)
    world.run((world.paths.workdir / "slow").touch)
    child = os.fork()
    if child == 0:
        os.setsid()
        try:
            run(world)
        finally:
            os._exit(0)
    deadline = time.monotonic() + 20
    while not (world.paths.log("extract")).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    _kill_below(world.home)
    world.run((world.paths.workdir / "slow").unlink)
    world.run((world.paths.workdir / "extract" / "linux-small" / "src").mkdir, 0o755, True, True)
    assert run(world).message == "linux-6.1.1 verified and unpacked"


def _kill_below(home: Path) -> None:
    """End what the killed run left: processes whose working directory is in this test's own world."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")).is_relative_to(home):
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue


def test_root_is_refused(world):
    if os.geteuid() != 0:
        pytest.skip("not root")
    with pytest.raises(KbuildError, match="packages are never built as root"):
        extract.run(world.context("extract"))
    assert not world.paths.workdir.exists()


def test_no_space(world):
    """A full file system under workdir: a 64 kB tmpfs in a mount namespace of the child."""
    if os.geteuid() != 0 or os.system("unshare -m true") != 0:
        pytest.skip("needs root and mount namespaces")
    world.tarball(files={**TREE, "big": "x" * 3_000_000})
    world.write()

    def inside() -> None:
        import subprocess

        os.makedirs(world.paths.workdir)
        options = f"size=300k,mode=755,uid={65534}"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", world.paths.workdir], check=True)

    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.unshare(0x00020000) if hasattr(os, "unshare") else _unshare()
            inside()
            try:
                run(world)
            except KbuildError as error:
                (world.home / "said").write_text(error.message + "\n" + (error.hint or ""))
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    said = (world.home / "said").read_text()
    assert said.startswith("no space left below")
    assert "df -h" in said


def _unshare() -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x00020000) == 0
    assert libc.mount(b"none", b"/", None, 0x4000 | 0x40000, None) == 0  # MS_REC | MS_PRIVATE


def test_inputs_name_what_decides(world):
    pkgbuild = load_pkgbuild(world.pkgbuild, world.home / "c.json", "x86_64")

    class Project:
        cluster = world.cluster
        beside_pkgbuild = ("kernel/README", "kernel/config")

    Project.pkgbuild = pkgbuild
    declared = extract.inputs(Project)
    assert declared.files == ("kernel/config",)
    assert declared.values == {"arch": "x86_64", "source": pkgbuild.digest("source"), "unchecked": {}}
    assert declared.receipts == ()


def test_lost_when_the_repository_is_gone(world):
    results = run(world).results
    assert list(extract.lost(world.paths, results)) == []
    assert len(list(extract.lost(world.paths, {**results, "tree": "0" * 40}))) == 1
    (world.paths.repository / "HEAD").unlink()
    assert len(list(extract.lost(world.paths, results))) == 1


def test_what_another_project_unpacked_beside_the_same_tree_is_noticed(world):
    """Two projects with one workdir and one pkgbase: $srcdir is that of the one that ran last."""
    world.write()
    first = run(world)
    assert not list(extract.lost(world.paths, first.results))
    world.tarball("firmware", {"blob": "1"})
    more = PKGBUILD.replace("config)", f'config "file://{world.home}/firmware.tar")').replace("SKIP)", "SKIP SKIP)")
    world.write(more)
    run(world)
    assert "beside linux-6.1.1 is not there, or another project's" in "".join(extract.lost(world.paths, first.results))
    world.write()
    run(world)
    assert not list(extract.lost(world.paths, first.results))
