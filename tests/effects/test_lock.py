"""Who holds the lock, in words a person knows."""

from __future__ import annotations

import os
import pwd
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
