"""configure: the final .config from base, fragments and `require`, by the tree's own kconfig, and the proof of it.

Nothing is installed before every request is proven or waived: a refused configuration leaves the build tree as it was.
What only run() needs is imported there: inputs() is asked for by each doit, also when there is nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kbuild_tasks.core.defconfig import is_defconfig
from kbuild_tasks.core.errors import CommandFailed, ConfigError
from kbuild_tasks.core.later import later
from kbuild_tasks.core.model import Inputs, Outcome
from kbuild_tasks.effects.context import Context, Paths
from kbuild_tasks.effects.files import sha256_file, sha256_text

if TYPE_CHECKING:
    from datetime import date

    from kbuild_tasks.core import kconfig
    from kbuild_tasks.core import kconfig_syntax as syntax
    from kbuild_tasks.core.kconfig import Merged, Unmet, Verdict
    from kbuild_tasks.core.reproducible import Obstacle
    from kbuild_tasks.effects.configured import Configured
    from kbuild_tasks.effects.kconfig import Kbuild
else:
    kconfig, syntax = later("kbuild_tasks.core.kconfig"), later("kbuild_tasks.core.kconfig_syntax")

SHOWN = 3
# What scripts/link-vmlinux.sh and scripts/Makefile.lib run at the very end of a build, where an option asks for it.
PROGRAMS = {
    "DEBUG_INFO_BTF": "pahole", "KERNEL_BZIP2": "bzip2", "KERNEL_LZMA": "lzma", "KERNEL_XZ": "xz", "KERNEL_LZO": "lzop",
    "KERNEL_LZ4": "lz4", "KERNEL_ZSTD": "zstd",
}  # fmt: skip


def inputs(project: Any) -> Inputs:
    """Base, fragments, `require`, waivers, arch and compiler; the patched tree, whose Kconfig decides."""
    kernel = project.cluster.kernel
    named = is_defconfig(kernel.config)
    return Inputs(
        files=(*(() if named else (kernel.config,)), *kernel.fragments),
        values={
            "config": kernel.config,
            "require": list(kernel.require),
            "waivers": [[w.symbol, w.until, w.why] for w in kernel.waivers],
            "arch": kernel.arch,
            "compiler": project.compiler,
            **({"reproducible": True} if project.cluster.build.reproducible else {}),  # what is refused, no byte
        },
        receipts=("patch",),
    )


def lost(paths: Paths, results: Mapping[str, Any]) -> Iterable[str]:
    """Why the results of a finished run are not there any more: workdir may be a tmpfs, and stage patch makes a tree
    anew without a .config."""
    config = paths.builddir / results["place"] / ".config"
    found = sha256_file(config)
    if found is None:
        yield f"{config} is not there"
    elif found != results["config_sha256"]:
        yield f"{config} is not the one that was proven"


def run(ctx: Context) -> Outcome:
    from datetime import date

    return configure(ctx, date.today())


def configure(ctx: Context, today: date) -> Outcome:
    """Raises ConfigError for lines that are no configuration and for requests that did not take on `today`."""
    from kbuild_tasks.effects import places
    from kbuild_tasks.effects.leftovers import Mark, marked, mend

    kbuild = _kbuild(ctx)
    mark = Mark(places.mark(ctx.paths, _place(ctx), "compiling"), kbuild.tree)
    mended = mend(kbuild.tree, mark)  # kconfig and fixdep are compiled here: a killed run may have left half of one
    with marked(mark):
        outcome = _configure(ctx, kbuild, today)
    return replace(outcome, run={**outcome.run, "mended": mended}) if mended else outcome


def _configure(ctx: Context, kbuild: Kbuild, today: date) -> Outcome:
    import shutil

    from kbuild_tasks.effects.kconfig import explain_failure

    kbuild.prepare()
    try:
        try:
            merged = _merge(ctx, kbuild)
            memory = _memory(ctx, merged.text)
            known = None if ctx.anew else memory.known()
            text = known[0] if known else kbuild.olddefconfig(merged.text)
        except CommandFailed as error:
            raise explain_failure(error, "the tree's kconfig could not make a .config") from None
        final = syntax.parse_config(text)
        unmet = kconfig.prove(merged, final)
        verdict = kconfig.judge(unmet, ctx.cluster.kernel.waivers, today, ctx.cluster.source)
        warnings = _base_warning(ctx, merged, final)
        if verdict.failing:
            raise _refusal(ctx, kbuild, merged, final, verdict)
        _check_programs(final)
        told = _obstacles(ctx, kbuild, final)
    finally:
        shutil.rmtree(kbuild.scratch, ignore_errors=True)
    release = kbuild.install(text, known[1] if known else None)
    memory.remember(text, release)
    outcome = _outcome(ctx, text, release, merged, [*warnings, *_waiver_warnings(verdict)], told)
    return replace(outcome, run={"kconfig": "known" if known else "asked"})


def _memory(ctx: Context, merged: str) -> Configured:
    from kbuild_tasks.effects.compiler import toolchain
    from kbuild_tasks.effects.configured import Configured

    arch = ctx.cluster.kernel.arch
    tools = toolchain(arch, ctx.paths)
    tree = ctx.receipts.get("patch", {}).get("results", {}).get("tree", "")
    return Configured(ctx.paths, _place(ctx), tree, merged=merged, arch=arch, compiler=tools.identity)


def _obstacles(ctx: Context, kbuild: Kbuild, final: Mapping[str, str]) -> list[Obstacle]:
    """Options with which no two builds are the same bytes. Raises ConfigError where cluster.yaml wants none."""
    from kbuild_tasks.core.reproducible import READ, obstacles

    tree = {name: (kbuild.tree / name).read_text("utf-8", "replace") for name in READ if (kbuild.tree / name).is_file()}
    found = obstacles(final, tree)
    if found and ctx.cluster.build.reproducible:
        raise ConfigError(
            f"no two builds are the same bytes with {', '.join(o.symbol for o in found)}; build.reproducible is true",
            "change them in a fragment, or take build.reproducible out of cluster.yaml",
            evidence=[o.line for o in found],
        )
    return found


def _check_programs(final: Mapping[str, str]) -> None:
    import shutil

    from kbuild_tasks.effects.makepkg import SYSTEM_PATH

    for symbol, program in PROGRAMS.items():
        if final.get(symbol) == "y" and not shutil.which(program, path=SYSTEM_PATH):
            raise ConfigError(
                f"{symbol}=y needs {program}, which is not installed here: the build would fail at its end",
                f"install {program}, or set {symbol} to n in a fragment (another KERNEL_*: to y)"
                if symbol.startswith("KERNEL_")
                else f"install {program}, or set {symbol} to n in a fragment",
            )


def _kbuild(ctx: Context) -> Kbuild:
    from kbuild_tasks.effects.compiler import make_front, toolchain
    from kbuild_tasks.effects.kconfig import Kbuild
    from kbuild_tasks.effects.makepkg import SYSTEM_PATH

    arch, scratch = ctx.cluster.kernel.arch, ctx.paths.workdir / "configure"
    front = make_front(ctx.paths.state / "front", SYSTEM_PATH)
    environment = {**toolchain(arch, ctx.paths).environment, "PATH": f"{front}:{SYSTEM_PATH}"}
    return Kbuild(ctx.paths.builddir / _place(ctx), scratch, arch, ctx.log, environment)


def _place(ctx: Context) -> str:
    extracted = ctx.receipts["extract"]["results"]
    return f"{extracted['pkgbase']}/src/{extracted['srctree']}"


def _merge(ctx: Context, kbuild: Kbuild) -> Merged:
    from kbuild_tasks.effects.kconfig import read_text

    kernel, root = ctx.cluster.kernel, ctx.paths.root
    fragments = [syntax.parse(read_text(root, name, "kernel.fragments"), name) for name in kernel.fragments]
    require = syntax.required(kernel.require, dict(kernel.require_lines), ctx.cluster.source)
    if is_defconfig(kernel.config):
        values = syntax.parse_config(kbuild.preset(kernel.config))
        return kconfig.merge([syntax.Request(s, v, kernel.config, 0) for s, v in values.items()], fragments, require)
    return kconfig.merge(
        syntax.parse(read_text(root, kernel.config, "kernel.config"), kernel.config), fragments, require
    )


def _base_warning(ctx: Context, merged: Merged, final: dict[str, str]) -> list[str]:
    if is_defconfig(ctx.cluster.kernel.config):
        return []
    differing = kconfig.base_differences(merged, final)
    if not differing:
        return []
    _log(ctx, ["options of the base that the final .config has otherwise:", *(f"  {u.line}" for u in differing)])
    return [
        f"{ctx.cluster.kernel.config}: {len(differing)} of {len(merged.base)} options came out otherwise, "
        f"listed in {ctx.shown(ctx.log)}"
    ]


def _refusal(ctx: Context, kbuild: Kbuild, merged: Merged, final: dict[str, str], verdict: Verdict) -> ConfigError:
    from kbuild_tasks.effects.kconfig_explain import reasons

    why = reasons(kbuild, merged, final, verdict.failing, lambda text: _log(ctx, [text]))
    expired = {w.symbol.removeprefix("CONFIG_"): w for w in verdict.expired}
    lines = [_told(unmet, reason, expired) for unmet, reason in zip(verdict.failing, why, strict=True)]
    _log(ctx, ["requests that the final .config does not fulfil:", *(f"  {line}" for line in lines)])
    count, asked = len(lines), len(merged.requests)
    return ConfigError(
        f"{count} of {asked} requested options {'is' if count == 1 else 'are'} not as requested in the final .config",
        "change the lines named above, or waive a symbol until a day under kernel.waivers",
        evidence=lines,
        log=ctx.shown(ctx.log),
    )


def _told(unmet: Unmet, reason: str, expired: dict[str, Any]) -> str:
    waiver = expired.get(unmet.request.symbol)
    over = f"; its waiver ended on {waiver.until} ({waiver.why})" if waiver else ""
    return f"{unmet.line}{': ' if reason else ''}{reason}{over}"


def _waiver_warnings(verdict: Verdict) -> list[str]:
    waived = [
        f"{u.request.symbol}: wanted {u.request.wanted}, got {u.shown}; waived until {w.until}: {w.why}"
        for u, w in verdict.waived
    ]
    return waived + [f"the waiver of {w.symbol} is not needed any more: remove it" for w in verdict.unused]


def _outcome(
    ctx: Context, text: str, release: str, merged: Merged, warnings: Sequence[str], told: Sequence[Obstacle]
) -> Outcome:
    from kbuild_tasks.core import kconfig_hazards
    from kbuild_tasks.effects import kconfig as effect

    final = syntax.parse_config(text)
    copy = ctx.paths.build / "config"
    before = syntax.parse_config(copy.read_text("utf-8")) if copy.is_file() else None
    effect.replace(copy, text)
    return Outcome(
        f"{release}; {len(merged.requests)} requested options proven; {_changes(before, final)}",
        results={
            "place": _place(ctx),
            "config_sha256": sha256_text(text),
            "options": len(merged.requests),
            "kernelrelease": release,
            **({"unreproducible": [o.symbol for o in told]} if told else {}),
        },
        warnings=(
            *warnings,
            *_release_warnings(ctx, release),
            *kconfig_hazards.warnings(final),
            *(f"no two builds are the same bytes with {o.line}" for o in told),
        ),
    )


def _release_warnings(ctx: Context, release: str) -> list[str]:
    told = ctx.receipts["patch"]["results"].get("releases", {}) if "patch" in ctx.receipts else {}
    return [
        f"prepare() wrote {text} into {name}, and this kernel is {release}: what a package function takes from there "
        "is wrong; the options that make up the name (LOCALVERSION) must be those of kernel.config"
        for name, text in told.items()
        if text != release
    ]


def _changes(before: dict[str, str] | None, final: dict[str, str]) -> str:
    if before is None:
        return f"{sum(v != 'n' for v in final.values())} options set"
    changed = kconfig.diff(before, final)
    if not changed:
        return ".config as before"
    shown = ", ".join(f"{symbol} {old or 'n'} -> {new or 'n'}" for symbol, old, new in changed[:SHOWN])
    more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
    return f"changed: {shown}{more}"


def _log(ctx: Context, lines: Sequence[str]) -> None:
    ctx.log.parent.mkdir(parents=True, exist_ok=True)
    with open(ctx.log, "a", encoding="utf-8") as log:
        log.writelines(f"{line}\n" for line in lines)
