"""What check refuses, and that a refusal touches nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from .world import GUID, NEW, OLD, World, hashes

pytestmark = pytest.mark.real


def untouched(node: World, build: str, word: str, verb: str = "check", **values: int) -> str:
    """The verb is refused with that word, and every file of the node but our own state is as before."""

    def seen() -> dict[str, str]:
        return {path: total for path, total in hashes(node.root).items() if "/rollout/" not in path}

    before = seen()
    answer = node.refused(verb, build=build, **values)
    assert answer.word == word, answer.err
    assert seen() == before
    return answer.err


def test_a_manifest_or_a_package_that_was_changed(node: World) -> None:
    package = node.package()
    build = node.stage(package)
    folder = node.path(f"var/lib/kbuild-tasks/rollout/stage/{build}")
    manifest = folder / "manifest.json"
    good = manifest.read_bytes()
    value = json.loads(good)
    for change in (
        {"kernelrelease": "6.9.9-other"}, {"kernelrelease": "../../etc"}, {"build_id": None}, {"packages": []},
        {"packages_sha256": "0" * 64}, {"packages": [{**value["packages"][0], "sha256": "1" * 64}]},
        {"packages": [{**value["packages"][0], "file": "../../../etc/shadow"}]},
    ):  # fmt: skip
        manifest.write_text(json.dumps({**value, **change}, indent=1, sort_keys=True))
        answer = node.refused("check", build=build)
        assert answer.word in ("manifest", "missing", "damaged"), (change, answer)
    for broken in (b"", b"{}", good[:100], b"\0" * 100, good.replace(b'"', b"'")):
        manifest.write_bytes(broken)
        assert node.refused("check", build=build).word == "manifest"
    manifest.write_bytes(good)
    data = (folder / package.name).read_bytes()
    (folder / package.name).write_bytes(data[:-1] + b"x")
    assert untouched(node, build, "damaged")
    assert untouched(node, build, "damaged", "install")
    (folder / package.name).unlink()
    assert untouched(node, build, "missing")


def test_another_architecture(node: World) -> None:
    build = node.stage(node.package(arch="aarch64"))
    assert "is x86_64" in untouched(node, build, "arch")


def test_a_release_that_another_package_has(node: World) -> None:
    other = node.package(name="linux-other")
    build = node.stage(other)
    node.good("install", build=build)
    build = node.stage(node.package(content=b"x"))
    assert "of the package linux-other" in untouched(node, build, "release-taken")
    untouched(node, build, "release-taken", "install")


def test_a_denied_build_is_not_tried_until_it_is_allowed(node: World) -> None:
    build = node.stage(node.package())
    node.good("deny", build=build, why="cGFuaWMgaW4gIm1haW4i")
    assert node.good("observe")["deny"] == [{"build": build, "why": 'panic in "main"'}]
    assert "panic in" in untouched(node, build, "denied")
    untouched(node, build, "denied", "install")
    node.good("allow", build=build)
    node.good("check", build=build)


def test_a_full_boot_partition(node: World) -> None:
    build = node.stage(node.package())
    small = node.path("boot")
    keep = node.path("boot.keep")
    small.rename(keep)
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", small], check=True)
    subprocess.run(["cp", "-a", f"{keep}/.", small], check=True)
    untouched(node, build, "space-boot")
    untouched(node, build, "space-boot", "install")


def test_a_boot_partition_that_is_read_only(node: World) -> None:
    build = node.stage(node.package())
    boot = node.path("boot")
    subprocess.run(["mount", "--bind", boot, boot], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", boot], check=True)
    untouched(node, build, "boot-readonly")
    untouched(node, build, "boot-readonly", "install")


def test_no_room_for_the_modules(node: World) -> None:
    build = node.stage(node.package())
    usr = node.path("usr/lib")
    keep = node.path("usr/keep")
    usr.rename(keep)
    usr.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40M", "tmpfs", usr], check=True)
    subprocess.run(["cp", "-a", f"{keep}/.", usr], check=True)
    untouched(node, build, "space-root")


def test_variables_that_cannot_be_written(node: World) -> None:
    build = node.stage(node.package())
    variables = node.path("sys/firmware/efi/efivars")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=3", "tmpfs", node.path("sys/firmware/efi")], check=True)
    variables.mkdir()
    node.efi("LoaderInfo", "systemd-boot 252")
    assert "cannot write the EFI variable" in untouched(node, build, "nvram")
    (variables / f"LoaderInfo-{GUID}").unlink()
    untouched(node, build, "loader")


def test_no_loader_that_can_be_changed(node: World) -> None:
    build = node.stage(node.package())
    shutil.rmtree(node.path("boot/EFI"))
    assert "is not mounted" in untouched(node, build, "loader")
    assert node.good("observe")["loader"]["kind"] == ""


# signatures, with a real gpg and a keyring as pacman-key makes it


def gpg(home: Path, *words: str) -> str:
    return subprocess.run(
        ["gpg", "--homedir", home, "--batch", "--no-tty", "--pinentry-mode", "loopback", "--passphrase", "", *words],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip


def sign(home: Path, package: Path) -> None:
    gpg(home, "--yes", "--detach-sign", "--output", f"{package}.sig", str(package))


@pytest.fixture
def keys(node: World) -> Path:
    """Somebody's key, and a keyring of the node that trusts it, as pacman-key --add and --lsign-key leave it."""
    home = node.top / "builder"
    home.mkdir(mode=0o700)
    gpg(home, "--quick-gen-key", "builder <b@example.org>", "ed25519", "sign", "never")
    ring = node.path("etc/pacman.d/gnupg")
    ring.mkdir(mode=0o700)
    gpg(ring, "--quick-gen-key", "pacman <p@example.org>", "ed25519", "cert", "never")
    public = node.top / "builder.asc"
    public.write_text(gpg(home, "--armor", "--export"))
    gpg(ring, "--import", str(public))
    fingerprint = next(
        line.split(":")[9] for line in gpg(home, "--with-colons", "-k").splitlines() if line.startswith("fpr")
    )
    gpg(ring, "--yes", "--quick-lsign-key", fingerprint)
    gpg(ring, "--check-trustdb")
    yield home  # type: ignore[misc]
    for folder in (home, ring):
        subprocess.run(["gpgconf", "--homedir", folder, "--kill", "all"], check=False)


