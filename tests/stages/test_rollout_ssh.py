"""Why a node is not back, over a real sshd: it is stopped, comes with another key, lets nobody in, falls silent, lies
about its boot. The node's root is a directory with the real helper (tests/node/world.py), the clock is the real one."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core.errors import KbuildError, NodeUnreachable
from kbuild_tasks.effects import helper, reach, ssh
from kbuild_tasks.effects import node as remote
from kbuild_tasks.stages import verify
from tests.effects.test_node_ssh import free_port, keygen
from tests.node.world import BOOT_ID, NEW, NEW_ID, OLD, World, new_world
from tests.stages.test_rollout_helper import Cluster

pytestmark = [pytest.mark.real, pytest.mark.skipif(os.geteuid() != 0, reason="sshd is started as root")]
LIMIT = 12  # seconds of reboot_timeout, where it is to end so
KNOCK = reach.knock
HANG_UP = remote.hang_up
ARGV = helper._argv


class Node(Cluster):
    """Behind an sshd of its own. `script`: what happens once it was asked to reboot."""

    def __init__(self, root: Path, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(root / "project", world, monkeypatch)
        self.home = root / "sshd"
        self.home.mkdir(mode=0o755)
        self.daemon: subprocess.Popen[bytes] | None = None
        self.listener: socket.socket | None = None
        self.port = free_port()
        host = keygen(self.home / "host")
        keygen(self.home / "id")
        self.authorized = self.home / "authorized"
        self.authorized.write_text((self.home / "id.pub").read_text())
        self.known_hosts = self.home / "known"
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} ssh-ed25519 {host}\n")
        (self.home / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.home}/host\nPidFile none\nUsePAM no\n"
            f"AuthorizedKeysFile {self.authorized}\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
            "StrictModes no\n"
        )
        node = dataclasses.replace(self.cluster.nodes["n7"], port=self.port)
        self.cluster = dataclasses.replace(
            self.cluster,
            nodes={**self.cluster.nodes, "n7": node},
            ssh=dataclasses.replace(
                self.cluster.ssh, user="root", identity=str(self.home / "id"), known_hosts=str(self.known_hosts)
            ),
            rollout=dataclasses.replace(self.cluster.rollout, reboot_timeout=180),
        )
        monkeypatch.undo()  # what the directory alone needs: here it is a real door
        monkeypatch.setattr(helper, "PATH", str(world.helper))
        self.asked = world.top / "asked"
        from kbuild_tasks.node import version

        monkeypatch.setattr(helper, "version", lambda: version(str(world.root)))
        monkeypatch.setattr(verify, "PATIENCE", 1)
        world.stand_in("systemd-run", f': >"{self.asked}"')
        self.script: Callable[[], None] = lambda: None
        self.failed: list[BaseException] = []

    def start(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)
        words = ["/usr/sbin/sshd", "-D", "-e", "-f", str(self.home / "sshd_config")]
        self.daemon = subprocess.Popen(words, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while KNOCK(self.cluster.nodes["n7"], 1):
            assert time.monotonic() < until
            time.sleep(0.05)

    def stop(self) -> None:
        if self.daemon:
            self.daemon.terminate()
            self.daemon.wait(10)
        self.daemon = None

    def silent(self) -> None:
        """No answer at all: connections pile up before a listener that takes none."""
        self.stop()
        self.listener = socket.socket()
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(("127.0.0.1", self.port))
        self.listener.listen(16)

    def up(self) -> None:
        if self.listener:
            self.listener.close()
            self.listener = None
        self.start()

    def reboot(self) -> Any:
        """`doit reboot`, with the script beside it."""

        def play() -> None:
            try:
                until = time.monotonic() + 300
                while not self.asked.exists():
                    assert time.monotonic() < until
                    time.sleep(0.02)
                self.script()
            except BaseException as error:
                self.failed.append(error)

        thread = threading.Thread(target=play)
        thread.start()
        try:
            return self.act("reboot")
        finally:
            thread.join(300)
            assert not self.failed

    def fails(self) -> KbuildError:
        rollout = dataclasses.replace(self.cluster.rollout, reboot_timeout=LIMIT)
        self.cluster = dataclasses.replace(self.cluster, rollout=rollout)
        with pytest.raises(KbuildError) as caught:
            self.reboot()
        assert self.states()[-1] == "HELD"
        assert "BACK" not in self.states(), "it was not taken for rebooted"
        assert caught.value.hint
        return caught.value

    def close(self) -> None:
        if self.listener:
            self.listener.close()
        self.stop()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    before, ssh.SOCKETS = ssh.SOCKETS, Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    with new_world() as world:
        world.systemd_boot()
        made = Node(tmp_path, world, monkeypatch)
        try:
            made.start()
            made.act("deploy")
            yield made
        finally:
            HANG_UP(made.cluster, made.cluster.nodes["n7"])
            made.close()
            shutil.rmtree(ssh.SOCKETS)
            ssh.SOCKETS = before


def test_a_slow_shutdown_is_waited_for(node: Node) -> None:
    def script() -> None:
        time.sleep(3)  # it answers, and is the old boot
        node.silent()
        time.sleep(1)
        node.boot()
        node.up()

    node.script = script
    assert node.reboot().message.startswith(f"{NEW} after ")
    assert len(node.boots) == 1


def test_one_that_never_goes_down(node: Node) -> None:
    told = node.fails().message
    assert re.match(r"n7 did not go down within 1\d s: it still runs the boot in which it was asked", told), told


def test_one_whose_sshd_stops_and_that_hangs_on_its_way_down(node: Node) -> None:
    def script() -> None:
        time.sleep(1)
        node.stop()

    node.script = script
    told = node.fails().message
    assert "and was never seen without its network since: it hangs on its way down, or came back without sshd" in told


def test_one_that_lost_its_network_and_did_not_reboot(node: Node) -> None:
    def script() -> None:
        node.silent()
        time.sleep(2)
        node.up()

    node.script = script
    told = node.fails().message
    assert "and still runs the boot in which it was asked: its network or its sshd was gone, it did not reboot" in told


def test_one_that_is_silent(node: Node) -> None:
    node.script = node.silent
    told = node.fails().message
    assert f"n7 went down and has been silent at 127.0.0.1 port {node.port} for " in told


def test_one_without_sshd(node: Node) -> None:
    def script() -> None:
        node.silent()
        assert node.listener
        said = b"SSH-"  # by an ssh that found the old sshd a moment ago; who only knocks says nothing, and goes
        while said:
            caller, _ = node.listener.accept()
            with caller:
                said = caller.recv(4)
        node.boot()
        node.listener.close()
        node.listener = None

    node.script = script
    assert "n7 is back, but its sshd does not run: 127.0.0.1 port" in node.fails().message


def test_one_with_another_host_key(node: Node) -> None:
    asked = node.world.path("var/lib/kbuild-tasks/rollout/events.log")

    def script() -> None:
        node.silent()
        time.sleep(1)
        for name in ("host", "host.pub"):
            (node.home / name).unlink()
        keygen(node.home / "host")
        node.boot()
        node.up()

    node.script = script
    before = node.known_hosts.read_bytes()
    error = node.fails()
    events = asked.read_text()
    assert error.message == "n7 is back with another host key than the known one; it was not accepted"
    assert f"ssh-keygen -f '{node.known_hosts}' -R '[127.0.0.1]:{node.port}'" in (error.hint or "")
    assert f"ssh-keyscan -p {node.port} 127.0.0.1 >> " in (error.hint or "") and "fingerprint" in (error.hint or "")
    assert node.known_hosts.read_bytes() == before
    with pytest.raises(NodeUnreachable, match="shows another host key than the known one"):
        node.act("rollback")
    assert asked.read_text() == events, "its helper was not asked for anything"
    scanned = subprocess.run(
        ["ssh-keyscan", "-t", "ed25519", "-p", str(node.port), "127.0.0.1"], check=True, capture_output=True
    ).stdout  # the user looked, and knows why
    node.known_hosts.write_bytes(scanned)
    assert "after a reboot that an earlier run asked for" in node.act("reboot").message
    assert len(node.boots) == 1


def test_one_that_lets_nobody_in(node: Node) -> None:
    def script() -> None:
        node.silent()
        time.sleep(1)
        node.authorized.write_text("")
        node.boot()
        node.up()

    node.script = script
    assert node.fails().message == "n7 is back, but does not let the account in"


@pytest.mark.parametrize("boot_id", ["System is going down.", "", f"{BOOT_ID[:-1]}A", BOOT_ID[:-1]])
def test_one_whose_boot_id_is_none(boot_id: str, node: Node) -> None:
    """ansible #83018 took such a text for a new boot."""

    def script() -> None:
        node.world.write("proc/sys/kernel/random/boot_id", boot_id + "\n")

    node.script = script
    error = node.fails()
    assert f"n7 answers at 127.0.0.1 port {node.port}, but not as a node that is up" in error.message
    assert "is no boot id" in "".join(error.evidence) or "boot id" in "".join(error.evidence)


