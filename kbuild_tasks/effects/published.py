"""The last two sets of packages, to be compared: build/published/now.json and before.json.

    {"at", "manifest", "config": the .config as text, "files": {pkgname: {path: [bytes, digest]}}, "more": {pkgname: n}}

Two files, whatever was built before; a set that is made again, to the same bytes, takes no place.
"""

from __future__ import annotations

import os
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
LIST = 'bsdtar -xqOf "$1" .MTREE | gzip -dc | head -c 67108864'


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
            done = shell.run(["sh", "-c", LIST, "sh", paths.artifacts / package.file], timeout=120)
            files[package.pkgname], beyond = read_mtree(done.out)
            if beyond:
                more[package.pkgname] = beyond
        value = {"at": clock.stamp(), "manifest": manifest, "config": _config(paths), "files": files, "more": more}
        if last is not None:
            os.replace(now(paths), before(paths))
        write_json(now(paths), value, durable=False)
    except (KbuildError, OSError) as error:
        return f"the next build cannot be compared with this one: {error}"
    return None


def _config(paths: Paths) -> str:
    try:
        with open(paths.build / "config", encoding="utf-8", errors="backslashreplace") as file:
            return file.read(CONFIG_BYTES)
    except OSError:
        return ""
