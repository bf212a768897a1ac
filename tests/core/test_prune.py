"""Which builds go and which stay, as a table."""

from __future__ import annotations

from typing import Any

import pytest

from kbuild_tasks.core import prune
from kbuild_tasks.core.history import History

A, B, C, D = "a" * 12, "b" * 12, "c" * 12, "d" * 12
KEEP = "keep-" + "e" * 12


def answer(**more: Any) -> dict[str, Any]:
    """A node with four builds and a copy of its first default: C is known-good, B was before it."""
    return {
        "builds": [A, B, C, D, KEEP],
        "known_good": {"build": C, "entry": f"kbuild-{C}"},
        "previous": {"build": B, "entry": f"kbuild-{B}"},
        "loader": {"default": f"kbuild-{C}", "selected": f"kbuild-{C}", "armed": ""},
        "deny": [],
        "trial": None,
        **more,
    }


@pytest.mark.parametrize(
    ("seen", "history", "current", "goes"),
    [
        (answer(), History(), "", [A, D, KEEP]),
        (answer(), History(), D, [A, KEEP]),  # in artifacts/: the next roll-out brings it
        (answer(deny=[{"build": D, "why": "panicked"}]), History(), D, [A, D, KEEP]),
        (answer(), History(state="FELL_BACK", build=D, failed={D: "panicked"}), D, [A, D, KEEP]),
        (answer(), History(state="BOOTFILES_OK", build=D), "", [A, KEEP]),
        (answer(), History(state="INSTALLED", build=A), D, [KEEP]),
        (answer(previous={"build": "", "entry": f"kbuild-{KEEP}"}), History(), "", [A, B, D]),
        (answer(deny=[{"build": B, "why": "taken back"}]), History(), "", [A, B, D, KEEP]),
        (answer(loader={"default": f"kbuild-{A}", "selected": f"kbuild-{D}"}), History(), "", [KEEP]),
        (answer(known_good=None, previous=None, loader={"default": "arch"}), History(), "", [A, B, C, D, KEEP]),
        (answer(builds=[]), History(), "", []),
        ({}, History(), "", []),
    ],
)
def test_what_goes(seen: dict[str, Any], history: History, current: str, goes: list[str]) -> None:
    assert prune.old(seen, history, current) == goes


@pytest.mark.parametrize(
    ("seen", "state", "why"),
    [
        (answer(), "", ""),
        (answer(), "UNCORDONED", ""),
        (answer(), "BOOTFILES_OK", ""),  # what it is about to boot stays; there may be no room for the rest
        *((answer(), state, "is in the middle of build") for state in ("DRAINED", "ARMED", "REBOOTING", "VERIFIED2")),
        (answer(trial={"build": D}), "", f"tries build {D}"),
    ],
)
def test_a_roll_out_is_in_the_way(seen: dict[str, Any], state: str, why: str) -> None:
    told = prune.in_the_way(seen, History(state=state, build=D))
    assert told.startswith(why) and bool(told) == bool(why)


def test_sizes() -> None:
    assert [prune.size(count) for count in (0, 3 << 19, 312 << 20)] == ["0.0 MiB", "1.5 MiB", "312 MiB"]
