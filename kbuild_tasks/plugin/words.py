"""NAME=VALUE on the command line: doit takes any and tells nobody. That may cost a cluster: `doit rollout
onyl=kubenode7`, or `only=$NODE` where NODE is empty, would mean every node. So none is passed over in silence there.
"""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Collection, Sequence

from kbuild_tasks.core import suggest
from kbuild_tasks.core.errors import ConfigError

ROLLOUT = ("rollout", "deploy", "reboot", "verify", "rollback", "allow", "takeover", "prune")
ONWARD = {"rollout", "deploy", "reboot", "verify"}
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


def check(asked: Sequence[str], nodes: Collection[str] = ()) -> None:
    """Raises ConfigError. asked: the tasks of the command line; nodes: whom a pattern may name."""
    from doit import doit_cmd

    verbs = {verb for task in asked for verb in _verbs(task, nodes)}
    if "rollback" in verbs and verbs & ONWARD:
        raise ConfigError(
            f"rollback with {' '.join(sorted(verbs & ONWARD))} in one command: which comes first is nobody's word",
            "one after the other; doit rollback goes back",
        )
    given = doit_cmd._CMDLINE_VARS or {}
    for name, value in given.items():
        twice = [word.partition("=")[2] for word in sys.argv[1:] if word.startswith(f"{name}=")]
        if name in MEANT_FOR and len(set(twice)) > 1:
            one = f"{name}={','.join(twice)}" if name == "only" else f"{name}= once"
            raise ConfigError(f"{name}= is given {len(twice)} times, and the last one alone would count", one)
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


def _verbs(task: str, nodes: Collection[str]) -> Collection[str]:
    """The verb of a word; of a pattern ("roll*", "*:kubenode7"), each one that it selects a task of."""
    if "*" not in task:
        return (task.partition(":")[0],)
    return [verb for verb in ROLLOUT if fnmatch.filter([verb, *(f"{verb}:{name}" for name in nodes)], task)]
