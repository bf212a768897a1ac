"""extract: the sources, verified and unpacked by makepkg, become the pristine tree in our repository.

makepkg unpacks into a directory of its own, never into the build tree: that one is moved from tree to tree by stage
patch, so that a new point release recompiles what differs and no more. What was unpacked is remembered on disk by the
digest of the PKGBUILD's part "source"; going back to a source that was there before unpacks nothing.

    <workdir>/extract/<pkgbase>/src/<srctree>   makepkg's, removed afterwards
    <state>/repo.git                            the tree object, results["tree"]
    <state>/srcdir/<pkgbase>/<digest>           the rest of $srcdir (effects/startdir.py)
    <state>/pristine/<digest>.json              digest -> results
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from kbuild_tasks.core.errors import CommandFailed, ConfigError
from kbuild_tasks.core.model import Inputs, Outcome
from kbuild_tasks.core.pkgbuild import Pkgbuild, Source
from kbuild_tasks.effects import makepkg, places, startdir
from kbuild_tasks.effects.context import Context, Paths
from kbuild_tasks.effects.files import read_record, sha256_file, sha256_text, write_json
from kbuild_tasks.effects.pkgbuild import load_pkgbuild

Explained = tuple[str, str | None] | None


def inputs(project: Any) -> Inputs:
    """The PKGBUILD's part "source", and the content of the sources that lie beside it."""
    pkgbuild: Pkgbuild = project.pkgbuild
    return Inputs(
        files=_local_sources(pkgbuild, project.beside_pkgbuild),
        values={
            "arch": project.cluster.kernel.arch,
            "source": pkgbuild.digest("source"),
            "unchecked": unchecked_files(pkgbuild),
        },
    )


def lost(paths: Paths, results: Mapping[str, Any]) -> Iterable[str]:
    """Why the results of a finished run are not there any more."""
    if not (paths.repository / "HEAD").is_file():
        yield f"the repository of source trees, {paths.repository}, is not there"
    elif not places.in_repository(paths.repository, results["tree"]):
        yield f"{paths.repository} does not hold the unpacked source any more"
    _ = results["beside"]


def run(ctx: Context) -> Outcome:
    """Raises CommandFailed and ConfigError in the words of the source that is to blame."""
    makepkg.refuse_root()
    kernel, paths = ctx.cluster.kernel, ctx.paths
    file = paths.root / kernel.pkgbuild
    pkgbuild = load_pkgbuild(file, paths.build / "cache" / "pkgbuild.json", kernel.arch)
    startdir.sync(paths, file)
    record = paths.state / "pristine" / f"{_identity(pkgbuild, file.parent)}.json"
    unpinned = _unpinned(pkgbuild)
    known = None if any(s.protocol != "file" for s in unpinned) else read_record(record)
    if (
        known
        and {"srctree", "beside"} <= set(known)
        and _trees(paths).has(str(known.get("tree")))
        and startdir.use(paths, pkgbuild.pkgbase, record.stem)
    ):
        places.remove_others(paths, pkgbuild.pkgbase, known["srctree"])
        return Outcome(f"{known['srctree']} is in the repository already", known)

    scratch = paths.workdir / "extract"
    startdir.remove_tree(scratch)
    try:
        _unpack(ctx, pkgbuild, scratch)
        unpacked = scratch / pkgbuild.pkgbase / "src"
        srctree = find_kernel_tree(unpacked, pkgbuild)
        results: dict[str, Any] = {
            "tree": _import(paths, pkgbuild.pkgbase, unpacked, srctree),
            "srctree": srctree,
            "pkgbase": pkgbuild.pkgbase,
            "pkgver": _version(paths, pkgbuild),
            "sources": {s.name: _pinned_by(s.sums) for s in pkgbuild.sources},
        }
        startdir.keep(paths, pkgbuild.pkgbase, unpacked, srctree, record.stem)
        results["beside"] = startdir.contents(paths, pkgbuild.pkgbase, results["sources"])
    finally:
        startdir.remove_tree(scratch)
    write_json(record, results)
    warnings = [f"{s.name} has no checksum in the PKGBUILD: another download may give another kernel" for s in unpinned]
    return Outcome(f"{srctree} verified and unpacked", results, warnings=(*warnings, *pkgbuild.warnings))


def _unpinned(pkgbuild: Pkgbuild) -> list[Source]:
    """Sources from elsewhere whose content the PKGBUILD does not say; a signature is checked by what it signs."""
    return [
        s
        for s in pkgbuild.sources
        if not s.checked and s.protocol != "local" and not s.name.endswith((".sig", ".sign", ".asc"))
    ]


