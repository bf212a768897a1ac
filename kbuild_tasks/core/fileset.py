"""A set of files that is brought to nodes: its name is its content, so "already so" and "whole" are one comparison.

A listing is "SHA256  PATH<NUL>" for each file, in the byte order of the paths: what the node prints with
`find -printf '%P\\0' | sort -z | xargs -0 sha256sum -z`, whatever characters a name has. The set's id is the sha256
of its listing. No modes, owners and times in it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

from kbuild_tasks.core.errors import KbuildError


def listing(files: Mapping[str, str]) -> bytes:
    """Of {path: sha256}. Raises KbuildError for a path that would leave the set."""
    for path in files:
        parts = path.split("/")
        if path.startswith("/") or ".." in parts or "." in parts or "" in parts or "\0" in path:
            raise KbuildError(f"{path!r} cannot be brought to the nodes", "use a plain path inside the project")
    rows = sorted((os.fsencode(path), digest) for path, digest in files.items())
    return b"".join(digest.encode() + b"  " + path + b"\0" for path, digest in rows)


def identity(files: Mapping[str, str]) -> str:
    """The set's id, 64 hexadecimal digits."""
    return hashlib.sha256(listing(files)).hexdigest()


def parse(raw: bytes) -> dict[str, str]:
    """{path: sha256} of a node's listing; entries that are none are left out (their files get sent again)."""
    found = {}
    for row in raw.split(b"\0"):
        digest, gap, path = row.partition(b"  ")
        if gap and len(digest) == 64:
            found[os.fsdecode(path)] = digest.decode("ascii", "replace")
    return found


@dataclass(frozen=True)
class Change:
    """What makes the set that a node has into the wanted one: files to send, files to take away first."""

    send: tuple[str, ...]
    drop: tuple[str, ...]


def difference(wanted: Mapping[str, str], present: Mapping[str, str]) -> Change:
    """A file that changed is both dropped and sent: the old set shares its inode."""
    return Change(
        tuple(path for path in wanted if present.get(path) != wanted[path]),
        tuple(path for path in present if wanted.get(path) != present[path]),
    )
