"""ccache (https://ccache.dev) in front of distcc: an object that was compiled before, from the same text, is not made
again, whatever became of the tree. Its settings are all ours: no configuration of the machine or the user is read.

Depend mode: what an object was made of is read from the dependency file that kbuild asks the compiler for, so nothing
is preprocessed for the cache's sake. It cannot see one thing: a new header that would be found before the one that was
found then. So the names of all headers are part of the key (`namespace`); a patch that adds or removes one begins anew,
and taking it back finds what was there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from kbuild_tasks.core.model import Build
from kbuild_tasks.effects import shell
from kbuild_tasks.effects.compiler import MISS
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import sha256_text
from kbuild_tasks.effects.makepkg import SYSTEM_PATH
from kbuild_tasks.effects.tree import Trees

_HEADERS = (".h", ".inc")
_DIRECTORIES = tuple("0123456789abcdef")  # of its objects, by the first digit of their keys


def place(build: Build, paths: Paths) -> Path:
    """Where its objects lie: on disk, as they outlive the tree."""
    return Path(build.ccache_dir) if build.ccache_dir else paths.state / "ccache"


def namespace(files: Iterable[str]) -> str:
    """A word for the headers among the files of a source."""
    headers = sorted(name for name in files if name.endswith(_HEADERS))
    return sha256_text("\0".join(headers).encode("utf-8", "surrogateescape"))[:16]


def environment(
    build: Build, paths: Paths, tree: str, front: Path, temporary: Path, compiler: Mapping[str, str]
) -> dict[str, str]:
    """What the front and ccache need for a build (ccache(1), CONFIGURATION); {} where it is off, or not installed.

    tree       the source, as the stage patch names it;  temporary  a directory on the tree's own disk
    compiler   its identity (effects/compiler.py)
    """
    if not build.ccache or not is_there():
        return {}
    names = namespace(Trees(paths.repository).files(tree))
    return {
        "KBUILD_TASKS_CCACHE": "1",
        "CCACHE_CONFIGPATH": "/dev/null",
        "CCACHE_DIR": str(place(build, paths)),
        "CCACHE_MAXSIZE": str(build.ccache // 1024) + "Ki",
        "CCACHE_TEMPDIR": str(temporary),
        "CCACHE_DEPEND": "1",
        "CCACHE_PREFIX": str(front / MISS),
        "CCACHE_COMPILERCHECK": f"string:{sha256_text(json.dumps(dict(compiler), sort_keys=True))}",
        "CCACHE_NAMESPACE": names,
    }


def told(env: Mapping[str, str], hits: int, misses: int) -> dict[str, int]:
    """For the record of the run; "bytes": what the cache takes now."""
    return {"hits": hits, "misses": misses, "bytes": _size(env)}


def clear(build: Build, paths: Paths) -> None:
    """Forget all objects: one of them may be a node's that returns wrong ones, and which is not told. Where ccache is
    off or not installed any more too: it may be back one day. Raises CommandFailed, OSError."""
    directory = place(build, paths)
    if is_there() and directory.is_dir():
        env = {"PATH": SYSTEM_PATH, "CCACHE_CONFIGPATH": "/dev/null", "CCACHE_DIR": str(directory)}
        shell.run(["ccache", "--clear"], env=env, timeout=600)
    elif directory.is_dir():
        for entry in directory.iterdir():
            if entry.name in _DIRECTORIES:
                shutil.rmtree(entry)


def is_there() -> bool:
    """Whether ccache is installed."""
    return shutil.which("ccache", path=SYSTEM_PATH) is not None


def _size(env: Mapping[str, str]) -> int:
    """0 where it does not tell."""
    wanted = {key: env[key] for key in ("CCACHE_CONFIGPATH", "CCACHE_DIR")}
    done = shell.run(["ccache", "--print-stats"], env={"PATH": SYSTEM_PATH, **wanted}, timeout=60, check=False)
    for line in done.out.splitlines():
        name, _, value = line.partition("\t")
        if name == "cache_size_kibibyte" and value.strip().isdigit():
            return int(value) * 1024
    return 0
