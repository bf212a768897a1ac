"""Who brought a set to a node: sync writes it into the set, and so it tells of the coordinator to adopt from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from kbuild_tasks.core.model import Cluster

ORIGIN = "build/origin.json"  # in a set that sync brings, and so in a project that is made of one


@dataclass(frozen=True)
class Origin:
    """Who brought a set to a node. project, workdir: absolute paths there; left_out: files beside the PKGBUILD that
    were too large for it."""

    coordinator: str
    project: str
    workdir: str
    left_out: tuple[str, ...] = ()


def origin(cluster: Cluster, left_out: Sequence[str] = ()) -> bytes:
    """The file ORIGIN of a set: equal values are equal bytes."""
    value = {
        "coordinator": cluster.build.coordinator,
        "project": str(cluster.root),
        "workdir": cluster.build.workdir.path,
        "left_out": list(left_out),
    }
    return (json.dumps(value, indent=1) + "\n").encode()


def read_origin(raw: bytes) -> Origin | None:
    """None where it is none of ours."""
    try:
        value = json.loads(raw)
        coordinator, project, workdir = (value[key] for key in ("coordinator", "project", "workdir"))
        left_out = value.get("left_out", [])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    texts = [coordinator, project, workdir, *left_out] if isinstance(left_out, list) else [None]
    if not all(isinstance(text, str) and text and "\0" not in text for text in texts):
        return None
    return Origin(coordinator, project, workdir, tuple(left_out)) if project[0] == workdir[0] == "/" else None
