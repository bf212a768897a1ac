"""A build's files onto a node, each whole and hashed there or not at all; what arrived before a cut stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import NodeRefused, NodeUnreachable
from kbuild_tasks.effects import artifacts, clock
from kbuild_tasks.effects.files import sha256_file
from kbuild_tasks.effects.rollout import Visit

CHUNK = 8 << 20  # bytes a round trip: 10 ms of overhead each on a shared connection
SLOWEST = 64 << 10  # bytes a second that a way may be slow; below that it counts as lost
TRIES = 3  # times that a connection may be lost in one file


def send(visit: Visit) -> int:
    """Bring the build's files; the number of bytes that were sent. Raises NodeRefused (no space), NodeUnreachable."""
    files = artifacts.files(visit.ctx.paths, visit.build)
    total = sum(file.stat().st_size for file in files)
    there = _there(visit)
    sent = behind = 0
    for file in files:
        sent += _file(visit, file, there, behind, total)
        behind += file.stat().st_size
    return sent


def _there(visit: Visit) -> dict[str, Any]:
    found: dict[str, Any] = visit.ask("stage-list", build=visit.build.build).get("files") or {}
    return found


def _file(visit: Visit, file: Path, there: dict[str, Any], behind: int, total: int) -> int:
    digest, size = sha256_file(file), file.stat().st_size
    if digest is None:
        raise NodeRefused(f"artifacts/{file.name} is not there any more", "doit package makes it anew")
    sent, lost = 0, 0
    while True:
        entry = there.get(file.name) or {}
        if entry.get("sha256") == digest and entry.get("size") == size:
            return sent
        offset = int(entry.get("size") or 0) if entry.get("sha256") is None else 0
        offset = offset if offset <= size else 0
        try:
            sent += _rest(visit, file, digest, size, offset, behind, total)
            return sent
        except NodeUnreachable:
            lost += 1
            if lost >= TRIES:
                raise
            visit.say(f"{file.name}: connection lost, going on where it stopped")
            clock.sleep(2 * lost)
            there = _there(visit)


def _rest(visit: Visit, file: Path, digest: str, size: int, offset: int, behind: int, total: int) -> int:
    first = offset
    with open(file, "rb") as source:
        source.seek(offset)
        while True:
            payload = source.read(min(CHUNK, size - offset))
            values: dict[str, Any] = {"build": visit.build.build, "name": file.name, "size": size, "sha256": digest}
            timeout = 60 + len(payload) / SLOWEST
            answer = visit.do("stage-put", payload=payload, timeout=timeout, offset=offset, **values)
            offset += len(payload)
            visit.say(f"{(behind + offset) / 2**20:.0f} of {total / 2**20:.0f} MiB sent")
            if answer.get("complete"):
                return offset - first
            if offset >= size or answer.get("size") != offset:
                raise NodeRefused(
                    f"{visit.node.name} has {answer.get('size')} bytes of {file.name}, and {offset} were sent",
                    "doit deploy begins that file anew",
                )