def unchecked_files(pkgbuild: Pkgbuild) -> dict[str, list[int]]:
    """Size and mtime_ns of file:// sources that no checksum pins: {path: [size, mtime_ns]}, [] where it is missing."""
    found: dict[str, list[int]] = {}
    for source in pkgbuild.sources:
        if source.protocol == "file" and not source.checked:
            path = source.url.removeprefix("file://")
            try:
                status = os.stat(path)
                found[path] = [status.st_size, status.st_mtime_ns]
            except OSError:
                found[path] = []
    return found


def find_kernel_tree(unpacked: Path, pkgbuild: Pkgbuild) -> str:
    """The name of the directory in $srcdir that is a kernel's source. Of several, the one that build() names.

    Raises ConfigError where there is none, or no telling which.
    """
    trees = sorted(
        entry.name for entry in os.scandir(unpacked) if entry.is_dir(follow_symlinks=False) and places.is_kernel(entry)
    )
    if len(trees) > 1:
        named = [t for t in trees if t in str(pkgbuild.depends_on("build"))]
        trees = named or trees
    if len(trees) == 1:
        return trees[0]
    if not trees:
        wanted = ", ".join(places.KERNEL_FILES)
        raise ConfigError(
            f"{pkgbuild.name}: its sources unpack to no kernel tree (a directory with {wanted})",
            "source=() must hold the kernel's archive",
            evidence=[f"unpacked: {name}" for name in sorted(os.listdir(unpacked))],
        )
    raise ConfigError(
        f"{pkgbuild.name}: its sources unpack to {len(trees)} kernel trees: {', '.join(trees)}",
        "name the right one in build()",
    )


def explain(lines: Sequence[str]) -> Explained:
    """What makepkg said of a source, as one sentence and a hint; None where it said nothing of the kind."""
    kind = "checksum"
    for line in lines:
        words = line.split()
        if line.startswith("==> Validating "):
            kind = words[-1].removesuffix("sums...")
        name, dots, verdict = line.strip().partition(" ... ")
        if dots and line.startswith("    ") and (told := _explain_verdict(name, verdict.strip(), kind)):
            return told
        if line.startswith("==> ERROR: "):
            return _explain_error(line.removeprefix("==> ERROR: "), lines)
    return None


def _explain_verdict(name: str, verdict: str, kind: str) -> Explained:
    key = verdict.removesuffix(")").split(" ")[-1]
    if verdict == "FAILED":
        return (
            f"{name} does not have the {kind} sum that the PKGBUILD names",
            "what was downloaded is not what the PKGBUILD's author saw: compare with upstream before changing the sum",
        )
    if verdict.startswith("FAILED (unknown public key"):
        return (
            f"the signature of {name} is by a key that is not in your keyring: {key}",
            f"if that is the right author's key (validpgpkeys): gpg --recv-keys {key}",
        )
    if verdict.startswith("FAILED (invalid public key"):
        return f"the signature of {name} is by key {key}, which validpgpkeys does not name", "do not use this source"
    if verdict.startswith("FAILED (bad signature"):
        return f"the signature of {name} is wrong: the file was changed after it was signed", "do not use this source"
    if verdict.startswith("FAILED (the public key"):
        key = verdict.split(" ")[4]
        return (
            f"the signature of {name} is by a key that you do not trust: {key}",
            f"name it in the PKGBUILD: validpgpkeys=({key})",
        )
    if verdict.startswith("FAILED"):
        return f"the signature of {name} could not be verified: {verdict}", None
    if verdict.endswith("NOT FOUND"):
        return f"{name}: {verdict.lower()}", "source=() must name the file and, beside it, its signature"
    return None


def _explain_error(error: str, lines: Sequence[str]) -> Explained:
    for start in ("Failure while downloading ", "Failed to extract "):
        if error.startswith(start):
            why = [line.strip() for line in lines if line.startswith(("curl: (", "fatal: ", "bsdtar: "))]
            what = "downloaded" if "download" in start else "unpacked"
            because = f": {why[-1]}" if why else ""
            hint = "check the network and the address in source=()" if what == "downloaded" else None
            hint = "is there no space left? df -h" if "curl: (23)" in because else hint  # curl(1): a write error
            return f"{error.removeprefix(start)} could not be {what}{because}", hint
    name, found, _ = error.partition(" was not found in the build directory")
    if found:
        return f"{name} is named in source=() and does not lie beside the PKGBUILD", f"put {name} there"
    return f"makepkg: {error}", "script/setup installs what is needed" if error.startswith("Cannot find the ") else None


