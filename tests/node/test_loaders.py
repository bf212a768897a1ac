"""Each loader on files: what is there, add, arm once, read back, commit, drop. systemd-boot's variables are files as in
efivarfs; GRUB's grubenv is written by the real grub-editenv from a grub.cfg of the real grub-mkconfig's 00_header; the
firmware of a Raspberry Pi is a stand-in that honours config.txt, tryboot.txt and os_prefix."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from .world import GUID, NEW, NEW_ID, OLD, OLD_ID, PACMAN_CONF, World, new_world

pytestmark = pytest.mark.real
TRIAL_BOOT = "22222222-2222-4333-8444-555555555555"


def life(node: World, boots, base: str, keep: bool = True) -> str:
    """A trial that fails, one that is rolled back, one that is committed; then the entry is dropped."""
    seen = node.good("observe")["loader"]
    assert (seen["default"], seen["armed"], seen["selected"]) == (base, "", base), seen
    assert boots() == base
    build = node.deploy(node.package())
    entry = f"kbuild-{build}"
    default = f"kbuild-keep-{OLD_ID[:12]}" if keep else base
    seen = node.good("observe")["loader"]
    assert seen["default"] == default and seen["armed"] == ""
    assert entry in [e["id"] for e in seen["entries"]]
    assert boots() == default  # nothing is armed yet
    assert node.good("arm", build=build, panic=7) == {"armed": entry, "default": default}
    assert node.good("arm", build=build, panic=9) == {"armed": entry, "default": default}
    assert node.good("disarm") == {"armed": "", "default": default}
    assert boots() == default
    node.good("arm", build=build, panic=9)
    assert boots() == entry  # once
    assert boots() == default
    node.good("arm", build=build, panic=9)
    assert boots() == entry
    node.runs(NEW, NEW_ID, TRIAL_BOOT)
    assert node.good("observe")["loader"]["armed"] == ""
    assert node.good("commit", build=build) == {"default": entry}
    assert boots() == entry == boots()
    assert node.good("rollback", to="previous")["default"] == default
    assert boots() == default
    node.runs(OLD, OLD_ID, "33333333-2222-4333-8444-555555555555")
    assert node.refused("forget", build=build).word == "needed"
    node.good("deny", build=build, why="")
    node.good("forget", build=build)
    assert entry not in [e["id"] for e in node.good("observe")["loader"]["entries"]]
    assert boots() == default
    return build


# systemd-boot


def test_systemd_boot(node: World) -> None:
    life(node, node.boots, "arch")


def test_systemd_boot_default_by_pattern_and_counters(node: World) -> None:
    node.path("boot/loader/entries/arch.conf").rename(node.path("boot/loader/entries/arch+3-1.conf"))
    node.write("boot/loader/loader.conf", "timeout 0\ndefault ar*\n")
    assert node.good("observe")["loader"]["default"] == "arch"
    node.write("boot/loader/loader.conf", "timeout 0\ndefault @saved\n")
    node.efi("LoaderEntryLastBooted", "arch.conf")
    assert node.good("observe")["loader"]["default"] == "arch"


def test_systemd_boot_a_default_that_nobody_named_is_pinned(node: World) -> None:
    """Without a default the order of entries decides, and a new entry may come first: a trial would be the default."""
    node.path("boot/loader/entries/arch.conf").rename(node.path("boot/loader/entries/arch-6.0.1.conf"))
    node.path("boot/vmlinuz-linux-cluster").rename(node.path("boot/vmlinuz-6.0.1"))
    node.path("boot/initramfs-linux-cluster.img").rename(node.path("boot/initramfs-6.0.1.img"))
    text = node.path("boot/loader/entries/arch-6.0.1.conf").read_text()
    text = text.replace("vmlinuz-linux-cluster", "vmlinuz-6.0.1").replace("initramfs-linux-cluster", "initramfs-6.0.1")
    node.write("boot/loader/entries/arch-6.0.1.conf", text)
    node.efi("LoaderEntrySelected", "arch-6.0.1.conf")
    node.deploy(node.package())
    assert node.efi("LoaderEntryDefault") == "arch-6.0.1.conf"
    assert not list(
        node.path("boot/kbuild").glob("keep-*")
    )  # its files have a version of their own: nothing writes them


def test_systemd_boot_entry_of_no_bytes_is_seen(node: World) -> None:
    build = node.deploy(node.package())
    for name in (f"loader/entries/kbuild-{build}.conf", f"kbuild/{build}/vmlinuz"):
        path = node.path(f"boot/{name}")
        good = path.read_bytes()
        for bad in (b"", good[: len(good) // 2], good[:-1] + b"~"):
            path.write_bytes(bad)
            if "entries" in name and bad != b"":
                continue  # a changed entry still names the kernel: arm looks at its command line
            assert node.ask("arm", build=build, panic=10).status == 3 or "entries" in name
        path.write_bytes(good)
    node.good("bootfiles", build=build)
    node.good("arm", build=build, panic=10)


# GRUB

HEADER = r"""
if [ -s $prefix/grubenv ]; then
  load_env
