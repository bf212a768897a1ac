"""D1: a node holds either the whole verified file or none."""

from __future__ import annotations

import hashlib
import random
import subprocess

import pytest

from .world import World

pytestmark = pytest.mark.real
BUILD = "0123456789ab"
DATA = random.Random(3).randbytes(300_007)
SUM = hashlib.sha256(DATA).hexdigest()
NAME = "linux-1-1-x86_64.pkg.tar.zst"


def put(world: World, offset: int, data: bytes) -> dict[str, object]:
    return world.good("stage-put", data, build=BUILD, name=NAME, size=len(DATA), sha256=SUM, offset=offset)


def listed(world: World) -> dict[str, object]:
    return world.good("stage-list", build=BUILD)["files"].get(NAME)


def test_cut_at_many_offsets_it_resumes(node: World) -> None:
    choice = random.Random(5)
    offsets = sorted({0, 1, 511, 512, 4096, len(DATA) - 1, *(choice.randrange(len(DATA)) for _ in range(14))})
    at = 0
    for cut in offsets:
        assert put(node, at, DATA[at:cut]) == {"size": cut, "complete": False}
        at = cut
        assert listed(node) == {"size": at, "sha256": None}
    assert put(node, at, DATA[at:]) == {"size": len(DATA), "complete": True}
    assert listed(node) == {"size": len(DATA), "sha256": SUM}
    assert put(node, 0, b"") == {"size": len(DATA), "complete": True}  # already so
    assert [path.name for path in node.path(f"var/lib/kbuild-tasks/rollout/stage/{BUILD}").iterdir()] == [NAME]


def test_a_flipped_bit_anywhere_is_thrown_away(node: World) -> None:
    for at in random.Random(6).sample(range(len(DATA)), 12):
        wrong = DATA[:at] + bytes([DATA[at] ^ 4]) + DATA[at + 1 :]
        answer = node.ask("stage-put", wrong, build=BUILD, name=NAME, size=len(DATA), sha256=SUM, offset=0)
        assert (answer.status, answer.word) == (3, "damaged")
        assert listed(node) is None


def test_another_offset_than_what_is_there(node: World) -> None:
    put(node, 0, DATA[:1000])
    for offset in (0, 999, 1001):
        answer = node.ask("stage-put", DATA[offset:], build=BUILD, name=NAME, size=len(DATA), sha256=SUM, offset=offset)
        assert (answer.status, answer.word) == (3, "offset")
        assert "has 1000 bytes" in answer.err


def test_more_bytes_than_announced_are_not_taken(node: World) -> None:
    assert put(node, 0, DATA + b"more") == {"size": len(DATA), "complete": True}


def test_a_full_disk_is_told_before_anything_is_written(node: World) -> None:
    state = node.path("var/lib/kbuild-tasks")
    state.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=65M", "tmpfs", state], check=True)
    answer = node.ask("stage-put", DATA, build=BUILD, name=NAME, size=10_000_000, sha256=SUM, offset=0)
    assert (answer.status, answer.word) == (3, "space-root")
    assert listed(node) is None


def test_the_state_is_roots_alone(node: World) -> None:
    put(node, 0, DATA[:10])
    state = node.path("var/lib/kbuild-tasks/rollout")
    assert state.stat().st_mode & 0o777 == 0o700
    assert all(path.stat().st_mode & 0o077 == 0 for path in state.rglob("*"))


def test_a_state_directory_that_leads_elsewhere_is_refused(node: World) -> None:
    target = node.path("elsewhere")
    target.mkdir()
    state = node.path("var/lib/kbuild-tasks/rollout")
    state.parent.mkdir(parents=True)
    state.symlink_to(target)
    assert node.ask("stage-put", DATA, build=BUILD, name=NAME, size=len(DATA), sha256=SUM, offset=0).word == "state"
    assert list(target.iterdir()) == []
