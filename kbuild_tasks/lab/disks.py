"""What the nodes are made of on the machine's disk: their own layers under .lab/nodes, and what they may see.

A node's disk outlives `down`, as a switched-off machine's does, so a build in the coordinator stays incremental. On
another base image it is made anew (what a node has of the old one would be mixed with the new), but for the home of
`builder`.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import shell
from kbuild_tasks.lab import keys, names
from kbuild_tasks.lab.furnish import Furniture
from kbuild_tasks.lab.names import Places
from kbuild_tasks.lab.nodes import NodeSpec

BUILDER_ID = 1000  # where the project belongs to root
MADE = ("build", "artifacts")  # what builder writes in the project (design.md §4)
# Debian's linux-source packages: the tarball, and what the example PKGBUILD reads of its version and checksum
KERNEL_SOURCES = (
    "usr/src/linux-source-*.tar.xz",
    "var/lib/dpkg/info/linux-source-*.md5sums",
    "usr/share/doc/linux-source-*/changelog.Debian.gz",
)


def builder_ids(root: Path) -> tuple[int, int]:
    """(uid, gid) of `builder`: those of the project's owner; 1000 where that is root, whom makepkg refuses."""
    owner = root.stat()
    return (owner.st_uid, owner.st_gid) if owner.st_uid != 0 else (BUILDER_ID, BUILDER_ID)


def lend(root: Path) -> None:
    """Make build/ and artifacts/ writable for builder, whatever root left in them.

    Raises KbuildError where builder could not read the project."""
    uid, gid = builder_ids(root)
    project = root.stat()
    if project.st_uid != uid and project.st_mode & 0o005 != 0o005:
        raise KbuildError(f"{root} is closed to the lab's builder (uid {uid})", f"chmod o+rx {root}")
    for name in MADE:
        top = root / name
        if top.is_symlink():
            continue
        top.mkdir(exist_ok=True)
        # find, because a test's source tree below build/ has 80,000 files
        shell.run(["find", top, "!", "-user", str(uid), "-exec", "chown", "-h", f"{uid}:{gid}", "--", "{}", "+"])


def specs(places: Places, lower: Path, nodes: Sequence[str]) -> list[NodeSpec]:
    """Keys and disks for these nodes, made where missing; and what the holder needs to know about them."""
    keys.make(places.keys)
    places.disks.mkdir(parents=True, exist_ok=True)
    return [_spec(places, lower, node) for node in nodes]


def _spec(places: Places, lower: Path, node: str) -> NodeSpec:
    _make_disk(places.disks / node, lower.name)
    coordinator = node == names.COORDINATOR
    furniture = Furniture(
        node=node,
        host_key=keys.pair(places.keys / keys.host_key(node)),
        login_key=keys.pair(places.keys / keys.LOGIN),
        known_hosts=(places.keys / "known_hosts").read_text(),
        machine_id=keys.machine_id(places.root, node),
        builder=builder_ids(places.root) if coordinator else None,
        project=str(places.root) if coordinator else None,
    )
    if not coordinator:
        furniture = _without_private_key(furniture)
        return NodeSpec(node, furniture)
    binds: list[tuple[str, bool]] = [(str(places.root), True)]
    for pattern in KERNEL_SOURCES:
        binds += [(str(path), False) for path in sorted(Path("/").glob(pattern))]
    hide = str(places.home) if places.home.is_relative_to(places.root) else None
    return NodeSpec(node, furniture, tuple(binds), hide, str(places.root / "build" / "console"))


def _make_disk(disk: Path, base: str) -> None:
    """A node's disk for this base. What `builder` has at home (a compiled tree) moves on from the disk before."""
    made_on = disk / "base"
    if made_on.exists() and made_on.read_text() == base:
        return
    kept, home = disk.with_name(f"{disk.name}.home"), disk / "root" / "home" / names.BUILD_USER
    if home.exists() and not kept.exists():  # there is one already if we were killed below
        home.rename(kept)
    if disk.exists():
        shutil.rmtree(disk)
    home.parent.mkdir(parents=True)
    if kept.exists():
        kept.rename(home)
    made_on.write_text(base)


def _without_private_key(furniture: Furniture) -> Furniture:
    return replace(furniture, login_key=("", furniture.login_key[1]))
