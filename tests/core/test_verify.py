"""verify never passes a lie and does not fail old noise. Thirty lies; fifty good reboots with noisy baselines."""

# ruff: noqa: E501 - a table is read by its rows

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable
from typing import Any

import pytest

from kbuild_tasks.core import diagnosis, verify
from kbuild_tasks.core.diagnosis import Sight
from kbuild_tasks.core.model import Rollout
from kbuild_tasks.core.nodestate import Seen
from kbuild_tasks.core.rollout import Build
from kbuild_tasks.core.verify import Check

BUILD = Build("0123456789ab", "6.1.192-new", "b" * 40, "#1 SMP new", "c" * 64)
ONE, TWO = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
ROLLOUT = Rollout(verify_modules=("overlay", "br_netfilter"), verify_commands=("test -d /sys",))
HEALTH: dict[str, Any] = {
    "kernel_errors": ["ata1: COMRESET failed (errno=-16)", "ACPI BIOS Error (bug): AE_NOT_FOUND 0x0000beef"],
    "failed_units": ["fancontrol.service"],
    "mounts": ["/ ext4 /dev/vda2", "/boot vfat /dev/vda1", "/srv nfs4 10.0.0.1:/srv", "/run/user/0 tmpfs tmpfs"],
    "taint": 512,
    "modules": ["ext4"],
    "pstore": ["dmesg-efi-1"],
    "synchronized": True,
    "previous": {"kernel_errors": ["usb 1-1: device descriptor read/64, error -71"]},
}
BEFORE: dict[str, Any] = {"build": BUILD.build, "observe": {"boot_id": ONE}, "baseline": HEALTH, "skew": 0.1}


def good() -> dict[str, Any]:
    """What a node that is well tells."""
    kernel = {"boot_id": TWO, "release": BUILD.release, "version": BUILD.version, "build_id": BUILD.build_id}
    return {
        "observe": {**kernel, "loader": {"selected": BUILD.entry}},
        "baseline": copy.deepcopy(HEALTH),
        "probe": {
            **kernel,
            "loaded": ["br_netfilter"],
            "builtin": ["overlay"],
            "failed": {},
            "config_sha256": "c" * 64,
            "build": BUILD.build,
            "files": {"count": 4000, "wrong": []},
        },
        "commands": [{"command": "test -d /sys", "status": 0, "out": ""}],
        "skew": 0.2,
    }


def check(
    answers: dict[str, Any], before: dict[str, Any] = BEFORE, build: Build = BUILD, rollout: Rollout = ROLLOUT
) -> list[str]:
    """What fails."""
    return [f.what for f in verify.failed(verify.compare(build, TWO, before, Check(**answers), rollout))]


