"""NAME=VALUE behind a roll-out: a word that is misspelt, empty or out of place is refused, and no node is touched."""

from __future__ import annotations

import re

import pytest
from doit import doit_cmd

from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.plugin import words
from tests.plugin.conftest import Workbench


def check(line: str) -> None:
    asked = [word for word in line.split(" ") if "=" not in word]
    doit_cmd.reset_vars()
    try:
        for word in line.split(" "):
            if "=" in word:
                doit_cmd.set_var(*word.split("=", 1))
        words.check(asked)
    finally:
        doit_cmd.reset_vars()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("rollout only=", "only= names nothing"),
        ("rollout only=,", "only= names nothing"),
        ("prune build=", "build= names nothing"),
        ("rollback to=", "to= names nothing"),
        ("list only=", "only= names nothing"),
        ("rollout onyl=n3", "onyl=n3: a roll-out knows no such word, did you mean only=?"),
        ("deploy:n7 ONLY=n3", "ONLY=n3: a roll-out knows no such word, did you mean only=?"),
        ("rollout nodes=n3", "nodes=n3: a roll-out knows no such word"),
        ("rollout build=0123456789ab", "build=0123456789ab says nothing to rollout"),
        ("rollout to=previous", "to=previous says nothing to rollout"),
        ("package rollout force=1", "force=1: a roll-out knows no such word"),
    ],
)
def test_a_word_that_would_be_passed_over(line: str, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        check(line)


@pytest.mark.parametrize(
    "line",
    [
        "rollout",
        "rollout only=n3,n2",
        "package deploy only=n3",
        "rollback:n1 to=previous only=n1",
        "prune build=0123456789ab only=n3",
        "adopt from=n2 project=/srv/kernel",
        "package replace=yes mine=1",
    ],
)
def test_words_that_are_heeded(line: str) -> None:
    check(line)


def test_through_doit(bench: Workbench) -> None:
    out = bench.doit("rollout", "onyl=n2", check=3)
    assert "onyl=n2: a roll-out knows no such word, did you mean only=?" in out and "Traceback" not in out
