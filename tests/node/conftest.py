from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .world import World, new_world


@pytest.fixture
def world() -> Iterator[World]:
    with new_world() as made:
        yield made


@pytest.fixture
def node(world: World) -> World:
    """A node that boots with systemd-boot; for what needs root."""
    if os.geteuid() != 0:
        pytest.skip("the helper's state belongs to root")
    world.systemd_boot()
    return world
