"""How many objects are left: asked of a make that runs, in a tree of a dozen files."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbuild_tasks.effects.remaining import START, Remaining, running_make

MAKEFILE = """\
objects := $(patsubst %.c,%.o,$(sort $(wildcard fs/*.c)))
.PHONY: all .
all: ; @sleep 60
.: $(objects)
fs/%.o: fs/%.c $(FORCED)
	gcc -D__KERNEL__ -O1 -DX=$(X) -c -o $@ $<
scripts/tool: ; gcc -c -o scripts/tool.o scripts/tool.c
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "fs").mkdir()
    for number in range(12):
        (tmp_path / f"fs/o{number}.c").touch()
    (tmp_path / "Makefile").write_text(MAKEFILE)
    return tmp_path


def building(tree: Path, *variables: str) -> Iterator[None]:
    env = {"PATH": "/usr/bin:/bin", "X": "from-the-environment", "MAKEFLAGS": ""}
    child = subprocess.Popen(["make", "-s", *variables, "all"], cwd=tree, env=env, start_new_session=True)
    try:
        deadline = time.monotonic() + 10
        while running_make(tree) is None and time.monotonic() < deadline:
            time.sleep(0.02)
        yield
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


@pytest.fixture
def make(tree: Path) -> Iterator[None]:
    yield from building(tree)


def walked(remaining: Remaining, finished: list[str]) -> frozenset[str] | None:
    remaining.tick(START + 1, lambda: frozenset(finished))
    assert remaining._thread is not None
    remaining._thread.join()
    return remaining.names


def test_names_of_what_is_left(tree: Path, make: None) -> None:
    for number in range(4):
        (tree / f"fs/o{number}.o").touch()
    names = walked(Remaining(tree), [f"fs/o{n}.o" for n in range(4)])
    assert names == {f"fs/o{n}.o" for n in range(4, 12)}


def test_an_answer_that_contradicts_what_was_done_is_no_answer(tree: Path, make: None) -> None:
    remaining = Remaining(tree)
    assert walked(remaining, [f"fs/o{n}.o" for n in range(4)]) is None  # not made, and said to be
    for number in range(4):
        (tree / f"fs/o{number}.o").touch()
    remaining.tick(START + 2, lambda: frozenset())  # too early to ask again
    assert remaining.names is None
    remaining.tick(START + 100, lambda: frozenset(f"fs/o{n}.o" for n in range(4)))
    assert remaining._thread is not None
    remaining._thread.join()
    assert remaining.names == {f"fs/o{n}.o" for n in range(4, 12)}


def test_a_few_that_make_always_prints_are_no_contradiction(tree: Path, make: None) -> None:
    for number in range(1, 4):
        (tree / f"fs/o{number}.o").touch()
    names = walked(Remaining(tree), [f"fs/o{n}.o" for n in range(4)])
    assert names is not None and len(names) == 9


def test_a_tree_that_make_cannot_walk(tree: Path, make: None) -> None:
    (tree / "Makefile").write_text("broken\n")
    assert walked(Remaining(tree), []) is None


def test_nothing_is_asked_of_a_short_build(tree: Path) -> None:
    remaining = Remaining(tree)
    remaining.tick(START - 1, lambda: frozenset())
    assert remaining._thread is None
    remaining.stop()


def test_no_make_runs(tree: Path) -> None:
    assert running_make(tree) is None
    assert walked(Remaining(tree), []) is None


def test_variables_and_environment_of_the_running_make(tree: Path) -> None:
    for _ in building(tree, "ARCH=arm64", "V=1"):
        found = running_make(tree)
        assert found is not None
        variables, env = found
        assert variables == ["ARCH=arm64", "V=1"]
        assert env["X"] == "from-the-environment"
        assert "MAKEFLAGS" not in env
