"""One question to one node: a POSIX sh script, its values and its payload go in on stdin, one JSON object comes back.

Why so (measured): each ssh command costs a round trip and a process, so a stage makes one; of 21 hostile strings
three survive plumbum's nested quoting and all survive stdin. The command line on the node is the same for every
question; nothing of a value is in it:

    sudo -n sh -c 'read -r n && eval "$(head -c "$n")"' kbuild "$SSH_CONNECTION"

`read` takes one line byte by byte, head takes exactly n bytes, and what follows is left for the script. (`sh -s` would
not do: dash reads ahead and swallows the payload.) The answer stands between two lines with a random word, so that a
banner, a motd or a talkative .bashrc does no harm; the closing line carries the script's status, so that ssh's own
255 and a lost connection cannot be mistaken for it.

A script refuses with `die "has no space left<TAB>hint"` (common.sh): the node's name is put in front. The helper adds a
third field, the refusal as one word.
"""

from __future__ import annotations

import functools
import json
import os
import re
import secrets
import shlex
import socket
from collections.abc import Mapping
from importlib import resources
from typing import Any

from kbuild_tasks.core.errors import CommandFailed, Interrupted, KbuildError, NodeRefused, NodeUnreachable
from kbuild_tasks.core.model import Cluster, Node
from kbuild_tasks.effects import shell, ssh

BOOT = "read -r n && eval \"$(head -c \"$n\")\""  # fmt: skip
REMOTE = f"sh -c '{BOOT}' kbuild \"$SSH_CONNECTION\""
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # what distccd gets too: same compiler
REFUSAL = "refused: "  # common.sh, die
_KEY = re.compile(r"[a-z][a-z0-9_]*")


class NotAdmitted(NodeRefused):
    """Logged in, but nothing of ours ran: no sudo, or no shell."""


@functools.cache
def script(*names: str) -> str:
    """The shipped scripts effects/<name>.sh, one after the other, with common.sh in front."""
    folder = resources.files("kbuild_tasks.effects")
    return "".join((folder / f"{name}.sh").read_text("utf-8") for name in ("common", *names))


def ask(
    cluster: Cluster,
    node: Node,
    text: str,
    values: Mapping[str, str | int] | None = None,
    payload: bytes | None = None,
    *,
    timeout: float = 60,
    sudo: bool = True,
) -> dict[str, Any]:
    """Run a script on a node and return the JSON object it printed.

    text     POSIX sh, ASCII; see script()
    values   shell variables it finds set; any text but NUL
    payload  bytes that its commands find on stdin
    timeout  seconds; also the limit for a node that stopped in the middle
    sudo     run it as root
    Raises NodeUnreachable (not reached, lost, too slow), NotAdmitted (no sudo), NodeRefused (the script's own words),
    CommandFailed (the script failed), KbuildError (this machine is not the node that it should be).
    """
    word = new_word()
    data = spoken(text, values or {}, word, payload or b"")
    argv = argv_of(cluster, node, sudo)
    with ssh.shared(cluster, node):
        return converse(cluster, node, argv, data, word, timeout)


def new_word() -> str:
    """What frames one answer."""
    return secrets.token_hex(8)


def converse(cluster: Cluster, node: Node, argv: list[str], data: bytes, word: str, timeout: float) -> dict[str, Any]:
    """Run a command that answers in the frame of `word`, `data` on its stdin. Raises as ask() does."""
    env = {**os.environ, "LC_ALL": "C"}
    try:
        done = shell.run(argv, env=env, stdin=data, timeout=timeout, check=False)
    except CommandFailed as error:
        if not error.timed_out:
            raise
        raise NodeUnreachable(f"{node.name} did not answer within {timeout:g} s", "is it overloaded?") from None
    found = re.search(rf"@@{word} start\n(.*?)\n@@{word} end (\d+)\n", done.out, re.DOTALL)
    if found:
        return _answer(node, found[1], int(found[2]), done.err)
    refuse_if_stopping(node)
    if node.connection != "local" and done.code < 0:
        raise ended(node, done)
    if f"@@{word} start" in done.out:
        raise NodeUnreachable(f"{node.name} was lost in the middle of the work", "is it switched on?",
                              evidence=done.err.splitlines()[-4:])  # fmt: skip
    if node.connection != "local" and done.code == 255:
        raise ssh.unreachable(node, cluster.ssh, done.err)
    raise not_started(cluster, node, done)


def argv_of(cluster: Cluster, node: Node, sudo: bool) -> list[str]:
    """The command that runs a script of ours on a node, whatever the script. Raises KbuildError."""
    if node.connection == "local":
        check_local(node)
        prefix = ["sudo", "-n"] if sudo and os.geteuid() != 0 else []
        return [*prefix, "sh", "-c", BOOT, "kbuild", ""]
    command = f"sudo -n {REMOTE}" if sudo and cluster.ssh.user != "root" else REMOTE
    return ssh_argv(cluster, node, command)


