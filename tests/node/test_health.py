"""What verb baseline tells of a node's health, and when it says that it cannot tell."""

from __future__ import annotations

from typing import Any

import pytest

from .world import World

pytestmark = pytest.mark.real
OLD_LOG, TRIAL_LOG = "Linux version 6.1.1-old #1", "Linux version 6.1.2-new #1"


def journal(node: World, **texts: str) -> None:
    """Stand-in for journald's logs; texts: now, before (whole), now_errors, before_errors. A missing one fails."""
    node.path("run/systemd/journal").mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        node.write(f"logs/{name}", text)
    node.stand_in(
        "journalctl",
        'case " $* " in *" -b 0 "*) which=now ;; *) which=before ;; esac\n'
        'case " $* " in *" -p 3 "*) which=${which}_errors ;; esac\n'
        f'exec cat "{node.top}/node/logs/$which"',
    )


def baseline(node: World) -> dict[str, Any]:
    return node.good("baseline")


def test_a_failed_trial_s_errors_are_no_old_noise(node: World) -> None:
    journal(node, now=OLD_LOG, before=TRIAL_LOG, now_errors="old noise\n", before_errors="BUG: of the trial\n")
    told = baseline(node)
    assert (told["kernel_errors"], told["previous"]) == (["old noise"], {"kernel_errors": []})
    journal(node, before=OLD_LOG)
    assert baseline(node)["previous"] == {"kernel_errors": ["BUG: of the trial"]}


def test_builds_of_one_vmlinux_are_told_apart_by_their_command_line(node: World) -> None:
    trial = f"{OLD_LOG}\nCommand line: root=/dev/vda2 kbuild.build=0123456789ab quiet"
    journal(node, now=OLD_LOG, before=trial, now_errors="", before_errors="BUG: of the trial\n")
    assert baseline(node)["previous"] == {"kernel_errors": []}
    journal(node, now=trial)
    assert baseline(node)["previous"] == {"kernel_errors": ["BUG: of the trial"]}


def test_noise_pushes_nothing_out(node: World) -> None:
    journal(node, now=OLD_LOG, before="", now_errors="at boot\nBUG: an oops\n" + "noise\n" * 5000, before_errors="")
    assert baseline(node)["kernel_errors"] == ["at boot", "BUG: an oops", "noise"]


def test_more_than_can_be_told_is_not_told(node: World) -> None:
    lines = "".join(f"error {number}\n" for number in range(2001))
    journal(node, now=OLD_LOG, before="", now_errors=lines, before_errors="")
    assert baseline(node)["kernel_errors"] is None


def test_who_cannot_tell_says_so(node: World) -> None:
    journal(node, now=OLD_LOG, before="")  # no log of errors: journalctl fails
    node.stand_in("systemctl", "exit 1")
    node.path("proc/sys/kernel/tainted").unlink()
    told = baseline(node)
    assert (told["kernel_errors"], told["failed_units"], told["taint"]) == (None, None, None)
