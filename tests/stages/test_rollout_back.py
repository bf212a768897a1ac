"""A rollback whose run was ended in it: the journal tells, no roll-out touches the node, and the same word goes on."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core import journal as format
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.when import when
from kbuild_tasks.effects import helper, journal
from kbuild_tasks.effects.rollout import journal_file
from kbuild_tasks.plugin import rollout_plan, rollout_status
from tests.fake_nodes import Killed, World
from tests.stages.test_rollout_stages import FakeKubernetes, act, k3s, refused, states

__all__ = ["k3s"]


def on_trial(world: World) -> None:
    act(world, "deploy", "reboot")


def committed(world: World) -> None:
    act(world, "deploy", "reboot", "verify")
    world.back_to = "previous"


def armed_alone(world: World) -> None:
    """Armed by somebody else, and never booted: nothing of it is in our journal."""
    node = world.nodes["n7"]
    act(world, "deploy", "reboot", "verify")
    node.entries["kbuild-" + "e" * 12] = {**node.running, "build": "e" * 12}
    node.trial, node.armed = {"build": "e" * 12}, "kbuild-" + "e" * 12


def booted_by_hand(world: World) -> None:
    """There is nothing to take back."""
    act(world, "deploy", "reboot", "verify")
    node = world.nodes["n7"]
    node.running, node.selected = dict(node.entries["old"]), "old"


CASES = (on_trial, committed, armed_alone, booted_by_hand)


def ended_in(world: World, verb: str) -> None:
    """The run ends when the node has been asked this."""
    ask = helper.ask

    def dies(cluster: Any, node: Any, asked: str, *more: Any, **named: Any) -> Any:
        answer = ask(cluster, node, asked, *more, **named)
        if asked == verb:
            raise Killed
        return answer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(helper, "ask", dies)
        with pytest.raises(Killed):
            act(world, "rollback")


def told(world: World, words: str) -> tuple[dict[str, Any], str]:
    """What doit status and doit plan say of n7, without asking it."""
    project = types.SimpleNamespace(cluster=world.cluster, paths=world.paths)
    pipeline: Any = types.SimpleNamespace(project=project, rollout=types.SimpleNamespace(order=(("n7",),), only=()))
    step = rollout_plan.plan(pipeline)[0]
    assert step.state == "held"
    assert f": doit rollback:n7{words} goes on with it" in step.why[0]
    return rollout_status.status(pipeline)["n7"], step.why[0]


@pytest.mark.parametrize("begun", [on_trial, committed])
@pytest.mark.parametrize("verb", ["deny", "rollback", "reboot"])
def test_it_is_told_and_gone_on_with(
    verb: str, begun: Callable[[World], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch)
    begun(world)
    build, node = world.build.build, world.nodes["n7"]
    ended_in(world, verb)
    status, plan = told(world, " to=previous" if begun is committed else "")
    assert status["state"] == "rolling back" and status["step"] == "ROLLING_BACK" and when(status["since"]) in plan
    asked = "; asked to reboot" if verb == "reboot" else ", by the user's word"
    word = "previous" if begun is committed else "known-good"
    again = f"doit rollback:n7{' to=previous' if begun is committed else ''} goes on with it"
    assert status["why"] == f"to its {word} 6.1.190-cluster{asked}; {again}"
    world.back_to = "known-good"  # the word alone goes on with what was begun
    message = act(world, "rollback").message
    assert "6.1.190-cluster after 21 s" in message, message
    assert message.endswith(f"build {build} is not tried again there")
    assert node.boots == [world.build.entry, "old"] and node.default == "old" and build in node.deny
    assert states(world)[-1] == "ROLLED_BACK"
    before = states(world)
    assert "runs its known-good 6.1.190-cluster" in act(world, "rollback").message
    assert states(world) == before


@pytest.mark.parametrize("verb", ["deny", "rollback", "reboot"])
def test_a_roll_out_leaves_it_alone(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    on_trial(world)
    ended_in(world, verb)
    before, asked = states(world), list(world.nodes["n7"].log)
    for _ in range(2):  # while it is down, and when it is back
        for stage in ("deploy", "reboot", "verify") if world.nodes["n7"].up else ("deploy",):
            error = refused(world, stage)
            assert error.message.startswith("n7 is being rolled back since 2027-")
            assert error.hint == "doit rollback:n7 goes on with it; then doit rollout"
        if world.nodes["n7"].up:
            assert "n7 is being rolled back since" in refused(world, "prune").message
        assert "is being rolled back" in refused(world, "allow").message
        world.time += 100
        world.nodes["n7"].settle()
    assert states(world) == before and world.nodes["n7"].log == asked
    world.package(b"a newer one")
    assert "is being rolled back" in refused(world, "deploy").message
    act(world, "rollback")
    act(world, "deploy", "reboot", "verify")
    assert states(world)[-1] == "UNCORDONED"


def test_no_other_node_goes_while_it_may_go_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    on_trial(world)
    ended_in(world, "reboot")
    world.nodes["n7"].goes = world.time + 60  # it was asked, and is slow to go
    act(world, "deploy", name="n3")
    assert "n3 is not rebooted while n7 may go down at any moment" in refused(world, "reboot", name="n3").message
    assert "came back on its known-good" in act(world, "rollback").message
    act(world, "reboot", "verify", name="n3")
    assert world.max_down == 1 and world.nodes["n7"].boots[1:] == ["old"]


def test_one_that_does_not_come_back_stays_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    on_trial(world)
    ended_in(world, "reboot")
    world.nodes["n7"].unplugged = True
    error = refused(world, "rollback")
    assert "n7 went down and has been silent" in error.message
    assert told(world, "")[0]["state"] == "rolling back"
    world.nodes["n7"].unplugged = False
    assert "runs its known-good" in act(world, "rollback").message


@pytest.mark.parametrize("begun", CASES)
def test_killed_at_every_point_and_resumed(
    begun: Callable[[World], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def world(number: int) -> World:
        made = World(tmp_path / str(number), monkeypatch, "n7 n2")
        begun(made)
        made.points = 0
        return made

    def end(world: World) -> Any:
        node = world.nodes["n7"]
        return node.running["release"], node.default, node.armed, node.trial, sorted(node.deny), node.boots

    straight = world(0)
    act(straight, "rollback")
    for number in range(1, straight.points + 1):
        killed = world(number)
        killed.kill_at = number
        with pytest.raises(Killed):
            act(killed, "rollback")
        killed.kill_at = None
        killed.time += number % 7 * 11
        act(killed, "rollback")
        assert end(killed) == end(straight), f"killed at point {number}"
        assert [s for s in states(killed) if s != "ROLLING_BACK"] == [
            s for s in states(straight) if s != "ROLLING_BACK"
        ], f"killed at point {number}"


def test_a_node_that_was_emptied_for_it(k3s: World) -> None:
    on_trial(k3s)
    ended_in(k3s, "reboot")
    assert states(k3s)[-3:] == ["ROLLING_BACK", "HELD", "ROLLING_BACK"]
    assert told(k3s, "")[0]["state"] == "rolling back"
    act(k3s, "rollback")
    assert states(k3s)[-1] == "ROLLED_BACK"


def test_another_operators_node_is_not_said_to_be_rolled_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    on_trial(world)
    world.nodes["n7"].holder, world.nodes["n7"].fence = {"who": "eve@n9:/srv/p", "since": 0}, 7
    assert "is in the roll-out of eve" in refused(world, "rollback").message
    assert "ROLLING_BACK" not in states(world)


def test_a_full_disk_stops_it_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    on_trial(world)

    def fails(file: Any, *record: Any) -> Any:
        raise OSError(28, "No space left on device", str(file.path))

    asked = list(world.nodes["n7"].log)
    monkeypatch.setattr(journal.Journal, "append", fails)
    with pytest.raises(OSError, match="No space"):
        act(world, "rollback")
    assert world.nodes["n7"].log == asked


def test_a_disk_that_is_full_before_its_reboot_leaves_no_node_empty(
    k3s: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_trial(k3s)
    append = journal.Journal.append

    def fails(file: Any, build: str, state: str, note: str = "", data: Any = None) -> Any:
        if state == "ROLLING_BACK" and "boot_id" in (data or {}):
            raise OSError(28, "No space left on device", str(file.path))
        return append(file, build, state, note, data)

    with monkeypatch.context() as patch:
        patch.setattr(journal.Journal, "append", fails)
        with pytest.raises(OSError, match="No space"):
            act(k3s, "rollback")
    assert FakeKubernetes.said[-1] == "uncordon False" and k3s.nodes["n7"].boots == [k3s.build.entry]
    act(k3s, "rollback")
    assert k3s.nodes["n7"].boots[-1] == "old"


def test_a_journal_that_is_damaged_in_it_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    on_trial(world)
    ended_in(world, "deny")
    file = journal_file(world.paths, "n7")
    records = journal.read(file)
    before = records[-2].crc
    file.write_bytes(file.read_bytes().replace(b'"ROLLING_BACK"', b'"ROLLING_BECK"'))
    for word in ("rollback", "deploy"):
        with pytest.raises(KbuildError, match="its checksum does not fit"):
            act(world, word)
    line = format.encode(replace(records[-1], state="ROLLING_BECK"), before)
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:-1]) + line)
    with pytest.raises(KbuildError, match="ROLLING_BECK is no state"):
        act(world, "rollback")
