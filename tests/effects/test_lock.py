"""Who holds the lock, in words a person knows."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


@pytest.mark.real
def test_who_only_looks_at_the_lock_is_not_ended(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(fd, fcntl.LOCK_EX)
    orphan = subprocess.Popen(["sleep", "60"], pass_fds=(fd,))
    os.close(fd)
    looker = subprocess.Popen(["sleep", "60"], stdin=os.open(path, os.O_RDONLY))
    gone = subprocess.Popen(["true"])
    gone.wait()
    owner = {"pid": gone.pid, "start": "1", "host": socket.gethostname(), "user": "u", "since": "s", "project": ""}
    path.write_text(json.dumps(owner))
    try:
        assert lock.acquire(path) == [orphan.pid]
        assert looker.poll() is None
    finally:
        lock.release(path)
        for child in (orphan, looker):
            child.kill()
            child.wait()
