"""Each kind of edit, and its undoing: what is compiled again is what plain make compiles in a tree that was edited by
hand, and kernel, modules and packages are those of a clean build of the same inputs, byte for byte.

A walk lives through random sequences of them. KBUILD_TEST_STEPS is its length (30), KBUILD_TEST_SEED repeats one.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.exact.bench import Bench, State, new_bench
from tests.exact.edits import EDITS, FRAGMENTS, PATCHES, PKGBUILDS, START

pytestmark = [pytest.mark.real, pytest.mark.whole]  # minutes: script/test --whole


@pytest.fixture(scope="module")
def bench(linux_source: Path) -> Iterator[Bench]:
    yield from new_bench(linux_source)


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_and_its_undoing(bench: Bench, name: str) -> None:
    if not bench.last_made:
        bench.exact(START)
    bench.exact(EDITS[name])
    bench.exact(START)


def test_words_of_a_patch_compile_nothing(bench: Bench) -> None:
    bench.step(START)
    step = bench.step(EDITS["only words of a patch"])
    assert (step.ours, step.recorded) == (frozenset(), frozenset())
    assert bench.states() == dict.fromkeys(bench.states(), "fresh") | {"patch": "done"}


def test_any_sequence_of_edits(bench: Bench) -> None:
    seed = int(os.environ.get("KBUILD_TEST_SEED") or random.SystemRandom().getrandbits(32))
    print(f"KBUILD_TEST_SEED={seed}")
    chance = random.Random(seed)
    been = [START]
    for number in range(int(os.environ.get("KBUILD_TEST_STEPS") or 30)):
        name, state = an_edit(chance, been)
        print(f"{number}: {name}")
        bench.exact(state)
        been.append(state)


def an_edit(chance: random.Random, been: list[State]) -> tuple[str, State]:
    """What was done, and the state after it. `been`: where the walk was, to go back to."""
    state = been[-1]
    kind = chance.choice(["patch", "patch", "patch", "fragment", "fragment", "pkgbuild", "order", "back", "version"])
    if kind == "patch":
        name = chance.choice(list(PATCHES))
        old = dict(state.patches).get(name)
        text = chance.choice([text for text in (None, *PATCHES[name]) if text != old])
        return f"patch {name}: {old is None} -> {text is None}", state.patched(
            name, text, chance.randrange(len(state.patches) + 1)
        )
    if kind == "fragment":
        name = chance.choice(list(FRAGMENTS))
        old = dict(state.fragments).get(name)
        text = chance.choice([text for text in (None, *FRAGMENTS[name]) if text != old])
        return f"fragment {name}: {old!r} -> {text!r}", state.with_fragment(name, text)
    if kind == "pkgbuild":
        name = chance.choice(list(PKGBUILDS))
        old, new = PKGBUILDS[name]
        there = new in state.pkgbuild
        return f"{name} {'back' if there else 'there'}", state.with_pkgbuild(*((new, old) if there else (old, new)))
    if kind == "order":
        return "another order", replace(state, patches=tuple(chance.sample(state.patches, len(state.patches))))
    if kind == "version":
        return "the other version", replace(state, version=3 - state.version)
    return "back to a state before", chance.choice(been)
