"""forget: what nothing needs goes, whole and with its bytes counted; what something needs stays, byte for byte."""

from __future__ import annotations

import os
import shutil

import pytest

from kbuild_tasks.node import spoken

from .world import NEW, NEW_ID, OLD, OLD_ID, World, hashes

pytestmark = pytest.mark.real
STATE = "var/lib/kbuild-tasks/rollout"


def rolled_out(node: World, number: int, release: str = "") -> str:
    """One more build, deployed, booted and committed."""
    release = release or f"6.1.{number}-new"
    package = node.package(release, version=f"6.1.{number}-1", content=bytes([number]) * 9)
    build_id = f"{number:x}" * 40
    build = node.deploy(package, release=release, build_id=build_id)
    node.good("arm", build=build, panic=5)
    assert node.boots() == f"kbuild-{build}"
    node.runs(release, build_id, f"{number:08x}-2222-4333-8444-555555555555")
    node.good("commit", build=build)
    return build


def left(node: World, word: str) -> list[str]:
    return sorted(str(path.relative_to(node.root)) for path in node.root.rglob(f"*{word}*"))


def used(node: World) -> int:
    """Bytes on the disk, each file once however many links it has."""
    files = {os.stat(path).st_ino: os.stat(path).st_blocks * 512 for path in node.root.rglob("*") if path.is_file()}
    return sum(files.values())


def test_of_four_builds_the_two_that_are_needed_stay(node: World) -> None:
    builds = [rolled_out(node, number) for number in (2, 3, 4, 5)]
    told = node.good("observe")
    assert {*builds, f"keep-{OLD_ID[:12]}"} == set(told["builds"])
    assert (told["known_good"]["build"], told["previous"]["build"]) == (builds[3], builds[2])
    needed = [path for path in node.root.rglob("*") if path.is_file() and f"6.1.{5}" in str(path)]
    needed += [node.path(f"boot/kbuild/{builds[2]}"), *node.path("usr/lib/modules/6.1.4-new").rglob("*")]
    before = hashes(*[path for path in needed if path.exists()])
    assert before
    for build, number in ((builds[0], 2), (builds[1], 3)):
        space = used(node)
        answer = node.good("forget", build=build)
        assert answer["release"] == f"6.1.{number}-new" and answer["freed_boot"] > 0 and answer["freed"] > 0
        freed = space - used(node)
        assert abs(freed - answer["freed"] - answer["freed_boot"]) < 16384, "but for the log and the loader's files"
        assert left(node, build) == [] and left(node, f"6.1.{number}-new") == [] and left(node, f"{number}" * 40) == []
    assert hashes(*[path for path in needed if path.exists()]) == before
    assert set(node.good("observe")["builds"]) == {*builds[2:], f"keep-{OLD_ID[:12]}"}
    for build, why in ((builds[3], "known-good"), (builds[2], "previous")):
        answer = node.refused("forget", build=build)
        assert answer.word == "needed" and f"it is its {why} kernel" in answer.err
    # and the two still do what they are for
    assert node.good("rollback", to="previous")["default"] == f"kbuild-{builds[2]}" == node.boots().strip()


def test_what_is_not_there_is_no_fault_and_frees_nothing(node: World) -> None:
    rolled_out(node, 2)
    before = hashes(node.path("boot"), node.path("usr"))
    assert node.good("forget", build="0" * 12) == {
        "forgotten": "0" * 12, "release": "", "freed": 0, "freed_boot": 0,
    }  # fmt: skip
    assert hashes(node.path("boot"), node.path("usr")) == before


def test_while_a_trial_is_under_way_nothing_is_forgotten(node: World) -> None:
    old = rolled_out(node, 2)
    rolled_out(node, 3)
    rolled_out(node, 4)
    build = node.deploy(node.package("6.1.9-x", version="6.1.9-1", content=b"9"), release="6.1.9-x", build_id="9" * 40)
    node.good("arm", build=build, panic=5)
    answer = node.refused("forget", build=old)
    assert answer.word == "trial" and f"it tries the build {build}" in answer.err
    node.good("disarm")
    node.good("forget", build=old)


def test_the_kernel_that_runs_and_the_default_stay_whatever_the_records_say(node: World) -> None:
    first = rolled_out(node, 2)
    second = rolled_out(node, 3)
    rolled_out(node, 4)
    node.efi("LoaderEntrySelected", f"kbuild-{first}.conf")  # somebody chose it in the loader's menu
    node.runs("6.1.2-new", "2" * 40)
    answer = node.refused("forget", build=first)
    assert answer.word == "needed" and "runs the build" in answer.err
    node.efi("LoaderEntrySelected", f"kbuild-{second}.conf")
    node.efi("LoaderEntryDefault", f"kbuild-{first}.conf")
    answer = node.refused("forget", build=first)
    assert answer.word == "needed" and "by default" in answer.err
    assert left(node, first)


