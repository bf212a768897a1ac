"""deploy, reboot, verify, rollback on fake nodes: each fault in its own words, and what is left behind by it."""

from __future__ import annotations

import types
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core.errors import KbuildError, NodeRefused, NodeUnreachable
from kbuild_tasks.core.kubectl import ApiUnreachable
from kbuild_tasks.core.model import Window
from kbuild_tasks.effects import helper, journal, lease, reach, transfer
from kbuild_tasks.effects import k3s as k3s_effects
from kbuild_tasks.effects.resume import unit
from kbuild_tasks.effects.rollout import journal_file
from kbuild_tasks.stages import allow, deploy, prune, reboot, rollback, takeover, verify
from tests.fake_nodes import World

STAGES = {"deploy": deploy, "reboot": reboot, "verify": verify, "rollback": rollback, "allow": allow}
STAGES |= {"takeover": takeover, "prune": prune}


def act(world: World, *verbs: str, name: str = "n7") -> Any:
    """The last one's outcome; each in a run of its own, as if typed one after the other."""
    outcome = None
    for verb in verbs:
        outcome = STAGES[verb].run(world.context(world.run(), verb, name))
    return outcome


def refused(world: World, *verbs: str, name: str = "n7") -> KbuildError:
    with pytest.raises(KbuildError) as caught:
        act(world, *verbs, name=name)
    return caught.value


def states(world: World, name: str = "n7") -> list[str]:
    return [record.state for record in journal.read(journal_file(world.paths, name))]


GOOD = ["STAGED", "INSTALLED", "BOOTFILES_OK", "ARMED", "REBOOTING", "BACK", "VERIFIED", "VERIFIED2", "COMMITTED"]


def test_the_journal_of_a_good_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    act(world, "deploy", "reboot", "verify")
    assert states(world) == [*GOOD, "UNCORDONED"]
    assert world.nodes["n7"].holder is None, "any operator may be the next"


def test_the_default_moves_only_after_the_second_verify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    seen: list[tuple[str, str]] = []
    append = journal.Journal.append

    def watch(file: Any, build: str, state: str, *more: Any) -> Any:
        seen.append((state, world.nodes["n7"].default))
        return append(file, build, state, *more)

    monkeypatch.setattr(journal.Journal, "append", watch)
    act(world, "deploy", "reboot", "verify")
    assert {default for state, default in seen if state not in ("COMMITTED", "UNCORDONED")} == {"old"}
    assert dict(seen)["COMMITTED"] == world.build.entry


@pytest.mark.parametrize(
    ("fault", "says", "state"),
    [
        ("panic", "on 6.1.190-cluster: the new kernel panicked", "FELL_BACK"),
        ("wrong-release", "on 6.1.192-cluster-other: the new kernel did not stay", "FELL_BACK"),
        ("other-build-id", "on another build of 6.1.192-cluster", "FELL_BACK"),
        ("hang", "went down and has been silent at 10.0.0.10 port 22", "HELD"),
        ("no-net", "it hangs, or has no network", "HELD"),
        ("no-sshd", "is back, but its sshd does not run", "HELD"),
        ("host-key", "is back with another host key than the known one", "HELD"),
        ("no-login", "is back, but does not let the account in", "HELD"),
        ("stuck", "did not go down within 6", "HELD"),
        ("not-tried", "its loader did not try the armed entry", "HELD"),
    ],
)
def test_a_node_that_comes_back_wrong(
    fault: str, says: str, state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch)
    world.nodes["n7"].faults = {fault}
    error = refused(world, "deploy", "reboot")
    assert says in error.message and error.hint, error.render()
    assert states(world)[-1] == state
    assert world.nodes["n7"].default == "old"
    assert (world.build.build in world.nodes["n7"].deny) == (state == "FELL_BACK")


def test_what_its_loader_did_not_try_stays_armed_for_no_later_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch)
    node = world.nodes["n7"]
    node.faults = {"not-tried"}
    refused(world, "deploy", "reboot")
    assert node.armed == "" and node.trial is None and not node.deny
    node.faults = set()  # somebody mended the loader
    act(world, "deploy", "reboot", "verify")
    assert states(world)[-1] == "UNCORDONED" and node.default == world.build.entry


