"""Roll-outs on fake nodes, killed at every point and resumed: the same end, and no reboot that was not due."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import journal
from kbuild_tasks.effects.rollout import journal_file
from kbuild_tasks.stages import deploy, reboot, verify
from tests.fake_nodes import Killed, World


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    """In memory where there is room: each record is synced to the disk, thousands of times here."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="kbuild-test-") as name:
        yield Path(name)


STAGES = {"deploy": deploy, "reboot": reboot, "verify": verify}


def rollout(world: World) -> dict[str, Any]:
    """What `doit rollout` does, one task after the other; ends at the first failure, as doit does."""
    run = world.run()
    told: dict[str, Any] = {}
    names = run.names()
    try:
        for name in names:
            told[f"deploy:{name}"] = deploy.run(world.context(run, "deploy", name))
        for name in names:
            for verb in ("reboot", "verify"):
                told[f"{verb}:{name}"] = STAGES[verb].run(world.context(run, verb, name))
    except KbuildError as error:
        told["failed"] = error
    return told


def end_state(world: World) -> dict[str, Any]:
    return {
        name: (node.running["release"], node.default, node.armed, node.trial, (node.known_good or {}).get("build"))
        for name, node in world.nodes.items()
    }


def last(world: World, name: str) -> str:
    return journal.read(journal_file(world.paths, name))[-1].state


def test_a_good_roll_out_and_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    told = rollout(world)
    assert "failed" not in told, told["failed"].render()
    assert told["deploy:n7"].message == f"installed {world.build.named}; 6.1.190-cluster stays the default"
    assert told["reboot:n7"].message.startswith("6.1.192-cluster after 2")
    assert [node.boots for node in world.nodes.values()] == [[world.build.entry]] * 3
    assert world.max_down == 1
    assert all(last(world, name) == "UNCORDONED" for name in world.nodes)
    world.points = 0
    again = rollout(world)
    assert {outcome.run["state"] for outcome in again.values()} == {"fresh"}
    assert [node.asked for node in world.nodes.values()] == [1, 1, 1]
    assert world.points == 2 * len(world.nodes), "one question a node"


@pytest.mark.parametrize("fault", ["good", "panic", "wrong-release", "other-build-id", "crash", "hang"])
def test_killed_at_every_point_and_resumed(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each point is before or after a question to a node, a record, or a pause."""

    def world(number: int) -> World:
        made = World(tmp_path / str(number), monkeypatch, "n7 n2")
        made.nodes["n7"].faults = {fault} - {"good"}
        return made

    straight = world(0)
    told = rollout(straight)
    assert ("failed" in told) == (fault != "good")
    expected, points = end_state(straight), straight.points
    boots = {name: list(node.boots) for name, node in straight.nodes.items()}
    assert points > 40
    # a node that hangs is knocked at twice a second for ten minutes: not each of these points
    for number in [*range(1, min(points, 120) + 1), *range(121, points + 1, 97)]:
        killed = world(number)
        killed.kill_at = number
        with pytest.raises(Killed):
            rollout(killed)
        killed.kill_at = None
        killed.time += number % 7 * 11  # the operator comes back after a while
        told = rollout(killed)
        assert end_state(killed) == expected, f"killed at point {number}"
        assert {n: node.boots for n, node in killed.nodes.items()} == boots, f"killed at point {number}"
        assert all(node.asked <= 1 for node in killed.nodes.values())
        assert killed.max_down <= 1
        assert ("failed" in told) == (fault != "good"), f"killed at point {number}"
        if fault != "good":
            assert killed.nodes["n2"].boots == [], "nothing else is rebooted"
            if fault != "hang":
                again = rollout(killed)
                assert "is not tried again there" in again["failed"].message
                assert killed.nodes["n7"].asked == 1
