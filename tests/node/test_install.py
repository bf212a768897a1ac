"""install and bootfiles with the real pacman: what it must not do to the old kernel, and what it does not say."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from kbuild_tasks.node import spoken

from .world import NEW, NEW_ID, OLD, OLD_ID, World, hashes, shell_of_binaries

pytestmark = pytest.mark.real


def old_files(node: World) -> dict[str, str]:
    """All that the old kernel needs: its modules as it sees them, and what its boot entry loads."""
    seen = hashes(node.path(f"usr/lib/modules/{OLD}"))
    default = node.good("observe")["loader"]["default"]
    entry = node.path(f"boot/loader/entries/{default}.conf").read_text()
    for line in entry.splitlines():
        if line.startswith(("linux ", "initrd ")):
            name = line.split()[1]
            seen[line.split()[0]] = next(iter(hashes(node.path(f"boot{name}")).values()))
    return seen


def modules_kept(node: World, build_id: str = OLD_ID) -> dict[str, str]:
    folder = node.path(f"usr/lib/modules.kbuild/{build_id}")
    return {
        path.removeprefix(str(folder)): total for path, total in hashes(folder).items() if not path.endswith("/release")
    }


def test_the_whole_way(node: World) -> None:
    before = old_files(node)
    build = node.deploy(node.package())
    assert old_files(node) == before
    seen = node.good("observe")
    assert seen["known_good"] == {
        "release": OLD,
        "build_id": OLD_ID,
        "build": "",
        "entry": f"kbuild-keep-{OLD_ID[:12]}",
        "since": 0,
    }
    assert node.good("arm", build=build, panic=10) == {
        "armed": f"kbuild-{build}",
        "default": f"kbuild-keep-{OLD_ID[:12]}",
    }
    seen = node.good("observe")
    assert seen["loader"]["armed"] == f"kbuild-{build}"
    assert seen["trial"]["build"] == build
    assert next(e for e in seen["loader"]["entries"] if e["trial"])["release"] == NEW
    assert seen["pacman"]["installed"] == {"linux-cluster": "6.1.2-1"}
    # not yet: the old kernel still runs
    assert node.refused("commit", build=build).word == "trial"
    assert node.boots() == f"kbuild-{build}"
    node.runs(NEW, NEW_ID, "22222222-2222-4333-8444-555555555555")
    assert node.good("observe")["loader"]["armed"] == ""
    assert node.good("commit", build=build) == {"default": f"kbuild-{build}"}
    assert node.good("commit", build=build) == {"default": f"kbuild-{build}"}  # again: already so
    seen = node.good("observe")
    assert (seen["known_good"]["build"], seen["trial"], seen["previous"]["release"]) == (build, None, OLD)
    assert node.boots() == f"kbuild-{build}"
    assert node.good("rollback", to="previous")["release"] == OLD
    assert node.boots() == f"kbuild-keep-{OLD_ID[:12]}"


def test_a_second_time_changes_nothing(node: World) -> None:
    build = node.deploy(node.package())
    state = node.path("var/lib/kbuild-tasks/rollout")
    before = hashes(node.path("usr"), node.path("boot"), node.path("var/lib/pacman"))
    for _ in range(2):
        assert node.good("install", build=build)["said"] == ["already installed"]
        assert node.good("bootfiles", build=build)["entry"] == f"kbuild-{build}"
    assert hashes(node.path("usr"), node.path("boot"), node.path("var/lib/pacman")) == before
    assert (state / "current").read_text() == f"{build}\n"


def test_an_upgrade_under_the_same_name_keeps_every_old_byte(node: World) -> None:
    first = node.package(
        version="6.1.1-1", release=OLD, content=b"first", modules=("kernel/net/br.ko", "kernel/old.ko")
    )
    pacman_u(node, first, "--overwrite", "*")  # as the node's kernel came there: by pacman, under the same name
    subprocess.run(["depmod", "-b", node.root, OLD], check=True, capture_output=True)
    before = old_files(node)
    node.deploy(node.package(version="6.1.2-1", content=b"second"))
    assert old_files(node) == before
    # the other way shows what would have happened: plain pacman
    assert node.path(f"usr/lib/modules/{OLD}/kernel/old.ko").exists()


def pacman_u(node: World, package: Path, *words: str) -> None:
    subprocess.run(
        ["pacman", "--root", node.root, "--dbpath", node.path("var/lib/pacman"),
         "--config", node.path("etc/pacman.conf"),
         "--hookdir", node.path("etc/pacman.d/hooks"), "--logfile", node.path("var/log/pacman.log"),
         "-U", "-dd", "--noconfirm", *words, package],
        check=True, capture_output=True,
    )  # fmt: skip


def test_plain_pacman_takes_the_running_kernels_modules(node: World) -> None:
    """What the helper is for: without it the modules of the running kernel are gone."""
    pacman_u(node, node.package(version="6.1.1-1", release=OLD, content=b"first"), "--overwrite", "*")
    pacman_u(node, node.package())
    assert not node.path(f"usr/lib/modules/{OLD}/vmlinuz").exists()


def test_the_release_of_the_running_kernel(node: World) -> None:
    """Same release, other bytes: the running kernel goes on seeing its own modules, until and after the reboot."""
    folder = node.path(f"usr/lib/modules/{OLD}")
    before = hashes(folder)
    build = node.deploy(node.package(release=OLD, content=b"other"), release=OLD)
    assert {k: v for k, v in hashes(folder).items() if not k.endswith("/release")} == before
    node.good("arm", build=build, panic=5)
    subprocess.run(["umount", folder], check=True)  # as a reboot does
    new = hashes(folder)
    assert new != before
    # the trial: its own modules lie there
    node.runs(OLD, NEW_ID, build=build)
    assert node.good("boot-modules") == {"modules": "right"}
    assert hashes(folder) == new
    # back on the old kernel: its modules are mounted over them
    node.runs(OLD, OLD_ID)
    assert node.good("boot-modules") == {"modules": "mounted"}
    assert {k: v for k, v in hashes(folder).items() if not k.endswith("/release")} == before
    assert node.good("boot-modules") == {"modules": "mounted already"}
    # and a third build of the same release is installed under the mount
    third = node.deploy(node.package(release=OLD, content=b"third", version="6.1.2-2"), release=OLD, build_id="c" * 40)
    assert third != build
    assert {k: v for k, v in hashes(folder).items() if not k.endswith("/release")} == before
    assert modules_kept(node) == {k.removeprefix(str(folder)): v for k, v in before.items()}


def test_what_is_kept_and_what_depmod_made_is_on_the_disk_in_time(node: World) -> None:
    """Without it a power cut leaves the copy's name and not what is in it, and a modules.dep that is empty."""
    for name in ("sync", "depmod", "mv", "pacman"):
        node.stand_in(name, f'echo "{name} $*" >>{node.top}/calls; exec {shutil.which(name)} "$@"')
    node.deploy(node.package())
    calls = (node.top / "calls").read_text().splitlines()
    made = max(number for number, call in enumerate(calls) if call.startswith("depmod"))
    synced = calls.index(f"sync -f -- {node.path('usr/lib/modules')}", made)
    entry = next(n for n, call in enumerate(calls) if n > made and "loader/entries/kbuild-" in call)
    assert made < synced < entry
    kept = calls.index(f"sync -f -- {node.path('usr/lib/modules.kbuild/.new')}")
    named = next(n for n, call in enumerate(calls) if call.startswith("mv ") and "modules.kbuild/.new" in call)
    install = next(n for n, call in enumerate(calls) if call.startswith("pacman ") and " -U " in call)
    assert kept < named < install