fi
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
   set boot_once=true
else
   set default="@DEFAULT@"
fi
function savedefault {
  if [ -z "${boot_once}" ]; then
    saved_entry="${chosen}"
    save_env saved_entry
  fi
}
menuentry 'Debian GNU/Linux' --class debian $menuentry_id_option 'gnulinux-simple-UUID' {
  load_video
  if [ x$feature_platform_search_hint = xy ]; then
    search --no-floppy --fs-uuid --set=root UUID
  fi
  linux /boot/vmlinuz root=/dev/vda2 ro quiet
  initrd /boot/initrd.img
}
submenu 'Advanced options' $menuentry_id_option 'gnulinux-advanced-UUID' {
  menuentry 'Debian, 6.0.1' --class debian $menuentry_id_option 'gnulinux-6.0.1-advanced-UUID' {
    linux /boot/vmlinuz-6.0.1 root=/dev/vda2 ro
  }
}
if [ -f  ${config_directory}/custom.cfg ]; then
  source ${config_directory}/custom.cfg
elif [ -z "${config_directory}" -a -f  $prefix/custom.cfg ]; then
  source $prefix/custom.cfg
fi
"""


def grub(node: World, default: str) -> None:
    shutil.rmtree(node.path("boot"))
    node.path(f"sys/firmware/efi/efivars/LoaderInfo-{GUID}").unlink()
    node.write("boot/grub/grub.cfg", HEADER.replace("@DEFAULT@", default))
    subprocess.run(["grub-editenv", node.path("boot/grub/grubenv"), "create"], check=True)
    for name in ("vmlinuz", "initrd.img", "vmlinuz-6.0.1"):
        node.write(f"boot/{name}", name * 1000)
    node.write("proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz root=/dev/vda2 ro quiet\n")


def grub_boots(node: World) -> str:
    """What GRUB does with those files: grub.cfg's header, our part of custom.cfg, the environment block."""
    environment = node.path("boot/grub/grubenv")
    listed = subprocess.run(["grub-editenv", environment, "list"], capture_output=True, text=True, check=True).stdout
    values = dict(line.split("=", 1) for line in listed.splitlines())
    header = node.path("boot/grub/grub.cfg").read_text()
    fixed = next(m for m in re.findall(r'set default="(.*)"', header) if "next_entry" not in m)
    once = values.get("next_entry")
    default = once or (values.get("saved_entry", "0") if "saved_entry" in fixed else fixed)
    if once:
        subprocess.run(["grub-editenv", environment, "set", "next_entry="], check=True)
    ours = node.path("boot/grub/kbuild.cfg").read_text() if node.path("boot/grub/kbuild.cfg").exists() else ""
    if ours and "kbuild.cfg" not in node.path("boot/grub/custom.cfg").read_text():
        ours = ""
    if "${kbuild_default}" in ours and not once and values.get("kbuild_default"):
        default = values["kbuild_default"]
    ids = [
        "gnulinux-simple-UUID",
        "gnulinux-advanced-UUID>gnulinux-6.0.1-advanced-UUID",
        *re.findall(r"--id '([^']*)'", ours),
    ]
    if default.isdigit():
        return ids[int(default)]
    assert default in ids, (default, ids)
    entry = ours[ours.find(f"--id '{default}'") :] if default in ours else ""
    if entry:
        kernel = re.search(r"linux '([^']*)'", entry)
        assert kernel and node.path(kernel[1]).is_file()
    return default