def _unpack(ctx: Context, pkgbuild: Pkgbuild, scratch: Path) -> None:
    """Download, verify, unpack. A cached download that fails its check is fetched once more."""
    paths = ctx.paths
    cached = {s.name for s in pkgbuild.sources if s.protocol != "local" and (paths.sources / s.name).is_file()}
    for source in pkgbuild.sources:
        if source.protocol == "file" and not source.checked:
            (paths.sources / source.name).unlink(missing_ok=True)  # nothing would tell an old copy from the file
    try:
        _run_makepkg(ctx, scratch)
    except CommandFailed as error:
        stale = [name for name in cached if error.message.startswith(f"{name} does not have")]
        if not stale:
            raise
        (paths.sources / stale[0]).unlink(missing_ok=True)
        startdir.remove_tree(scratch)
        _run_makepkg(ctx, scratch)


def _run_makepkg(ctx: Context, scratch: Path) -> None:
    config = makepkg.write_config(ctx.paths, arch=ctx.cluster.kernel.arch, jobs=1, builddir=scratch)
    env = makepkg.environment()
    del env["SOURCE_DATE_EPOCH"]  # see effects/makepkg.py: times of 80,000 files, which git does not keep
    steps = {
        "==> Retrieving": "download",
        "==> Validating": "verify",
        "==> Verifying": "verify",
        "==> Extracting": "unpack",
    }

    def on_line(line: str) -> None:
        for start, step in steps.items():
            if line.startswith(start):
                ctx.emit("extract", {"step": step})

    makepkg.run(
        ctx.paths,
        config,
        ("--nobuild", "--noprepare", "--nodeps", "--force"),
        what="unpacking the sources",
        env=env,
        log=ctx.log,
        on_line=on_line,
        explain=explain,
    )


def _import(paths: Paths, pkgbase: str, unpacked: Path, srctree: str) -> str:
    """The unpacked tree -> tree id. Where there is no build tree, and none that stage patch can bring back, it becomes
    that: a checkout of 80,000 files takes ten seconds."""
    from kbuild_tasks.effects.keep import is_kept

    home = startdir.srcdir(paths, pkgbase)
    home.mkdir(parents=True, exist_ok=True)
    places.remove_others(paths, pkgbase, srctree)
    tree = unpacked / srctree
    startdir.remove_tree(tree / ".git")  # kbuild would put the state of a repository into the release
    place = f"{pkgbase}/src/{srctree}"
    if not (home / srctree).exists() and not is_kept(paths, place):
        places.forget(paths, place)
        os.rename(tree, home / srctree)
        tree = home / srctree
    return str(_trees(paths).import_directory(tree))


def _version(paths: Paths, pkgbuild: Pkgbuild) -> str:
    """pkgver; where pkgver() made it from the sources, makepkg wrote it into our copy of the PKGBUILD."""
    if "pkgver" not in pkgbuild.functions:
        return pkgbuild.pkgver
    copy = load_pkgbuild(paths.startdir / "PKGBUILD", paths.build / "cache" / "startdir.json", pkgbuild.arch)
    return copy.pkgver


def _identity(pkgbuild: Pkgbuild, directory: Path) -> str:
    """What was unpacked, by content: the part "source" and the local files that it names."""
    local = {s.name: sha256_file(directory / s.name) for s in pkgbuild.sources if s.protocol == "local"}
    return sha256_text(
        repr((pkgbuild.digest("source"), pkgbuild.arch, sorted(local.items()), unchecked_files(pkgbuild)))
    )


def _local_sources(pkgbuild: Pkgbuild, beside: Sequence[str]) -> tuple[str, ...]:
    wanted = pkgbuild.local_files("source", [os.path.basename(path) for path in beside])
    return tuple(path for path in beside if os.path.basename(path) in wanted)


def _pinned_by(sums: Mapping[str, str]) -> str:
    """ "sha256:..." by the strongest sum that the PKGBUILD gives, or "SKIP"."""
    for algorithm in ("b2", "sha512", "sha384", "sha256", "sha224", "sha1", "md5", "ck"):
        if sums.get(algorithm, "SKIP") != "SKIP":
            return f"{algorithm}:{sums[algorithm]}"
    return "SKIP"


def _trees(paths: Paths) -> Any:
    from kbuild_tasks.effects.tree import Trees

    return Trees(paths.repository)