def test_modules_that_somebody_removed_come_back(node: World) -> None:
    node.deploy(node.package())
    shutil.rmtree(node.path(f"usr/lib/modules/{OLD}"))
    assert node.good("boot-modules") == {"modules": "put back"}
    assert node.path(f"usr/lib/modules/{OLD}/kernel/net/br.ko").exists()


# hooks and scriptlets: pacman ends with 0 when they fail


def hook(node: World, command: str) -> None:
    shell_of_binaries(node, "dash", "rm")
    node.write("hook.sh", f"#!/bin/sh\n{command}\n", 0o755)
    node.write(
        "etc/pacman.d/hooks/90-test.hook",
        "[Trigger]\nType = Path\nOperation = Install\nOperation = Upgrade\nTarget = usr/lib/modules/*/vmlinuz\n"
        "[Action]\nWhen = PostTransaction\nExec = /hook.sh\n",
    )


def test_a_failing_hook_is_a_failure(node: World) -> None:
    hook(node, "exit 1")
    build = node.stage(node.package())
    answer = node.refused("install", build=build)
    assert answer.word == "hook" and "command failed to execute correctly" in answer.err
    hook(node, "exit 0")
    node.good("install", build=build)


def test_a_failing_scriptlet_is_a_failure(node: World) -> None:
    shell_of_binaries(node, "dash")
    build = node.stage(node.package(install="post_install() { return 1; }\npost_upgrade() { return 1; }\n"))
    assert node.refused("install", build=build).word == "hook"


def test_a_hook_that_removes_old_modules_and_boot_files(node: World) -> None:
    before = old_files(node)
    hook(node, f"rm -rf /usr/lib/modules/{OLD} /boot/vmlinuz-linux-cluster /boot/initramfs-linux-cluster.img")
    build = node.stage(node.package())
    answer = node.good("install", build=build)
    assert answer["repaired"] == [f"kbuild-keep-{OLD_ID[:12]}", f"modules-of-{OLD}"]
    assert old_files(node) == before


