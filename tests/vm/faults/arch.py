"""A node with a kernel in the ordinary Arch way, for comparison: one package name, its boot file overwritten in place
by a hook, its old modules removed by pacman. No initramfs: this kernel needs none, which spares the ordinary way one
file more that could be cut in half."""

from __future__ import annotations

import gzip
import re
import subprocess
from pathlib import Path

from tests.vm.faults.machine import Machine
from tests.vm.machines import root

HOOK = """\
[Trigger]
Type = Path
Operation = Install
Operation = Upgrade
Target = usr/lib/modules/*/vmlinuz
[Action]
When = PostTransaction
Exec = {}
"""  # alpm-hooks(5)
PACKAGE = "/root/{}.pkg.tar.zst"
# What Arch's packages bring: kmod's 60-depmod.hook, and of mkinitcpio's script the line that copies the kernel.
SETUP = """\
mkdir -p /etc/pacman.d/hooks /usr/share/libalpm/scripts
cat >/usr/share/libalpm/scripts/kernel <<'END'
#!/bin/sh
while read -r line; do
	read -r pkgbase <"/${line%/vmlinuz}/pkgbase"
	release=${line#usr/lib/modules/}
	depmod "${release%/vmlinuz}"
	install -Dm644 -- "/$line" "/boot/vmlinuz-$pkgbase"
done
END
chmod 0755 /usr/share/libalpm/scripts/kernel
cat >/etc/pacman.d/hooks/90-kernel.hook <<'END'
@HOOK@NeedsTargets
END
{ printf 'title Linux\\nlinux /vmlinuz-linux-cluster\\n'
sed -n 's/^options.*/& panic=5/p' /boot/loader/entries/distribution.conf; } >/boot/loader/entries/linux.conf
sed -i 's/^default .*/default linux.conf/' /boot/loader/loader.conf
sync
""".replace("@HOOK@", HOOK.format("/usr/share/libalpm/scripts/kernel"))
INSTALL = "pacman -U --noconfirm -dd {} 2>&1"


def bring(machine: Machine, name: str, package: Path) -> str:
    """The package onto the node; its path there."""
    there = PACKAGE.format(name)
    script = f"cat >{there}; sync {there}"
    command = machine.lab.command(machine.node, ["sh", "-euc", script], user="root")
    subprocess.run(command, stdin=package.open("rb"), check=True, capture_output=True, timeout=300)
    return there


def sums(package: Path) -> dict[str, str]:
    """Path -> sha256 of each file, as its .MTREE has them."""
    raw = subprocess.run(["bsdtar", "-xOf", package, ".MTREE"], check=True, capture_output=True).stdout
    text = gzip.decompress(raw).decode()
    return dict(re.findall(r"(?m)^\./(usr/\S+) .*sha256digest=([0-9a-f]{64})", text))


def install(machine: Machine, path: str) -> tuple[int, str]:
    """(status, what it said) of plain pacman."""
    script = f"set +e; {INSTALL.format(path)}; echo status $?"
    said = root(machine.lab, machine.node, script)
    return int(said.split()[-1]), said


def whole(machine: Machine, wanted: dict[str, str]) -> list[str]:
    """Files of a package that are missing or other."""
    listed = "".join(f"{digest}  /{path}\n" for path, digest in wanted.items())
    done = machine.lab.exec(
        machine.node, ["sha256sum", "-c", "--quiet"], user="root", stdin=listed, timeout=120, check=False
    )
    return [line for line in done.out.splitlines() if "FAILED" in line]
