"""What another coordinator has, decided from what it says: which of it can be of use here, and what it must look like.

It answers with its receipts and records (Offer). Each name, id and sum in them is looked at before it becomes a path
or a word of a question, and what then arrives is held against them. Whether it is what this project asks for is no
question here: the receipts say from which inputs their results were made, and `doit plan` compares those with the
project's own, by content.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kbuild_tasks.core.errors import NodeRefused
from kbuild_tasks.core.manifest import named, sums_sha256

HERE = "doit makes all of it here"
_TREE, _SUM = re.compile("[0-9a-f]{40}"), re.compile("[0-9a-f]{64}")
_VERSION = re.compile(r"[A-Za-z0-9._+~]+")  # it becomes a line of a PKGBUILD, which bash reads
_SUMS = {"b2": "blake2b", "sha512": "sha512", "sha384": "sha384", "sha256": "sha256", "sha224": "sha224"}


@dataclass(frozen=True)
class Offer:
    """What another coordinator says that it has.

    receipts   of its stages, in order, up to the first that has none: {"inputs", "results"}
    place      of its tree below builddir, "<pkgbase>/src/<srctree>"
    config     sha256 of its .config, "" where it has not configured
    manifest   as it stands in its artifacts/, {} where there is none
    packages   name -> sha256
    signatures names; a node checks them
    kept       its kept.json (effects/keep.py), {} where there is none
    objects    "kept", "tree": where what kbuild made lies whole, by its records; "": nowhere
    why        in words, where objects is ""
    root       the project's directory there, without links
    bytes      that come, some more than fewer
    """

    receipts: Mapping[str, Mapping[str, Any]]
    place: str
    config: str = ""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    signatures: tuple[str, ...] = ()
    kept: Mapping[str, Any] = field(default_factory=dict)
    objects: str = ""
    why: str = ""
    root: str = ""
    bytes: int = 0

    @property
    def pkgbase(self) -> str:
        return self.place.partition("/")[0]

    @property
    def trees(self) -> tuple[str, ...]:
        """Ids of the trees that the receipts name, the patched one last."""
        return tuple(
            self.receipts[stage]["results"]["tree"] for stage in ("extract", "patch") if stage in self.receipts
        )

    @property
    def sources(self) -> Mapping[str, str]:
        """Downloads -> "sha256:<hex>" and the like, or "SKIP"."""
        found: Mapping[str, str] = self.receipts["extract"]["results"]["sources"]
        return found

    @property
    def inputs(self) -> list[str]:
        """sha256 of every input that a receipt names; copies of the small ones are kept."""
        return sorted({s for r in self.receipts.values() for s in r["inputs"]["files"].values() if _SUM.fullmatch(s)})


def offer(node: str, told: Mapping[str, Any], stages: Sequence[str], root: str, compiler: Mapping[str, str]) -> Offer:
    """From the answer of effects/adopt_look.sh: base64 of files by name, "built": [{"name", "text"}].

    root      the other project's directory as it was asked for: places beside its trees name it so, or without links
    compiler  this machine's
    A record that a lost power has cut short counts as one that is not there.
    Raises NodeRefused: it has nothing, or what it says cannot be true.
    """
    try:
        return _offer(told, stages, root, compiler)
    except _UNTRUE as error:
        said = _said(error)
    raise NodeRefused(f"{node} tells of its build what this version does not take", HERE, evidence=[said])


class _Lie(ValueError):
    """A value that cannot be one."""


_UNTRUE = (KeyError, TypeError, ValueError, AttributeError, RecursionError)


def _said(error: Exception) -> str:
    return str(error) if isinstance(error, _Lie) else f"{type(error).__name__}: {error}"


def _offer(told: Mapping[str, Any], stages: Sequence[str], root: str, compiler: Mapping[str, str]) -> Offer:
    receipts: dict[str, Mapping[str, Any]] = {}
    for stage in stages:
        if not (value := _record(told.get(stage))):
            break
        receipts[stage] = _receipt(stage, value)
    if not receipts:
        raise _Lie(f"it has no receipt in {root}/build/receipts: no stage has ended there")
    results = {stage: receipt["results"] for stage, receipt in receipts.items()}
    place = f"{_plain(results['extract']['pkgbase'])}/src/{_plain(results['extract']['srctree'])}"
    compiled = results.get("compile", {})
    if any(told != place for told in _places(results)):
        raise _Lie("its receipts are of different trees")
    manifest = _record(told.get("manifest"))
    packages = {
        _plain(name): _is(_SUM, total) for name, total in results.get("package", {}).get("packages", {}).items()
    }
    kept, lie = _listed(_record(told.get("kept")))
    own = _text(told["root"]) if told.get("root") else root
    if own[:1] != "/" or "\0" in own:
        raise _Lie(f"its project is in {own!r}")
    record = {"tree": results.get("patch", {}).get("tree"), "results": compiled}
    records = [{"root": name, **record} for name in (own, root)] if compiled else []
    where, why = _objects(told, place, kept, records)
    why = lie or why if compiled and not where else why
    theirs = receipts["compile"]["inputs"]["values"].get("compiler") if compiled else None
    if where and theirs != dict(compiler):
        where, why = "", f"it compiled with {_named(theirs)}, and here is {_named(compiler)}"
    return Offer(
        receipts,
        place,
        _is(_SUM, results["configure"]["config_sha256"]) if "configure" in results else "",
        manifest if packages and _tells_of(manifest, packages, results["package"]) else {},
        packages,
        tuple(name for name in named(manifest) if name.removesuffix(".sig") in packages and name not in packages),
        kept if where == "kept" else {},
        where,
        why,
        own,
        _bytes(told, place, results["extract"], where),
    )


def _bytes(told: Mapping[str, Any], place: str, extract: Mapping[str, Any], objects: str) -> int:
    wanted = {f"sources/{n}" for n, pin in extract["sources"].items() if pinned(n, pin, extract["beside"])}
    wanted |= {f"srcdir/{extract['pkgbase']}", {"kept": "kept", "tree": place}.get(objects, "")}
    found = [int(entry["kib"]) for entry in told.get("sizes", ()) if _text(entry["name"]) in wanted]
    return int(told.get("bytes", 0)) + 1024 * sum(found)


def _receipt(stage: str, value: Any) -> Mapping[str, Any]:
    inputs, results = value["inputs"], value["results"]
    shapes = {"files": dict, "order": list, "values": dict, "receipts": dict}
    if not isinstance(results, dict) or not all(isinstance(inputs[name], kind) for name, kind in shapes.items()):
        raise _Lie(f"its receipt of {stage} has another form")
    if not all(isinstance(total, str) for total in inputs["files"].values()):
        raise _Lie(f"its receipt of {stage} names an input without a sum")
    if stage in ("extract", "patch"):
        _is(_TREE, results["tree"])
        for name in [*_texts(results["beside"]), *_texts(results.get("sources", {})), *results.get("prepared", ())]:
            _plain(name)
    if stage == "extract":
        _is(_VERSION, results["pkgver"], "version")
    if stage == "compile":
        _is(_SUM, results["vmlinux_sha256"])
    return {"stage": stage, "inputs": inputs, "results": results}


def _texts(value: Any) -> Mapping[str, str]:
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        raise _Lie(f"{value!r} is no list of sums")
    return value


def _tells_of(manifest: Mapping[str, Any], packages: Mapping[str, str], results: Mapping[str, Any]) -> bool:
    """Whether a manifest is of the packages of this receipt, and of no others."""
    if not named(manifest) or {entry.get("file"): entry.get("sha256") for entry in manifest["packages"]} != packages:
        return False
    return bool(manifest.get("packages_sha256") == results.get("packages_sha256") == sums_sha256(packages))


def _places(results: Mapping[str, Mapping[str, Any]]) -> Iterator[Any]:
    for stage, key in (("patch", "place"), ("configure", "place"), ("compile", "tree")):
        if stage in results:
            yield results[stage][key]


def _objects(
    told: Mapping[str, Any], place: str, kept: Mapping[str, Any], records: Sequence[Mapping[str, Any]]
) -> tuple[str, str]:
    """Where what kbuild made lies as its receipts tell of it, and why it does not."""
    if not records:
        return "", "it has not compiled what its patches make"
    if kept.get("place") == place and kept.get("tree") == records[0]["tree"] and kept.get("built") in records:
        return "kept", ""
    beside = f"{place.partition('/')[0]}/.{place.rpartition('/')[2]}.built"
    for entry in told.get("built", ()):
        if _text(entry["name"]) == beside and _record(entry["text"]) in records:
            return "tree", ""
    return "", "no tree and no copy of one is left there that its receipts tell of"


def _listed(kept: Mapping[str, Any]) -> tuple[Mapping[str, Any], str]:
    """kept.json, once each name in it stays below the tree; or {}, and why."""
    try:
        for name, (mtime, mode, size, total) in kept["files"].items() if kept else ():
            if not inside(name) or not all(isinstance(n, int) and n >= 0 for n in (mtime, mode, size)):
                raise _Lie(f"it kept a file {name!r}")
            if not isinstance(total, str):
                raise _Lie(f"it kept {name!r} without a sum")
        for name in kept.get("directories", ()):
            if not inside(name):
                raise _Lie(f"it kept a directory {name!r}")
    except _UNTRUE as error:
        return {}, f"its list of what it kept cannot be true: {_said(error)}"
    return kept, ""


def inside(name: str) -> bool:
    """Whether a relative path stays below where it starts, and says so plainly."""
    parts = name.split("/")
    return "\0" not in name and not {"", ".", ".."} & set(parts)


def pinned(name: str, pin: str, beside: Mapping[str, str]) -> tuple[str, str] | None:
    """(hashlib's name of an algorithm, hex) that a download must have: the PKGBUILD's, or else what a receipt says lay
    in $srcdir; None where nothing tells."""
    algorithm, _, total = pin.partition(":")
    if algorithm in _SUMS and total:
        return _SUMS[algorithm], total
    total = beside.get(name, "").removeprefix("x:")
    return ("sha256", total) if _SUM.fullmatch(total) else None


def _record(text: Any) -> dict[str, Any]:
    """A JSON object of its; {} where it is not there, or damaged."""
    try:
        value = json.loads(base64.b64decode(text, validate=True)) if text else None
    except (ValueError, TypeError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _text(name: str) -> str:
    return base64.b64decode(name).decode("utf-8", "replace")


def _plain(name: Any) -> str:
    if not isinstance(name, str) or not name or name[0] in ".-" or "/" in name or not name.isprintable():
        raise _Lie(f"it names a file {name!r}")
    return name


def _is(rule: re.Pattern[str], text: Any, what: str = "hash") -> str:
    if not isinstance(text, str) or not rule.fullmatch(text):
        raise _Lie(f"{text!r} is no {what}")
    return text


def _named(compiler: Any) -> str:
    if not isinstance(compiler, Mapping):
        return "a compiler that it does not name"
    return f"{compiler.get('text')} and {compiler.get('binutils')}"
