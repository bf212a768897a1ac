"""How long a node was away: from the moment at which its reboot was asked for, whichever run has asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.effects import helper
from kbuild_tasks.effects.rollout import Run
from kbuild_tasks.stages import reboot
from tests.fake_nodes import Killed, World
from tests.stages.test_rollout_down import killed_before_it_asked
from tests.stages.test_rollout_stages import act


def rebooted(world: World) -> Run:
    run = world.run()
    reboot.run(world.context(run, "reboot", "n7"))
    return run


def test_what_comes_before_the_question_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on looks at the other nodes first: that may take its time."""
    world = World(tmp_path, monkeypatch)
    killed_before_it_asked(world, monkeypatch)
    ask, seven = helper.ask, world.nodes["n7"]

    def slow(cluster: Any, node: Any, verb: str, *more: Any, **named: Any) -> Any:
        asked = seven.goes is not None or seven.boots
        world.time += 100 if verb == "observe" and not asked else 0
        return ask(cluster, node, verb, *more, **named)

    monkeypatch.setattr(helper, "ask", slow)
    assert 20 < rebooted(world).away["n7"] < 30


def test_what_an_earlier_run_has_asked_is_counted_from_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    world.nodes["n7"].faults = {"slow"}  # its new kernel is up after 320 s
    act(world, "deploy")
    with monkeypatch.context() as patch:
        patch.setattr("kbuild_tasks.effects.waiting.Wait.until_back", killed)
        with pytest.raises(Killed):
            act(world, "reboot")
    world.time += 200
    steps = len(world.events)
    assert 320 < rebooted(world).away["n7"] < 330
    told = [data["step"] for _, data in world.events[steps:] if "asked" in data.get("step", "")]
    assert told[0] == "down, asked 201 s ago", "it is not known since when it is down"


def killed(wait: object) -> None:
    raise Killed