def test_damaged_records_forget_nothing(node: World) -> None:
    first = rolled_out(node, 2)
    for number in (3, 4):
        rolled_out(node, number)
    for record in ("known-good", "previous", "trial"):
        path = node.path(f"{STATE}/{record}")
        good = path.read_bytes() if path.exists() else None
        path.write_bytes(b"release=\n")
        assert node.refused("forget", build=first).word == "state"
        path.unlink() if good is None else path.write_bytes(good)
    node.good("forget", build=first)


def test_one_vmlinux_in_two_builds_keeps_its_modules(node: World) -> None:
    """Repackaged alone: the same build id and release under another build."""
    old = node.deploy(node.package(version="6.1.2-1"), release=NEW, build_id=NEW_ID)
    node.good("arm", build=old, panic=5)
    node.boots()
    node.runs(NEW, NEW_ID)
    node.good("commit", build=old)
    new = node.deploy(node.package(version="6.1.2-2"), release=NEW, build_id=NEW_ID)
    node.good("arm", build=new, panic=5)
    node.boots()
    node.good("commit", build=new)
    rolled_out(node, 7)
    node.good("deny", build=new, why="")
    node.good("rollback", to="previous")
    node.efi("LoaderEntrySelected", f"kbuild-{new}.conf")
    node.runs(NEW, NEW_ID)
    before = hashes(node.path(f"usr/lib/modules.kbuild/{NEW_ID}"), node.path(f"usr/lib/modules/{NEW}"))
    assert before
    node.good("forget", build=old)
    assert left(node, old) == []
    assert hashes(node.path(f"usr/lib/modules.kbuild/{NEW_ID}"), node.path(f"usr/lib/modules/{NEW}")) == before


def test_the_newest_package_stays_pacmans_though_its_build_goes(node: World) -> None:
    rolled_out(node, 2)
    bad = node.deploy(
        node.package("6.1.3-bad", version="6.1.3-1", content=b"3"), release="6.1.3-bad", build_id="3" * 40
    )
    node.good("deny", build=bad, why="")
    node.good("forget", build=bad)
    assert left(node, bad) == []
    assert node.path("usr/lib/modules/6.1.3-bad/vmlinuz").exists(), "pacman's database has it"
    rolled_out(node, 4)
    assert node.good("observe")["pacman"]["broken"] == []


def test_a_call_that_was_cut_short_is_repeated(node: World) -> None:
    first = rolled_out(node, 2)
    for number in (3, 4):
        rolled_out(node, number)
    kept = node.top / "kept"
    shutil.copytree(node.root, kept, symlinks=True)
    real = shutil.which("rm")
    statuses = []
    for killed_at in range(1, 7):
        shutil.rmtree(node.root)
        shutil.copytree(kept, node.root, symlinks=True)
        node.stand_in(
            "rm",
            f'n=$(cat "{node.top}/n" 2>/dev/null || echo 0); n=$((n + 1)); echo $n >"{node.top}/n"\n'
            f'case "$*" in *kbuild-helper*) exec {real} "$@" ;; esac\n'
            f'[ $n != {killed_at} ] || kill -9 $PPID\nexec {real} "$@"',
        )
        (node.top / "n").unlink(missing_ok=True)
        statuses.append(node.raw(spoken("forget", {"build": first, "fence": 1})).returncode)
        node.stand_in("rm", f'exec {real} "$@"')
        node.good("forget", build=first)
        assert left(node, first) == [] and left(node, "6.1.2-new") == [] and left(node, "2" * 40) == []
    assert statuses.count(-9) >= 3, "it was cut short at each step"


def test_a_copy_of_an_old_default_goes_when_nothing_boots_from_it(node: World) -> None:
    rolled_out(node, 2)
    kept = OLD_ID[:12]
    answer = node.refused("forget", build=kept, kept=1)
    assert answer.word == "needed" and "previous" in answer.err, "the old kernel is the previous one"
    rolled_out(node, 3)
    before = hashes(node.path("usr"))
    answer = node.good("forget", build=kept, kept=1)
    assert answer["forgotten"] == f"keep-{kept}" and answer["freed_boot"] > 0 and answer["freed"] == 0
    assert left(node, f"keep-{kept}") == [] and hashes(node.path("usr")) == before
    assert node.path(f"usr/lib/modules/{OLD}").is_dir()
