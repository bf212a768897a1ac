"""The lab's keys: one to log in with, one host key a node, and the known_hosts that follows from them.

Made once and kept, so that a node keeps its identity as a real one does. All of them are made at once (16 take a
fifth of a second): known_hosts is then complete whatever the number of nodes becomes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from kbuild_tasks.effects import shell
from kbuild_tasks.effects.files import write_atomic
from kbuild_tasks.lab import names

LOGIN = "id_ed25519"


def make(directory: Path) -> None:
    """Make what is missing; 0700, for root only."""
    directory.mkdir(parents=True, exist_ok=True)
    os.chmod(directory, 0o700)
    for name, comment in [(LOGIN, "kbuild-lab"), *((host_key(node), node) for node in names.NODES)]:
        if not (directory / name).exists() or not (directory / f"{name}.pub").exists():
            _generate(directory / name, comment)
    text = known_hosts({node: _public(directory / host_key(node)) for node in names.NODES})
    if not (path := directory / "known_hosts").exists() or path.read_text() != text:
        write_atomic(path, text)


def host_key(node: str) -> str:
    return f"host-{node}"


def pair(path: Path) -> tuple[str, str]:
    """(private, public) text of a key."""
    return path.read_text(), _public(path)


def known_hosts(public: dict[str, str]) -> str:
    """sshd(8), SSH_KNOWN_HOSTS FILE FORMAT: each node by its address and by its name."""
    return "".join(f"{names.address(node)},{node} {' '.join(key.split()[:2])}\n" for node, key in public.items())


def machine_id(root: Path, node: str) -> str:
    """machine-id(5): 32 lower-case hex digits, the same for a node as long as the project stays where it is."""
    return hashlib.sha256(f"{root}\0{node}".encode("utf-8", "surrogateescape")).hexdigest()[:32]


def _public(path: Path) -> str:
    return path.with_name(path.name + ".pub").read_text()


def _generate(path: Path, comment: str) -> None:
    """Under another name first: an interrupted ssh-keygen leaves no half pair."""
    scratch = path.with_name(f"{path.name}.new")
    for leftover in (scratch, scratch.with_name(scratch.name + ".pub")):
        leftover.unlink(missing_ok=True)
    shell.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(scratch)],
        timeout=60,
        hint="script/setup installs openssh-client",
    )
    os.replace(scratch, path)
    shutil.move(f"{scratch}.pub", f"{path}.pub")
