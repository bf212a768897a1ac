"""Workers that vanish, by real sockets on loopback; time is a number that the test moves."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbuild_tasks.core.distcc_log import DistccLog
from kbuild_tasks.core.hosts import ENVIRONMENT, HostPlan
from kbuild_tasks.effects import distcc
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.distcc import Client
from kbuild_tasks.effects.distcc_watch import CONNECT, FAILURES, QUIET, REST, RETRY, SILENT, Watch, end_client


class Scene:
    """One worker, and jobs on it as distcc's log tells them."""

    def __init__(self, where: str) -> None:
        self.where, self.log = where, DistccLog()
        self.gone: list[tuple[str, ...]] = []
        self.ended: list[int] = []
        self.watch = Watch({where: "k2"}, self.log, lambda names: self.gone.append(tuple(names)), self.end)

    def end(self, pid: int) -> bool:
        self.ended.append(pid)
        return True

    def job(self, pid: int, now: float) -> None:
        text = (
            f'distcc[{pid}] (dcc_trace_version) 3.4\ndistcc[{pid}] (dcc_scan_args) found object/output file "o{pid}"\n'
        )
        self.log.feed(f"{text}distcc[{pid}] exec on {self.where}/2,lzo: gcc\n".encode(), now)

    def done(self, pid: int, now: float, good: bool = True) -> None:
        told = f"compile a.c on {self.where}/2,lzo completed ok" if good else "ERROR: unexpected eof on fd6"
        more = "" if good else f"distcc[{pid}] Warning: failed to distribute a.c\n"
        self.log.feed(f"distcc[{pid}] {told}\n{more}distcc[{pid}] (dcc_exit) exit: code 0;\n".encode(), now)

    def tick(self, now: float) -> None:
        self.watch.tick(now)
        time.sleep(0.02)  # loopback answers at once, not before


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        yield server


def where(server: socket.socket) -> str:
    return "{}:{}".format(*server.getsockname())


def test_a_worker_that_refuses_is_given_up_and_its_clients_are_ended() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        scene = Scene(where(unused))
        scene.job(7, 0.0)
        scene.job(8, 0.0)
        scene.tick(QUIET - 0.1)
        assert scene.watch._workers[scene.where].probe is None  # not quiet for long enough to be asked
        scene.tick(QUIET + 0.1)
        scene.tick(QUIET + 0.3)
        assert scene.gone == [("k2",), ("k2",)]  # at once, before clients start again, and at the end of the tick
        assert scene.ended == [7, 8]
        assert [(loss.node, loss.why, loss.jobs) for loss in scene.watch.losses] == [
            ("k2", "does not answer any more", 2)
        ]
        assert scene.log.running == {}
        scene.watch.close()


def test_a_worker_that_takes_no_connection_in_time_is_given_up() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for filler in (first, second):  # beyond them the kernel drops requests, as a cut cable does
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        scene = Scene(where(full))
        scene.job(7, 0.0)
        asked = QUIET + 0.1
        scene.tick(asked)
        scene.tick(asked + CONNECT - 0.1)
        assert scene.watch.gone == ()
        scene.tick(asked + CONNECT + 0.1)
        assert scene.watch.gone == ("k2",)
        assert scene.ended == [7]
        scene.watch.close()


def test_a_busy_worker_is_left_alone_and_a_frozen_one_is_not(listener: socket.socket) -> None:
    scene = Scene(where(listener))
    scene.job(7, 0.0)
    now = 0.0
    while now < SILENT - 1:
        now += 1.0
        scene.tick(now)
    assert (scene.watch.gone, scene.ended) == ((), [])
    scene.tick(SILENT + 0.5)
    assert (scene.watch.gone, scene.ended) == (("k2",), [7])
    assert scene.watch.losses[0].why == "sent nothing for 45 s"
    scene.tick(SILENT + REST - 1)  # it connects all the time; that is no reason to trust it at once
    scene.tick(SILENT + REST - 0.5)
    assert scene.watch.gone == ("k2",)
    for step in range(1, 4):
        scene.tick(SILENT + REST + step * (RETRY + 1))
    assert scene.watch.gone == ()
    assert scene.gone[-1] == ()
    scene.watch.close()


def test_a_long_compile_beside_others_that_end_is_no_silence(listener: socket.socket) -> None:
    scene = Scene(where(listener))
    scene.job(7, 0.0)
    for second in range(1, 200):
        scene.job(100 + second, float(second))
        scene.done(100 + second, second + 0.5)
        scene.watch.tick(second + 0.6)
    assert (scene.watch.gone, scene.ended) == ((), [])
    scene.watch.close()


