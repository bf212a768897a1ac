"""The lock of a run: who is refused by it, in words whatever stands in the file."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import lock


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Path]:
    """A lock that is held: flock(2) counts per open file, so this very process can hold it against itself."""
    path = tmp_path / ".lock"
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield path


HOST = socket.gethostname()
OTHER_CONTENT = [
    "",
    "[]",
    "null",
    "7",
    '"text"',
    "{}",
    "[" * 100_000,
    "\xff",
    json.dumps({"pid": "abc", "start": "1", "host": HOST}),
    json.dumps({"pid": [], "start": "1", "host": HOST}),
    json.dumps({"pid": None, "start": None, "host": HOST}),
    json.dumps({"pid": True, "start": "1", "host": HOST}),
    json.dumps({"pid": 10**400, "host": [HOST], "since": {}}),
]


@pytest.mark.parametrize("content", OTHER_CONTENT, ids=range(len(OTHER_CONTENT)))
def test_whatever_stands_in_a_held_lock_the_second_run_is_refused_in_words(held: Path, content: str) -> None:
    held.write_bytes(content.encode("latin-1"))
    with pytest.raises(KbuildError, match="another run is in progress: pid"):
        lock.acquire(held)
    assert isinstance(lock.holder(held), dict)


def test_a_live_owner_is_named(held: Path) -> None:
    me = {"pid": os.getpid(), "start": lock._start_time(os.getpid()), "host": HOST, "user": "u", "since": "today"}
    held.write_text(json.dumps(me))
    with pytest.raises(KbuildError, match=f"pid {os.getpid()} of u on {HOST}, since today"):
        lock.acquire(held)
    assert lock.holder(held) == me


def test_content_of_another_form_does_not_hold_a_free_lock(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.write_text('{"pid": "abc"}')
    assert lock.holder(path) is None
    try:
        assert lock.acquire(path) == []
        assert json.loads(path.read_text())["pid"] == os.getpid()
    finally:
        lock.release(path)
