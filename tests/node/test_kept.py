"""Whose modules a kernel sees: builds of one release, builds of one vmlinux, and what a boot finds early."""

from __future__ import annotations

import subprocess

import pytest

from .world import NEW, NEW_ID, OLD, OLD_ID, World, hashes, module_object

pytestmark = pytest.mark.real
R = f"usr/lib/modules/{OLD}"


def seen(node: World, release: str = OLD) -> dict[str, str]:
    """The modules that the running system finds."""
    return {
        path: total for path, total in hashes(node.path(f"usr/lib/modules/{release}")).items() if path.endswith("o")
    }


def reboot(node: World, release: str, build_id: str, boot_id: str, build: str = "") -> str:
    """Mounts go, the kernel comes up, kbuild-modules.service asks."""
    for name in (OLD, NEW):
        folder = node.path(f"usr/lib/modules/{name}")
        while subprocess.run(["mountpoint", "-q", folder]).returncode == 0:
            subprocess.run(["umount", folder], check=True)
    node.runs(release, build_id, boot_id)
    if build:  # as its entry says
        entry = node.path(f"boot/loader/entries/kbuild-{build}.conf").read_text()
        line = next(line for line in entry.splitlines() if line.startswith("options "))
        node.write("proc/cmdline", line.removeprefix("options ") + "\n")
    return str(node.good("boot-modules")["modules"])


def boot_id(number: int) -> str:
    return f"{number:08d}-2222-4333-8444-555555555555"


def test_a_rebuild_that_fell_back_and_then_another_release(node: World) -> None:
    own = seen(node)
    node.deploy(node.package(release=OLD, content=b"other"), release=OLD)
    assert reboot(node, OLD, OLD_ID, boot_id(2)) == "mounted"
    assert seen(node) == own
    for number, name in enumerate("cd"):
        package = node.package(content=name.encode(), version=f"6.1.2-{number + 2}")
        node.deploy(package, build_id=name * 40)
        assert seen(node) == own
        assert (node.path(f"usr/lib/modules.kbuild/{OLD_ID}/release")).is_file()
        assert reboot(node, OLD, OLD_ID, boot_id(number + 3)) == "mounted"
        assert seen(node) == own


def patched(node: World, name: str) -> dict[str, bytes]:
    """A module of another source."""
    return {f"usr/lib/modules/{NEW}/kernel/net/br.ko": module_object(str(node.top), name)}


def committed(node: World) -> str:
    first = node.deploy(node.package(content=b"one"))
    node.good("arm", build=first, panic=5)
    assert node.boots() == f"kbuild-{first}"
    reboot(node, NEW, NEW_ID, boot_id(2), first)
    node.good("commit", build=first)
    return first


def test_a_change_of_modules_alone(node: World) -> None:
    """Same release, same vmlinux and so the same build id: trial and known-good run on modules of their own."""
    first = committed(node)
    of_first = seen(node, NEW)
    second = node.deploy(node.package(content=b"one", extra=patched(node, "patched")))
    assert second != first
    assert seen(node, NEW) == of_first  # until the reboot
    node.good("arm", build=second, panic=5)
    assert node.boots() == f"kbuild-{second}"
    assert reboot(node, NEW, NEW_ID, boot_id(3), second) == "right"
    br = node.path(f"usr/lib/modules/{NEW}/kernel/net/br.ko")
    assert b"patched" in br.read_bytes()
    told = node.good("probe", build=second)
    assert (told["build"], told["files"]) == (second, {"count": len(of_first) + 5, "wrong": []})
    # the trial falls back
    assert reboot(node, NEW, NEW_ID, boot_id(4), first) == "mounted"
    assert seen(node, NEW) == of_first
    assert node.refused("commit", build=second).word == "trial"
    assert reboot(node, NEW, NEW_ID, boot_id(5), second) == "right"
    node.good("commit", build=second)
    shown = node.good("observe")
    assert (shown["known_good"]["build"], shown["previous"]["build"]) == (second, first)


def test_verify_sees_modules_of_another_build(node: World) -> None:
    first = committed(node)
    second = node.deploy(node.package(content=b"one", extra=patched(node, "patched")))
    node.good("arm", build=second, panic=5)
    reboot(node, NEW, NEW_ID, boot_id(3), second)
    subprocess.run(
        ["mount", "--bind", node.path(f"usr/lib/modules.kbuild/{first}"), node.path(f"usr/lib/modules/{NEW}")],
        check=True,
    )
    files = node.good("probe", build=second)["files"]
    # all is the same but that module
    assert files["wrong"] == [f"usr/lib/modules/{NEW}/kernel/net/br.ko"]
    assert node.good("probe", build="0" * 12)["files"] is None


def test_the_dead_man_of_a_build_with_the_same_vmlinux(node: World) -> None:
    first = committed(node)
    second = node.deploy(node.package(content=b"one", extra=patched(node, "patched")))
    node.good("arm", build=second, panic=5, timeout=1)
    reboot(node, NEW, NEW_ID, boot_id(3), first)
    assert node.good("dead-man") == {"dead_man": "not needed"}


def test_a_stale_word_on_the_command_line_is_not_believed(node: World) -> None:
    """kernel-install writes /proc/cmdline into the entries of other kernels."""
    build = node.deploy(node.package(release=OLD, content=b"other"), release=OLD)
    reboot(node, OLD, OLD_ID, boot_id(2))
    own = hashes(node.path(f"usr/lib/modules.kbuild/{OLD_ID}"))
    line = node.path("proc/cmdline").read_text().strip()
    node.write("proc/cmdline", f"{line} kbuild.build={build}\n")
    assert node.good("boot-modules") == {"modules": "mounted already"}
    assert node.good("observe")["build"] == ""
    third = node.deploy(node.package(content=b"third", version="6.1.2-3"), build_id="c" * 40)
    entry = node.path(f"boot/loader/entries/kbuild-{third}.conf").read_text()
    assert entry.count("kbuild.build=") == 1 and f"kbuild.build={third}" in entry
    assert hashes(node.path(f"usr/lib/modules.kbuild/{OLD_ID}")) == own


def test_an_entry_that_does_not_name_its_build_goes_by_build_id(node: World) -> None:
    """As an earlier helper wrote it: kept by build id, nothing on the command line. Arming it again says both."""
    build = node.deploy(node.package())
    folder = node.path("usr/lib/modules.kbuild")
    (folder / build).rename(folder / NEW_ID)
    (folder / NEW_ID / "release").write_text(f"{NEW}\n")
    entry = node.path(f"boot/loader/entries/kbuild-{build}.conf")
    entry.write_text(entry.read_text().replace(f" kbuild.build={build}", ""))
    assert reboot(node, NEW, NEW_ID, boot_id(2), build) == "right"
    assert node.good("observe")["build"] == ""
    reboot(node, OLD, OLD_ID, boot_id(3))
    node.good("arm", build=build, panic=10)
    assert f"kbuild.build={build}" in entry.read_text()
    assert reboot(node, NEW, NEW_ID, boot_id(4), build) == "right"
    assert node.good("observe")["build"] == build
    assert node.good("commit", build=build) == {"default": f"kbuild-{build}"}


def test_forget_leaves_the_modules_of_the_nodes_own_kernel(node: World) -> None:
    """A build with the vmlinux of the kernel that the node came with."""
    build = node.deploy(node.package(release=OLD, content=b"same"), release=OLD, build_id=OLD_ID)
    reboot(node, OLD, OLD_ID, boot_id(2))
    node.good("forget", build=build)
    folder = node.path("usr/lib/modules.kbuild")
    assert [path.name for path in folder.iterdir()] == [OLD_ID]
