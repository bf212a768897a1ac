"""artifacts/manifest.json: what the packages are, what they were made of, by whom, and how to make them again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VERSION = 1


@dataclass(frozen=True)
class Package:
    """A package file in artifacts/: its name, pkgname, sha256 in hex, bytes, the file name of its signature or None."""

    file: str
    pkgname: str
    sha256: str
    size: int
    signature: str | None = None


def packages_sha256(packages: Sequence[Package]) -> str:
    """Equal for equal sets of packages: hex sha256 over "<sha256>  <file>" lines, as sha256sum writes them, in order
    of the names."""
    return sums_sha256({package.file: package.sha256 for package in packages})


def sums_sha256(sums: Mapping[str, str]) -> str:
    """The same, of file name -> sha256."""
    lines = [f"{total}  {file}\n" for file, total in sorted(sums.items())]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def build_manifest(
    packages: Sequence[Package],
    kernelrelease: str,
    receipts: Mapping[str, Mapping[str, Any]],
    *,
    package_inputs: Mapping[str, Any],
    nodes: Mapping[str, Any] | None,
    commit: str | None,
    workdir: str | None = None,
    tools: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Plain JSON.

    receipts        of the stages before: {"compile": {"inputs": {"files", "values", "receipts"}, "results": {}}, ...}
    package_inputs  what went into packaging itself
    nodes           objects compiled by each node, None where that is not known
    commit          of the project, where all of it is committed
    workdir         where it was compiled: the path is in objects and in .BUILDINFO
    tools           what packed it, by name: version (effects/tools.py)

    build_id is vmlinux's GNU build id as stage compile read it (a running kernel tells its own in /sys/kernel/notes),
    None where the linker makes none; packages_sha256 covers modules and headers too. config_sha256 (of the .config,
    which /proc/config.gz shows) and uname_version (`uname -v`) are there where compile told them.
    """
    compiled = receipts.get("compile", {}).get("results", {})
    obstacles = receipts.get("configure", {}).get("results", {}).get("unreproducible", [])
    checkout = f"git checkout {commit} && " if commit else ""
    return {
        "version": VERSION,
        "build_id": compiled.get("build_id"),
        "packages_sha256": packages_sha256(packages),
        "kernelrelease": kernelrelease,
        **{key: compiled[key] for key in ("config_sha256", "uname_version") if key in compiled},
        "packages": [
            {
                "file": package.file,
                "pkgname": package.pkgname,
                "sha256": package.sha256,
                "size": package.size,
                **({"signature": package.signature} if package.signature else {}),
            }
            for package in sorted(packages, key=lambda package: package.file)
        ],
        "inputs": {
            **{stage: dict(receipt.get("inputs", {})) for stage, receipt in receipts.items() if stage != "package"},
            "package": dict(package_inputs),
        },
        "compiler": compiler_of(receipts),
        "nodes": None if nodes is None else dict(nodes),
        "commit": commit,
        **({"workdir": workdir} if workdir else {}),
        **({"tools": dict(tools)} if tools else {}),
        **({"unreproducible": obstacles} if obstacles else {}),
        "reproduce": f"{checkout}doit package",
    }


def compiler_of(receipts: Mapping[str, Mapping[str, Any]]) -> Any:
    """The compiler's identity, from the inputs of the stage that it compiled in (or of configure), None if unknown."""
    for stage in ("compile", "configure"):
        values = receipts.get(stage, {}).get("inputs", {}).get("values", {})
        if "compiler" in values:
            return values["compiler"]
    return None


def named(manifest: Any) -> list[str]:
    """Names of the packages and signatures that a manifest (any JSON, None) says are in artifacts/, all ours to
    remove; none where it is not of the form that build_manifest() gives."""
    try:
        names = [entry.get(key) for entry in manifest["packages"] for key in ("file", "signature")]
        found = sorted({name for name in names if name is not None})
        sound = all(name and "/" not in name and "\0" not in name and name not in (".", "..") for name in found)
    except (AttributeError, KeyError, TypeError):
        return []
    return found if sound else []


def superseded(old: Any, packages: Sequence[Package]) -> list[str]:
    """File names that an older manifest (any JSON, None) names and the new set does not: ours to remove."""
    keep = {name for package in packages for name in (package.file, package.signature)}
    return [name for name in named(old) if name not in keep]
