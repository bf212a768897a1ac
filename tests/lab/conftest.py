"""Labs for tests: the project's own, shared and left as it was found, and one to break.

Other areas may import `lab` from here: it yields a Lab that is up with at least three nodes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbuild_tasks.lab.lab import Lab
from kbuild_tasks.lab.names import Places

ROOT = Path(__file__).parent.parent.parent


def need_lab() -> None:
    """Skip, with the reason, where no lab can be."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root")
    if not shutil.which("systemd-nspawn"):
        pytest.skip("the lab needs systemd-nspawn (script/setup)")


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The project's lab, up with three nodes; one that was up before stays up. Do not leave a node broken."""
    need_lab()
    ours = Lab(ROOT)
    was_up = bool(ours.status())
    ours.up(3)
    yield ours
    if not was_up:
        ours.down()


@pytest.fixture(scope="module")
def breakable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A lab of two nodes of its own, for tests that kill, cut and freeze; up or not, as the test before left it."""
    need_lab()
    root = tmp_path_factory.mktemp("project with 'odd, name: ")
    root.chmod(0o755)
    (root / "dodo.py").write_text("def task_nothing():\n    return {'actions': []}\n")
    ours = Lab(root, bases=Places.of(ROOT).bases)
    yield ours
    ours.down(wipe=True)
