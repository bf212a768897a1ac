"""Root who looks at a user's project leaves no file there that the user cannot replace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kbuild_tasks.effects.files import write_atomic


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_writes_belongs_to_the_owner_of_the_directory(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 54321)
    path = tmp_path / "build" / "cache" / "x.json"
    write_atomic(path, "{}")
    write_atomic(path, "[]")
    for made in (path, path.parent, path.parent.parent):
        assert (made.stat().st_uid, made.stat().st_gid) == (12345, 54321), made