def test_the_console_tells_why_and_only_of_this_boot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    world.nodes["n7"].faults = {"other-build-id"}
    console = world.paths.build / "console/n7-console.log"
    console.parent.mkdir(parents=True)
    console.write_text("[ 1.0] Kernel panic - not syncing: of last week\n")
    knock = reach.knock

    def says(node: Any, timeout: float = 1.0) -> str:
        console.write_text(console.read_text() + "[ 2.0] Kernel panic - not syncing: of today\n")
        return knock(node, timeout)

    act(world, "deploy")
    monkeypatch.setattr(reach, "silent", lambda nodes: [])
    monkeypatch.setattr(reach, "knock", says)
    error = refused(world, "reboot")
    assert "the new kernel panicked" in error.message
    assert error.evidence == ("Kernel panic - not syncing: of today",)
    assert (error.hint or "").startswith("see build/logs/n7-console.log; ")


def test_a_slow_shutdown_is_no_reboot_and_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    world.nodes["n7"].faults = {"slow"}
    assert "after 32" in act(world, "deploy", "reboot").message


def test_a_node_that_was_lost_may_yet_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    world.nodes["n7"].faults = {"hang"}
    refused(world, "deploy", "reboot")
    world.nodes["n7"].power_cut()  # the operator's hand
    error = refused(world, "reboot")
    assert "came back" in error.message and "on 6.1.190-cluster" in error.message
    assert "is not tried again there" in refused(world, "deploy").message


def test_a_trial_that_came_late_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    world.nodes["n7"].faults = {"no-sshd"}
    refused(world, "deploy", "reboot")
    world.nodes["n7"].faults = set()  # somebody started sshd
    act(world, "deploy", "reboot", "verify")
    assert states(world)[-1] == "UNCORDONED" and world.nodes["n7"].asked == 1


def test_verify_fails_and_the_default_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    node = world.nodes["n7"]
    act(world, "deploy", "reboot")
    node.health["kernel_errors"].append("BUG: kernel NULL pointer dereference")
    error = refused(world, "verify")
    assert "runs 6.1.192-cluster, and 1 of 15 checks failed: kernel log" in error.message
    assert error.evidence == ("kernel log: new error: BUG: kernel NULL pointer dereference",)
    assert node.default == "old" and node.deny
    assert "is not tried again" in refused(world, "verify").message
    assert "came back on its known-good 6.1.190-cluster" in act(world, "rollback").message
    assert node.running["release"] == "6.1.190-cluster" and states(world)[-1] == "ROLLED_BACK"
    assert "runs its known-good" in act(world, "rollback").message
    assert "may be tried there again" in act(world, "allow").message
    node.health["kernel_errors"].pop()
    act(world, "deploy", "reboot", "verify")
    assert states(world)[-1] == "UNCORDONED"


def test_what_is_still_starting_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    node = world.nodes["n7"]
    act(world, "deploy", "reboot")
    node.health["synchronized"] = False
    up = world.time + 30
    node.lies["baseline"] = lambda answer: answer | {"synchronized": world.time > up}
    act(world, "verify")
    assert states(world)[-1] == "UNCORDONED"


def test_a_crash_in_the_second_look_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    world.nodes["n7"].faults = {"crash"}
    error = refused(world, "deploy", "reboot", "verify")
    assert "it went down again before it was verified" in error.message
    assert states(world)[-2:] == ["VERIFIED", "FELL_BACK"]


def test_files_that_are_not_right_are_never_armed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("missing", "changed", "modules_missing"):
        world = World(tmp_path / kind, monkeypatch)
        node = world.nodes["n7"]
        node.lies["bootfiles"] = lambda answer, kind=kind: answer | {kind: ["usr/lib/modules/x"]}
        error = refused(world, "deploy")
        assert "what is installed is not what the package holds" in error.message
        assert error.evidence == (f"{kind.replace('_', ' ')}: usr/lib/modules/x",)
        assert "has not got the kernel yet" in refused(world, "reboot").message
        assert not node.armed and not node.boots
        del node.lies["bootfiles"]
        act(world, "deploy", "reboot", "verify")