def test_signatures(node: World, keys: Path) -> None:
    package = node.package()
    build = node.stage(package)
    assert node.good("check", build=build)["signed"] is False
    untouched(node, build, "signature", signed=1)
    node.write("etc/kbuild-tasks/require-signature", "")
    assert "has no signature" in untouched(node, build, "signature")
    untouched(node, build, "signature", "install")
    sign(keys, package)
    node.stage(package)
    assert node.good("check", build=build)["signed"] is True
    node.good("install", build=build)
    # a signature of other bytes, by a stranger, and none at all in the file
    folder = node.path(f"var/lib/kbuild-tasks/rollout/stage/{build}")
    signature = folder / f"{package.name}.sig"
    other = node.top / "other"
    other.write_text("x")
    sign(keys, other)
    stranger = node.top / "stranger"
    stranger.mkdir(mode=0o700)
    gpg(stranger, "--quick-gen-key", "builder <b@example.org>", "ed25519", "sign", "never")
    stolen = node.top / "stolen"
    shutil.copy(package, stolen)
    sign(stranger, stolen)
    subprocess.run(["gpgconf", "--homedir", stranger, "--kill", "all"], check=False)
    for wrong in (Path(f"{other}.sig").read_bytes(), Path(f"{stolen}.sig").read_bytes(), b"", b"junk"):
        signature.write_bytes(wrong)
        assert "does not trust" in untouched(node, build, "signature")


def test_a_key_that_is_known_and_not_trusted(node: World, keys: Path) -> None:
    ring = node.path("etc/pacman.d/gnupg")
    subprocess.run(["gpgconf", "--homedir", ring, "--kill", "all"], check=False)
    shutil.rmtree(ring)
    ring.mkdir(mode=0o700)
    gpg(ring, "--import", str(node.top / "builder.asc"))
    package = node.package()
    sign(keys, package)
    untouched(node, node.stage(package), "signature")


# who may act


def test_a_roll_out_that_was_overtaken_may_not_act(node: World) -> None:
    import base64

    who = base64.b64encode(b"anna@kubenode1").decode()
    other = base64.b64encode(b"ben@laptop").decode()
    assert node.good("lease", fence=5, who=who) == {"fence": 5}
    assert node.good("observe")["lease"]["who"] == "anna@kubenode1"
    assert node.good("lease", fence=5, who=who) == {"fence": 5}
    assert "anna@kubenode1" in node.refused("lease", fence=5, who=other).err
    assert node.refused("lease", fence=4, who=other).word == "fence"
    for verb, values in (
        ("disarm", {}), ("rollback", {}), ("reboot", {}),
        ("arm", {"build": "0" * 12, "panic": 1}), ("install", {"build": "0" * 12}),
        ("commit", {"build": "0" * 12}), ("forget", {"build": "0" * 12}), ("deny", {"build": "0" * 12, "why": ""}),
    ):  # fmt: skip
        answer = node.refused(verb, fence=4, **values)
        assert answer.word == "fence" and "anna@kubenode1" in answer.err, verb
    assert "anna@kubenode1" in node.refused("lease", fence=6, who=other).err
    assert node.good("lease", fence=6, who=other, force=1) == {"fence": 6}
    assert node.good("observe")["fence"] == 6
    node.good("lease", fence=6, who="")
    assert node.good("observe")["lease"] is None


