"""Ask a node's helper: one verb, one round trip. All that the roll-out does as root on a node goes through it.

The helper is one root-owned file with fixed verbs; it takes no arguments, so that sudoers can name the bare command:

    ansible ALL=(root) NOPASSWD: /usr/local/lib/kbuild-tasks/helper ""

Verb and values go in on stdin as lines, then an empty line, then the payload; the answer is JSON in the frame of
effects/node.py. The helper checks every value itself, and what it would refuse is not sent (kbuild_tasks/node).
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

from kbuild_tasks.core import answers
from kbuild_tasks.core.errors import KbuildError, NodeRefused
from kbuild_tasks.core.model import Cluster, Node
from kbuild_tasks.effects import node as remote
from kbuild_tasks.effects import ssh

NONE = "no-helper"  # the word of a node that has none
PATH = "/usr/local/lib/kbuild-tasks/helper"  # node/setup.sh puts it there


def ask(
    cluster: Cluster,
    node: Node,
    verb: str,
    values: Mapping[str, str | int] | None = None,
    payload: bytes | None = None,
    *,
    timeout: float = 60,
    alone: bool = False,
) -> dict[str, Any]:
    """The helper's answer.

    alone  over a connection of its own (effects/node.py)
    Raises as node.ask(), and NodeRefused with what to do where the helper is not there or may not be run.
    """
    from kbuild_tasks.node import VERBS, spoken

    word = remote.new_word()
    said = {**(values or {}), "frame": word}
    if cluster.rollout.bootloader != "auto" and "loader" in VERBS.get(verb, ()):
        said["loader"] = cluster.rollout.bootloader
    try:
        data = spoken(verb, said) + (payload or b"")
    except ValueError as error:
        raise KbuildError(f"{node.name}: the helper would refuse {error}") from None
    argv = _argv(cluster, node, alone)
    try:
        with ssh.shared(cluster, node, alone):
            answer = remote.converse(cluster, node, argv, data, word, timeout)
    except remote.NotAdmitted as error:
        raise _not_there(cluster, node, error) from None
    if member := answers.wrong(verb, answer):
        raise KbuildError(
            f"{node.name} gave an answer that no helper of ours gives: {member} is of another form",
            hint_to_install(cluster, node),
            evidence=[f"{member}: {answer[member]!r}"[:200]],
        )
    return answer


def text(value: str) -> str:
    """A value that is free text."""
    return base64.b64encode(value.encode("utf-8", "replace")).decode()


def _argv(cluster: Cluster, node: Node, alone: bool) -> list[str]:
    if node.connection == "local":
        remote.check_local(node)
        if not os.path.exists(PATH):
            raise _no_helper(cluster, node)
        return [PATH] if os.geteuid() == 0 else ["sudo", "-n", PATH]
    command = PATH if cluster.ssh.user == "root" else f"sudo -n {PATH}"
    return remote.ssh_argv(cluster, node, command, alone=alone)


def _not_there(cluster: Cluster, node: Node, error: remote.NotAdmitted) -> NodeRefused:
    said = "\n".join(error.evidence)
    if refusal := re.search(r"^refused: ([^\t]+)", said, re.MULTILINE):  # before it read whom to answer
        return NodeRefused(f"{node.name} {refusal[1]}", hint_to_install(cluster, node))
    if re.search(r"helper: (command )?not found|helper: No such file", said):
        return _no_helper(cluster, node, error.evidence)
    if re.search("password is required|not allowed to execute|may not run sudo", said):
        user = cluster.ssh.user
        return NodeRefused(
            f"{user} may not run the helper on {node.name}",
            f'there, in /etc/sudoers.d/{user} (visudo -f): {user} ALL=(root) NOPASSWD: {PATH} ""',
            evidence=error.evidence,
        )
    return error


def _no_helper(cluster: Cluster, node: Node, evidence: Sequence[str] = ()) -> NodeRefused:
    refused = NodeRefused(f"{node.name} has no helper", hint_to_install(cluster, node), evidence=evidence)
    refused.word = NONE
    return refused


def hint_to_install(cluster: Cluster, node: Node) -> str:
    """How the helper gets onto a node."""
    if cluster.ssh.sudo == "all":
        return f"doit sync:{node.name} installs it"
    return f"the admin of {node.name} installs it: docs/rollout.md, Who may act"


def version() -> str:
    """Of the helper that this program brings."""
    from kbuild_tasks import node

    return node.VERSION


def install(cluster: Cluster, node: Node) -> bool:
    """Put the helper, its units and the sudoers line on a node, as root; whether it was another one before."""
    from kbuild_tasks.node import helper_text, setup_text

    payload = helper_text().encode()
    values: dict[str, str | int] = {
        "helper_sha256": hashlib.sha256(payload).hexdigest(),
        "user": cluster.ssh.user,
        "sudoers": 0,  # the account may run anything already: sudoers stays what the admin wrote
    }
    answer = remote.ask(cluster, node, setup_text(), values, payload, timeout=60)
    return "new" in (answer.get("helper"), answer.get("units"))