@pytest.mark.parametrize("default", ["${saved_entry}", "0"])
def test_grub(node: World, default: str) -> None:
    if not shutil.which("grub-editenv"):
        pytest.skip("grub-editenv is not installed (apt-get install grub-common)")
    grub(node, default)
    life(node, lambda: grub_boots(node), "gnulinux-simple-UUID")
    assert "panic=9" not in node.path("boot/grub/kbuild.cfg").read_text()
    node.write("boot/grub/grub.cfg", node.path("boot/grub/grub.cfg").read_text() + "\n# made anew\n")
    assert node.good("observe")["loader"]["default"] == f"kbuild-keep-{OLD_ID[:12]}"


def test_grub_where_nothing_has_to_be_kept(node: World) -> None:
    """The default by its place in the menu; ours come after a submenu, and do not take that place."""
    if not shutil.which("grub-editenv"):
        pytest.skip("grub-editenv is not installed (apt-get install grub-common)")
    grub(node, "${saved_entry}")
    text = node.path("boot/grub/grub.cfg").read_text()
    node.write(
        "boot/grub/grub.cfg",
        text.replace("/boot/vmlinuz root", "/boot/vmlinuz-6.0.1 root").replace("initrd.img", "initrd.img-6.0.1"),
    )
    node.write("proc/cmdline", "BOOT_IMAGE=/boot/vmlinuz-6.0.1 root=/dev/vda2 ro quiet\n")
    life(node, lambda: grub_boots(node), "gnulinux-simple-UUID", keep=False)


def test_grub_that_cannot_boot_once_is_refused(node: World) -> None:
    if not shutil.which("grub-editenv"):
        pytest.skip("grub-editenv is not installed (apt-get install grub-common)")
    grub(node, "0")
    text = node.path("boot/grub/grub.cfg").read_text()
    for bad in (text.replace("next_entry", "nothing"), text.replace("custom.cfg", "other.cfg")):
        node.write("boot/grub/grub.cfg", bad)
        assert node.good("observe")["loader"]["kind"] == ""
    node.write("boot/grub/grub.cfg", text)
    assert node.good("observe")["loader"]["kind"] == "grub"
    subprocess.run(["mount", "-t", "overlay", "-o",
                    f"lowerdir={node.path('boot/grub')},upperdir={node.path('tmp')},workdir={node.path('run')}",
                    "overlay", node.path("boot/grub")], check=True)  # fmt: skip
    assert "GRUB cannot write" in node.good("observe")["loader"]["why"]


# extlinux


def adv(once: str = "") -> bytes:
    """The auxiliary data vector at the end of ldlinux.sys, twice (syslinux, libinstaller/setadv.c)."""
    data = (bytes([1, len(once)]) + once.encode() if once else b"").ljust(500, b"\0")
    total = (0x5A2D2FA5 + sum(struct.unpack("<125I", data))) & 0xFFFFFFFF
    return struct.pack("<2I", 0x5A2D2FA5, (0xA3041767 - total) & 0xFFFFFFFF) + data + struct.pack("<I", 0xDD28BF64)


EXTLINUX = """#!/bin/sh
# A stand-in for extlinux: it writes the ADV as the real one does; that one wants a file system of its own.
for word do
	case $word in
	--once=*) python3 -c 'import sys; sys.path.insert(0, "@HERE@"); from tests.node.test_loaders import adv
path = sys.argv[2] + "/ldlinux.sys"; data = open(path, "rb").read()[:-1024]
open(path, "wb").write(data + adv(sys.argv[1]) * 2)' "${word#--once=}" "$2" ;;
	--clear-once) python3 -c 'import sys; sys.path.insert(0, "@HERE@"); from tests.node.test_loaders import adv
path = sys.argv[1] + "/ldlinux.sys"; data = open(path, "rb").read()[:-1024]
open(path, "wb").write(data + adv() * 2)' "$2" ;;
	esac
done
"""


