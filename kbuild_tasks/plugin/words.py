"""NAME=VALUE on the command line: doit takes any and tells nobody. That may cost a cluster: `doit rollout
onyl=kubenode7`, or `only=$NODE` where NODE is empty, would mean every node. So none is passed over in silence there.
"""

from __future__ import annotations

from collections.abc import Sequence

from kbuild_tasks.core import suggest
from kbuild_tasks.core.errors import ConfigError

ROLLOUT = ("rollout", "deploy", "reboot", "verify", "rollback", "allow", "takeover", "prune")
MEANT_FOR = {  # word -> the tasks that heed it
    "only": ROLLOUT,
    "to": ("rollback",),
    "build": ("prune",),
}
MEANS = {
    "only": "NODE[,NODE...]  these nodes alone",
    "to": "previous        the kernel before the last commit, not the known-good one",
    "build": "ID             this build alone, if nothing needs it",
}


def check(asked: Sequence[str]) -> None:
    """Raises ConfigError. asked: the tasks of the command line."""
    from doit import doit_cmd

    verbs = {task.partition(":")[0] for task in asked}
    given = doit_cmd._CMDLINE_VARS or {}
    for name, value in given.items():
        if name in MEANT_FOR and not [part for part in value.split(",") if part.strip()]:
            raise ConfigError(f"{name}= names nothing", f"leave it out, or say which: {name}=...")
        if not verbs & set(ROLLOUT):
            continue  # a dodo.py of the user's own may know more words
        if name not in MEANT_FOR:
            near = suggest.closest(name.lower(), list(MEANT_FOR))
            raise ConfigError(
                f"{name}={value}: a roll-out knows no such word" + (f", did you mean {near}=?" if near else ""),
                f"it knows {', '.join(f'{word}=' for word in MEANT_FOR)}",
            )
        if not verbs & set(MEANT_FOR[name]):
            asked_for, theirs = " ".join(sorted(verbs)), " ".join(MEANT_FOR[name])
            raise ConfigError(f"{name}={value} says nothing to {asked_for}", f"it belongs to {theirs}")
