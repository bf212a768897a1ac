"""cluster.yaml's tree -> model.Cluster, or one ConfigError with all that is wrong and the line of each.

First every problem is looked for (core/schema.py: what a value may look like; core/consistency.py: what must agree),
then the values are built; so nothing here meets a wrong type. What needs the disk (does the file exist) is asked by
effects/cluster_file.py, of project_files(). Defaults are those of model.py and are written nowhere else;
a test holds them against the ones that schema.json tells editors.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from kbuild_tasks.core import units
from kbuild_tasks.core.consistency import disagreements, entry_at, value_at
from kbuild_tasks.core.defconfig import is_defconfig
from kbuild_tasks.core.model import Build, Cluster, Kernel, Node, Rollout, Ssh, Waiver, Window, Workdir
from kbuild_tasks.core.schema import Problem, Tree, matcher, refusal, schema, validate

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


class ProjectFile(NamedTuple):
    """A file that cluster.yaml names: line and key that name it, its path relative to the project, what it must be."""

    line: int
    where: str
    path: str
    directory: bool = False


def build_cluster(tree: Tree, root: Path, source: str) -> Cluster:
    """The cluster that the tree describes.

    tree    [line, value] all the way down (core/schema.py)
    root    the project directory, absolute
    source  the file's name, for messages
    Raises ConfigError.
    """
    problems = find_problems(tree, root)
    if problems:
        raise refusal(source, problems)
    return assemble(tree, root, source)


def find_problems(tree: Tree, root: Path) -> list[Problem]:
    """All that is wrong, as far as the file alone can tell."""
    return validate(tree) + disagreements(tree, root)


def project_files(tree: Tree) -> Iterator[ProjectFile]:
    """The files of the project that must exist, as far as they are well named."""
    well_named = matcher(schema()["$defs"]["path"]["pattern"]).fullmatch
    found = [(*entry_at(tree, "kernel", key), f"kernel.{key}") for key in ("pkgbuild", "config", "patches")]
    fragments = value_at(tree, "kernel", "fragments")
    for index, (line, value) in enumerate(fragments if isinstance(fragments, list) else ()):
        found.append((line, value, f"kernel.fragments[{index}]"))
    for line, value, where in found:
        if isinstance(value, str) and well_named(value) and not (where == "kernel.config" and is_defconfig(value)):
            yield ProjectFile(line, where, posixpath.normpath(value), where == "kernel.patches")


def assemble(tree: Tree, root: Path, source: str) -> Cluster:
    """The cluster of a tree in which find_problems() found nothing."""
    top: dict[str, Tree] = tree[1]
    build = _build(top["build"][1])
    defaults = _node_values(top.get("defaults", [0, {}])[1])
    nodes = {}
    for name, (line, entry) in top["nodes"][1].items():
        values = defaults | _node_values(entry)
        values.setdefault("connection", "local" if name == build.coordinator else "ssh")
        nodes[name] = Node(name=name, line=line, **values)
    return Cluster(
        root=root,
        source=source,
        kernel=_kernel(top["kernel"][1]),
        build=build,
        ssh=Ssh(**_converted(top.get("ssh", [0, {}])[1], {"connect_timeout": _seconds})),
        nodes=nodes,
        rollout=_rollout(top.get("rollout", [0, {}])[1]),
    )


def _kernel(given: dict[str, Tree]) -> Kernel:
    values = _converted(given, {"pkgbuild": posixpath.normpath, "patches": posixpath.normpath})
    if not is_defconfig(values["config"]):
        path = posixpath.normpath(values["config"])
        values["config"] = f"./{path}" if is_defconfig(path) else path  # a file of that name stays one
    values["fragments"] = tuple(posixpath.normpath(path) for path in values.get("fragments", ()))
    lines: dict[str, int] = {}
    for line, text in given.get("require", [0, []])[1]:
        lines.setdefault(_symbol(text), line)
    values["require"], values["require_lines"] = tuple(lines), lines
    values["waivers"] = tuple(
        Waiver(line=line, **_converted(entry, {"symbol": _symbol})) for line, entry in given.get("waivers", [0, []])[1]
    )
    return Kernel(**values)


def _build(given: dict[str, Tree]) -> Build:
    converters = {
        "fail_local_share": units.share,
        "check_share": units.share,
        "max_jobs": _number,
        "sign_key": str.upper,
    }
    converters |= dict.fromkeys(("keep", "ccache"), _kept)
    values = _converted(given, converters)
    workdir = values["workdir"]
    size = workdir.get("tmpfs", "auto")
    workdir["tmpfs"] = size if size in ("auto", "off") else units.size(size)
    values["workdir"] = Workdir(**workdir)
    return Build(**values)


def _rollout(given: dict[str, Tree]) -> Rollout:
    timeouts = dict.fromkeys(("panic_timeout", "reboot_timeout", "settle", "drain_timeout"), _seconds)
    values = _converted(given, {"canary": tuple, "batches": tuple, **timeouts})
    for key, below in values.pop("verify", {}).items():
        values[f"verify_{key}"] = tuple(below)
    if window := values.get("window"):
        days = {"days": tuple(sorted(_DAYS.index(day) for day in window["days"]))} if "days" in window else {}
        values["window"] = Window(_minutes(window["from"]), _minutes(window["to"]), **days)
    return Rollout(**values)


def _node_values(given: dict[str, Tree]) -> dict[str, Any]:
    return _converted(given, {"slots": _number, "memory_per_job": units.size})


def _converted(given: dict[str, Tree], converters: dict[str, Any]) -> dict[str, Any]:
    """The plain values of a mapping, without lines, some of them converted; only the keys that were given."""
    values = {key: _plain(value) for key, (_, value) in given.items()}
    for key in converters.keys() & values.keys():
        values[key] = converters[key](values[key])
    return values


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(below) for key, (_, below) in value.items()}
    if isinstance(value, list):
        return [_plain(below) for _, below in value]
    return value


def _minutes(text: str) -> int:
    hours, minutes = text.split(":")
    return int(hours) * 60 + int(minutes)


def _number(value: int | str) -> int | None:
    return None if value == "auto" else int(value)


def _kept(value: str) -> int:
    return 0 if value == "off" else units.size(value)


def _seconds(text: str) -> int:
    return int(units.duration(text))


def _symbol(text: str) -> str:
    return text.removeprefix("CONFIG_")
