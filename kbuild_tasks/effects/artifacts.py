"""What lies in artifacts/ as the build that a roll-out brings to the nodes."""

from __future__ import annotations

import os
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.rollout import Build, build_of
from kbuild_tasks.effects.context import Paths
from kbuild_tasks.effects.files import read_record

MANIFEST = "manifest.json"


def load(paths: Paths) -> Build:
    """The build of artifacts/manifest.json. Raises KbuildError: there is none, or a file of it is missing."""
    manifest = read_record(paths.artifacts / MANIFEST)
    if not manifest:
        raise KbuildError("there is no kernel to roll out: artifacts/manifest.json is not there", "doit builds it")
    compiled = read_record(paths.receipt("compile")).get("results")
    compiled = compiled if isinstance(compiled, dict) else {}
    same = compiled.get("build_id") == manifest.get("build_id")
    try:
        build = build_of(manifest, compiled.get("config_sha256") if same else None)
    except (KeyError, TypeError, ValueError):
        raise KbuildError("artifacts/manifest.json is no manifest of ours", "doit package makes it anew") from None
    for file in files(paths, build):
        size = file.stat().st_size if file.is_file() else None
        wanted = (build.files or {}).get(file.name, size)
        if size is None or size != wanted:
            what = "is not there" if size is None else f"has {size} bytes, and the manifest says {wanted}"
            raise KbuildError(f"artifacts/{file.name} {what}", "doit package makes it anew")
    return build


def known(paths: Paths) -> Build | None:
    """The same for those who only look: None where there is no usable build."""
    try:
        return load(paths)
    except KbuildError:
        return None


def files(paths: Paths, build: Build) -> list[Path]:
    """What goes to a node: packages, their signatures, the manifest and its signature, the small ones last."""
    packages = [paths.artifacts / name for name in build.files or ()]
    signatures = [file.with_name(file.name + ".sig") for file in packages] if build.signed else []
    manifest = paths.artifacts / MANIFEST
    own = manifest.with_name(MANIFEST + ".sig")
    return [*packages, *signatures, manifest, *([own] if os.path.exists(own) else [])]
