"""The stages with the real helper: a node in a directory (tests/node/world.py), real pacman, the files of systemd-boot,
asked through the same door as any node; its boots are carried out by the test."""

from __future__ import annotations

import dataclasses
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core import model
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.manifest import Package, build_manifest
from kbuild_tasks.core.rollout import order
from kbuild_tasks.effects import artifacts, commands, helper, journal, reach
from kbuild_tasks.effects import node as remote
from kbuild_tasks.effects.context import Context, Paths
from kbuild_tasks.effects.files import sha256_file, write_json
from kbuild_tasks.effects.rollout import Run, journal_file
from kbuild_tasks.effects.waiting import Wait
from kbuild_tasks.node import version
from kbuild_tasks.stages import allow, deploy, prune, reboot, rollback, verify
from tests.node.test_signatures import Keys, sign
from tests.node.world import BOOT_ID, NEW, NEW_ID, OLD, OLD_ID, World, new_world

pytestmark = [pytest.mark.real, pytest.mark.skipif(os.geteuid() != 0, reason="the helper's state belongs to root")]
STAGES = {"deploy": deploy, "reboot": reboot, "verify": verify, "rollback": rollback, "allow": allow, "prune": prune}


class Cluster:
    """A project whose one node is the directory."""

    def __init__(self, root: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.boots: list[str] = []
        rollout = model.Rollout(settle=0, verify_modules=("overlay",), panic_timeout=7, signature="off")
        # "ssh", so that it is not taken for the coordinator; the door below is the local one
        node = model.Node("n7", "127.0.0.1", "ssh")
        self.cluster = model.Cluster(
            root,
            "cluster.yaml",
            model.Kernel("kernel/PKGBUILD", "x86_64", "kernel/config"),
            model.Build("n1", model.Workdir("/srv/kbuild")),
            model.Ssh(),
            {"n1": model.Node("n1", "127.0.0.2", "local", rollout=False), "n7": node},
            rollout,
        )
        self.paths = Paths.of(self.cluster)
        self.paths.artifacts.mkdir(parents=True)
        self.known: dict[str, tuple[str, str]] = {}  # entry -> what boots behind it
        self.back_to = "known-good"
        self.bring(NEW, NEW_ID)
        monkeypatch.setattr(helper, "_argv", lambda cluster, node, alone: [world.shell, str(world.helper)])
        monkeypatch.setattr(helper, "version", lambda: version(str(world.root)))
        monkeypatch.setattr(remote, "hang_up", lambda cluster, node: None)
        monkeypatch.setattr(reach, "knock", lambda node, timeout=1.0: "")
        monkeypatch.setattr(commands, "run", lambda cluster, node, wanted: [])
        until_back = Wait.until_back

        def boot(wait: Wait) -> Any:
            if wait.boot_id:
                self.boot()
            return until_back(wait)

        monkeypatch.setattr(Wait, "until_back", boot)
        world.stand_in("systemd-run", "exit 0")  # the reboot itself is boot() below
        world.stand_in("modprobe", "exit 0")
        world.write("proc/modules", "overlay 1 0 - Live 0x0\n")

    def bring(self, release: str, build_id: str, version: str = "6.1.2-1", content: bytes = b"new") -> None:
        """A kernel into artifacts/, in the place of the one before."""
        path = self.world.package(release, version=version, content=content)
        digest = sha256_file(path)
        assert digest
        signature = Path(f"{path}.sig")
        signed = signature.name if signature.exists() else None
        package = Package(path.name, "linux-cluster", digest, path.stat().st_size, signed)
        (self.paths.artifacts / path.name).write_bytes(path.read_bytes())
        if signed:
            (self.paths.artifacts / signed).write_bytes(signature.read_bytes())
        made = build_manifest([package], release, {}, package_inputs={}, nodes=None, commit=None)
        write_json(self.paths.artifacts / "manifest.json", made | {"build_id": build_id})
        self.build = artifacts.load(self.paths)
        self.known[self.build.entry] = (release, build_id)

    def boot(self) -> None:
        """What the firmware and systemd-boot do."""
        entry = self.world.boots()
        self.boots.append(entry)
        release, build_id = self.known.get(entry, (OLD, OLD_ID))
        build = entry.removeprefix("kbuild-") if entry in self.known else ""
        self.world.runs(release, build_id, str(uuid.uuid4()), build)
        self.world.write("proc/modules", "overlay 1 0 - Live 0x0\n")

    def act(self, *verbs: str) -> Any:
        outcome = None
        for verb in verbs:
            run = Run(self.cluster, self.paths, self.build, order(self.cluster), back_to=self.back_to)
            context = Context(self.cluster, self.paths, f"{verb}:n7", self.cluster.nodes["n7"], rollout=run)
            outcome = STAGES[verb].run(context)
        return outcome

    def refused(self, *verbs: str) -> KbuildError:
        with pytest.raises(KbuildError) as caught:
            self.act(*verbs)
        return caught.value

    def states(self) -> list[str]:
        return [record.state for record in journal.read(journal_file(self.paths, "n7"))]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with new_world() as world:
        world.systemd_boot()
        yield Cluster(tmp_path, world, monkeypatch)


def test_a_good_roll_out(cluster: Cluster) -> None:
    assert f"; {OLD} stays the default" in cluster.act("deploy").message
    assert cluster.boots == []
    assert "is installed already" in cluster.act("deploy").message
    assert NEW in cluster.act("reboot").message
    assert "is its default now" in cluster.act("verify").message
    assert cluster.boots == [cluster.build.entry]
    assert cluster.world.boots() == cluster.build.entry
    assert cluster.states()[-1] == "UNCORDONED"
    for verb in ("deploy", "reboot", "verify"):
        assert cluster.act(verb).run["state"] == "fresh"
    assert cluster.boots == [cluster.build.entry]


def test_a_fall_back_and_the_users_word(cluster: Cluster) -> None:
    cluster.act("deploy")
    boots = cluster.world.boots
    cluster.world.boots = lambda: boots() and boots()  # type: ignore[method-assign] - the trial panics at once
    error = cluster.refused("reboot")
    assert f"on {OLD}: the new kernel did not stay" in error.message
    assert cluster.states()[-1] == "FELL_BACK"
    seen = cluster.world.good("observe")
    assert [entry["build"] for entry in seen["deny"]] == [cluster.build.build]
    assert seen["trial"] is None and seen["loader"]["armed"] == ""
    assert "is not tried again there" in cluster.refused("deploy").message
    cluster.world.boots = boots  # type: ignore[method-assign]
    assert "may be tried there again" in cluster.act("allow").message
    cluster.act("deploy", "reboot", "verify")
    assert cluster.world.good("observe")["known_good"]["build"] == cluster.build.build


def test_a_lie_is_not_committed_and_rolled_back(cluster: Cluster) -> None:
    cluster.act("deploy", "reboot")
    cluster.world.write("proc/sys/kernel/tainted", "128\n")
    error = cluster.refused("verify")
    assert "taint: new: D" in error.evidence
    assert cluster.world.good("observe")["known_good"]["release"] == OLD
    assert f"came back on its known-good {OLD}" in cluster.act("rollback").message
    assert cluster.states()[-1] == "ROLLED_BACK"


def test_a_reboot_that_was_done_is_not_done_again(cluster: Cluster) -> None:
    cluster.act("deploy")
    with pytest.raises(KbuildError, match="has been rebooted meanwhile"):
        helper.ask(cluster.cluster, cluster.cluster.nodes["n7"], "reboot", {"fence": 9, "boot_id": str(uuid.uuid4())})
    helper.ask(cluster.cluster, cluster.cluster.nodes["n7"], "reboot", {"fence": 9, "boot_id": BOOT_ID})


NEXT, NEXT_ID = "6.1.3-next", "c" * 40


def two_verified(cluster: Cluster) -> tuple[str, str]:
    """The entries of two builds, one rolled out after the other."""
    cluster.act("deploy", "reboot", "verify")
    first = cluster.build.entry
    cluster.bring(NEXT, NEXT_ID, "6.1.3-1", b"next")
    cluster.act("deploy", "reboot", "verify")
    seen = cluster.world.good("observe")
    assert (seen["known_good"]["entry"], seen["previous"]["entry"]) == (cluster.build.entry, first)
    return first, cluster.build.entry


def on_the_previous(cluster: Cluster, first: str, second: str) -> None:
    """It runs the first build by default, with its modules; the second is not gone back to, nor brought again."""
    seen = cluster.world.good("observe")
    assert (seen["release"], seen["build_id"], seen["loader"]["default"]) == (NEW, NEW_ID, first)
    assert (seen["known_good"]["entry"], seen["trial"], seen["loader"]["armed"]) == (first, None, "")
    assert [entry["build"] for entry in seen["deny"]] == [second.removeprefix("kbuild-")]
    assert cluster.world.path(f"usr/lib/modules/{NEW}/vmlinuz").read_bytes().startswith(b"NEW KERNEL newnew")
    assert cluster.world.boots() == first


def test_back_to_the_one_before(cluster: Cluster) -> None:
    first, second = two_verified(cluster)
    cluster.back_to = "previous"
    outcome = cluster.act("rollback")
    assert f"came back on its previous {NEW} (build " in outcome.message
    assert f"build {second.removeprefix('kbuild-')} is not tried again there" in outcome.message
    on_the_previous(cluster, first, second)
    assert cluster.states()[-1] == "ROLLED_BACK"
    assert "is not tried again there" in cluster.refused("deploy").message
    boots = len(cluster.boots)
    again = cluster.act("rollback")
    named = f"runs its previous {NEW} (build {first.removeprefix('kbuild-')})"
    assert again.message == named and again.run == {"state": "fresh"}
    assert len(cluster.boots) == boots, "asked once more it does not go forward again"
    on_the_previous(cluster, first, second)
    cluster.back_to = "known-good"
    assert cluster.act("rollback").run == {"state": "fresh"}
    cluster.bring("6.1.4-mended", "d" * 40, "6.1.4-1", b"mended")
    cluster.act("deploy", "reboot", "verify")
    seen = cluster.world.good("observe")
    assert (seen["release"], seen["previous"]["entry"]) == ("6.1.4-mended", first)


def test_back_to_the_one_before_killed_at_every_question(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is cut short, the same word brings it to the same end, and never on to the kernel that was left."""
    first, second = two_verified(cluster)
    cluster.back_to = "previous"
    root, kept = cluster.world.root, cluster.world.top / "kept"
    rollout = cluster.paths.build / "rollout"
    shutil.copytree(root, kept, symlinks=True)
    shutil.copytree(rollout, cluster.world.top / "journals")
    ask, count = helper.ask, 0

    class Killed(BaseException):
        pass

    def killing(*args: Any, **more: Any) -> Any:
        nonlocal count
        answer = ask(*args, **more)
        count -= 1
        if count == 0:
            raise Killed
        return answer

    monkeypatch.setattr(helper, "ask", killing)
    points = 0
    while True:
        points += 1
        for folder, copy in ((root, kept), (rollout, cluster.world.top / "journals")):
            shutil.rmtree(folder)
            shutil.copytree(copy, folder, symlinks=True)
        count = points
        try:
            cluster.act("rollback")
        except Killed:
            cluster.boots.clear()
            count = -1
            cluster.act("rollback")
            on_the_previous(cluster, first, second)
            assert second not in cluster.boots
            continue
        break
    assert points > 6


def test_a_previous_kernel_whose_entry_is_gone_changes_nothing(cluster: Cluster) -> None:
    first, second = two_verified(cluster)
    cluster.back_to = "previous"
    cluster.world.path(f"boot/loader/entries/{first}.conf").unlink()
    error = cluster.refused("rollback")
    assert error.message == f"n7 has no boot entry {first} of its previous {NEW}"
    seen = cluster.world.good("observe")
    assert seen["known_good"]["entry"] == seen["loader"]["default"] == second and seen["deny"] == []
    assert cluster.act("deploy").run == {"state": "fresh"}, "what it runs is as good as before"


def test_prune_after_three(cluster: Cluster) -> None:
    first, second = two_verified(cluster)
    cluster.bring("6.1.4-third", "d" * 40, "6.1.4-1", b"third")
    cluster.act("deploy", "reboot")
    assert "is in the middle of build" in cluster.refused("prune").message
    cluster.act("verify")
    outcome = cluster.act("prune")
    assert outcome.run["removed"] == [first.removeprefix("kbuild-"), f"keep-{OLD_ID[:12]}"]
    assert outcome.run["freed"] > 0 and outcome.run["freed_boot"] > 0
    entries = [entry["id"] for entry in cluster.world.good("observe")["loader"]["entries"]]
    assert sorted(entries) == sorted(["arch", second, cluster.build.entry])
    assert cluster.act("prune").run == {"state": "fresh"}
    cluster.back_to = "previous"
    assert f"came back on its previous {NEXT}" in cluster.act("rollback").message
    outcome = cluster.act("prune")  # what was taken back is none to go back to
    assert outcome.run["removed"] == [cluster.build.build]


def test_signatures_are_required_through_all_of_it(cluster: Cluster) -> None:
    world = cluster.world
    settings = dataclasses.replace(cluster.cluster.rollout, signature="required")
    cluster.cluster = dataclasses.replace(cluster.cluster, rollout=settings)
    keys = Keys(world)
    try:
        builder, stranger = keys.make("builder"), keys.make("stranger")
        keys.trust(builder)
        assert "n7 may only install signed packages" in cluster.refused("deploy").message
        assert cluster.states() == [] and world.good("observe")["known_good"] is None
        make = world.package
        world.package = lambda *args, **more: sign(signer, make(*args, **more))  # type: ignore[method-assign]
        signer = stranger
        cluster.bring(NEW, NEW_ID)
        error = cluster.refused("deploy")
        assert "n7 does not trust the signature" in error.message and "pacman-key --lsign-key" in (error.hint or "")
        assert cluster.states() == []
        signer = builder
        cluster.bring(NEW, NEW_ID)
        cluster.act("deploy", "reboot", "verify")
        assert world.good("observe")["known_good"]["build"] == cluster.build.build
        world.package = make  # type: ignore[method-assign]
    finally:
        keys.close()


def test_what_the_helper_would_refuse_is_not_sent(cluster: Cluster) -> None:
    node = cluster.cluster.nodes["n7"]
    for verb, values in {"probe": {"modules": "$(reboot)"}, "deny": {"build": "x"}, "arm": {"line": "a\nb"}}.items():
        with pytest.raises(KbuildError, match="the helper would refuse"):
            helper.ask(cluster.cluster, node, verb, values)
