"""package: `makepkg -R` over what compile left, into artifacts/, with a manifest that says what it was made of.

Packages are made beside (build/packages), opened and checked there, and only then renamed into artifacts/: first the
packages, then the manifest, then the packages of the set before are removed. artifacts/ holds one set, the one that
manifest.json names; files that no manifest of ours named are not touched.

Equal inputs give equal bytes: time, packager, build and start directories are constants (effects/makepkg.py), and
`doit reproduce` proves it. What
.BUILDINFO says of installed packages is true of this machine, so another machine's packages differ in that file if its
pacman knows others. A signature holds the time at which it was made.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kbuild_tasks.core.errors import CommandFailed, KbuildError
from kbuild_tasks.core.later import later
from kbuild_tasks.core.model import Inputs, Outcome
from kbuild_tasks.core.pkgbuild import Pkgbuild
from kbuild_tasks.effects import makepkg, pacman, shell, startdir
from kbuild_tasks.effects.context import Context, Paths
from kbuild_tasks.effects.files import read_json, read_record, sha256_file, sync_directory, write_json
from kbuild_tasks.effects.pkgbuild import load_pkgbuild

if TYPE_CHECKING:
    from kbuild_tasks.core import manifest as manifests
    from kbuild_tasks.core.manifest import Package
    from kbuild_tasks.effects import published, tools
else:
    tools = later("kbuild_tasks.effects.tools")
    published = later("kbuild_tasks.effects.published")
    manifests = later("kbuild_tasks.core.manifest")

MODULES = "usr/lib/modules/"


def inputs(project: Any) -> Inputs:
    """The whole PKGBUILD and the files that its functions name; the key that signs; what compile gave."""
    pkgbuild: Pkgbuild = project.pkgbuild
    wanted = pkgbuild.local_files("package", [os.path.basename(path) for path in project.beside_pkgbuild])
    return Inputs(
        files=tuple(path for path in project.beside_pkgbuild if os.path.basename(path) in wanted),
        values={
            "arch": project.cluster.kernel.arch,
            "package": pkgbuild.digest("package"),
            "sign_key": project.cluster.build.sign_key,
        },
        receipts=("patch", "compile"),  # the tree too: headers that no object was compiled from are packaged
    )


def _named(root: Path, file: Path, pkgbuild: Pkgbuild) -> list[str]:
    """Files beside the PKGBUILD that the package functions name, relative to the project."""
    beside = [entry.name for entry in os.scandir(file.parent) if entry.is_file() and not entry.name.startswith(".")]
    return sorted(os.path.relpath(file.parent / name, root) for name in pkgbuild.local_files("package", beside))


def lost(paths: Paths, results: Mapping[str, Any]) -> Iterable[str]:
    """Which of the packages are not there any more."""
    for name in [*results["packages"], "manifest.json"]:
        if not (paths.artifacts / name).is_file():
            yield f"artifacts/{name} is not there"


def run(ctx: Context) -> Outcome:
    """Raises CommandFailed in the words of the function or dependency that failed; KbuildError for a package that is
    not what it should be."""
    makepkg.refuse_root()
    kernel, paths = ctx.cluster.kernel, ctx.paths
    file = paths.root / kernel.pkgbuild
    pkgbuild = load_pkgbuild(file, paths.build / "cache" / "pkgbuild.json", kernel.arch)
    pkgver = ctx.receipts["extract"]["results"]["pkgver"] if "pkgver" in pkgbuild.functions else None
    release = ctx.receipts["compile"]["results"]["kernelrelease"]
    tree = paths.builddir / ctx.receipts["compile"]["results"]["tree"]
    if not tree.is_dir():
        raise KbuildError(f"{tree} is not there any more", "doit again: it brings the tree back")
    _check_kernel(tree, ctx.receipts["compile"]["results"]["vmlinux_sha256"])
    startdir.sync(paths, file, pkgver)
    startdir.restore(paths)
    staging = paths.build / "packages"
    startdir.remove_tree(staging)
    staging.mkdir(parents=True)
    options, warnings = pacman.dependency_options(pkgbuild)
    _run_makepkg(ctx, staging, options)
    packages = check_packages(staging, pkgbuild, release, signed=bool(ctx.cluster.build.sign_key))
    manifest = manifests.build_manifest(
        packages,
        release,
        ctx.receipts,
        package_inputs={
            "values": {"package": pkgbuild.digest("package"), "sha256": pkgbuild.sha256},
            "files": {path: sha256_file(paths.root / path) for path in _named(paths.root, file, pkgbuild)},
        },
        nodes=_nodes(paths, ctx.receipts),
        commit=_commit(paths.root, _files(ctx)) if _as_built(ctx, pkgbuild) else None,
        workdir=str(paths.workdir),
        tools=tools.packing(),
    )
    publish(paths.artifacts, staging, packages, manifest)
    unkept = published.keep(paths, packages, manifest)
    results = {
        "packages": {package.file: package.sha256 for package in packages},
        "kernelrelease": release,
        "build_id": manifest["build_id"],
        "packages_sha256": manifests.packages_sha256(packages),
    }
    undivided = [f"PKGBUILD: {why}: every edit of it runs {part} again" for part, why in pkgbuild.undivided.items()]
    message = packages[0].file + (f" and {len(packages) - 1} more" if len(packages) > 1 else "")
    return Outcome(message, results, warnings=(*warnings, *undivided, *([unkept] if unkept else [])))


def _check_kernel(tree: Path, wanted: str) -> None:
    """What is packaged is what compile made: somebody else may have built in this tree since."""
    if sha256_file(tree / "vmlinux") != wanted:
        raise KbuildError(
            f"{tree}/vmlinux is not the one that compile made", "run: doit forget compile, and doit again"
        )


def check_packages(staging: Path, pkgbuild: Pkgbuild, release: str, *, signed: bool) -> list[Package]:
    """Open every package that makepkg made; the kernel's first. Raises KbuildError for one that is missing, cannot be
    read, has no metadata, or holds modules of another kernel than `release`."""
    found: dict[str, Package] = {}
    with_modules: list[str] = []
    for path in sorted(staging.glob(f"*{makepkg.PKGEXT}")):
        names = _bsdtar(path, "-tf", path).splitlines()
        for needed in (".PKGINFO", ".BUILDINFO", ".MTREE"):
            if needed not in names:
                raise KbuildError(f"{path.name} is no package: it has no {needed}", "doit package")
        info = dict(
            line.partition(" = ")[::2] for line in reversed(_bsdtar(path, "-xOf", path, ".PKGINFO").splitlines())
        )
        releases = {name.removeprefix(MODULES).split("/")[0] for name in names if name.startswith(MODULES)} - {""}
        if releases - {release}:
            raise KbuildError(
                f"{path.name} holds modules of {', '.join(sorted(releases - {release}))}, and compile made {release}",
                "package() must take what build() made: make kernelrelease, modules_install",
            )
        if any(name.startswith(f"{MODULES}{release}/") and not name.endswith("/") for name in names):
            with_modules.append(info["pkgname"])
        signature = path.name + ".sig" if signed else None
        if signature and not (staging / signature).is_file():
            raise KbuildError(f"{path.name} was not signed", "check build.sign_key in cluster.yaml")
        total = sha256_file(path)
        assert total is not None
        found[info["pkgname"]] = manifests.Package(path.name, info["pkgname"], total, path.stat().st_size, signature)
    missing = [name for name in pkgbuild.pkgnames if name not in found]
    if missing:
        raise KbuildError(f"makepkg made no package {', '.join(missing)}", "pkgname in the PKGBUILD names it")
    if not with_modules:
        raise KbuildError(
            f"none of the packages holds {MODULES}{release}, where the kernel's modules belong",
            'package() must install there: make INSTALL_MOD_PATH="$pkgdir/usr" modules_install',
        )
    order = {name: position for position, name in enumerate(pkgbuild.pkgnames)}
    return sorted(found.values(), key=lambda package: order.get(package.pkgname, len(order)))


def publish(artifacts: Path, staging: Path, packages: Sequence[Package], manifest: Mapping[str, Any]) -> None:
    """Rename checked packages into artifacts/, then write the manifest, then remove the set before."""
    artifacts.mkdir(parents=True, exist_ok=True)
    before = read_json(artifacts / "manifest.json")
    for package in packages:
        for name in (package.file, package.signature):
            if name:
                _move(staging / name, artifacts / name)
        if not package.signature:
            (artifacts / f"{package.file}.sig").unlink(missing_ok=True)  # of other bytes under this name
    sync_directory(artifacts)
    write_json(artifacts / "manifest.json", manifest)
    for name in manifests.superseded(before, packages):
        (artifacts / name).unlink(missing_ok=True)
    shutil.rmtree(staging)


def _move(source: Path, target: Path) -> None:
    """Durable, whole or not at all, also from another file system."""
    with open(source, "rb") as file:
        os.fsync(file.fileno())
    try:
        os.replace(source, target)
    except OSError:
        scratch = target.with_name(f".{target.name}.tmp")
        shutil.copyfile(source, scratch)
        with open(scratch, "rb") as file:
            os.fsync(file.fileno())
        os.replace(scratch, target)


def explain(lines: Sequence[str]) -> tuple[str, str | None] | None:
    """What makepkg said when packaging failed, as one sentence and a hint."""
    if told := pacman.explain(lines):
        return told
    for line in lines:
        error = line.removeprefix("==> ERROR: ")
        if error == line and not line.startswith("==> WARNING: Failed to sign"):
            continue
        if error.startswith("A failure occurred in "):
            what = f"{error.removeprefix('A failure occurred in ').rstrip('.')} of the PKGBUILD"
            return f"{what} failed", f"read the log, correct {what}, then doit"
        if error.startswith("The key "):
            key = error.removeprefix("The key ").partition(" ")[0]
            return f"the secret key {key} is not in this user's keyring", "build.sign_key must be one of gpg -K"
        if "Failed to sign" in line:
            return (
                "gpg could not sign the packages",
                "the key must be usable without a terminal: gpg-agent holds its passphrase, or it has none",
            )
        hint = "script/setup installs what is needed" if error.startswith("Cannot find the ") else None
        return f"makepkg: {error}", hint
    return None


def _run_makepkg(ctx: Context, staging: Path, options: Sequence[str]) -> None:
    from kbuild_tasks.effects.checked import Check
    from kbuild_tasks.effects.compiler import toolchain

    key = ctx.cluster.build.sign_key
    makepkg.run(
        ctx.paths,
        makepkg.write_config(ctx.paths, arch=ctx.cluster.kernel.arch, jobs=os.cpu_count() or 1, pkgdest=staging),
        ("--repackage", "--force", *options, *(("--sign", "--key", key) if key else ("--nosign",))),
        Check(ctx.paths, "PKGBUILD", ctx.cluster.kernel.arch),
        what="packaging",
        env=makepkg.environment(toolchain(ctx.cluster.kernel.arch, ctx.paths).environment),
        log=ctx.log,
        on_line=lambda line: ctx.emit("package", {"line": line}) if line.startswith("==> ") else None,
        explain=explain,
    )


def _bsdtar(path: Path, *arguments: str | Path) -> str:
    try:
        return shell.run(["bsdtar", *arguments], env=makepkg.environment(), timeout=600).out
    except CommandFailed as error:
        raise KbuildError(f"{path.name} cannot be read back", "doit package", evidence=error.evidence) from None


def _nodes(paths: Paths, receipts: Mapping[str, Any]) -> Any:
    """Objects by node, of the last run that compiled: from its record or, where compile is fresh now, from the last
    manifest."""
    tasks = read_record(paths.build / "last-run.json").get("tasks")
    compiled = tasks.get("compile") if isinstance(tasks, dict) else None
    if isinstance(compiled, dict) and "per_node" in compiled:
        return compiled["per_node"]
    before = read_record(paths.artifacts / "manifest.json")
    inputs = before.get("inputs")
    if isinstance(inputs, dict) and inputs.get("compile") == receipts["compile"].get("inputs"):
        return before.get("nodes")
    return None


def _files(ctx: Context) -> list[str]:
    """Every file of the project that went into the packages."""
    named = {ctx.cluster.source, ctx.cluster.kernel.pkgbuild}
    for receipt in ctx.receipts.values():
        named.update(receipt.get("inputs", {}).get("files", ()))
    return sorted(named)


def _as_built(ctx: Context, pkgbuild: Pkgbuild) -> bool:
    """Whether every file is what the stages have read: another commit may have been checked out since."""
    read: dict[str, str] = {}
    for receipt in ctx.receipts.values():
        read |= receipt.get("inputs", {}).get("files", {})
    read[ctx.cluster.kernel.pkgbuild] = pkgbuild.sha256
    return all(sha256_file(ctx.paths.root / path) == digest for path, digest in read.items())


def _commit(root: Path, files: Sequence[str]) -> str | None:
    """The project's commit, where git has each of `files` as it is now; one that git ignores is not there."""
    if not shutil.which("git"):
        return None
    git = ("git", "-C", root, "--no-optional-locks", "--literal-pathspecs")
    head = shell.run([*git, "rev-parse", "--verify", "HEAD"], check=False, timeout=30)
    known = shell.run([*git, "ls-files", "--error-unmatch", "--", *files], check=False, timeout=60)
    state = shell.run([*git, "status", "--porcelain", "--", "."], check=False, timeout=60)
    return head.out.strip() if head.code == known.code == state.code == 0 and not state.out.strip() else None
