"""One job for a distccd, spoken to directly: for measuring, where distcc's client would add waits of its own.

Protocol 1 and 2 (packed by lzo) of distcc (doc/protocol-1.txt): tokens of four letters and eight hexadecimal digits, a
number or a length.

    DIST version  ARGC n  ARGV length word ...  DOTI length preprocessed text
    DONE version  STAT status  SERR length text  SOUT length text  DOTO length object

The request itself is distcc's: capture() lets its client preprocess, pack and send to a listener here, so that the
flags that a worker gets, and the bytes that go over the link, are those of a build. The same request then goes to every
node.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from kbuild_tasks.core.errors import NodeRefused

# A compiler is silent while it works; a machine that is cut off is told by its silence to the kernel, in 6 s (tcp(7)).
_ALIVE = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 3),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
)


@dataclass(frozen=True)
class Answer:
    """status as of wait(2), 0: the object was made; seconds from the connection to the last byte of the answer."""

    status: int
    errors: str
    seconds: float


def request(argv: Sequence[str], text: bytes) -> bytes:
    """A job as protocol 1 has it, not packed."""
    words = [os.fsencode(word) for word in argv]
    head = b"DIST%08xARGC%08x" % (1, len(words)) + b"".join(b"ARGV%08x%s" % (len(word), word) for word in words)
    return head + b"DOTI%08x" % len(text) + text


def ask(name: str, address: str, port: int, job: bytes, timeout: float) -> Answer:
    """Have a worker carry out a request; `timeout`: seconds without a byte. name: the node, for messages.

    Raises NodeRefused where it is not to be reached, closes the connection, or does not speak the protocol.
    """
    began = time.perf_counter()
    try:
        with socket.create_connection((address, port), min(timeout, 5.0)) as peer:
            peer.settimeout(timeout)
            for level, option, value in _ALIVE:
                peer.setsockopt(level, option, value)
            peer.sendall(job)
            with peer.makefile("rb") as answer:
                status, errors = _answer(answer)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NodeRefused(
            f"{name}'s distccd gave no answer to a compile job: {why}",
            "see distccd.log in /var/lib/kbuild-tasks there",
        ) from None
    return Answer(status, errors, time.perf_counter() - began)


def capture(run: Callable[[str], None]) -> bytes | None:
    """The request that `run` sends to the host ("127.0.0.1:PORT") it is given; None where it sends none.

    The connection is closed then without an answer, which distcc tells as a failure.
    """
    found: list[bytes] = []
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        listener.settimeout(0.05)
        taker = threading.Thread(target=_take, args=(listener, over, found), daemon=True)
        taker.start()
        try:
            run(f"127.0.0.1:{listener.getsockname()[1]}")
        finally:
            over.set()
            taker.join()
    return found[0] if found else None


def _take(listener: socket.socket, over: threading.Event, found: list[bytes]) -> None:
    while not over.is_set():
        with contextlib.suppress(TimeoutError):
            peer, _ = listener.accept()
            with peer, contextlib.suppress(OSError, ValueError), peer.makefile("rb") as stream:
                peer.settimeout(60)
                found.append(_whole(stream))
            return


def _whole(stream: BinaryIO) -> bytes:
    """A request to its end, as it came."""
    came = [_bytes(stream, 24)]
    for _ in range(int(came[0][16:], 16)):
        came.append(_bytes(stream, 12))
        came.append(_bytes(stream, int(came[-1][4:], 16)))
    came.append(_bytes(stream, 12))
    if came[-1][:4] != b"DOTI":
        raise ValueError("not a request of protocol 1 or 2")
    came.append(_bytes(stream, int(came[-1][4:], 16)))
    return b"".join(came)


def _answer(answer: BinaryIO) -> tuple[int, str]:
    version = _token(answer, b"DONE")
    status = _token(answer, b"STAT")
    errors = _bytes(answer, _token(answer, b"SERR"))
    _bytes(answer, _token(answer, b"SOUT"))
    if status == 0:
        _bytes(answer, _token(answer, b"DOTO"))
    return status, errors.decode("utf-8", "backslashreplace") if version == 1 else ""


def _token(answer: BinaryIO, want: bytes) -> int:
    raw = _bytes(answer, 12)
    if raw[:4] != want:
        raise ValueError(f"{want.decode()} was expected, not {raw[:4]!r}")
    return int(raw[4:], 16)


def _bytes(answer: BinaryIO, count: int) -> bytes:
    data = answer.read(count)
    if len(data) != count:
        raise ValueError("it closed the connection")
    return data