def ssh_argv(cluster: Cluster, node: Node, command: str, *, alone: bool = False) -> list[str]:
    """ssh with a command of ours. `alone`: over a connection of its own, for a node that is about to go down or comes
    back: a shared one may belong to the boot before, and hangs."""
    options = ["-o", "ControlMaster=no", "-o", "ControlPath=none"] if alone else []
    return ["ssh", "-F", str(ssh.config(cluster)), *options, "-T", "--", node.name, command]


def hang_up(cluster: Cluster, node: Node) -> None:
    """End the shared connection to a node, if there is one."""
    if node.connection != "local":
        argv = ["ssh", "-F", str(ssh.config(cluster)), "-O", "exit", "--", node.name]
        shell.run(argv, timeout=5, check=False)


def spoken(text: str, values: Mapping[str, str | int], word: str, payload: bytes, told: int = 1) -> bytes:
    """What goes over: the frame of the answer, the values as quoted assignments, the text, the payload; `told`: where
    the frame ends, 2 where the answer is no text (effects/node_stream.py)."""
    lines = [
        f'trap \'status=$?; printf "\\n@@{word} end %s\\n" "$status" >&{told}\' EXIT',
        f"LC_ALL=C PATH={SEARCH}",
        "export LC_ALL PATH",
        "umask 022",
        "set -u",
        "peer_line=${1:-}",  # "client port server port", see ssh(1) ENVIRONMENT
    ]
    for key, value in values.items():
        if not _KEY.fullmatch(key) or "\0" in str(value):
            raise KbuildError(f"{key!r}={value!r} cannot be a shell variable")
        lines.append(f"{key}={shlex.quote(str(value))}")
    lines.append(f"printf '\\n@@{word} start\\n'")
    # A connection that broke may bring a part of it: of a group that does not end, a shell runs nothing.
    body = "\n".join([*lines, "{", text, "}"]).encode("utf-8", "surrogateescape")
    return f"{len(body)}\n".encode() + body + payload


def _answer(node: Node, answer: str, status: int, stderr: str) -> dict[str, Any]:
    if status == 0:
        try:
            value = json.loads(answer)
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return value
        evidence = [line[:200] for line in answer.splitlines()[-5:]]
        raise CommandFailed(f"{node.name} gave an answer that is not JSON", evidence=evidence)
    raise failure(node, status, stderr)


def failure(node: Node, status: int, stderr: str) -> NodeRefused | CommandFailed:
    """A script that ended with another status than 0: its own words where it has refused."""
    lines = [line for line in stderr.splitlines() if line.strip()]
    refusals = [line.removeprefix(REFUSAL) for line in lines if line.startswith(REFUSAL)]
    evidence = [line for line in lines if not line.startswith(REFUSAL)][-6:]
    if refusals:
        sentence, hint, word = [*refusals[-1].split("\t"), "", ""][:3]
        refused = NodeRefused(f"{node.name} {sentence}", hint or None, evidence=evidence)
        refused.word = word
        return refused
    return CommandFailed(f"{node.name} ended the script with status {status}", evidence=evidence, code=status)


def refuse_if_stopping(node: Node) -> None:
    """An answer that did not come because we ended its ssh: no node was lost. Raises Interrupted."""
    if shell.stopping():
        raise Interrupted(f"the work on {node.name} was interrupted")


def ended(node: Node, done: shell.Done) -> NodeUnreachable:
    """The ssh client of this machine was killed: of the node it says nothing."""
    return NodeUnreachable(
        f"the ssh to {node.name} was ended by signal {-done.code}", "doit again", evidence=done.err.splitlines()[-4:]
    )


def not_started(cluster: Cluster, node: Node, done: shell.Done) -> NotAdmitted:
    """Logged in, but the script did not run: sudo refused, or the account has no usable shell."""
    lines = [line for line in done.err.splitlines() if line.strip()]
    user = cluster.ssh.user if node.connection != "local" else _me()
    if re.search(r"sudo\S*: .*not found", done.err):
        return NotAdmitted(f"{node.name} has no sudo", "install sudo there", evidence=lines[-3:])
    if re.search(r"\bsudo\b", done.err):
        return NotAdmitted(
            f"{user} may not sudo on {node.name}",
            f"on {node.name}, in /etc/sudoers.d/{user} (visudo -f): {user} ALL=(ALL:ALL) NOPASSWD: ALL",
            evidence=lines[-3:],
        )
    return NotAdmitted(
        f"{node.name} let {user} in but ran nothing (status {done.code})",
        f"give {user} a POSIX shell there: usermod -s /bin/bash {user}",
        evidence=[*done.out.splitlines()[-3:], *lines[-3:]],
    )


def check_local(node: Node) -> None:
    """Raises KbuildError unless the node's address is one of this machine: doit was started on the wrong one."""
    try:
        family, _, _, _, where = socket.getaddrinfo(node.address, 0, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind(where)
    except OSError as error:
        raise KbuildError(
            f"{node.name} is not this machine: {node.address} is not one of its addresses",
            f"run doit on {node.name} (in the lab: doit lab exec {node.name} -- doit)",
            evidence=[str(error)],
        ) from None


def _me() -> str:
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
