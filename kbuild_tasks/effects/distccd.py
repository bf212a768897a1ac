"""One job for a distccd, spoken to directly: for measuring, where distcc's client would add its own waits.

Protocol 1 of distcc (doc/protocol-1.txt): tokens of four letters and eight hexadecimal digits, a number or a length.

    DIST 1  ARGC n  ARGV length word ...  DOTI length preprocessed text
    DONE 1  STAT status  SERR length text  SOUT length text  DOTO length object

The text is sent as it is, not packed: how fast the link is, is one of the things to be learned.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
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
    object: bytes
    errors: str
    seconds: float


def ask(name: str, address: str, port: int, argv: Sequence[str], text: bytes, timeout: float) -> Answer:
    """Have a worker compile `text`; `timeout`: seconds without a byte. name: the node, for messages.

    Raises NodeRefused where it is not to be reached, closes the connection, or does not speak the protocol.
    """
    head = b"DIST%08xARGC%08x" % (1, len(argv))
    words = [os.fsencode(word) for word in argv]
    head += b"".join(b"ARGV%08x%s" % (len(word), word) for word in words)
    began = time.perf_counter()
    try:
        with socket.create_connection((address, port), min(timeout, 5.0)) as peer:
            peer.settimeout(timeout)
            for level, option, value in _ALIVE:
                peer.setsockopt(level, option, value)
            peer.sendall(head + b"DOTI%08x" % len(text))
            peer.sendall(text)
            with peer.makefile("rb") as answer:
                told = _read(answer)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise NodeRefused(
            f"{name}'s distccd gave no answer to a compile job: {why}",
            "see distccd.log in /var/lib/kbuild-tasks there",
        ) from None
    status, errors, made = told
    return Answer(status, made, errors, time.perf_counter() - began)


def _read(answer: BinaryIO) -> tuple[int, str, bytes]:
    _token(answer, b"DONE")
    status = _token(answer, b"STAT")
    errors = _bytes(answer, _token(answer, b"SERR"))
    _bytes(answer, _token(answer, b"SOUT"))
    made = _bytes(answer, _token(answer, b"DOTO")) if status == 0 else b""
    return status, errors.decode("utf-8", "backslashreplace"), made


def _token(answer: BinaryIO, want: bytes) -> int:
    raw = _bytes(answer, 12)
    if raw[:4] != want:
        raise ValueError(f"{want.decode()} was expected, not {raw[:4]!r}")
    return int(raw[4:], 16)


def _bytes(answer: BinaryIO, count: int) -> bytes:
    data: bytes = answer.read(count)
    if len(data) != count:
        raise ValueError("it closed the connection")
    return data
