"""What a VM is made of on the machine's disk, below .lab/nodes/<node>.<kind>:

disk.qcow2   its own blocks; all others are the base image's
seed.tar     its identity: host name, keys, address, machine id. The first boot unpacks it (vm_tree.sh), from fw_cfg
vars.fd      UEFI's variables, where it has such; they hold what systemd-boot starts next
made         for which base image and seed: a disk is made anew when either is another

Like a container's disk it outlives `down`.
"""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import shell
from kbuild_tasks.effects.files import sha256_text
from kbuild_tasks.lab import furnish, keys, names, vm
from kbuild_tasks.lab.names import Places
from kbuild_tasks.lab.vm import VmSpec
from kbuild_tasks.lab.vm_image import DISK_BYTES, Images

NETWORK = """\
[Match]
MACAddress={mac}
Driver=virtio_net
[Network]
Address={address}/{length}
Gateway={gateway}
LinkLocalAddressing=no
LLDP=no
IPv6AcceptRA=no
"""


def specs(places: Places, images: Images, nodes: Mapping[str, str], accelerator: str) -> list[VmSpec]:
    """Keys and disks for these VMs (name -> kind), made where missing; and what the holder needs to know about them."""
    keys.make(places.keys)
    return [_spec(places, images, node, kind, accelerator) for node, kind in nodes.items()]


def _spec(places: Places, images: Images, node: str, kind: str, accelerator: str) -> VmSpec:
    code, variables = vm.firmware(kind)
    if kind == "systemd-boot" and not code:
        raise KbuildError("this machine has no UEFI firmware for guests", "script/setup installs it (ovmf, edk2-ovmf)")
    files = seed(
        node,
        keys.pair(places.keys / keys.host_key(node)),
        keys.pair(places.keys / keys.LOGIN)[1],
        keys.machine_id(places.root, node),
    )
    _make_disk(places.disks / vm.directory(node, kind), images.path(kind), images.identity(kind), files, variables)
    return VmSpec(node, kind, images.directory.name, accelerator, code)


def seed(node: str, host_key: tuple[str, str], login_key: str, machine_id: str) -> dict[str, tuple[str, int, str]]:
    """path -> (text, mode, owner). The machine id comes last: it is the mark that all of it is there."""
    network = NETWORK.format(
        mac=vm.mac(node), address=names.address(node), length=names.PREFIX_LENGTH, gateway=names.GATEWAY
    )
    return {
        "etc/hostname": (node + "\n", 0o644, "root"),
        "etc/hosts": (furnish.hosts(node), 0o644, "root"),
        "etc/ssh/ssh_host_ed25519_key": (host_key[0], 0o600, "root"),
        "etc/ssh/ssh_host_ed25519_key.pub": (host_key[1], 0o644, "root"),
        "etc/systemd/network/10-lab.network": (network, 0o644, "root"),
        f"home/{names.REMOTE_USER}/.ssh/authorized_keys": (login_key, 0o600, names.REMOTE_USER),
        "etc/machine-id": (machine_id + "\n", 0o444, "root"),
    }


def tar(files: Mapping[str, tuple[str, int, str]]) -> bytes:
    """The same bytes for the same files; owners by name, as the image numbers them."""
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for path, (text, mode, owner) in files.items():
            data = text.encode()
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode, entry.uname, entry.gname = len(data), mode, owner, owner
            archive.addfile(entry, io.BytesIO(data))
    return sink.getvalue()


def _make_disk(
    disk: Path, image: Path, identity: str, files: Mapping[str, tuple[str, int, str]], variables: str
) -> None:
    made, wanted = disk / "made", f"{identity} {sha256_text(repr(files))}\n"
    if made.exists() and made.read_text() == wanted:
        return
    if disk.exists():
        shutil.rmtree(disk)
    disk.mkdir(parents=True)
    (disk / "seed.tar").write_bytes(tar(files))
    if variables:
        shutil.copyfile(variables, disk / "vars.fd")
    # The base image under the name that the holder sees it by: -u, as it is not there yet.
    backing = f"/run/bases/{image.parent.name}/{image.name}"
    argv = ["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "qcow2", "-b", backing]
    shell.run([*argv, disk / "disk.qcow2", str(DISK_BYTES)], timeout=60, hint="script/setup installs qemu-img")
    made.write_text(wanted)
