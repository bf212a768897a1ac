"""sync:<node>: PKGBUILD, series, config and cluster.yaml on a node, as a verified set or not at all.

/var/lib/kbuild-tasks/sync/<id>/ holds the files under their project paths, and who brought them (core/origin.py,
ORIGIN); `current` points to the last set, and the one before it is kept. The id is the sha256 of the listing
(core/fileset.py), so a set that is named right is whole. Two questions: what have you, and, if that is not the wanted
set, here is what you lack; unchanged content is not sent again, a run with nothing new asks once, and so does one that
knows of no set there. A node whose disk is full keeps the set it had, and that is an error; a worker that cannot be
reached, or does not admit us, is left out.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

from kbuild_tasks.core.errors import KbuildError, NodeUnreachable
from kbuild_tasks.core.later import later
from kbuild_tasks.core.model import STATE_DIR, Inputs, Node, Outcome
from kbuild_tasks.effects import owner
from kbuild_tasks.effects.context import Context
from kbuild_tasks.effects.files import read_record
from kbuild_tasks.effects.project import Project

if TYPE_CHECKING:
    from kbuild_tasks.core import fileset, origin
    from kbuild_tasks.effects import helper
    from kbuild_tasks.effects import node as remote
else:
    fileset, remote = later("kbuild_tasks.core.fileset"), later("kbuild_tasks.effects.node")
    origin, helper = later("kbuild_tasks.core.origin"), later("kbuild_tasks.effects.helper")

DEADLINE = 120  # seconds
LARGEST = 4 << 20  # bytes: a file beside the PKGBUILD that is larger is a source or a package, which nodes do not need
AT_ONCE = 1 << 20  # bytes of a set that are sent unasked to a node of which nothing is known


def inputs(project: Project, node: Node) -> Inputs:
    """Every file of the set. Starts nothing."""
    root = project.cluster.root
    kernel = project.cluster.kernel
    files = [project.cluster.source, *(name for name in ("dodo.py",) if (root / name).is_file()), kernel.pkgbuild]
    large = left_out(project)
    files += [name for name in project.beside_pkgbuild if name not in large]
    files += [name for name in (kernel.config,) if (root / name).is_file()]  # else: the name of a defconfig
    files += [*kernel.fragments, *project.series]
    files += [project.series_file] if project.series_file else []
    values = {"node": node.name, "address": node.address, "project": str(root)}
    if node.rollout:
        values["helper"] = _helper_digest() if project.cluster.ssh.sudo == "all" else "the admin's"
    return Inputs(tuple(dict.fromkeys(files)), values)


def left_out(project: Project) -> list[str]:
    """Files beside the PKGBUILD that are no part of the set."""
    return [n for n in project.beside_pkgbuild if (project.cluster.root / n).stat().st_size > LARGEST]


@functools.cache
def _helper_digest() -> str:
    """Of the parts that the roll-out's helper is made of: a run with nothing to do does not put it together."""
    package = Path(__file__).parent.parent
    parts = sorted([*(package / "node").iterdir(), *(package / "bootloader").iterdir()])
    found = hashlib.sha256()
    for part in parts:
        if part.suffix in (".sh", ".py"):
            found.update(part.name.encode() + b"\0" + part.read_bytes() + b"\0")
    return found.hexdigest()


def run(ctx: Context) -> Outcome:
    """Raises KbuildError: a file is missing, the node has no space or refused."""
    assert ctx.node is not None
    node = ctx.node
    coordinator = node.name == ctx.cluster.build.coordinator
    if not coordinator and ctx.cluster.ssh.sudo == "helper":
        return Outcome("is not synced: ssh.sudo is helper, so it does not compile")
    if not coordinator and (why := _still_down(ctx, node)):
        return Outcome(f"left out: {'; '.join(why)}", run={"left_out": why[0]}, final=False)
    project = Project(ctx.cluster)
    contents = _read(ctx, inputs(project, node))
    contents[origin.ORIGIN] = origin.origin(ctx.cluster, left_out(project))
    wanted = {path: hashlib.sha256(data).hexdigest() for path, data in contents.items()}
    name = fileset.identity(wanted)
    try:
        sent = bring(ctx, node, wanted, contents)
    except (NodeUnreachable, remote.NotAdmitted) as error:
        if coordinator:
            raise
        fix = f"; {error.hint}" if error.hint else ""
        return Outcome(f"left out: {error.message}{fix}", run={"left_out": error.message}, final=False)
    count = f"{len(wanted)} file{'' if len(wanted) == 1 else 's'}"
    message = f"{count}, {sent} sent" if sent is not None else f"{count}, already there"
    if node.rollout and ctx.cluster.ssh.sudo == "all":
        message += "; helper installed" if helper.install(ctx.cluster, node) else ""
    return Outcome(message, results={"set": name, "files": wanted}, run={"sent": sent or 0})


def bring(ctx: Context, node: Node, wanted: dict[str, str], contents: dict[str, bytes]) -> int | None:
    """Make `wanted` the node's current set. Number of files sent; None: it had the set."""
    name = fileset.identity(wanted)
    if _unknown(ctx, node) and sum(map(len, contents.values())) <= AT_ONCE:
        return len(wanted) if _put(ctx, node, name, "", b"", contents) else None
    has = remote.ask(ctx.cluster, node, remote.script("sync_list"), {"state": STATE_DIR}, timeout=DEADLINE)
    raw = base64.b64decode(has["listing"])
    if has["current"] == name and raw == fileset.listing(wanted):
        return None
    change = fileset.difference(wanted, fileset.parse(raw))
    drop = b"".join(os.fsencode(path) + b"\0" for path in change.drop)
    _put(ctx, node, name, has["current"], drop, {path: contents[path] for path in change.send})
    return len(change.send)


def _put(ctx: Context, node: Node, name: str, base: str, drop: bytes, contents: dict[str, bytes]) -> bool:
    """False: the node had that set already."""
    values: dict[str, str | int] = {"state": STATE_DIR, "id": name, "base": base, "drop_bytes": len(drop)}
    answer = remote.ask(ctx.cluster, node, remote.script("sync_put"), values, drop + _tar(contents), timeout=DEADLINE)
    return bool(answer["put"])


def _unknown(ctx: Context, node: Node) -> bool:
    """Whether nothing is known here of a set that the node has: then it gets all in one question."""
    facts = read_record(ctx.paths.facts(node.name)).get("facts")
    return not (isinstance(facts, dict) and facts.get("sync"))


def _still_down(ctx: Context, node: Node) -> list[str]:
    """What prepare has found in this run, and its hint: not every stage waits for the same dead node."""
    record = read_record(ctx.paths.facts(node.name))
    if record.get("reached") or record.get("run") != owner.TOKEN:
        return []
    return [str(record[key]) for key in ("why", "hint") if record.get(key)]


def _read(ctx: Context, declared: Inputs) -> dict[str, bytes]:
    contents = {}
    for name in declared.files:
        try:
            contents[name] = (ctx.paths.root / name).read_bytes()
        except OSError as error:
            raise KbuildError(f"{name} cannot be read: {error.strerror}", "correct cluster.yaml or the file") from None
    return contents


def _tar(contents: dict[str, bytes]) -> bytes:
    """Equal contents are equal bytes: no owner, no time."""
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT, errors="surrogateescape") as archive:
        for path, data in contents.items():
            member = tarfile.TarInfo(Path(path).as_posix())
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    return out.getvalue()
