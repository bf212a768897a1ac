"""The last two sets of packages, to be compared: build/published/now.json and before.json.

    {"at", "manifest", "config": the .config as text, "files": {pkgname: {path: [bytes, digest]}}, "more": {pkgname: n}}

Two files, whatever was built before; a set that is made again, to the same bytes, takes no place.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kbuild_tasks.core.contents import read_mtree
from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.manifest import Package
from kbuild_tasks.effects import clock, shell
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_record, write_json

CONFIG_BYTES = 4 << 20
LIST_BYTES = 64 << 20
LIST = 'bsdtar -xqOf "$1" .MTREE >"$2"'


def now(paths: Paths) -> Path:
    return paths.build / "published" / "now.json"


def before(paths: Paths) -> Path:
    return paths.build / "published" / "before.json"


def keep(paths: Paths, packages: Sequence[Package], manifest: Mapping[str, Any]) -> str | None:
    """Remember a set that was put into artifacts/. What went wrong, as a warning: packages are good without it."""
    try:
        last = read_record(now(paths)).get("manifest")
        if isinstance(last, dict) and last.get("packages_sha256") == manifest["packages_sha256"]:
            return None
        files, more = {}, {}
        for package in packages:
            files[package.pkgname], beyond = read_mtree(_list(paths, paths.artifacts / package.file))
            if beyond:
                more[package.pkgname] = beyond
        value = {"at": clock.stamp(), "manifest": manifest, "config": _config(paths), "files": files, "more": more}
        _write(paths, value, last is not None)
    except (KbuildError, OSError, EOFError, ValueError, zlib.error) as error:
        return f"the next build cannot be compared with this one: {error}"
    return None


def _list(paths: Paths, package: Path) -> str:
    """The text of a package's .MTREE. In a pipeline of a shell the failure of all but the last would be lost."""
    with tempfile.TemporaryDirectory(prefix=".list-", dir=paths.build) as scratch:
        packed = Path(scratch) / "mtree.gz"
        shell.run(["sh", "-c", LIST, "sh", package, packed], timeout=120)
        with gzip.open(packed) as file:
            data = file.read(LIST_BYTES + 1)
    if not data:
        raise KbuildError(f"{package.name} has an empty list of files")
    if len(data) > LIST_BYTES:
        raise KbuildError(f"{package.name} has a list of files of more than {LIST_BYTES >> 20} MiB")
    return data.decode("utf-8", "backslashreplace")


def _write(paths: Paths, value: Mapping[str, Any], again: bool) -> None:
    """The set before is given up when this one is on the disk, not earlier."""
    new = now(paths).with_name("new.json")
    try:
        write_json(new, value, durable=False)
        if again:
            os.replace(now(paths), before(paths))
        os.replace(new, now(paths))
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink()
        raise


def _config(paths: Paths) -> str:
    try:
        with open(paths.build / "config", encoding="utf-8", errors="backslashreplace") as file:
            return file.read(CONFIG_BYTES)
    except OSError:
        return ""