def test_files_that_changed_since_deploy_are_never_armed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    act(world, "deploy")
    world.nodes["n7"].lies["bootfiles"] = lambda answer: answer | {"changed": ["boot/kbuild/x/vmlinuz"]}
    assert "files of 6.1.192-cluster have changed since deploy" in refused(world, "reboot").message
    assert not world.nodes["n7"].armed and not world.nodes["n7"].boots


def test_a_loader_that_does_not_arm_is_not_rebooted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    world.nodes["n7"].lies["arm"] = lambda answer: answer | {"armed": ""}
    assert "did not arm the trial" in refused(world, "deploy", "reboot").message
    world.nodes["n7"].lies["arm"] = lambda answer: answer | {"default": world.build.entry}
    assert "did not arm the trial" in refused(world, "reboot").message
    assert world.nodes["n7"].boots == []


def test_pacman_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    world.nodes["n7"].lies["install"] = lambda answer: {"pacman": 1, "said": ["error: conflicting files"]}
    error = refused(world, "deploy")
    assert "pacman ended with status 1; its kernel is as it was" in error.message
    assert error.evidence == ("error: conflicting files",)


def test_another_helper_is_replaced_or_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    node = world.nodes["n7"]
    node.lies["observe"] = lambda answer: answer | {"helper": "older"}
    installed: list[str] = []

    def install(cluster: Any, where: Any) -> bool:
        installed.append(where.name)
        node.lies.clear()
        return True

    monkeypatch.setattr(helper, "install", install)
    allowed, world.cluster = world.cluster, replace(world.cluster, ssh=replace(world.cluster.ssh, sudo="helper"))
    error = refused(world, "deploy")
    assert "has another helper (older) than this program (fake)" in error.message
    assert (error.hint or "").startswith("the admin of n7 installs it")
    world.cluster = allowed
    act(world, "deploy")
    assert installed == ["n7"]


def test_the_window_holds_the_reboot_and_not_the_deploy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, window=Window(60, 120))
    act(world, "deploy")
    error = refused(world, "reboot")
    assert "n7 is not rebooted now: the window opens Tue 01:00 UTC; it is Mon 02:16 UTC" in error.message
    assert world.nodes["n7"].boots == []
    world.start += timedelta(hours=22, minutes=50)
    act(world, "reboot", "verify")


def test_the_window_closes_between_arming_and_reboot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch, window=Window(60, 180))
    node = world.nodes["n7"]
    act(world, "deploy")

    def late(answer: dict[str, Any]) -> dict[str, Any]:
        world.start += timedelta(hours=2)
        return answer

    node.lies["arm"] = late
    assert "is not rebooted now" in refused(world, "reboot").message
    assert node.armed == "" and node.trial is None and node.boots == [], "it is as it was before"


def test_no_node_is_rebooted_while_another_is_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    act(world, "deploy")
    world.nodes["n3"].unplugged = True
    error = refused(world, "reboot")
    assert error.message == "n7 is not rebooted while n3 is down"
    assert world.nodes["n7"].boots == []


def test_clock_steps_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    act(world, "deploy")
    node = world.nodes["n7"]

    def step(answer: dict[str, Any]) -> dict[str, Any]:
        world.start += timedelta(hours=1)  # both clocks: the coordinator's, and NTP follows
        return answer

    node.lies["reboot"] = step
    act(world, "reboot", "verify")
    assert states(world)[-1] == "UNCORDONED"


def test_a_cut_transfer_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "CHUNK", 100)
    world = World(tmp_path, monkeypatch)
    node = world.nodes["n7"]
    puts: list[int] = []
    inner = helper.ask

    def cut(cluster: Any, where: Any, verb: str, values: Any = None, payload: Any = None, **more: Any) -> Any:
        if verb == "stage-put":
            puts.append(len(payload))
            if len(puts) == 4:  # half of it arrived
                node.staged[world.build.build][values["name"]] += payload[:50]
                raise NodeUnreachable("n7 was lost in the middle of the work")
        return inner(cluster, where, verb, values, payload, **more)

    monkeypatch.setattr(helper, "ask", cut)
    act(world, "deploy")
    size = sum(world.build.files.values()) + (world.paths.artifacts / "manifest.json").stat().st_size
    assert sum(puts) == size + 50, "nothing that arrived was sent again, but for the half of one chunk"


