"""Nodes that returned a wrong object: they compile nothing until the user lifts it (doit trust:<node>).

    build/quarantine/<node>.json   {"node", "address", "at": epoch, "objects": [{"object", "what"}], "dropped": how many
                                   objects went with it, null: not all of it is gone yet}
    build/quarantine/<node>/       the first wrong object beside the right one, and the text of both: theirs.o, ours.o,
                                   text.i

Written before anything is dropped, and what could not be dropped then (a full disk, a kill) is dropped before the next
compilation. A node is known by its name and by its address, so that another name does not lift it.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kbuild_tasks.core import trust
from kbuild_tasks.core.distribution import Distribution
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.model import Build, Cluster
from kbuild_tasks.core.when import when
from kbuild_tasks.effects import ccache, makers
from kbuild_tasks.effects.context import Context, Paths
from kbuild_tasks.effects.files import read_record, write_json

SHOWN = 5  # wrong objects that an error names


def known(paths: Paths, cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Node -> record, of the nodes of cluster.yaml that are in quarantine."""
    found: dict[str, dict[str, Any]] = {}
    for record in _records(paths):
        for name, node in cluster.nodes.items():
            if name == record["node"] or node.address == record.get("address"):
                found[name] = record
    return found


def since(record: Mapping[str, Any]) -> str:
    """ "it is in quarantine since 2026-11-30 14:02 UTC: it returned a wrong fs/inode.o (it is cut short, ...)" """
    return trust.sentence(record, when(record.get("at")) or "?")


def facts(paths: Paths, cluster: Cluster) -> dict[str, dict[str, Any]]:
    """Node -> what prepare has learned of it (build/facts/), those in quarantine as left out."""
    told = {name: read_record(paths.facts(name)) for name in cluster.nodes}
    for name, record in known(paths, cluster).items():
        told[name] = {**told[name], "state": "left-out", "why": f"{since(record)}; doit trust:{name} lifts it"}
    return told


def settle(paths: Paths, build: Build) -> None:
    """Drop what a node in quarantine has made, where that is not done yet. Raises KbuildError, OSError."""
    for record in _records(paths):
        if record.get("dropped") is None:
            _settle(paths, build, record)


def lift(paths: Paths, record: Mapping[str, Any]) -> None:
    """Raises KbuildError where objects of the node are still in use."""
    node = record["node"]
    if record.get("dropped") is None:
        raise KbuildError(f"what {node} has made is still in the tree", f"doit compile, then doit trust:{node}")
    _file(paths, node).unlink(missing_ok=True)
    shutil.rmtree(paths.quarantine / node, ignore_errors=True)


def caught(ctx: Context, told: Distribution) -> KbuildError:
    """Put the nodes that returned wrong objects into quarantine, drop what they have made, and say so."""
    by_node: dict[str, list[dict[str, str]]] = {}
    for name, node, directory in told.wrong:
        what = _compare(Path(directory), ctx.paths.quarantine / node, first=node not in by_node)
        by_node.setdefault(node, []).append({"object": name, "what": what})
    records: list[dict[str, Any]] = []
    for node, objects in by_node.items():
        address = ctx.cluster.nodes[node].address
        record: dict[str, Any] = {
            "node": node,
            "address": address,
            "at": time.time(),
            "objects": objects,
            "dropped": None,
        }
        write_json(_file(ctx.paths, node), record)
        records.append(record)
    evidence = []
    for record in records:
        objects = record["objects"]
        evidence += [f"{entry['object']}: {entry['what']}" for entry in objects[:SHOWN]]
        evidence += [f"... and {len(objects) - SHOWN} more"] if len(objects) > SHOWN else []
        evidence.append(
            f"compared: {ctx.shown(ctx.paths.quarantine / record['node'])}, with the text that both were made of"
        )
        try:
            _settle(ctx.paths, ctx.cluster.build, record)
            evidence.append(f"dropped: {record['dropped']} objects that it has made or may have made, here and kept")
        except (OSError, KbuildError) as error:
            evidence.append(f"not yet dropped is what it has made: {error}; the next run does it first")
    if (ctx.paths.artifacts / "manifest.json").exists():
        evidence.append("it may have had a part in the packages in artifacts/, and in what runs on the nodes")
    names = " and ".join(by_node)
    accusations = "; ".join(trust.accusation(node, objects) for node, objects in by_node.items())
    return KbuildError(
        f"{accusations}. From now on {names} compile{'s' if len(by_node) == 1 else ''} nothing",
        f"doit again: others make what was dropped. Look at {names} (memory, compiler, who is at it) before "
        f"doit {' '.join(f'trust:{node}' for node in by_node)}",
        evidence=evidence,
        log=ctx.shown(ctx.log),
    )


def _settle(paths: Paths, build: Build, record: dict[str, Any]) -> None:
    dropped = makers.drop(paths, record["node"], str(record.get("address")))
    ccache.clear(build, paths)
    record["dropped"] = len(dropped)
    write_json(_file(paths, record["node"]), record)


def _compare(directory: Path, keep: Path, *, first: bool) -> str:
    """What is different, of the objects in a directory of check.sh; those of the first are kept for people."""
    try:
        theirs, ours = (directory / "theirs").read_bytes(), (directory / "ours").read_bytes()
    except OSError as error:
        return f"it differs, and cannot be read any more: {error.strerror}"
    if first:
        with contextlib.suppress(OSError):  # a full disk must not save the node
            shutil.rmtree(keep, ignore_errors=True)
            keep.mkdir(parents=True)
            for name, kept in (("theirs", "theirs.o"), ("ours", "ours.o"), ("text.i", "text.i")):
                if (directory / name).exists():
                    shutil.copyfile(directory / name, keep / kept)
    return trust.difference(theirs, ours)


def _records(paths: Paths) -> list[dict[str, Any]]:
    """A record that is damaged still keeps its node out."""
    if not paths.quarantine.is_dir():
        return []
    files = sorted(path for path in paths.quarantine.iterdir() if path.suffix == ".json")
    return [{"dropped": None, **read_record(path), "node": path.stem} for path in files]


def _file(paths: Paths, node: str) -> Path:
    return paths.quarantine / f"{node}.json"