def put(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(answers: dict[str, Any]) -> None:
        for key in path[:-1]:
            answers = answers[key]
        answers[path[-1]] = to

    return change


def add(*path: str, item: Any) -> Callable[[dict[str, Any]], None]:
    def change(answers: dict[str, Any]) -> None:
        for key in path:
            answers = answers[key]
        answers.append(item)  # type: ignore[attr-defined]

    return change


def drop(*path: str) -> Callable[[dict[str, Any]], None]:
    def change(answers: dict[str, Any]) -> None:
        for key in path[:-1]:
            answers = answers[key]
        del answers[path[-1]]

    return change


def everywhere(key: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(answers: dict[str, Any]) -> None:
        for answer in ("observe", "probe"):
            answers[answer][key] = to

    return change


ERRORS = ("baseline", "kernel_errors")
LIES: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "the old kernel was booted": (everywhere("release", "6.1.190-old"), "kernelrelease"),
    "only uname is right": (put("probe", "release", to="6.1.190-old"), "kernelrelease"),
    "the same release, another build": (everywhere("build_id", "d" * 40), "build id"),
    "no build id": (everywhere("build_id", ""), "build id"),
    "another uname -v": (everywhere("version", "#2 SMP other"), "uname -v"),
    "no boot id": (everywhere("boot_id", ""), "boot"),
    "an error text for a boot id": (everywhere("boot_id", "System is going down."), "boot"),
    "the boot id of before": (everywhere("boot_id", ONE), "boot"),
    "rebooted between two questions": (put("probe", "boot_id", to=ONE), "boot"),
    "another entry was booted": (put("observe", "loader", to={"selected": "old"}), "boot entry"),
    "another configuration": (put("probe", "config_sha256", to="d" * 64), ".config"),
    "no answer about the configuration": (drop("probe", "config_sha256"), ".config"),
    "a module does not load": (put("probe", "failed", to={"br_netfilter": "Unknown symbol"}), "modules"),
    "a module is not there": (put("probe", "loaded", to=["bridge"]), "modules"),
    "no answer about modules": (drop("probe", "loaded"), "modules"),
    "modules of another build": (put("probe", "files", to={"count": 9, "wrong": ["a/br.ko"]}), "module files"),
    "modules that nobody compared": (put("probe", "files", to=None), "module files"),
    "no module was compared": (put("probe", "files", to={"count": 0, "wrong": []}), "module files"),
    "no answer about the files": (drop("probe", "files"), "module files"),
    "another build with the same vmlinux": (put("probe", "build", to="fedcba987654"), "build"),
    "an oops": (add(*ERRORS, item="BUG: kernel NULL pointer dereference, address: 0000000000000008"), "kernel log"),
    "a new disk error": (add(*ERRORS, item="ata2: COMRESET failed (errno=-16)"), "kernel log"),
    "a warning": (add(*ERRORS, item="WARNING: CPU: 1 PID: 42 at net/core/dev.c:1234 x+0x1/0x2"), "kernel log"),
    "no kernel log": (drop(*ERRORS), "kernel log"),
    "a kernel log that is no list": (put(*ERRORS, to=None), "kernel log"),
    "tainted by a warning": (put("baseline", "taint", to=512 | 1), "taint"),
    "no taint told": (drop("baseline", "taint"), "taint"),
    "a newly failed unit": (add("baseline", "failed_units", item="k3s-agent.service"), "failed units"),
    "no units told": (put("baseline", "failed_units", to="none"), "failed units"),
    "a mount is missing": (put("baseline", "mounts", to=["/ ext4 /dev/vda2", "/boot vfat /dev/vda1"]), "mounts"),
    "no mounts told": (drop("baseline", "mounts"), "mounts"),
    "a new dump in pstore": (add("baseline", "pstore", item="dmesg-efi-2"), "pstore"),
    "the clock of 1970": (put("skew", to=-1.8e9), "clock"),
    "five seconds ahead": (put("skew", to=5.0), "clock"),
    "no longer synchronised": (put("baseline", "synchronized", to=False), "time"),
    "a command fails": (
        put("commands", to=[{"command": "test -d /sys", "status": 1, "out": "no"}]),
        "command 'test -d /sys'",
    ),
    "a command was not run": (put("commands", to=[]), "command 'test -d /sys'"),
    "another command was run": (put("commands", to=[{"command": "true", "status": 0}]), "command 'test -d /sys'"),
    "a command did not end": (
        put("commands", to=[{"command": "test -d /sys", "status": 124}]),
        "command 'test -d /sys'",
    ),
}


def test_good_is_good() -> None:
    assert check(good()) == []


@pytest.mark.parametrize("name", LIES)
def test_lies(name: str) -> None:
    lie, caught = LIES[name]
    answers = good()
    lie(answers)
    found = check(answers)
    assert [what.replace("test -d /sys", "'test -d /sys'").replace("''", "'") for what in found] == [
        caught
    ] or caught in found


def test_thirty_at_least() -> None:
    assert len(LIES) >= 30


@pytest.mark.parametrize("key", ["observe", "baseline", "probe"])
def test_an_empty_answer_passes_nothing(key: str) -> None:
    assert check({**good(), key: {}})


def test_a_baseline_that_is_missing_passes_nothing() -> None:
    assert check(good(), {})
    assert check(good(), {**BEFORE, "observe": {"boot_id": TWO}}) == ["boot"], "taken in the very boot that is verified"


def test_without_config_gz_the_build_id_is_the_proof() -> None:
    answers = good()
    answers["probe"]["config_sha256"] = ""
    assert check(answers) == []
    unknown = dataclasses.replace(BUILD, build_id=None)
    assert check(answers, build=unknown) == [".config"]


def noisy(chance: random.Random, lines: list[str]) -> list[str]:
    """The same messages as another boot tells them: other times, addresses, amounts, order."""
    made = []
    for line in lines:
        line = line.replace("0xADDRESS", f"0x{chance.getrandbits(32):08x}").replace(
            "POINTER", f"{chance.getrandbits(64):016x}"
        )
        line = line.replace("TIME", f"{chance.uniform(1, 90):.6f}").replace("MANY", str(chance.randrange(10000, 99999)))
        line = line.replace("SOME ms", f"{chance.randrange(1, 900)} ms").replace(
            "PID", f"[{chance.randrange(100, 9999)}]"
        )
        made.append(line)
    chance.shuffle(made)
    return made


NOISE = [
    "ACPI BIOS Error (bug): Could not resolve symbol at 0xADDRESS",
    "[    TIME] tpm tpm0: A TPM error (256) occurred",
    "i915 0000:00:02.0: [drm] *ERROR* flip_done timed out after SOME ms",
    "EXT4-fs (sda1): error count since last fsck: MANY",
    "systemdPID: Failed to find module 'x'",
    "mce: CPU0: Package temperature above threshold (total events = MANY)",
    "usb 1-1: device descriptor read/64, error -71",
    "ata1.00: failed command: READ FPDMA QUEUED at POINTER",
    "nouveau 0000:01:00.0: bus: MMIO write of POINTER FAULT at 3e6684 [ IBUS ]",
]


@pytest.mark.parametrize("seed", range(50))
def test_noise_of_before_is_not_held_against_a_good_boot(seed: int) -> None:
    chance = random.Random(seed)
    some = chance.sample(NOISE, chance.randrange(1, len(NOISE)))
    before = copy.deepcopy(BEFORE)
    before["baseline"]["kernel_errors"] = noisy(chance, some)
    before["baseline"]["failed_units"] = chance.sample(["a.service", "b.service", "c.timer"], chance.randrange(0, 3))
    before["baseline"]["mounts"] += [f"/var/lib/kubelet/pods/{chance.getrandbits(64):x}/volumes tmpfs tmpfs"]
    before["baseline"]["mounts"] += [f"/usr/lib/modules/{BUILD.release} ext4 /dev/vda2"]
    before["skew"] = chance.uniform(-30, 30)
    answers = good()
    told = before["baseline"]
    answers["baseline"]["kernel_errors"] = noisy(chance, chance.sample(some, chance.randrange(0, len(some) + 1)))
    answers["baseline"]["failed_units"] = [unit for unit in told["failed_units"] if chance.random() < 0.8]
    answers["baseline"]["mounts"] += [f"/run/user/{chance.randrange(1000)} tmpfs tmpfs"]
    answers["baseline"]["pstore"] = []
    answers["baseline"]["taint"] = chance.choice([0, 512])
    answers["skew"] = before["skew"] + chance.uniform(-1.5, 1.5)
    assert check(answers, before) == []


def test_small_numbers_tell_devices_apart() -> None:
    assert verify.normal("ata1: link down") != verify.normal("ata2: link down")
    assert verify.normal("eth0: error -110") != verify.normal("eth0: error -71")
    assert verify.normal("[   12.3] x at 0x12ab took 57 ms") == verify.normal("[ 2.1] x at 0xffee took 632 ms")


OLD_BOOT, SILENT = Sight(diagnosis.OLD_BOOT, 0.2), Sight(diagnosis.SILENT, 5.0)


@pytest.mark.parametrize(
    ("sights", "says"),
    [
        ([OLD_BOOT], "did not go down within 600 s: it still runs the boot in which it was asked"),
        (
            [OLD_BOOT, SILENT],
            "went down and has been silent at 10.0.0.9 port 22 for 595 s: it hangs, or has no network",
        ),
        ([SILENT], "has been silent at 10.0.0.9 port 22 for 595 s"),
        ([], "has been silent"),
        ([OLD_BOOT, SILENT, Sight(diagnosis.REFUSED, 30)], "is back, but its sshd does not run"),
        (
            [SILENT, Sight(diagnosis.HOST_KEY, 30)],
            "is back with another host key than the known one; it was not accepted",
        ),
        (
            [OLD_BOOT, Sight(diagnosis.REFUSED, 4)],
            "stopped its sshd after 4 s, and was never seen without its network since: it hangs on its way down",
        ),
        (
            [OLD_BOOT, SILENT, Sight(diagnosis.OLD_BOOT, 31)],
            "was away from second 5 to 31, and still runs the boot in which it was asked",
        ),
        ([SILENT, Sight(diagnosis.LOST, 30)], "answers at 10.0.0.9 port 22, but not as a node that is up"),
        ([SILENT, Sight(diagnosis.LOGIN, 30)], "is back, but does not let the account in"),
        ([SILENT, Sight(diagnosis.SUDO, 30)], "is back, but its helper may not be run"),
    ],
)
def test_why_a_node_is_not_back(sights: list[Sight], says: str) -> None:
    told, hint = diagnosis.not_back(sights, 600, "10.0.0.9 port 22", "6.1.190")
    assert says in told and hint


def test_how_another_host_key_is_accepted_is_in_its_hint() -> None:
    sights = [SILENT, Sight(diagnosis.HOST_KEY, 30, hint="ssh-keygen -R x")]
    _, hint = diagnosis.not_back(sights, 600, "10.0.0.9 port 22", "6.1.190")
    assert hint == "find out why before you trust it; ssh-keygen -R x; then doit rollout goes on"


@pytest.mark.parametrize(
    ("stderr", "sight"),
    [
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.", diagnosis.HOST_KEY),
        ("ansible@10.0.0.9: Permission denied (publickey).", diagnosis.LOGIN),
        ("sudo: a password is required", diagnosis.SUDO),
        ("ssh: connect to host 10.0.0.9 port 22: Connection refused", diagnosis.REFUSED),
        ("ssh: connect to host 10.0.0.9 port 22: Connection timed out", diagnosis.SILENT),
        ("ssh: connect to host 10.0.0.9 port 22: No route to host", diagnosis.SILENT),
        ("kex_exchange_identification: Connection closed by remote host", diagnosis.LOST),
        ('"System is going down. Unprivileged users are not permitted to log in anymore."', diagnosis.LOST),
    ],
)
def test_what_a_refusal_shows(stderr: str, sight: str) -> None:
    assert diagnosis.sight_of(stderr) == sight


@pytest.mark.parametrize(
    ("lines", "what", "evidence"),
    [
        (["[ 1.0] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"], "panicked",
         "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"),
        (["<0>[ 2.0] BUG: unable to handle page fault for address: x"], "crashed", "BUG: unable to handle page fault for address: x"),
        (["watchdog: BUG: soft lockup - CPU#0 stuck for 45s!"], "hung", "watchdog: BUG: soft lockup - CPU#0 stuck for 45s!"),
        (["You are in emergency mode."], "did not get its disks", "You are in emergency mode."),
        (["all is well"], "", None),
    ],
)  # fmt: skip
def test_the_reason_is_dug_out(lines: list[str], what: str, evidence: str | None) -> None:
    told, found = diagnosis.reason(["noise", *lines, "noise"])
    assert told == what
    assert found == ([evidence] if evidence else [])


def test_a_damaged_initramfs_is_told_beside_what_it_led_to() -> None:
    cut = "[    1.191972] Initramfs unpacking failed: ZSTD-compressed data is truncated"
    alert = "ALERT!  PARTUUID=6b627569-02 does not exist.  Dropping to a shell!"
    told, found = diagnosis.reason([cut, "Gave up waiting for root file system device.", alert])
    assert told == "did not get its disks"
    assert found == [alert, "Initramfs unpacking failed: ZSTD-compressed data is truncated"]
    assert diagnosis.reason([cut]) == ("", []), "of padding it says the same, and boots"
    assert diagnosis.reason(["ERROR: Unable to find root device 'UUID=1'."])[0] == "did not get its disks"


def test_the_sentence_of_a_fall_back() -> None:
    seen = Seen(ONE, "6.1.190-old")
    lines = ["[1.0] Kernel panic - not syncing: x"]
    told, _ = diagnosis.fell_back(seen, BUILD, 38.2, lines, "")
    assert told == "came back after 38 s on 6.1.190-old: the new kernel panicked"
    told, _ = diagnosis.fell_back(seen, BUILD, None, [], "it went down again before it was verified")
    assert told == "came back on 6.1.190-old: it went down again before it was verified"
    told, _ = diagnosis.fell_back(dataclasses.replace(seen, release=BUILD.release), BUILD, 20, [], "")
    assert "on another build of 6.1.192-new" in told


def test_messages_that_the_user_passes_over() -> None:
    answers = good()
    answers["baseline"]["kernel_errors"] += [
        "..MP-BIOS bug: 8254 timer not connected to IO-APIC",
        "BUG: bad page state",
    ]
    passing = dataclasses.replace(ROLLOUT, verify_ignore=("8254 timer",))
    assert check(answers, rollout=passing) == ["kernel log"], "the other one counts"
    answers["baseline"]["kernel_errors"].pop()
    assert check(answers) == ["kernel log"] and check(answers, rollout=passing) == []
