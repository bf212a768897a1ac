"""Who holds the lock, in words a person knows."""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import lock


def test_the_user_is_named_where_the_environment_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("USER", raising=False)
    path = tmp_path / ".lock"
    lock.acquire(path)
    try:
        held = lock.holder(path)
    finally:
        lock.release(path)
    assert held is not None and held["user"] == pwd.getpwuid(os.getuid()).pw_name
    assert lock.holder(path) is None


STARTER = """
import sys, time
from pathlib import Path
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import lock
lock._user = lambda: time.sleep(0.05) or "slow"  # a directory service
path, at = Path(sys.argv[1]), float(sys.argv[2])
time.sleep(max(0, at - time.time()))
try:
    lock.acquire(path)
except KbuildError as error:
    sys.exit(7 if "another run is in progress: pid" in error.message else 8)
time.sleep(0.6)
"""


@pytest.mark.real
def test_two_that_start_at_once_do_not_end_each_other(tmp_path: Path) -> None:
    """The record of a run whose process is gone stands there until the one that got the lock writes its own."""
    path = tmp_path / ".lock"
    gone = subprocess.Popen(["true"])
    gone.wait()
    for _ in range(5):
        owner = {"pid": gone.pid, "start": "1", "host": socket.gethostname(), "user": "u", "since": "s", "project": ""}
        path.write_text(json.dumps(owner))
        at = time.time() + 0.5
        env = {key: value for key, value in os.environ.items() if key != "USER"}
        argv = [sys.executable, "-c", STARTER, str(path), str(at)]
        both = [subprocess.Popen(argv, env=env) for _ in range(2)]
        assert sorted(one.wait(20) for one in both) == [0, 7]


OWNER = """
import subprocess, sys
from pathlib import Path
from kbuild_tasks.effects import lock
lock.acquire(Path(sys.argv[1]))
none = subprocess.DEVNULL
print(subprocess.Popen(sys.argv[2:], pass_fds=lock.shell.inherited_fds, stdout=none, stderr=none).pid, flush=True)
"""


def killed_owner(path: Path, *orphan: str) -> int:
    """A run that took the lock, started something, and is no more: the pid of what it left."""
    out = subprocess.run([sys.executable, "-c", OWNER, str(path), *orphan], capture_output=True, text=True, check=True)
    return int(out.stdout)


@pytest.mark.real
def test_who_only_looks_at_the_lock_is_not_ended(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    orphan = killed_owner(path, "sleep", "60")
    looker = subprocess.Popen(["sleep", "60"], stdin=os.open(path, os.O_RDONLY))
    try:
        assert lock.acquire(path) == [orphan]
        assert looker.poll() is None
    finally:
        lock.release(path)
        looker.kill()
        looker.wait()


@pytest.mark.real
def test_orphans_that_go_on_forking_are_ended_all(tmp_path: Path) -> None:
    """As a make that is left does; children are younger than the reading of /proc that ends their parent."""
    path, born = tmp_path / ".lock", tmp_path / "born"
    forking = f"for i in $(seq 300); do sleep 30 & echo $! >> '{born}'; done; wait"
    killed_owner(path, "sh", "-c", forking)
    time.sleep(0.1)
    try:
        assert lock.acquire(path)
    finally:
        lock.release(path)
    assert not [pid for pid in born.read_text().split() if Path(f"/proc/{pid}/cwd").exists()], "a zombie has none"


@pytest.mark.real
def test_another_run_that_was_quicker_is_refused_and_not_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It took the lock between our look at its dead owner and our look for who holds it."""
    path = tmp_path / ".lock"
    orphan = killed_owner(path, "sleep", "60")
    quicker: list[subprocess.Popen[str]] = []
    soon = lock._soon

    def late(fd: int, where: Path) -> object:
        said = soon(fd, where)
        os.kill(orphan, signal.SIGKILL)
        hold = "import sys; sys.stdin.read()"
        argv = [sys.executable, "-c", OWNER + "sys.stdin.read()", str(path), sys.executable, "-c", hold]
        quicker.append(subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        assert quicker[0].stdout and quicker[0].stdout.readline()
        return said

    monkeypatch.setattr(lock, "_soon", late)
    with pytest.raises(KbuildError, match=r"another run is in progress: pid \d+ of"):
        lock.acquire(path)
    assert quicker[0].poll() is None
    quicker[0].communicate()