def test_damaged_records_are_told_and_never_guessed(node: World) -> None:
    build = node.deploy(node.package())
    state = node.path("var/lib/kbuild-tasks/rollout")
    for record, verbs in (("known-good", ("install", "bootfiles")), ("fence", ("install", "disarm"))):
        good = (state / record).read_bytes() if (state / record).exists() else b"1\n"
        for bad in (b"", b"\0" * 40, b"release=\n", b"x" * 300, os.urandom(64).replace(b"\n", b"")):
            if record == "fence" and bad == b"":
                continue
            (state / record).write_bytes(bad)
            for verb in verbs:
                values = {"build": build} if verb != "disarm" else {}
                assert node.refused(verb, **values).word == "state", (record, bad, verb)
        (state / record).write_bytes(good)
    (state / "known-good").write_bytes(b"")
    assert node.good("observe")["damaged"] == ["known-good"]


def test_forget_takes_only_what_nothing_needs(node: World) -> None:
    first = node.deploy(node.package())
    node.good("arm", build=first, panic=5)
    assert node.refused("forget", build=first).word == "trial"
    node.boots()
    node.runs(NEW, "b" * 40)
    node.good("commit", build=first)
    assert node.refused("forget", build=first).word == "needed"
    second = node.deploy(
        node.package(release="6.1.3-next", version="6.1.3-1", content=b"3"), release="6.1.3-next", build_id="c" * 40
    )
    before = {
        path: total for path, total in hashes(node.root).items() if second not in path and "/rollout/" not in path
    }
    node.good("forget", build=second)
    assert not list(node.path("boot").rglob(f"*{second}*"))
    assert not node.path(f"usr/lib/modules.kbuild/{'c' * 40}").exists()
    after = hashes(node.root)
    assert {path for path in before if path not in after and "6.1.3-next" not in path and "c" * 40 not in path} == set()


def test_what_runs_is_not_what_is_booted_by_default(node: World) -> None:
    """Nobody knows yet which kernel is good there: the record would name one and boot the other."""
    build = node.stage(node.package())
    entry = node.path("boot/loader/entries/arch.conf").read_text()
    node.write("boot/loader/entries/rescue.conf", entry)
    node.efi("LoaderEntryDefault", "arch.conf")
    node.efi("LoaderEntrySelected", "rescue.conf")
    assert "runs the boot entry rescue and has arch as its default" in untouched(node, build, "default")
    node.efi("LoaderEntrySelected", "arch.conf")
    modules = node.path(f"usr/lib/modules/{OLD}")
    modules.rename(modules.with_name("6.1.9-upgraded"))
    assert f"runs {OLD}, whose modules are gone" in untouched(node, build, "default")
    modules.with_name("6.1.9-upgraded").rename(modules)
    node.deploy(node.package())
    node.efi("LoaderEntrySelected", "rescue.conf")
    node.good("check", build=build)


def test_units_that_a_trial_needs_at_boot(node: World) -> None:
    build = node.stage(node.package())
    wants = node.path("etc/systemd/system/sysinit.target.wants")
    wants.mkdir(parents=True)
    for missing in ("kbuild-modules.service", "kbuild-deadman.service"):
        assert f"has not enabled {missing}" in untouched(node, build, "units")
        (wants / missing).symlink_to(f"../{missing}")
        assert f"has not enabled {missing}" in untouched(node, build, "units"), "a link to nothing"
        node.write(f"etc/systemd/system/{missing}", "[Unit]\n")
    node.deploy(node.package())
    node.path("etc/systemd/system/kbuild-deadman.service").unlink()
    assert node.refused("arm", build=build, panic=5).word == "units"


def test_the_loader_that_the_user_names(node: World) -> None:
    """What is left of another one is not looked at, and one that is not there is not made up."""
    node.write("boot/grub/grub.cfg", "# left over\n")
    assert node.good("observe", loader="systemd-boot")["loader"]["kind"] == "systemd-boot"
    seen = node.good("observe", loader="extlinux")["loader"]
    assert seen["kind"] == "" and "does not boot with extlinux, which rollout.bootloader names" in seen["why"]
    build = node.stage(node.package())
    answer = node.refused("check", build=build, loader="extlinux")
    assert answer.word == "loader" and "rollout.bootloader" in answer.err
    assert node.refused("observe", loader="lilo").word == "protocol"
    node.good("check", build=build, loader="systemd-boot")