def extlinux(node: World, conf: str) -> None:
    import sys

    shutil.rmtree(node.path("boot"))
    node.path(f"sys/firmware/efi/efivars/LoaderInfo-{GUID}").unlink()
    node.write("boot/extlinux/extlinux.conf", conf)
    node.write("boot/extlinux/ldlinux.sys", b"CODE" * 500 + adv() * 2)
    for name in ("vmlinuz-linux-cluster", "initramfs-linux-cluster.img"):
        node.write(f"boot/{name}", name * 1000)
    node.write(
        "proc/cmdline", "BOOT_IMAGE=../vmlinuz-linux-cluster root=/dev/vda1 ro initrd=../initramfs-linux-cluster.img\n"
    )
    text = EXTLINUX.replace("@HERE@", str(Path(__file__).parents[2])).replace("python3", sys.executable)
    node.write("stand-in/extlinux", text, 0o755)


def extlinux_boots(node: World) -> str:
    sys_file = node.path("boot/extlinux/ldlinux.sys")
    data = sys_file.read_bytes()
    block = data[-1024:-512]
    conf = node.path("boot/extlinux/extlinux.conf").read_text()
    labels = re.findall(r"^LABEL (\S+)$", conf, re.MULTILINE)
    if block[8] == 1:
        label = block[10 : 10 + block[9]].decode()
        sys_file.write_bytes(data[:-1024] + adv() * 2)
        assert label in labels
        return label
    timeout = re.search(r"^ONTIMEOUT (\S+)$", conf, re.MULTILINE)
    named = re.search(r"^DEFAULT (\S+)$", conf, re.MULTILINE)
    return timeout[1] if timeout else named[1] if named else labels[0]


CONF = """\
PROMPT 0
TIMEOUT 10
DEFAULT arch
LABEL arch
  MENU LABEL Arch
  LINUX ../vmlinuz-linux-cluster
  APPEND root=/dev/vda1 ro
  INITRD ../initramfs-linux-cluster.img
LABEL old
  LINUX ../vmlinuz-6.0.1
  APPEND root=/dev/vda1 ro
"""


@pytest.mark.parametrize(
    "conf", [CONF, CONF.replace("DEFAULT arch\n", ""), CONF.replace("DEFAULT arch", "ONTIMEOUT arch\nDEFAULT old")]
)
def test_extlinux(node: World, conf: str) -> None:
    extlinux(node, conf)
    life(node, lambda: extlinux_boots(node), "arch")
    assert "kbuild-tasks kbuild-keep" in node.path("boot/extlinux/extlinux.conf").read_text()


def test_extlinux_of_u_boot_is_refused(node: World) -> None:
    extlinux(node, CONF)
    node.path("boot/extlinux/ldlinux.sys").unlink()
    assert "U-Boot" in node.good("observe")["loader"]["why"]


# Raspberry Pi


class Firmware:
    """A stand-in for the firmware: reads config.txt (or, after `reboot "0 tryboot"`, tryboot.txt), honours [all] and
    model sections it does not match, os_prefix with its conditions, kernel, initramfs and cmdline."""

    def __init__(self, node: World) -> None:
        self.node = node
        self.boot = node.path("boot/firmware")

    def read(self, name: str) -> dict[str, str]:
        settings: dict[str, str] = {}
        ours = True
        for line in (self.boot / name).read_text().splitlines():
            line = line.split("#")[0].strip() if line.startswith("#") else line.strip()
            if line.startswith("["):
                ours = line in ("[all]", "[cm3]")
            elif line and ours:
                match = re.match(r"(\w+)\s*[= ]\s*(.*)", line)
                assert match, line
                settings[match[1]] = match[2]
        return settings

    def boots(self, tryboot: bool = False) -> str:
        settings = self.read("tryboot.txt" if tryboot and (self.boot / "tryboot.txt").exists() else "config.txt")
        prefix = settings.get("os_prefix", "")
        kernel = settings.get("kernel", "kernel8.img" if settings.get("arm_64bit") == "1" else "kernel7.img")
        if (
            not (self.boot / f"{prefix}{kernel}").is_file()
            or not (self.boot / f"{prefix}bcm2710-rpi-cm3.dtb").is_file()
        ):
            prefix = ""  # config.txt documentation, os_prefix: ignored where kernel or device tree are missing
        assert (self.boot / f"{prefix}{kernel}").is_file(), settings
        assert (self.boot / f"{prefix}cmdline.txt").read_text().startswith("console=")
        if "initramfs" in settings:
            assert (self.boot / (prefix + settings["initramfs"].split()[0])).is_file()
        return f"kbuild-{prefix.removeprefix('kbuild/').rstrip('/')}" if prefix else "config"


