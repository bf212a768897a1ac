"""What tests of every area share: the pristine kernel source, unpacked once."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TARBALL = Path("/usr/src/linux-source-6.1.tar.xz")  # Debian: linux-source-6.1


@pytest.fixture(scope="session")
def linux_source() -> Path:
    """A pristine Linux 6.1 tree, kept under build/ between runs. Nobody writes to it: copy what you change."""
    if not TARBALL.is_file():
        pytest.skip(f"{TARBALL} is not there (apt-get install linux-source-6.1)")
    return unpacked()


def unpacked() -> Path:
    """The same, for who is no test. Raises CalledProcessError without TARBALL."""
    cache = ROOT / "build" / "cache" / "test"
    cache.mkdir(parents=True, exist_ok=True)
    tree = cache / "linux-6.1"
    with open(cache / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.is_dir():
            scratch = cache / "linux-6.1.tmp"
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            subprocess.run(["tar", "xf", TARBALL, "-C", scratch, "--strip-components=1"], check=True)
            scratch.rename(tree)
    return tree
