"""Who may act on the nodes: a number that only grows, kept in build/rollout/state.json and on every node.

Each run that changes something takes the next number and leaves it on a node before it acts there (verb lease). The
node refuses acts with a lower number: a run that was paused while another took over cannot act when it wakes up. A
node whose lease is another operator's is not taken without being told to (doit takeover).
"""

from __future__ import annotations

import os
import pwd
import socket
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kbuild_tasks.core import answers
from kbuild_tasks.core.errors import KbuildError, NodeRefused
from kbuild_tasks.core.model import Cluster, Node
from kbuild_tasks.core.when import when
from kbuild_tasks.effects import clock, helper
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_json, write_json


def who(root: Path) -> str:
    """This operator: the project counts, not the process, so that the next run of the same one goes on."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        user = str(os.geteuid())
    return f"{user}@{socket.gethostname()}:{root}"


class Lease:
    """The number of this run; taken when the first node is changed."""

    def __init__(self, cluster: Cluster, paths: Paths, order: Sequence[Sequence[str]], build: str) -> None:
        self.who = who(cluster.root)
        self.number = 0
        self._cluster, self._file = cluster, paths.build / "rollout" / "state.json"
        self._about = {"order": [list(batch) for batch in order], "build": build}
        self._held: dict[str, int] = {}  # node -> the number under which we have it; ours may have grown since
        self._guard = threading.Lock()

    def take(self, node: Node, seen: Mapping[str, Any], *, force: bool = False) -> int:
        """The number under which the node is ours. Raises NodeRefused where another operator has it.

        seen   the node's answer to observe
        force  take it over
        """
        with self._guard:
            if node.name in self._held:
                return self._held[node.name]
            if not force:
                self.check(node, seen)
            theirs = int(seen.get("fence") or 0)
            if not self.number or self.number <= theirs:
                self._next(theirs)
            number = self.number
        boot_id = str(seen.get("boot_id") or "")
        values: dict[str, str | int] = {"fence": number, "who": helper.text(self.who), "boot_id": boot_id}
        helper.ask(self._cluster, node, "lease", values | ({"force": 1} if force else {}))
        with self._guard:
            self._held[node.name] = number
        return number

    def check(self, node: Node, seen: Mapping[str, Any]) -> None:
        """Raises NodeRefused where the node is another operator's; takes nothing."""
        holder = seen.get("lease") or {}
        if holder.get("who") not in (None, "", self.who):
            raise _refused(node, holder, int(seen.get("fence") or 0))

    def held(self, node: Node) -> int:
        """The number under which this run has the node; 0: not at all."""
        return self._held.get(node.name, 0)

    def give_back(self, node: Node, seen: Mapping[str, Any]) -> bool:
        """The node is done: any operator may be the next one there. Says whether there was anything to give back.

        seen  the node's answer to observe; what an earlier run of ours took, and was killed with, is ours as well
        """
        with self._guard:
            number = self._held.pop(node.name, 0)
        if not number and (seen.get("lease") or {}).get("who") == self.who:
            number = int(seen.get("fence") or 0)
        if number:
            values: dict[str, str | int] = {"fence": number, "who": "", "boot_id": str(seen.get("boot_id") or "")}
            helper.ask(self._cluster, node, "lease", values)
        return bool(number)

    def _next(self, at_least: int) -> None:
        state = read_json(self._file) if os.path.lexists(self._file) else {"fence": 0}
        last = state.get("fence") if isinstance(state, dict) else None
        if type(last) is not int or not 0 <= last < answers.NUMBER - 1:
            raise KbuildError(
                "build/rollout/state.json is damaged",
                "remove it: the next number is then taken from the nodes, which refuse lower ones",
            )
        self.number = max(last, at_least, self.number) + 1
        write_json(self._file, {"fence": self.number, "who": self.who, "since": clock.stamp(), **self._about})


def told(holder: Mapping[str, Any]) -> str:
    """Who has a node, and since when."""
    return f"{holder.get('who')}, since {when(holder.get('since')) or '?'}"


def _refused(node: Node, holder: Mapping[str, Any], number: int) -> NodeRefused:
    return NodeRefused(
        f"{node.name} is in the roll-out of {told(holder)} (number {number})",
        "let it finish; if that run is dead for good: doit takeover, after which it can change nothing",
    )