def raspberry(node: World, config: str) -> Firmware:
    shutil.rmtree(node.path("boot"))
    node.path(f"sys/firmware/efi/efivars/LoaderInfo-{GUID}").unlink()
    node.write("proc/device-tree/model", "Raspberry Pi Compute Module 3 Rev 1.0\0")
    node.write("proc/cmdline", "console=serial0 root=/dev/mmcblk0p2 rw rootwait\n")
    node.write("boot/firmware/config.txt", config)
    node.write("boot/firmware/cmdline.txt", "console=serial0 root=/dev/mmcblk0p2 rw rootwait\n")
    for name in ("kernel7.img", "kernel8.img", "bcm2710-rpi-cm3.dtb", "initramfs8", "overlays/x.dtbo"):
        node.write(f"boot/firmware/{name}", name * 100)
    node.stand_in("uname", "echo aarch64")
    node.write("etc/pacman.conf", PACMAN_CONF.replace("x86_64", "aarch64"))
    return Firmware(node)


@pytest.mark.parametrize(
    "config",
    [
        "arm_64bit=1\nenable_uart=1\n",
        "[pi4]\nkernel=other.img\n[all]\narm_64bit=1\ninitramfs initramfs8 followkernel\n[pi4]\nmax=1\n",
    ],
    ids=["plain", "sections"],
)
def test_raspberry_pi(world: World, config: str) -> None:
    firmware = raspberry(prepared(world), config)
    node = world
    assert firmware.boots() == "config"
    package = node.package(arch="aarch64", extra={f"usr/lib/modules/{NEW}/dtb/broadcom/bcm2710-rpi-cm3.dtb": b"dtb"})
    build = node.deploy(package)
    entry, default = f"kbuild-{build}", f"kbuild-keep-{OLD_ID[:12]}"
    if node.good("observe")["loader"]["default"] != default:  # the firmware here does not say what was selected
        default = node.good("observe")["loader"]["default"]
    assert default.startswith("kbuild-keep-") and firmware.boots() == default == firmware.boots(tryboot=True)
    assert node.good("arm", build=build, panic=5) == {"armed": entry, "default": default}
    assert firmware.boots() == default  # a reboot that is not ours does not try it
    assert firmware.boots(tryboot=True) == entry
    node.runs(NEW, NEW_ID, TRIAL_BOOT)
    assert node.good("observe")["loader"]["armed"] == ""
    assert firmware.boots() == default
    assert node.good("commit", build=build) == {"default": entry}
    assert firmware.boots() == entry
    assert (firmware.boot / f"kbuild/{build}/cmdline.txt").read_text().endswith(f"panic=5 kbuild.build={build}\n")
    node.good("rollback", to="previous")
    assert firmware.boots() == default
    node.runs(OLD, OLD_ID)
    node.good("deny", build=build, why="")
    node.good("forget", build=build)
    assert firmware.boots() == default
    # and config.txt as it was is still in there
    ours = re.sub(
        r"# kbuild-tasks begin.*# kbuild-tasks end\n", "", (firmware.boot / "config.txt").read_text(), flags=re.DOTALL
    )
    assert ours.replace("#kbuild-tasks#", "") == config


def prepared(world: World) -> World:
    world.systemd_boot()
    return world


def test_the_worlds_are_cleaned_up() -> None:
    with new_world() as world:
        top = world.top
    assert not top.exists()


def test_a_version_in_the_name_of_the_package_is_none_of_its_kernel(node: World) -> None:
    """vmlinuz-linux-6.1-cluster is what the next build of linux-6.1-cluster is called too."""
    conf = node.path("boot/loader/entries/arch.conf")
    text = conf.read_text().replace("-linux-cluster", "-linux-6.1-cluster")
    for name in ("vmlinuz-linux-cluster", "initramfs-linux-cluster.img"):
        path = node.path(f"boot/{name}")
        path.rename(path.with_name(name.replace("-linux-cluster", "-linux-6.1-cluster")))
    conf.write_text(text)
    node.deploy(node.package(name="linux-6.1-cluster"))
    assert node.good("observe")["loader"]["default"] == f"kbuild-keep-{OLD_ID[:12]}"