def test_wrong_bytes_are_not_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    inner = helper.ask

    def flip(cluster: Any, where: Any, verb: str, values: Any = None, payload: Any = None, **more: Any) -> Any:
        payload = b"!" + payload[1:] if payload else payload
        return inner(cluster, where, verb, values, payload, **more)

    monkeypatch.setattr(helper, "ask", flip)
    assert "has other bytes" in refused(world, "deploy").message
    assert states(world) == []


def test_a_second_operator_is_refused_and_a_stale_one_cannot_act(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, monkeypatch)
    run = world.run()
    deploy.run(world.context(run, "deploy", "n7"))  # and is paused
    with monkeypatch.context() as other:
        other.setattr(lease, "who", lambda root: "eve@n9:/srv/p")
        journal_file(world.paths, "n7").rename(tmp_path / "kept")  # eve has a project of her own
        (world.paths.build / "rollout/state.json").rename(tmp_path / "state")
        error = refused(world, "deploy")
        assert "n7 is in the roll-out of builder@n1:" in error.message and "doit takeover" in (error.hint or "")
        assert "taken over from builder@n1:" in act(world, "takeover").message
        act(world, "deploy")
        (tmp_path / "kept").rename(journal_file(world.paths, "n7"))
        (tmp_path / "state").rename(world.paths.build / "rollout/state.json")
    with pytest.raises(NodeRefused, match="is in another roll-out: eve@n9"):
        reboot.run(world.context(run, "reboot", "n7"))  # it wakes up
    assert world.nodes["n7"].boots == [] and not world.nodes["n7"].armed


