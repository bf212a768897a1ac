"""cluster.yaml from the disk: read, parsed, validated, and the files that it names looked for.

`cache` is a file of ours (build/cache/cluster.json) with the parsed tree of the last good load, so that an unchanged
file needs no `import yaml`, 14 ms of a no-op run. Its first line is a hash over the bytes of cluster.yaml and all that
follows: a cache of another file, half written or edited does not match and is not used. The tree is validated on each
load all the same: a newer program may refuse what an older one took.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from pathlib import Path
from typing import Any

from kbuild_tasks.core import suggest
from kbuild_tasks.core.config import ProjectFile, assemble, find_problems, project_files
from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.core.model import Cluster
from kbuild_tasks.core.schema import Problem, Tree, refusal, word
from kbuild_tasks.effects.files import sha256_text, write_atomic

EXAMPLES = "docs/examples has one to start from, docs/cluster-yaml.md every key"


def load_cluster(path: Path, cache: Path | None = None) -> Cluster:
    """The cluster that a file describes; its directory is the project. Opens no connection, starts no process.

    path   "cluster.yaml"
    cache  where the parsed tree may be kept; None: nothing is written
    Raises ConfigError: "cluster.yaml:12: nodes.kubenode2.slot: unknown key, did you mean slots?", with up to ten other
    problems of the file as evidence.
    """
    path = Path(os.path.abspath(path))
    if any(char < " " or char == "\x7f" for char in str(path.parent)):  # ssh_config and others hold it on a line
        what = f"the project's path holds a line end or another control character: {str(path.parent)!r}"
        raise ConfigError(what, "move the project to a path without line ends and control characters")
    data = _read(path)
    tree, problems = _cached(data, cache), list[Problem]()
    known = tree is not None
    if tree is None:
        from kbuild_tasks.effects.yaml_tree import parse

        tree, problems = parse(data)
        if tree is None and not problems:
            problems = [Problem(1, "", "is empty", EXAMPLES)]
    if tree is not None:
        problems += find_problems(tree, path.parent)
        if cache and not known and not problems:
            _keep(data, tree, cache)
        problems += [problem for file in project_files(tree) if (problem := _file_problem(file, path.parent))]
    if problems or tree is None:
        raise refusal(path.name, problems)
    return assemble(tree, path.parent, path.name)


def _read(path: Path) -> bytes:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ConfigError(f"{path.name} is not a regular file", EXAMPLES)
            return file.read()
    except FileNotFoundError:
        raise ConfigError(f"there is no {path.name} in {path.parent}", EXAMPLES) from None
    except IsADirectoryError:
        raise ConfigError(f"{path.name} is a directory", EXAMPLES) from None
    except OSError as error:
        raise ConfigError(f"{path.name} cannot be read: {error.strerror}", f"ls -l {word(str(path))}") from None


def _cached(data: bytes, cache: Path | None) -> Tree | None:
    """The kept tree, if it is whole and of exactly this file."""
    if cache is None:
        return None
    try:
        digest, _, body = cache.read_bytes().partition(b"\n")
    except OSError:  # the first run, or a cache that is not ours to read: the file itself is parsed
        return None
    if digest.decode("ascii", "replace") != sha256_text(data + b"\0" + body):
        return None
    tree: Any = json.loads(body)
    return list(tree)


def _keep(data: bytes, tree: Tree, cache: Path) -> None:
    body = json.dumps(tree, separators=(",", ":")).encode()
    # A place that cannot be written costs 14 ms on the next run, no more; what must be written there says so itself.
    with contextlib.suppress(OSError):
        write_atomic(cache, f"{sha256_text(data + bytes(1) + body)}\n".encode() + body, durable=False)


def _file_problem(file: ProjectFile, root: Path) -> Problem | None:
    """Why a file that cluster.yaml names cannot be used; None where it can."""
    path = os.path.join(root, file.path)
    try:
        real, inside = os.path.realpath(path, strict=True), os.path.realpath(root)
        mode = os.stat(real).st_mode
    except FileNotFoundError:
        return _missing(file, root)
    except OSError as error:
        return Problem(file.line, file.where, f"{word(file.path)} cannot be read: {error.strerror}")
    if real != inside and not real.startswith(inside.rstrip("/") + "/"):
        what = f"{word(file.path)} is a symbolic link that leaves the project, to {word(real)}"
        return Problem(file.line, file.where, what, "copy the file into the project")
    if file.directory and not stat.S_ISDIR(mode):
        return Problem(file.line, file.where, f"{word(file.path)} is not a directory")
    if not file.directory and not stat.S_ISREG(mode):
        return Problem(file.line, file.where, f"{word(file.path)} is not a regular file")
    return None


def _missing(file: ProjectFile, root: Path) -> Problem:
    directory, name = os.path.split(file.path)
    beside: list[str] = []
    with contextlib.suppress(OSError):  # its directory is missing as well: then there is nothing to suggest
        beside = [entry.name for entry in os.scandir(root / directory) if entry.is_dir() == file.directory]
    near = suggest.closest(name, sorted(beside))
    kind = "directory" if file.directory else "file"
    what = f"there is no {kind} {word(file.path)} in the project"
    if file.where == "kernel.config":
        what += " (and the tree's own are allnoconfig, allyesconfig, allmodconfig and names that end in 'defconfig')"
    meant = f", did you mean {word(os.path.join(directory, near))}?" if near else ""
    return Problem(
        file.line, file.where, what + meant, f"create {word(file.path)}, or correct line {file.line} of cluster.yaml"
    )
