"""The stages with the real helper: a node in a directory (tests/node/world.py), real pacman, the files of systemd-boot,
asked through the same door as any node; its boots are carried out by the test."""

from __future__ import annotations

import os
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
from kbuild_tasks.stages import allow, deploy, reboot, rollback, verify
from tests.node.world import BOOT_ID, NEW, NEW_ID, OLD, OLD_ID, World, new_world

pytestmark = [pytest.mark.real, pytest.mark.skipif(os.geteuid() != 0, reason="the helper's state belongs to root")]
STAGES = {"deploy": deploy, "reboot": reboot, "verify": verify, "rollback": rollback, "allow": allow}


class Cluster:
    """A project whose one node is the directory."""

    def __init__(self, root: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world = world
        self.boots: list[str] = []
        self.kernels = {"default": (OLD, OLD_ID)}
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
        path = world.package()
        digest = sha256_file(path)
        assert digest
        package = Package(path.name, "linux-cluster", digest, path.stat().st_size)
        self.paths.artifacts.mkdir(parents=True)
        (self.paths.artifacts / path.name).write_bytes(path.read_bytes())
        made = build_manifest([package], NEW, {}, package_inputs={}, nodes=None, commit=None) | {"build_id": NEW_ID}
        write_json(self.paths.artifacts / "manifest.json", made)
        self.build = artifacts.load(self.paths)
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

    def boot(self) -> None:
        """What the firmware and systemd-boot do."""
        entry = self.world.boots()
        self.boots.append(entry)
        trial = entry == self.build.entry
        release, build_id = (NEW, NEW_ID) if trial else (OLD, OLD_ID)
        self.world.runs(release, build_id, str(uuid.uuid4()), self.build.build if trial else "")
        self.world.write("proc/modules", "overlay 1 0 - Live 0x0\n")

    def act(self, *verbs: str) -> Any:
        outcome = None
        for verb in verbs:
            run = Run(self.cluster, self.paths, self.build, order(self.cluster))
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
    assert f"installed {NEW}; {OLD} stays the default" in cluster.act("deploy").message
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


def test_what_the_helper_would_refuse_is_not_sent(cluster: Cluster) -> None:
    node = cluster.cluster.nodes["n7"]
    for verb, values in {"probe": {"modules": "$(reboot)"}, "deny": {"build": "x"}, "arm": {"line": "a\nb"}}.items():
        with pytest.raises(KbuildError, match="the helper would refuse"):
            helper.ask(cluster.cluster, node, verb, values)