def test_another_operators_trial_is_told_by_who_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as a trial that nobody knows, with the advice to roll it back."""
    world = World(tmp_path, monkeypatch)
    act(world, "deploy", "reboot")
    journal_file(world.paths, "n7").unlink()
    monkeypatch.setattr(lease, "who", lambda root: "eve@n9:/srv/p")
    error = refused(world, "deploy")
    assert "n7 is in the roll-out of builder@n1:" in error.message and "doit takeover" in (error.hint or "")


def test_a_trial_that_the_journal_does_not_know_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    act(world, "deploy", "reboot")
    journal_file(world.paths, "n7").unlink()
    error = refused(world, "deploy")
    assert "which this project's journal does not know" in error.message
    assert "doit rollback:n7" in (error.hint or "")
    act(world, "rollback")


def test_a_damaged_journal_stops_its_node_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    act(world, "deploy")
    path = journal_file(world.paths, "n7")
    path.write_bytes(path.read_bytes().replace(b"INSTALLED", b"VERIFIED2"))
    assert "build/rollout/n7.jsonl is damaged in line 2" in refused(world, "reboot").message
    act(world, "deploy", name="n2")


def test_a_newer_build_takes_the_place_of_an_armed_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    act(world, "deploy")
    from tests.fake_nodes import Killed

    for number in range(1, 60):  # until it is killed between ARMED and REBOOTING
        world.points, world.kill_at = 0, number
        try:
            act(world, "reboot")
        except Killed:
            if states(world)[-1] == "ARMED":
                break
    world.kill_at = None
    world.package(b"another" * 100)
    act(world, "deploy", "reboot", "verify")
    assert states(world).count("UNCORDONED") == 1
    assert world.nodes["n7"].boots == [world.build.entry]


def rolled_out(world: World, *builds: bytes) -> list[str]:
    """One build after the other, each verified on n7."""
    for data in builds:
        world.package(data * 100)
        act(world, "deploy", "reboot", "verify")
    return sorted(world.nodes["n7"].staged, key=lambda build: world.nodes["n7"].boots.index(f"kbuild-{build}"))


def test_old_builds_go_by_the_users_word_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    node = world.nodes["n7"]
    assert "nothing was rolled out there" in act(world, "prune").message
    builds = rolled_out(world, b"one", b"two", b"three", b"four")
    assert len(node.staged) == 4, "no roll-out removes any"
    outcome = act(world, "prune")
    assert outcome.run["removed"] == sorted(builds[:2])
    assert "MiB of / and 40 MiB of /boot are free again; known-good 6.1.192-cluster" in outcome.message
    stay = f"known-good 6.1.192-cluster ({builds[3]}), previous 6.1.192-cluster ({builds[2]}) stay"
    assert outcome.message.endswith(stay), "by their ids: releases may be the same"
    assert set(node.staged) == set(builds[2:]) and node.holder is None
    again = act(world, "prune")
    assert again.run == {"state": "fresh"} and again.message.startswith("nothing to remove; known-good 6.1.192")


def test_one_build_goes_or_it_is_said_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    builds = rolled_out(world, b"one", b"two", b"three", b"four")
    for build, why in ((builds[3], "known-good"), (builds[2], "previous")):
        world.only_build = build
        assert refused(world, "prune").message == f"n7 needs build {build}: {why}"
    world.only_build = builds[1]
    assert act(world, "prune").run["removed"] == [builds[1]]
    assert set(world.nodes["n7"].staged) == {builds[0], *builds[2:]}
    assert act(world, "prune").run == {"state": "fresh"}


def test_nothing_is_removed_in_the_middle_of_a_roll_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    node = world.nodes["n7"]
    builds = rolled_out(world, b"one", b"two", b"three")
    world.package(b"four" * 100)
    act(world, "deploy", "reboot")
    assert f"n7 is in the middle of build {world.build.build} (BACK since" in refused(world, "prune").message
    assert len(node.staged) == 4
    act(world, "verify")
    node.holder, node.fence = {"who": "eve@n9:/srv/p", "since": 0}, 99
    assert "is in the roll-out of eve@n9" in refused(world, "prune").message
    assert set(builds) < set(node.staged)


def test_no_room_names_the_way_to_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    node = world.nodes["n7"]
    rolled_out(world, b"one", b"two", b"three")
    world.package(b"four" * 100)

    def full(answer: dict[str, Any]) -> dict[str, Any]:
        error = NodeRefused("n7 has 3 MiB free in /boot and needs 20", "remove old kernels there: ls /boot")
        error.word = "space-boot"
        raise error

    for verb in ("stage-put", "check", "bootfiles"):
        node.lies = {verb: full}
        error = refused(world, "deploy")
        assert error.hint == "doit prune:n7 removes an old build there; else remove old kernels there: ls /boot"
    assert states(world)[-2:] == ["INSTALLED", "HELD"]
    node.lies = {}
    lease_of = node.holder
    act(world, "prune")
    assert len(node.staged) == 3 and world.build.build in node.staged, "what is being rolled out stays"
    assert node.holder == lease_of is not None, "and the roll-out keeps its lease"
    act(world, "deploy", "reboot", "verify")


class FakeKubernetes:
    """As effects/kubernetes.py, on a list of what was asked."""

    said: list[str] = []  # noqa: RUF012
    fails = ""
    servers = ""
    was_cordoned = False
    full = False
    away = ""

    @classmethod
    def of(cls, cluster: Any, node: Any) -> FakeKubernetes | None:
        return cls() if node.k3s else None

    def cordon_and_drain(self, node: Any, seconds: float) -> Any:
        self._say("drain")
        type(self).full = False
        return types.SimpleNamespace(was_cordoned=self.was_cordoned)

    def wait_ready(self, node: Any, boot_id: str, kernelrelease: str, seconds: float, since: str | None) -> str:
        self._say(f"ready {kernelrelease} since {since}")
        return f"renewal {len(self.said)}"

    def uncordon(self, node: Any, was_cordoned: bool) -> None:
        self._say(f"uncordon {was_cordoned}")

    def lease(self, node: Any) -> str:
        return "of before"

    def is_empty(self, node: Any) -> bool:
        return not self.full

    def is_ours(self, node: Any) -> bool:
        return True

    def server_may_go(self, sick: Any = None) -> str | None:
        if self.servers and not sick:
            raise NodeRefused(self.servers)
        return None

    def _say(self, what: str) -> None:
        type(self).said.append(what)
        if self.away and what.startswith(self.away):
            raise ApiUnreachable("the API does not answer")
        if self.fails and what.startswith(self.fails):
            raise NodeRefused(f"{self.fails} failed")


@pytest.fixture
def k3s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Decisions alone; with a real kubectl: tests/stages/test_rollout_k3s.py."""
    FakeKubernetes.said, FakeKubernetes.fails, FakeKubernetes.servers = [], "", ""
    FakeKubernetes.was_cordoned, FakeKubernetes.full, FakeKubernetes.away = False, False, ""
    monkeypatch.setattr(k3s_effects, "Kubernetes", FakeKubernetes)
    world = World(tmp_path, monkeypatch)
    nodes = {name: replace(node, k3s="agent") for name, node in world.cluster.nodes.items()}
    nodes["n3"] = replace(nodes["n3"], k3s="server")
    world.cluster = replace(world.cluster, nodes=nodes)
    return world


