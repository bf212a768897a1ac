"""What people write into boot files and records by hand: CR LF, a last line without an end, names in capitals, comments
that look like settings, blocks of ours that somebody has cut. Read as the loader reads it, or refused, and kept."""

from __future__ import annotations

import os
import shutil

import pytest

from .test_loaders import CONF, TRIAL_BOOT, extlinux, grub, raspberry
from .world import NEW, NEW_ID, World

pytestmark = pytest.mark.real
OTHER = "title Other\nlinux /vmlinuz-6.0.9\noptions root=/dev/vda2 ro\n"


@pytest.mark.parametrize(
    "text",
    ["timeout 0\r\ndefault other.conf\r\n", "timeout 0\ndefault other.conf", "default OTHER*\n", "default\tother\r\n"],
)
def test_the_default_of_a_loader_conf(node: World, text: str) -> None:
    """It was not read, and what runs now was made the default for ever."""
    node.write("boot/loader/entries/other.conf", OTHER)
    node.write("boot/loader/loader.conf", text)
    assert node.good("observe")["loader"]["default"] == "other"
    build = node.stage(node.package())
    assert node.refused("check", build=build).word == "default"


def test_an_entry_with_a_devicetree_is_not_copied_without_it(node: World) -> None:
    conf = node.path("boot/loader/entries/arch.conf")
    conf.write_text(conf.read_text() + "devicetree /dtbs/board.dtb\n")
    before = sorted(path.name for path in node.path("boot").rglob("*"))
    refused = node.refused("check", build=node.stage(node.package()))
    assert "boots arch with a devicetree" in refused.err and refused.word == "loader"
    assert sorted(path.name for path in node.path("boot").rglob("*")) == before


def test_a_label_with_a_quote_breaks_no_answer(node: World) -> None:
    node.write('boot/loader/entries/kbuild-a"b\\.conf', OTHER)
    build = node.deploy(node.package())
    assert 'kbuild-a"b\\' in [entry["id"] for entry in node.good("observe")["loader"]["entries"]]
    node.write(f'boot/kbuild/{build}/no"te', "mine")
    assert 'no"te' in node.good("bootfiles", build=build, modules="br")["boot"]


def test_a_star_on_the_command_line_finds_no_files(node: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """sudo keeps the caller's directory: a file there could have written the kernel's command line."""
    home = node.top / "home"
    home.mkdir()
    (home / "acpi_osi=!x init=evil").write_text("")
    monkeypatch.chdir(home)
    node.write("proc/cmdline", "BOOT_IMAGE=/vmlinuz root=/dev/vda2 ro acpi_osi=!* quiet\n")
    build = node.deploy(node.package())
    text = node.path(f"boot/loader/entries/kbuild-{build}.conf").read_text()
    assert f"options root=/dev/vda2 ro acpi_osi=!* quiet panic=10 kbuild.build={build}\n" in text


def test_the_last_build_of_a_deny_list_that_was_edited(node: World) -> None:
    build = node.deploy(node.package())
    node.write("var/lib/kbuild-tasks/rollout/deny", f"{build}\tit panicked", 0o600)
    assert node.good("observe")["deny"] == [{"build": build, "why": "it panicked"}]
    assert node.refused("arm", build=build, panic=7).word == "denied"


# extlinux

MENU = CONF.replace("DEFAULT arch\n", "UI menu.c32\n").replace(
    "  MENU LABEL Arch\n", "  MENU LABEL Arch\n  MENU DEFAULT\n"
)
HELP = "LABEL x\n  TEXT HELP\n  Default is the old one\n  LABEL none\n  ENDTEXT\n  LINUX ../vmlinuz-6.0.1\nLABEL old\n"


@pytest.mark.parametrize("conf", [MENU.replace("\n", "\r\n"), CONF.replace("LABEL old\n", HELP)], ids=["crlf", "help"])
def test_extlinux(node: World, conf: str) -> None:
    extlinux(node, conf)
    file = node.path("boot/extlinux/extlinux.conf")
    file.chmod(0o644)
    assert node.good("observe")["loader"]["default"] == "arch"
    build = node.deploy(node.package())
    node.good("arm", build=build, panic=7)
    node.runs(NEW, NEW_ID, TRIAL_BOOT)
    assert node.good("commit", build=build) == {"default": f"kbuild-{build}"}
    text = file.read_text()
    assert "Default is the old one" in text or (conf.startswith("PROMPT 0\r") and "MENU DEFAULT" not in text)
    assert file.stat().st_mode & 0o777 == 0o644, "who could read it can"


def test_extlinux_block_without_its_end(node: World) -> None:
    """Somebody's own entry behind it went with it."""
    extlinux(node, CONF)
    build = node.deploy(node.package())
    file = node.path("boot/extlinux/extlinux.conf")
    cut = (
        file.read_text().replace(f"# kbuild-tasks kbuild-{build} end\n", "") + "LABEL mine\n  LINUX ../vmlinuz-6.0.1\n"
    )
    file.write_text(cut)
    refused = node.refused("arm", build=build, panic=77)  # another panic=: the entry is written anew
    assert "without its end" in refused.err and file.read_text() == cut


# GRUB


def test_grub_entries_in_one_line(node: World) -> None:
    if not shutil.which("grub-editenv"):
        pytest.skip("grub-editenv is not installed (apt-get install grub-common)")
    grub(node, "${saved_entry}")
    config = node.path("boot/grub/grub.cfg")
    more = "submenu 'more' {\nmenuentry 'off' { halt }\nmenuentry 'two' {\n\tlinux ${root}/x\n}\n}\n"
    config.write_text(f"{config.read_text()}{more}menuentry 'last' --id last {{\n\tlinux /y\n}}\n")
    node.write("boot/grub/custom.cfg", 'menuentry "Shut down" { halt }')
    entries = [entry["id"] for entry in node.good("observe")["loader"]["entries"]]
    assert entries[-4:] == ["more>off", "more>two", "last", "Shut down"]
    node.deploy(node.package())
    lines = node.path("boot/grub/custom.cfg").read_text().splitlines()
    assert lines[0] == 'menuentry "Shut down" { halt }' and "kbuild.cfg" in lines[1] and len(lines) == 2


# Raspberry Pi


def rolled_out(node: World) -> str:
    node.systemd_boot()
    raspberry(node, "arm_64bit=1\nenable_uart=1\n")
    tree = {f"usr/lib/modules/{NEW}/dtb/broadcom/bcm2710-rpi-cm3.dtb": b"dtb"}
    build = node.deploy(node.package(arch="aarch64", extra=tree))
    node.good("arm", build=build, panic=5)
    node.runs(NEW, NEW_ID, TRIAL_BOOT)
    node.good("commit", build=build)
    return build


def test_raspberry_pi(world: World) -> None:
    if os.geteuid() != 0:
        pytest.skip("the helper's state belongs to root")
    build = rolled_out(world)
    file = world.path("boot/firmware/config.txt")
    whole = file.read_text()
    file.write_bytes(whole.replace("\n", "\r\n").encode())
    assert world.good("observe")["loader"]["default"] == f"kbuild-{build}"
    default = world.good("rollback", to="previous")["default"]
    text = file.read_text()
    assert text.count("# kbuild-tasks begin") == 1 and f"os_prefix={default.replace('kbuild-', 'kbuild/')}/\n" in text
    cut = text.replace("# kbuild-tasks end\n", "") + "dtoverlay=mine\n"
    file.write_text(cut)
    refused = world.refused("rollback")
    assert "without its end" in refused.err and file.read_text() == cut, "somebody's own line behind it is not lost"