def test_one_whose_clock_is_wrong_after_it(node: Node) -> None:
    there = shutil.which("date")

    def script() -> None:
        node.silent()
        time.sleep(1)
        node.boot()
        node.world.stand_in("date", f'exec {there} -d "now + 3 hours" "$@"')  # no battery, and no NTP yet
        node.up()

    node.script = script
    assert NEW in node.reboot().message, "the boot id tells, not the clock"
    with pytest.raises(KbuildError) as caught:
        node.act("verify")
    assert f"runs {NEW}, and 1 of " in caught.value.message and "checks failed: clock" in caught.value.message
    assert any(line.startswith("clock: +1080") or line.startswith("clock: +1079") for line in caught.value.evidence)
    assert node.world.good("observe")["known_good"]["release"] == OLD


def test_one_whose_clock_jumps_back_a_day_reboots_and_is_seen(node: Node) -> None:
    there = shutil.which("date")
    node.world.stand_in("date", f'exec {there} -d "now - 1 day" "$@"')  # it was so before, too

    def script() -> None:
        node.silent()
        time.sleep(1)
        node.boot()
        node.up()

    node.script = script
    node.reboot()
    node.act("verify")
    assert node.states()[-1] == "UNCORDONED"
    assert node.world.good("observe")["build_id"] == NEW_ID and uuid.UUID(node.world.good("observe")["boot_id"])