def test_a_k3s_node_is_drained_and_comes_back(k3s: World) -> None:
    act(k3s, "deploy", "reboot", "verify")
    ready = "ready 6.1.192-cluster since "
    assert FakeKubernetes.said == ["drain", f"{ready}of before", f"{ready}renewal 2", "uncordon False"]
    assert states(k3s)[3:5] == ["DRAINED", "ARMED"]
    assert [verb for verb in k3s.nodes["n7"].log if verb in ("k3s", "arm", "reboot")] == ["k3s", "arm", "reboot"]


def test_an_operators_cordon_survives(k3s: World) -> None:
    FakeKubernetes.was_cordoned = True
    act(k3s, "deploy", "reboot", "verify")
    assert FakeKubernetes.said[-1] == "uncordon True"


def test_a_drain_that_fails_changes_nothing(k3s: World) -> None:
    FakeKubernetes.fails = "drain"
    assert "drain failed" in refused(k3s, "deploy", "reboot").message
    assert not k3s.nodes["n7"].boots and not k3s.nodes["n7"].armed


def test_after_a_failed_arm_the_node_takes_pods_again(k3s: World) -> None:
    k3s.nodes["n7"].lies["arm"] = lambda answer: answer | {"armed": ""}
    refused(k3s, "deploy", "reboot")
    assert FakeKubernetes.said == ["drain", "uncordon False"]


def test_what_cannot_be_undone_hides_nothing_and_is_put_right_by_the_next_run(k3s: World) -> None:
    node = k3s.nodes["n7"]
    node.lies["arm"] = lambda answer: answer | {"armed": ""}
    FakeKubernetes.away = "uncordon"
    error = refused(k3s, "deploy", "reboot")
    assert "did not arm the trial" in error.message
    assert error.evidence == ("and it is not as it was before: the API does not answer",)
    node.lies, FakeKubernetes.away = {}, ""
    act(k3s, "reboot", "verify")
    assert states(k3s)[-1] == "UNCORDONED" and FakeKubernetes.said[-1] == "uncordon False" and len(node.boots) == 1


def test_after_a_fall_back_the_node_takes_pods_again(k3s: World) -> None:
    k3s.nodes["n7"].faults = {"panic"}
    refused(k3s, "deploy", "reboot")
    assert FakeKubernetes.said == ["drain", "ready 6.1.190-cluster since of before", "uncordon False"]


def test_a_node_that_is_not_ready_is_not_committed(k3s: World) -> None:
    FakeKubernetes.fails = "ready"
    assert "ready failed" in refused(k3s, "deploy", "reboot", "verify").message
    assert k3s.nodes["n7"].default == "old" and states(k3s)[-1] == "HELD"


def test_a_server_goes_only_with_quorum(k3s: World) -> None:
    FakeKubernetes.servers = "2 of 3 are well"
    assert "2 of 3 are well" in refused(k3s, "deploy", "reboot", name="n3").message
    assert FakeKubernetes.said == [] and not k3s.nodes["n3"].boots


def kill_at_state(world: World, state: str) -> None:
    """`doit reboot`, killed right after that state was written."""
    from tests.fake_nodes import Killed

    for number in range(1, 60):
        world.points, world.kill_at = 0, number
        try:
            act(world, "reboot")
        except Killed:
            if states(world)[-1] == state:
                break
    world.kill_at = None
    assert states(world)[-1] == state


