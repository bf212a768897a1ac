"""What a manifest wants, to be made once more; and what of that is not to be had any more, by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.core.fingerprint import MISSING, changes, tell

STAGES = ("extract", "patch", "configure", "compile")


@dataclass(frozen=True)
class Wanted:
    """Of a manifest.

    packages  file name -> sha256;  signed or not: a signature is none of the bytes
    files     path in the project -> sha256, all that went in but the PKGBUILD and cluster.yaml
    pkgbuild  sha256 of the PKGBUILD
    inputs    stage -> its fingerprint without receipts
    results   stage -> sha256 of its results, as the stage after it has seen them
    """

    packages: Mapping[str, str]
    files: Mapping[str, str]
    pkgbuild: str
    inputs: Mapping[str, Mapping[str, Any]]
    results: Mapping[str, str]
    workdir: str
    tools: Mapping[str, str]
    commit: str | None
    unreproducible: tuple[str, ...]


def wanted(manifest: Any, name: str) -> Wanted:
    """Raises KbuildError for JSON that is no manifest of this version; `name` is the file's."""
    try:
        inputs = {stage: manifest["inputs"][stage] for stage in STAGES}
        packaging = manifest["inputs"]["package"]
        packages = {str(entry["file"]): str(entry["sha256"]) for entry in manifest["packages"]}
        found = Wanted(
            packages,
            {str(k): str(v) for each in (*inputs.values(), packaging) for k, v in each.get("files", {}).items()},
            str(packaging["values"]["sha256"]),
            {stage: {**each, "receipts": {}} for stage, each in inputs.items()},
            {stage: total for each in inputs.values() for stage, total in each["receipts"].items()},
            str(manifest["workdir"]),
            dict(manifest.get("tools", {})),
            manifest.get("commit"),
            tuple(manifest.get("unreproducible", ())),
        )
        sound = packages and all(name and "/" not in name and name not in (".", "..") for name in packages)
        sound = sound and found.workdir.startswith("/") and not any(_outside(path) for path in found.files)
    except (AttributeError, KeyError, TypeError, ValueError):
        sound = False
    if not sound:
        raise KbuildError(
            f"{name} does not tell all that is needed to make its packages once more",
            "one that an older version wrote does not: doit forget package, and doit",
        )
    return found


def _outside(path: str) -> bool:
    return path.startswith("/") or ".." in path.split("/")


def lacking(want: Wanted, stage: str, now: Mapping[str, Any]) -> list[str]:
    """Inputs of a stage that are other ones here than those of the manifest; `now`: their fingerprint."""
    # MISSING in a manifest: the file changed while the stage ran, and nobody knows what it has read.
    vague = [f"{path}: the manifest does not tell which one went in" for path, total in
             want.inputs[stage].get("files", {}).items() if total == MISSING]  # fmt: skip
    found = changes(want.inputs[stage], {**now, "receipts": {}})
    return vague + [tell(change) for change in found if change.old != MISSING]


def other_tools(want: Wanted, now: Mapping[str, str]) -> list[str]:
    """What packs here otherwise: told, for it may or may not show in the packages."""
    lines = []
    for name, old in want.tools.items():
        new = now.get(name)
        if old == new:
            continue
        known = len(old) < 64 and (new is None or len(new) < 64)
        lines.append(f"{name}: {old} -> {new or 'not here'}" if known else f"{name} is another one")
    return [*lines, *(f"{name}: was not there" for name in now if want.tools and name not in want.tools)]


def verdict(want: Wanted, made: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """(packages that came out the same, packages that did not: names), of file name -> sha256."""
    same = [name for name, total in want.packages.items() if made.get(name) == total]
    return same, sorted({*want.packages, *made} - {*same})


def told(sources: Sequence[tuple[str, str]]) -> list[str]:
    """(source, where it was looked for) -> lines."""
    return [f"source {name} is not to be had: {where}" for name, where in sources]
