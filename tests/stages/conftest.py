"""What the tests of compilations share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.makepkg_world import new_world
from tests.stages.compile_world import Small


@pytest.fixture
def small() -> Iterator[Small]:
    for world in new_world():
        yield Small(world.home)


@pytest.fixture
def temporary(small: Small) -> Path:
    """For the daemons' own files."""
    path = small.home / "daemons"
    path.mkdir()
    path.chmod(0o777)
    return path
