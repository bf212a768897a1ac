"""Whether the new kernel needs an initramfs, and that a tool's word is not taken. The tools are stand-ins; what they
make is listed by stand-ins too. The disk under / and its filesystem are this machine's."""

from __future__ import annotations

import subprocess

import pytest

from .world import OLD, World, hashes

pytestmark = pytest.mark.real


def filesystem() -> str:
    return subprocess.run(
        ["findmnt", "-n", "-o", "FSTYPE", "--target", "/tmp"], capture_output=True, text=True
    ).stdout.split()[0]


def modular(node: World, **values: object) -> str:
    """A kernel that has the filesystem of / as a module."""
    kind = filesystem()
    package = node.package(builtin="", modules=(f"kernel/fs/{kind}/{kind}.ko", "kernel/net/br.ko"), **values)  # type: ignore[arg-type]
    build = node.stage(package)
    node.good("install", build=build)
    return build


def tool(node: World, name: str, made: str) -> None:
    node.stand_in(name, made)
    kind = filesystem()
    listing = (
        f'head -c 4 "$2$1" >/dev/null; grep -q whole "${{2:-$1}}" && echo usr/lib/modules/x/kernel/fs/{kind}/{kind}.ko'
    )
    for lister in ("lsinitcpio", "lsinitrd", "lsinitramfs"):
        node.stand_in(lister, listing)


WHOLE = 'yes whole | head -c 20000 >"$FILE"'


def test_none_where_the_kernel_needs_none(node: World) -> None:
    tool(node, "mkinitcpio", "echo called >/dev/stderr; exit 1")
    build = node.stage(node.package())
    node.good("install", build=build)
    assert node.good("bootfiles", build=build)["initramfs"] == "none"


def test_a_node_without_a_tool_that_needs_one(node: World) -> None:
    build = modular(node)
    answer = node.refused("bootfiles", build=build)
    assert answer.word == "initramfs" and filesystem() in answer.err


@pytest.mark.parametrize(
    ("name", "take"),
    [("mkinitcpio", "FILE=$4"), ("dracut", "FILE=$4"), ("mkinitramfs", "FILE=$4")],
    ids=["mkinitcpio", "dracut", "initramfs-tools"],
)
def test_made_checked_and_kept(node: World, name: str, take: str) -> None:
    node.write("etc/initramfs-tools/initramfs.conf", "MODULES=most\n")
    node.write("etc/initramfs-tools/modules", "")
    calls = node.path("calls")
    tool(node, name, f'echo "$@" >>{calls}; {take}; {WHOLE}')
    build = modular(node)
    before = hashes(node.path("boot/initramfs-linux-cluster.img"))
    answer = node.good("bootfiles", build=build)
    assert answer["initramfs"] == "made" and set(answer["boot"]) == {"vmlinuz", "initrd.img"}
    assert f"initrd /kbuild/{build}/initrd.img" in node.path(f"boot/loader/entries/kbuild-{build}.conf").read_text()
    again = node.good("bootfiles", build=build)
    assert again["initramfs"] == "kept" and again["boot"] == answer["boot"]
    assert len(calls.read_text().splitlines()) == 1
    assert hashes(node.path("boot/initramfs-linux-cluster.img")) == before
    if name == "mkinitramfs":
        assert not list(node.path("boot").glob("config-*"))  # borrowed for the tool, and gone
    node.good("arm", build=build, panic=5)
    damaged = node.path(f"boot/kbuild/{build}/initrd.img")
    damaged.write_bytes(damaged.read_bytes()[:5000])
    assert node.refused("arm", build=build, panic=5).word == "files"
    assert node.good("bootfiles", build=build)["initramfs"] == "made"


@pytest.mark.parametrize(
    "made",
    ["exit 0", ': >"$4"; exit 0', 'yes half | head -c 20000 >"$4"; exit 0', 'echo short whole >"$4"', "exit 1"],
    ids=["nothing", "empty", "no-module", "short", "fails"],
)
def test_a_tool_that_lies(node: World, made: str) -> None:
    tool(node, "mkinitcpio", made)
    build = modular(node)
    answer = node.refused("bootfiles", build=build)
    assert answer.word == "initramfs"
    assert not node.path(f"boot/loader/entries/kbuild-{build}.conf").exists()
    assert node.good("observe")["loader"]["default"] == f"kbuild-keep-{'a' * 12}"
    assert node.path(f"usr/lib/modules/{OLD}/kernel/net/br.ko").exists()


def test_a_tool_that_complains_and_made_it_all_the_same(node: World) -> None:
    tool(node, "mkinitcpio", f"FILE=$4; {WHOLE}; echo WARNING: possibly missing firmware; exit 1")
    assert node.good("bootfiles", build=modular(node))["initramfs"] == "made"
