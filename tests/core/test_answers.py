"""Answers of a node that is broken, or is none of ours: each is refused by the member that is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.core import answers
from tests.fake_nodes import World

WRONG: list[tuple[str, str, Any]] = [
    *(("observe", "loader", value) for value in ("x", [1], {"default": ["x"]}, {"entries": 7}, {"entries": ["a"]})),
    *(("observe", "deny", value) for value in ("abc", 5, [{}], [{"build": 5}])),
    *(("observe", "fence", value) for value in ("1", [1], -1, True, 10**18, 10**15 - 1, float("inf"))),
    *(("observe", "known_good", value) for value in ("abc", ["x"], {"release": 6})),
    *(("observe", "trial", value) for value in ("abc", ["x"])),
    *(("observe", "previous", value) for value in ("abc", ["x"])),
    *(("observe", "lease", value) for value in ("abc", {"who": 5}, {"who": "eve", "since": 1e300})),
    *(("observe", "time", value) for value in ("now", 10**400, float("nan"), float("inf"), True)),
    *(("observe", key, ["a"]) for key in ("release", "version", "build_id", "build", "helper")),
    *(("observe", "builds", value) for value in (5, [5], "abc")),
    *(("stage-list", "files", value) for value in (5, "abc", {"x": 1}, {"x": {"size": "1"}}, {"x": {"size": -5}})),
    *(("install", key, value) for key in ("said", "repaired") for value in (5, "abc", [5])),
    *(("bootfiles", key, value) for key in ("missing", "changed") for value in (5, "abc", {"a": 1})),
    *(("forget", key, value) for key in ("freed", "freed_boot") for value in ("x", float("inf"), -1)),
    *(("journal", key, 5) for key in ("lines", "pstore")),
]


@pytest.mark.parametrize(("verb", "member", "value"), WRONG)
def test_a_member_of_another_form(verb: str, member: str, value: Any) -> None:
    assert answers.wrong(verb, {"release": "6.1", member: value}) == member


def test_what_is_missing_or_null_is_left_to_who_needs_it() -> None:
    for verb, forms in answers.FORMS.items():
        assert answers.wrong(verb, {}) == answers.wrong(verb, dict.fromkeys(forms)) == ""


def test_what_a_node_answers_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(tmp_path, monkeypatch)
    node = world.nodes["n7"]
    node.known_good = node.trial = {**node.running, "entry": "old", "since": 5}
    node.deny, node.holder = {"0123456789ab": "panicked"}, {"who": "builder@n1:/srv", "since": 5}
    assert answers.wrong("observe", node.ask("observe", {}, None)) == ""
    assert answers.wrong("observe", {"time": 1_800_000_000.5, "fence": 0, "deny": []}) == ""
