"""The dead man: a trial that nobody verified in time reboots, into the default. As its unit starts it, in a node in a
directory; sleep and systemctl are stand-ins that tell what they were asked."""

from __future__ import annotations

import subprocess
import threading
import time

import pytest

from kbuild_tasks.node import spoken

from .world import NEW, NEW_ID, OLD, OLD_ID, World

pytestmark = pytest.mark.real
STATE = "var/lib/kbuild-tasks/rollout"


@pytest.fixture
def trial(node: World) -> str:
    """A node that is in its trial boot; the build."""
    node.stand_in("systemctl", f'echo "$*" >>"{node.top}/said"')
    node.stand_in("sleep", f'echo "sleep $1" >>"{node.top}/said"\nexec /bin/sleep 0.3')
    node.stand_in("systemd-run", f'echo "systemd-run $*" >>"{node.top}/said"')
    build = node.deploy(node.package())
    node.good("arm", build=build, panic=5, timeout=1234)
    assert node.boots() == f"kbuild-{build}"
    node.runs(NEW, NEW_ID)
    return build


def dead_man(node: World) -> str:
    """What it answers when its unit starts it."""
    done = node.raw(b"dead-man\n\n")
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def said(node: World) -> list[str]:
    path = node.top / "said"
    return (
        [line for line in path.read_text().splitlines() if "reboot" in line or "sleep" in line] if path.exists() else []
    )


def test_nobody_came(node: World, trial: str) -> None:
    dead_man(node)
    forced = (
        "systemd-run --quiet --collect -p DefaultDependencies=no -p IgnoreOnIsolate=yes -- "
        "sh -c sleep 120; echo b >/proc/sysrq-trigger"
    )
    assert said(node) == ["sleep 1234", forced, "--no-block reboot"], "no part of the shutdown, which may hang"
    assert "reboots into the default: nobody verified the trial" in node.path(f"{STATE}/events.log").read_text()
    assert node.boots() != f"kbuild-{trial}", "the one-shot is used up"
    node.runs(OLD, OLD_ID)
    seen = node.good("observe")
    assert seen["deadman"] is True and seen["loader"]["armed"] == ""
    assert seen["deny"] == [], "it is not held against the build"
    (node.top / "said").unlink()
    assert '"dead_man": "not needed"' in dead_man(node), "the old kernel is none on trial"
    assert said(node) == []
    node.good("arm", build=trial, panic=5)
    assert node.good("observe")["deadman"] is False, "and the next trial begins anew"


@pytest.mark.parametrize("verb", ["commit", "rollback", "disarm"])
def test_somebody_came_in_time(node: World, trial: str, verb: str) -> None:
    node.stand_in("sleep", f'echo "sleep $1" >>"{node.top}/said"\nexec /bin/sleep 3')
    process = subprocess.Popen(
        [node.shell, node.helper], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={"PATH": "/usr/bin:/bin"}
    )
    told: list[bytes] = []
    thread = threading.Thread(target=lambda: told.append(process.communicate(b"dead-man\n\n", timeout=60)[0]))
    thread.start()
    until = time.monotonic() + 20
    while not said(node):
        assert time.monotonic() < until
        time.sleep(0.05)
    node.good(verb, **({"build": trial} if verb == "commit" else {}))
    thread.join()
    assert b'"dead_man": "settled"' in told[0] and process.returncode == 0
    assert said(node) == ["sleep 1234"]


def test_it_is_for_the_kernel_on_trial_alone(node: World, trial: str) -> None:
    node.runs(NEW, "c" * 40)  # the same release, another build
    assert "not needed" in dead_man(node)
    node.runs(NEW, NEW_ID)
    path = node.path(f"{STATE}/trial")
    good = path.read_text()
    for text in (good.replace("timeout=1234", "timeout=0"), "junk\n", ""):
        path.write_text(text)
        assert "not needed" in dead_man(node)
    path.unlink()
    assert "not needed" in dead_man(node)
    assert said(node) == []


def test_a_power_cut_while_it_waits_is_no_fault_of_the_build(node: World, trial: str) -> None:
    """Its mark is written after the wait: a trial that lost its power was not expired, it fell back."""
    node.stand_in("sleep", "kill -9 $PPID")
    node.raw(spoken("dead-man", {}))
    node.runs(OLD, OLD_ID)
    assert node.good("observe")["deadman"] is False
