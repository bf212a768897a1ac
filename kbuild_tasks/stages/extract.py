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
    if read_record(_record(paths, startdir.current(paths, results["pkgbase"]))).get("beside") != results["beside"]:
        yield f"what was unpacked beside {results['srctree']} is not there, or another project's"


def run(ctx: Context) -> Outcome:
    """Raises CommandFailed and ConfigError in the words of the source that is to blame."""
    makepkg.refuse_root()
    kernel, paths = ctx.cluster.kernel, ctx.paths
    file = paths.root / kernel.pkgbuild
    pkgbuild = load_pkgbuild(file, paths.build / "cache" / "pkgbuild.json", kernel.arch)
    startdir.sync(paths, file)
    record = _record(paths, _identity(pkgbuild, file.parent))
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
    from kbuild_tasks.core.makepkg_says import explain
    from kbuild_tasks.effects.checked import Check

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
        Check(ctx.paths, "PKGBUILD", ctx.cluster.kernel.arch),
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


def _record(paths: Paths, identity: str) -> Path:
    return paths.state / "pristine" / f"{identity}.json"


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
