"""A question to a node of which the answer is bytes, as many as there are; those of effects/node.py are small.

The same script, over the same connection, refused and lost in the same words. Its frame begins on stdout, where a
banner may stand before it, and ends on stderr: what lies between is read as it comes, by whoever can tell where it ends
(a tar, a pack). An answer that was cut short is a node that was lost, whatever its reader has made of it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import subprocess
import tempfile
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any, TypeVar

from kbuild_tasks.core.errors import NodeUnreachable
from kbuild_tasks.core.model import Cluster, Node
from kbuild_tasks.effects import node as remote
from kbuild_tasks.effects import shell, ssh

SILENT = 300.0  # seconds without a byte: a slow board counts 80,000 objects first
BANNER = 1 << 16  # bytes that may stand before the answer
REST = 1 << 20  # bytes that may follow what the reader took: a tar is padded
T = TypeVar("T")


class Torn(Exception):
    """The answer ended before its end."""


class Stream(io.RawIOBase):
    """A node's answer, to be read once. Raises NodeUnreachable when nothing comes for `silent` seconds."""

    def __init__(self, fd: int, node: Node, silent: float) -> None:
        self._fd, self._node, self._silent = fd, node, silent
        self._ahead = b""  # read with the line before
        self.count = 0
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, into: Any) -> int:
        data = self._ahead[: len(into)] if self._ahead else self._next(len(into))
        self._ahead = self._ahead[len(data) :]
        into[: len(data)] = data
        self.count += len(data)
        return len(data)

    def skip_to(self, line: bytes) -> bool:
        """Read on until after that line; False: the answer ended, or is another one."""
        seen = b""
        while line not in seen:
            more = self._next(4096)
            seen += more
            if not more or len(seen) > BANNER:
                return False
        self._ahead = seen.partition(line)[2]
        return True

    def _next(self, size: int) -> bytes:
        if not select.select([self._fd], [], [], self._silent)[0]:
            raise NodeUnreachable(f"{self._node.name} sent nothing for {self._silent:g} s", "is it overloaded?")
        data = os.read(self._fd, min(size, 1 << 20))
        self.ended = not data
        return data


def receive(
    cluster: Cluster,
    node: Node,
    text: str,
    values: Mapping[str, str | int],
    take: Callable[[Stream], T],
    payload: bytes = b"",
    silent: float = SILENT,
) -> T:
    """Run a script on a node as root and hand what it writes to `take`, which reads it to its end, or raises Torn.

    Raises as effects/node.py's ask(), and what `take` raises.
    """
    word = remote.new_word()
    data = remote.spoken(text, values, word, payload, told=2)
    argv = remote.argv_of(cluster, node, sudo=True)
    env = {**os.environ, "LC_ALL": "C"}
    streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        ssh.shared(cluster, node),
        tempfile.TemporaryFile() as said,
        shell.spawn(argv, env=env, stderr=said, **streams) as child,
    ):
        assert child.stdin is not None and child.stdout is not None
        threading.Thread(target=_feed, args=(child.stdin, data), daemon=True).start()
        stream = Stream(child.stdout.fileno(), node, silent)
        taken: list[T] = []
        begun = stream.skip_to(f"@@{word} start\n".encode())
        if begun:
            with contextlib.suppress(Torn):
                taken.append(take(stream))
        _drain(stream)
        if not stream.ended:
            shell.end(child)
        code = child.wait()
        child.stdout.close()
        said.seek(0)
        err = said.read().decode("utf-8", "backslashreplace")
    ended = re.search(rf"\n@@{word} end (\d+)\n", err)
    err = err.replace(ended[0], "") if ended else err
    if ended and ended[1] != "0":
        raise remote.failure(node, int(ended[1]), err)
    if ended and taken:
        return taken[0]
    remote.refuse_if_stopping(node)
    if not begun and node.connection != "local" and code == 255:
        raise ssh.unreachable(node, cluster.ssh, err)
    if not begun and node.connection != "local" and code < 0:
        raise remote.ended(node, shell.Done(code, "", err, 0.0))
    if not begun:
        raise remote.not_started(cluster, node, shell.Done(code, "", err, 0.0))
    raise NodeUnreachable(
        f"{node.name} was lost in the middle of the work", "is it switched on?", evidence=err.splitlines()[-4:]
    )


def _feed(stdin: IO[bytes], data: bytes) -> None:
    """In a thread: a node that answers before it has read all would wait for us, and we for it."""
    with contextlib.suppress(OSError, ValueError):
        stdin.write(data)
        stdin.close()


def _drain(stream: Stream) -> None:
    left = REST
    while not stream.ended and left > 0:
        left -= len(stream.read(1 << 16) or b"")
