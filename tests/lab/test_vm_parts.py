"""VMs in the lab, what is pure of them: words, names, QEMU's command line, the seed. Expected values by hand."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import ConfigError, KbuildError
from kbuild_tasks.lab import accel, base, names, ready, session, vm, vm_disk, vm_image
from kbuild_tasks.lab.arguments import Request, parse
from kbuild_tasks.lab.names import Places

SD, GRUB, EXT = "systemd-boot", "grub", "extlinux"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["up", "--vms", "2"], Request("up", vms=(SD, SD))),
        (["up", "--vms=1", "-n", "2"], Request("up", nodes=2, vms=(SD,))),
        (["up", "--vms", "systemd-boot,grub,extlinux"], Request("up", vms=(SD, GRUB, EXT))),
        (["up", "--vms", "grub", "extlinux", "--cpus", "1"], Request("up", vms=(GRUB, EXT), shares=("1",))),
        (["base", "--vms", "grub"], Request("base", vms=(GRUB,))),
        (["base", "--vms"], Request("base", vms=(SD, GRUB, EXT))),
    ],
)
def test_words_about_vms(words: list[str], expected: Request) -> None:
    assert parse(words) == expected


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["up", "--vms"], "--vms needs a value"),
        (["up", "--vms", "0"], "'0' is neither"),
        (["up", "--vms", "17"], "'17' is neither"),
        (["up", "--vms", "-1"], "--vms needs a value"),
        (["up", "--vms", "²"], "'²' is neither"),
        (["up", "--vms", "lilo"], "'lilo' is neither"),
        (["up", "--vms", "grub,,extlinux"], "'' is neither"),
        (["base", "--wms"], "does not know '--wms'"),
    ],
)
def test_wrong_words_about_vms(words: list[str], says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(words)
    assert says in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("containers", "present", "wanted", "expected"),
    [
        (3, {}, [SD, GRUB], {"kubenode7": SD, "kubenode8": GRUB}),
        (6, {}, [SD], {"kubenode7": SD}),
        (9, {}, [SD], {"kubenode10": SD}),
        (3, {"kubenode7": SD}, [], {"kubenode7": SD}),
        (3, {"kubenode7": SD, "kubenode8": GRUB}, [SD], {"kubenode7": SD, "kubenode8": GRUB}),
        (3, {"kubenode7": SD}, [SD, EXT], {"kubenode7": SD, "kubenode8": EXT}),
        (2, {"kubenode10": SD, "kubenode9": SD}, [SD] * 3, {f"kubenode{i}": SD for i in (9, 10, 11)}),
        (6, {"kubenode7": SD}, [SD], {"kubenode7": SD}),
        (16, {}, [], {}),
    ],
)
def test_names_of_vms(containers: int, present: dict[str, str], wanted: list[str], expected: dict[str, str]) -> None:
    assert names.vms(containers, present, wanted) == expected


@pytest.mark.parametrize(
    ("containers", "present", "wanted", "says"),
    [
        (16, {}, [SD], "1 VMs after kubenode16 are too many"),
        (3, {}, [SD] * 11, "11 VMs after kubenode6 are too many"),
        (7, {"kubenode7": SD}, [], "kubenode7 is a VM of the lab that is up"),
        (3, {"kubenode7": SD}, [GRUB], "kubenode7 is up as a VM of kind systemd-boot"),
    ],
)
def test_impossible_vms_are_refused(containers: int, present: dict[str, str], wanted: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        names.vms(containers, present, wanted)
    assert caught.value.hint


def test_addresses_of_vms() -> None:
    assert names.address("kubenode7") == "10.77.0.17"
    assert [vm.mac(node) for node in ("kubenode7", "kubenode16")] == ["52:54:00:77:00:11", "52:54:00:77:00:1a"]
    assert vm.directory("kubenode7", GRUB) == "kubenode7.grub"


def _option(argv: list[str], name: str) -> list[str]:
    return [argv[i + 1] for i, word in enumerate(argv) if word == name]


def test_the_command_line_of_a_uefi_machine() -> None:
    spec = vm.VmSpec("kubenode7", SD, "vm-1", "tcg", "/usr/share/OVMF/OVMF_CODE_4M.fd")
    assert vm.VmSpec.from_json(json.loads(json.dumps(spec.as_json()))) == spec
    argv = vm.qemu_argv(spec, "/run/disks/kubenode7.systemd-boot", "/run/logs/kubenode7-console.log", "lab7")
    assert argv[0] == "qemu-system-x86_64"
    assert {"-nodefaults", "-no-user-config"} <= set(argv)
    assert _option(argv, "-accel") == ["tcg,thread=multi,tb-size=128"]
    assert _option(argv, "-machine") == ["q35"]
    assert _option(argv, "-m") == ["512"]
    assert _option(argv, "-drive") == [
        "if=pflash,unit=0,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd",
        "if=pflash,unit=1,format=raw,file=/run/disks/kubenode7.systemd-boot/vars.fd",
        "if=none,id=root,cache=writeback,format=qcow2,discard=unmap,file=/run/disks/kubenode7.systemd-boot/disk.qcow2",
    ]
    assert _option(argv, "-netdev") == ["tap,id=net,ifname=lab7,script=no,downscript=no,vhost=off"]
    assert _option(argv, "-device") == [
        "virtio-blk-pci,drive=root,bootindex=0",
        "virtio-net-pci,netdev=net,mac=52:54:00:77:00:11,romfile=",
        "virtio-rng-pci",
        "i6300esb",
    ]
    assert _option(argv, "-fw_cfg") == ["name=opt/kbuild-lab/seed,file=/run/disks/kubenode7.systemd-boot/seed.tar"]
    assert _option(argv, "-chardev") == ["file,id=console,append=on,path=/run/logs/kubenode7-console.log"]


def test_the_disk_may_be_somebody_elses() -> None:
    spec = vm.VmSpec("kubenode7", SD, "vm-1", "tcg", "/usr/share/OVMF/OVMF_CODE_4M.fd")
    argv = vm.qemu_argv(spec, "/d", "/l", "lab7", served=True)
    assert (
        _option(argv, "-drive")[2]
        == "if=none,id=root,cache=writeback,driver=nbd,server.type=unix,server.path=/d/disk.sock"
    )


def test_the_command_line_of_a_bios_machine_with_kvm() -> None:
    argv = vm.qemu_argv(vm.VmSpec("kubenode9", GRUB, "vm-1", "kvm", ""), "/d", "/l", "lab9")
    assert (_option(argv, "-accel"), _option(argv, "-cpu")) == (["kvm"], ["host"])
    assert _option(argv, "-machine") == ["q35,graphics=off"]
    assert not any("pflash" in word for word in argv)


def _seed() -> dict[str, tuple[str, int, str]]:
    return vm_disk.seed("kubenode7", ("PRIVATE\n", "ssh-ed25519 HOST kubenode7\n"), "ssh-ed25519 LOGIN lab\n", "0" * 32)


def test_the_seed_is_the_identity_and_the_machine_id_comes_last() -> None:
    files = _seed()
    assert list(files)[-1] == "etc/machine-id"
    assert {path: (mode, owner) for path, (_, mode, owner) in files.items()} == {
        "etc/hostname": (0o644, "root"),
        "etc/hosts": (0o644, "root"),
        "etc/ssh/ssh_host_ed25519_key": (0o600, "root"),
        "etc/ssh/ssh_host_ed25519_key.pub": (0o644, "root"),
        "etc/systemd/network/10-lab.network": (0o644, "root"),
        "home/ansible/.ssh/authorized_keys": (0o600, "ansible"),
        "etc/machine-id": (0o444, "root"),
    }
    network = files["etc/systemd/network/10-lab.network"][0]
    assert "MACAddress=52:54:00:77:00:11\n" in network
    assert "Address=10.77.0.17/24\nGateway=10.77.0.1\n" in network
    assert "10.77.0.11 kubenode1\n" in files["etc/hosts"][0]


def test_the_seed_as_a_tar() -> None:
    data = vm_disk.tar(_seed())
    assert data == vm_disk.tar(_seed())
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        entries = archive.getmembers()
        key = archive.extractfile("etc/ssh/ssh_host_ed25519_key")
        assert key is not None and key.read() == b"PRIVATE\n"
    assert [(e.name, e.mode, e.uname) for e in entries][-2:] == [
        ("home/ansible/.ssh/authorized_keys", 0o600, "ansible"),
        ("etc/machine-id", 0o444, "root"),
    ]
    assert not any(e.name.startswith("/") or ".." in e.name for e in entries)


@pytest.mark.parametrize(
    ("user", "line"),
    [
        ("ansible", """exec env -i HOME=/h 'A=b c' sh -c 'cd -- "$0" && exec "$@"' /h echo '$X' '' 'a b'"""),
        (
            "root",
            """exec sudo -n -u root -- env -i HOME=/h 'A=b c' sh -c 'cd -- "$0" && exec "$@"' /h echo '$X' '' 'a b'""",
        ),
    ],
)
def test_one_line_for_the_shell_at_the_other_end(user: str, line: str) -> None:
    assert session.remote_words(["echo", "$X", "", "a b"], user, "/h", {"HOME": "/h", "A": "b c"}) == line


def test_ssh_checks_host_keys() -> None:
    argv = session.ssh("kubenode7", ["-n"])
    assert argv[:4] == ["ssh", "-F", "none", "-n"]
    assert {"StrictHostKeyChecking=yes", "UserKnownHostsFile=known_hosts", "BatchMode=yes"} <= set(argv)
    assert argv[-1] == "ansible@10.77.0.17"


def test_the_recipe_of_vms_is_not_that_of_containers(monkeypatch: pytest.MonkeyPatch) -> None:
    debian = base.recipe("ID=debian\nVERSION_CODENAME=bookworm\n", "script\n", "x86_64")
    monkeypatch.setattr(base, "this_recipe", lambda: debian)
    monkeypatch.setattr(vm_image.platform, "machine", lambda: "x86_64")
    made = vm_image.recipe()
    assert {"linux-image-cloud-amd64", "initramfs-tools", "systemd-boot", "extlinux"} <= set(made.packages)
    assert "gcc" not in made.packages
    assert made.name != debian.name
    assert made.script.index("script\n") < made.script.index("lab-seed")
    monkeypatch.setattr(vm_image.platform, "machine", lambda: "aarch64")
    with pytest.raises(ConfigError, match="no VMs for aarch64"):
        vm_image.recipe()


def _disk(tmp_path: Path, identity: str, files: dict[str, tuple[str, int, str]]) -> Path:
    disk = tmp_path / "kubenode7.grub"
    vm_disk._make_disk(disk, tmp_path / "vm-1" / "grub-1.qcow2", identity, files, "")
    return disk


def test_a_disk_is_made_anew_for_another_image_or_identity(tmp_path: Path) -> None:
    if not ready.shutil.which("qemu-img"):
        pytest.skip("qemu-img is not there (script/setup)")
    disk = _disk(tmp_path, "a", _seed())
    assert sorted(path.name for path in disk.iterdir()) == ["disk.qcow2", "made", "seed.tar"]
    (disk / "mark").touch()
    assert (_disk(tmp_path, "a", _seed()) / "mark").exists()
    assert not (_disk(tmp_path, "b", _seed()) / "mark").exists()
    (disk / "mark").touch()
    assert not (_disk(tmp_path, "b", _seed() | {"etc/hostname": ("x\n", 0o644, "root")}) / "mark").exists()


def test_a_known_answer_about_kvm_is_not_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accel.os, "access", lambda path, mode: True)
    monkeypatch.setattr(accel, "_machine", lambda: "this")
    asked: list[Path] = []

    def boots(kernel: Path) -> bool:
        asked.append(kernel)
        return True

    monkeypatch.setattr(accel, "boots", boots)
    cache, kernel = tmp_path / "accelerator.json", tmp_path / "vmlinuz"
    assert [accel.choose(kernel, cache, lambda line: None) for _ in range(2)] == ["kvm", "kvm"]
    assert asked == [kernel]
    cache.write_text(json.dumps({"machine": "another", "accelerator": "tcg"}))
    assert accel.choose(kernel, cache, lambda line: None) == "kvm"
    cache.write_text("{")
    assert accel.choose(kernel, cache, lambda line: None) == "kvm"
    assert len(asked) == 3
    monkeypatch.setattr(accel.os, "access", lambda path, mode: False)
    assert accel.choose(kernel, cache, lambda line: None) == "tcg"


def test_what_is_missing_for_vms_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ready.shutil, "which", lambda name: None if name in ("qemu-img", "mcopy") else f"/bin/{name}")
    ready.require_programs()
    with pytest.raises(KbuildError, match="lacks qemu-img, mcopy") as caught:
        ready.require_programs(vms=True)
    assert caught.value.hint == "script/setup"


def test_labs_of_one_directory_share_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KBUILD_LAB_DIR", str(tmp_path))
    images = vm_image.Images(Places.of(tmp_path / "p").bases / "vm-1", "abc")
    assert images.path(GRUB) == tmp_path / "vm-1" / "grub-abc.qcow2"