def test_what_was_emptied_before_a_kill_is_looked_at_again(k3s: World) -> None:
    act(k3s, "deploy")
    kill_at_state(k3s, "DRAINED")
    FakeKubernetes.said.clear()
    FakeKubernetes.full = True  # an operator let pods back
    k3s.nodes["n7"].log.clear()
    act(k3s, "reboot", "verify")
    assert FakeKubernetes.said[0] == "drain" and FakeKubernetes.said[-1] == "uncordon False"
    assert k3s.nodes["n7"].boots == [k3s.build.entry] and k3s.nodes["n7"].log.count("k3s") == 2, "started, and stopped"


@pytest.mark.parametrize("state", ["DRAINED", "ARMED"])
def test_what_a_kill_left_ready_to_go_waits_for_nodes_that_are_down(k3s: World, state: str) -> None:
    """Armed yesterday, and today another node is down: it may not go, and is put back."""
    act(k3s, "deploy")
    kill_at_state(k3s, state)
    k3s.nodes["n2"].unplugged = True
    FakeKubernetes.said.clear()
    assert refused(k3s, "reboot").message == "n7 is not rebooted while n2 is down"
    node = k3s.nodes["n7"]
    assert not node.boots and not node.armed and FakeKubernetes.said == ["uncordon False"] and node.log[-1] == "k3s"
    k3s.nodes["n2"].unplugged = False
    act(k3s, "reboot", "verify")
    assert node.boots == [k3s.build.entry] and states(k3s)[-1] == "UNCORDONED"


def test_an_api_that_is_away_is_held_against_a_servers_kernel_alone(k3s: World) -> None:
    FakeKubernetes.away = "ready"
    assert "the API does not answer" in refused(k3s, "deploy", "reboot", "verify").message
    assert not k3s.nodes["n7"].deny and states(k3s)[-1] == "HELD"
    FakeKubernetes.away = ""
    act(k3s, "verify")
    assert states(k3s)[-1] == "UNCORDONED", "it goes on where it stopped"
    act(k3s, "deploy", "reboot", name="n3")
    FakeKubernetes.away = "ready"
    assert "the API does not answer" in refused(k3s, "verify", name="n3").message
    assert k3s.nodes["n3"].deny


def test_a_server_whose_own_kernel_broke_the_api_is_rolled_back_all_the_same(k3s: World) -> None:
    act(k3s, "deploy", "reboot", "verify", name="n3")
    FakeKubernetes.away, FakeKubernetes.servers = "drain", "2 of 3 are well"
    k3s.back_to = "previous"
    outcome = act(k3s, "rollback", name="n3")
    assert "came back on its previous 6.1.190-cluster" in outcome.message
    assert outcome.warnings == ("n3 was rebooted under its pods: the API does not answer",)
    assert FakeKubernetes.said[-1] == "uncordon False"


def test_an_agent_is_emptied_before_it_goes_back(k3s: World) -> None:
    act(k3s, "deploy", "reboot", "verify")
    FakeKubernetes.said.clear()
    FakeKubernetes.away, k3s.back_to = "drain", "previous"
    assert "the API does not answer" in refused(k3s, "rollback").message
    assert k3s.nodes["n7"].boots == [k3s.build.entry], "not under its pods"
    FakeKubernetes.away = ""
    act(k3s, "rollback")
    assert FakeKubernetes.said == ["drain", "drain", "ready 6.1.190-cluster since of before", "uncordon False"]
    assert k3s.nodes["n7"].boots[-1] == "old"


def test_the_unit_that_goes_on_after_the_coordinators_reboot() -> None:
    text = unit(
        Path('/srv/a "b" 100%'), "builder", "/srv/$x/python", "/bin:/usr/bin", Path("/srv/log"), "rollout", "only=n1"
    )
    assert 'ExecStart="/srv/$$x/python" -m doit "rollout" "only=n1"\n' in text
    assert "\nExecStopPost=-+/usr/bin/systemctl disable kbuild-rollout-resume.service\n" in text
    assert 'WorkingDirectory=/srv/a "b" 100%%\n' in text
    assert "User=builder\n" in text and 'Environment="PATH=/bin:/usr/bin"\n' in text
    with pytest.raises(KbuildError, match="cannot stand in a systemd unit"):
        unit(Path("/srv/a\nExecStart=/bin/evil"), "builder", "python", "/bin", Path("/l"), "rollout")
