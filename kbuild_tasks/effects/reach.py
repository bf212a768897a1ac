"""Does a node's sshd answer? One TCP connection, no login: cheap enough to ask twice a second, and of every node before
one of them is rebooted."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from kbuild_tasks.core import diagnosis
from kbuild_tasks.core.model import Node


def knock(node: Node, timeout: float = 1.0) -> str:
    """ "" when sshd greets, else a word of core/diagnosis.py: REFUSED, SILENT."""
    if node.connection == "local":
        return ""
    try:
        with socket.create_connection((node.address, node.port), timeout) as connection:
            connection.settimeout(timeout)
            return "" if connection.recv(4) == b"SSH-" else diagnosis.SILENT
    except ConnectionRefusedError:
        return diagnosis.REFUSED
    except OSError:
        return diagnosis.SILENT


def silent(nodes: Iterable[Node], timeout: float = 3.0) -> list[str]:
    """Names of those that do not answer, asked all at once; each twice before it counts as silent."""
    asked = list(nodes)
    if not asked:
        return []
    with ThreadPoolExecutor(len(asked)) as pool:
        down = list(pool.map(lambda node: bool(knock(node, timeout) and knock(node, timeout)), asked))
    return [node.name for node, is_down in zip(asked, down, strict=True) if is_down]