def test_a_hook_that_takes_a_module_of_the_new_kernel(node: World) -> None:
    hook(node, f"rm /usr/lib/modules/{NEW}/kernel/fs/overlay.ko; echo x >>/usr/lib/modules/{NEW}/kernel/net/br.ko")
    build = node.stage(node.package())
    node.good("install", build=build)
    answer = node.good("bootfiles", build=build)
    assert answer["missing"] == [f"usr/lib/modules/{NEW}/kernel/fs/overlay.ko"]
    assert answer["changed"] == [f"usr/lib/modules/{NEW}/kernel/net/br.ko"]
    assert answer["entry"] == ""
    assert node.refused("arm", build=build, panic=5).word in ("files", "loader")
    node.path("etc/pacman.d/hooks/90-test.hook").unlink()
    node.good("install", build=build)  # it sees that the files are not right, and installs again
    assert node.good("bootfiles", build=build)["missing"] == []


def test_a_module_that_the_kernel_does_not_have(node: World) -> None:
    build = node.stage(node.package())
    node.good("install", build=build)
    answer = node.good("bootfiles", build=build, modules="overlay ext4 wireguard")
    assert (answer["modules_missing"], answer["entry"]) == (["wireguard"], "")


# pacman's database


def test_a_stale_lock_is_removed_and_a_held_one_is_not(node: World) -> None:
    build = node.stage(node.package())
    lock = node.write("var/lib/pacman/db.lck", "")
    with open(lock):
        assert node.refused("check", build=build).word == "pacman-lock"
        assert node.refused("install", build=build).word == "pacman-lock"
    assert node.good("observe")["pacman"]["stale"] is True
    assert "db.lck" in node.good("install", build=build)["repaired"]


def test_a_broken_entry_of_ours_is_mended_and_another_is_told(node: World) -> None:
    node.deploy(node.package())
    entry = node.path("var/lib/pacman/local/linux-cluster-6.1.2-1")
    (entry / "desc").unlink()
    assert node.good("observe")["pacman"]["broken"] == ["linux-cluster-6.1.2-1"]
    build = node.stage(node.package(content=b"two", version="6.1.2-2"))
    assert "linux-cluster-6.1.2-1" in node.good("install", build=build)["repaired"]
    assert node.good("bootfiles", build=build)["missing"] == []
    (node.path("var/lib/pacman/local/other-1-1")).mkdir()
    answer = node.refused("check", build=build)
    assert answer.word == "pacman-broken" and "other-1-1" in answer.err


def test_killed_at_many_points_it_goes_through_the_second_time(node: World) -> None:
    """SIGKILL of the helper and of all that it started, at random moments of install and bootfiles."""
    choice = random.Random(13)
    builds = []
    for number, content in enumerate((b"one", b"two")):
        package = node.package(
            content=content, version=f"6.1.2-{number + 1}", modules=tuple(f"kernel/m{n}.ko" for n in range(40))
        )
        builds.append((node.stage(package), package))
    before = old_files(node)
    landed = set()
    # A kill lands only within the time that a verb takes on this machine, so that is measured.
    takes = {}
    for build, _ in builds:
        for verb in ("install", "bootfiles"):
            start = time.monotonic()
            node.good(verb, build=build)
            takes[verb] = time.monotonic() - start
    for round_ in range(int(os.environ.get("KBUILD_TEST_KILLS", "4"))):
        build, _ = builds[round_ % 2]
        for verb in ("install", "bootfiles"):
            process = subprocess.Popen(
                ["dash", node.helper], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
            assert process.stdin
            process.stdin.write(spoken(verb, {"build": build, "fence": 1}))
            process.stdin.close()
            time.sleep(choice.uniform(0.0, 0.9) * takes[verb])
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                landed.add((round_, verb))
            process.wait()
            seen = node.good("observe")
            assert seen["loader"]["default"] in ("arch", f"kbuild-keep-{OLD_ID[:12]}")
            assert seen["loader"]["armed"] == ""
            assert old_files(node) == before, f"round {round_}, {verb}"
            node.good("install", build=build)
        answer = node.good("bootfiles", build=build)
        assert (answer["missing"], answer["changed"], answer["entry"]) == ([], [], f"kbuild-{build}")
        assert old_files(node) == before
    assert len(landed) >= 2
    assert not list(node.path("boot/kbuild").rglob("*.tmp"))


def test_a_comparison_that_dies_is_no_proof(node: World) -> None:
    build = node.stage(node.package())
    node.good("install", build=build)
    node.stand_in("sha256sum", 'case " $* " in *" --quiet "*) kill -9 $$ ;; esac\nexec /usr/bin/sha256sum "$@"')
    answer = node.refused("bootfiles", build=build)
    assert answer.word == "state" and "could not compare the installed files" in answer.err


def test_a_file_whose_name_begins_like_one_of_ours_is_not_written_over(node: World) -> None:
    node.deploy(node.package(extra={"usr/share/kb/foobar": b"ours"}))
    foreign = node.write("usr/share/kb/foo", "not ours")
    package = node.package(content=b"two", extra={"usr/share/kb/foobar": b"ours", "usr/share/kb/foo": b"ours too"})
    build = node.stage(package)
    answer = node.refused("install", build=build)
    assert (
        answer.word == "pacman"
        and "usr/share/kb/foo" in node.path("var/lib/kbuild-tasks/rollout/pacman.out").read_text()
    )
    assert foreign.read_text() == "not ours"