def test_a_worker_that_connects_and_fails_every_job_is_given_up(listener: socket.socket) -> None:
    scene = Scene(where(listener))
    now = 0.0
    for pid in range(FAILURES + 1):
        scene.job(pid + 1, now)
        scene.done(pid + 1, now, good=False)
        now += RETRY + 1
        scene.tick(now)
        scene.tick(now + 0.1)
    assert scene.watch.gone == ("k2",)
    assert scene.watch.losses[0].why.startswith("failed ")
    assert scene.watch.losses[0].why.endswith(" jobs in a row")
    scene.watch.close()


def test_an_idle_worker_is_not_asked() -> None:
    scene = Scene("127.0.0.1:1")
    scene.tick(1000.0)
    assert scene.watch._workers[scene.where].probe is None


def test_only_a_distcc_is_ended() -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        try:
            assert end_client(other.pid) is False
            assert other.poll() is None
        finally:
            other.kill()
    assert end_client(other.pid) is False  # gone by now


def test_a_distcc_is_ended(tmp_path: Path) -> None:
    program = tmp_path / "distcc"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "60"]) as client:
        deadline = time.monotonic() + 5
        while Path(f"/proc/{client.pid}/comm").read_text() != "distcc\n" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert end_client(client.pid) is True
        assert client.wait(5) == -signal.SIGTERM


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    plan = HostPlan("127.0.0.2:1/2,lzo localhost/1", 3, ENVIRONMENT, nodes={"127.0.0.2:1": "k2"}, alone="localhost/2")
    made = Client(Paths(tmp_path, tmp_path / "work", tmp_path / "state"), plan, tmp_path / "front")
    made.start()
    yield made
    made.close()


def log_of(pid: int, name: str) -> str:
    return (
        f'distcc[{pid}] (dcc_trace_version) 3.4\ndistcc[{pid}] (dcc_scan_args) found object/output file "{name}"\n'
        f'distcc[{pid}] (dcc_parse_hosts) found tcp token "127.0.0.2:1/2,lzo"\n'
        f"distcc[{pid}] exec on 127.0.0.2:1/2,lzo: gcc\ndistcc[{pid}] compile a.c on 127.0.0.2:1/2,lzo completed ok\n"
        f"distcc[{pid}] (dcc_exit) exit: code 0;\n"
    )


def test_the_environment_of_a_build(client: Client) -> None:
    env = client.environment("/usr/bin")
    assert env["PATH"] == f"{client.front}:/usr/bin"
    assert env["KBUILD_TASKS_WORKERS"] == "k2"
    assert "DISTCC_HOSTS" not in env  # it would stand before the file
    assert (client.directory / "hosts").read_text() == "127.0.0.2:1/2,lzo localhost/1\n"
    client.set_gone(("k2",))
    assert (client.directory / "hosts").read_text() == "localhost/2\n"


def test_a_log_that_grows_is_dropped_piece_by_piece_and_nothing_is_lost(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distcc, "LOG_BYTES", 2000)
    log, record = client.directory / "log", client.directory / "objects"
    late = os.open(log, os.O_WRONLY | os.O_APPEND)  # a client that goes on writing to the log it has opened
    head, _, tail = log_of(999, "late.o").partition("distcc[999] exec")
    os.write(late, head.encode())
    for number in range(100):
        with open(record, "a") as file:
            file.write(f"far\t\to{number}.o\n")
        with open(log, "a") as file:
            file.write(log_of(number + 1, f"o{number}.o"))
        client.poll(float(number))
        assert log.stat().st_size < 4000
    assert client.done() == 100
    os.write(late, f"distcc[999] exec{tail}".encode())
    os.close(late)
    with open(record, "a") as file:
        file.write("far\t\tlate.o\n")
    told = client.finish(101.0, "k1", Path("/b"))
    assert dict(told.per_node) == {"k2": 101}
    assert told.untold == ()


def test_leftovers_of_a_killed_build_are_no_part_of_this_one(client: Client) -> None:
    (client.directory / "lock" / "backoff_tcp_127.0.0.2_1_0").touch()
    (client.temporary / "distcc_0.i").write_text("x")
    (client.directory / "objects").write_text("far\t\told.o\n")
    client.close()
    again = Client(
        Paths(client.directory.parent, client.temporary.parent, client.directory.parent), client.plan, client.front
    )
    again.start()
    told = again.finish(0.0, "k1", Path("/b"))
    assert told.objects == ()
    assert list((again.directory / "lock").iterdir()) == []
