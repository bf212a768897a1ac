"""lies: what pacman does not say. A hook or a scriptlet that fails, a module that is missing or cut short, a full
/boot: each is rolled out onto one VM, where it must be told and the kernel kept, and given to plain `pacman -U` on the
other, whose exit status stands beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbuild_tasks.lab.lab import Lab
from tests.lab.project import ROOT
from tests.vm.faults import Row
from tests.vm.faults.arch import HOOK, SETUP, bring, install, sums, whole
from tests.vm.faults.look import changed, old
from tests.vm.faults.look import look as look_at
from tests.vm.faults.machine import Machine
from tests.vm.machines import root
from tests.vm.rollout_project import CANARY, SECOND, Rollout
from tests.vm.variant import make

FAILED = "ran a hook or scriptlet of pacman that failed"
FILL = "fallocate -l $(($(df -B1 --output=avail /boot | tail -n 1) - {left})) /boot/full; sync"


@dataclass(frozen=True)
class Lie:
    """what     the fault
    hook     of pacman, a script; "": none. $modules is the new kernel's directory
    before   what is done on the node before, as root
    install  the package's scriptlet
    words    of which one must be told, by doit
    modules  that verify asks for
    """

    what: str
    words: str
    hook: str = ""
    before: str = ":"
    install: str = ""
    modules: str = ""


LIES = (
    Lie("a hook that fails", FAILED, hook="exit 1"),
    Lie("a hook that is killed", FAILED, hook="kill -9 $$"),
    Lie("a hook that is not there", FAILED, hook="missing"),
    Lie("a scriptlet that fails", FAILED,
        install="post_install() { return 1; }\npost_upgrade() { return 1; }\n"),
    Lie("a scriptlet that ends in the middle", FAILED,
        install="post_install() { exit 7; }\npost_upgrade() { exit 7; }\n"),
    Lie("a module that is missing", "missing: usr/lib/modules/", hook="rm $modules/kernel/net/bridge/bridge.ko"),
    Lie("a module that is cut short", "changed: usr/lib/modules/",
        hook="truncate -s 1000 $modules/kernel/net/bridge/bridge.ko"),
    Lie("a kernel that is cut short", "changed: usr/lib/modules/", hook="truncate -s 1M $modules/vmlinuz"),
    Lie("a module that the kernel does not have", "modules missing: wireguard", modules="[overlay, wireguard]"),
    Lie("/boot is full", "MiB free in /boot", before=FILL.format(left=1 << 20)),
    Lie("/boot becomes full while pacman runs", "MiB free in /boot", hook=FILL.format(left=1 << 20)),
    Lie("/boot is read-only", "read-only", before="mount -o remount,ro /boot"),
)  # fmt: skip
CLEAN = "mount -o remount,rw /boot; rm -f /boot/full /etc/pacman.d/hooks/10-lie.hook /usr/local/bin/hook; sync"


def run(lab: Lab, project: Rollout, count: int | None) -> Iterator[Row]:
    """count: so many of LIES."""
    ours, plain = (Machine(lab, node, ROOT / "build" / "faults") for node in (CANARY, SECOND))
    project.settings(settle="1s")
    try:
        ours.fresh()
        plain.fresh()
        project.doit(f"sync:{CANARY}")
        project.doit("rollout", f"only={CANARY}")
        root(lab, SECOND, SETUP)
        install(plain, bring(plain, "kernel", _package(project)))
        plain.switch_off()  # in peace: cut off right after plain pacman it may not boot again, as `plain` tells
        plain.on()
        found = []
        for lie in LIES[:count]:
            found.append(_one(project, ours, plain, lie))
            told = found[-1]
            yield Row(lie.what, "told, old kernel whole", told["told"] + f"; plain pacman ends with {told['plain']}"
                      f"{'' if told['plain_whole'] else ', not whole'}", told["good"], told)  # fmt: skip
        good, silent = sum(one["good"] for one in found), sum(one["plain"] == 0 for one in found)
        yield Row("detected", f"{len(found)}/{len(found)}", f"{good}/{len(found)}; plain pacman by its exit status"
                  f" {len(found) - silent}/{len(found)}", good == len(found))  # fmt: skip
    finally:
        ours.close()
        plain.close()


def _package(project: Rollout) -> Path:
    return next(path for path in (project.root / "artifacts").glob("*.pkg.tar.zst") if "-headers-" not in path.name)


def _one(project: Rollout, ours: Machine, plain: Machine, lie: Lie) -> dict[str, Any]:
    number = LIES.index(lie) % 8 + 1
    build = make(project.root, lie.what, pkgrel=number, build_id=f"{number:02x}" * 20, install=lie.install)
    release = project.release()
    for machine in (ours, plain):
        _set(machine, lie, release)
    if lie.modules:
        project.settings(modules=lie.modules)
    before = old(project.lab, CANARY)
    said = project.doit("deploy", f"only={CANARY}", status=None)
    failed = "FAILED deploy" in said
    now = look_at(project.lab, CANARY, before.release, before.kept, list(before.boot))
    lost = changed(before, now, f"kbuild-{build}")
    safe = not lost and now.default == before.entry and not now.observe["loader"]["armed"]
    if lie.modules:
        project.settings(modules="[overlay, br_netfilter]")
    package = _package(project)
    status, words = install(plain, bring(plain, "lie", package))
    boot = root(plain.lab, SECOND, "sha256sum </boot/vmlinuz-linux-cluster 2>/dev/null || echo none").split()[0]
    wanted = sums(package)
    is_whole = not whole(plain, wanted) and boot == wanted[f"usr/lib/modules/{release}/vmlinuz"]
    for machine in (ours, plain):
        root(machine.lab, machine.node, CLEAN)
    told = next((line.strip() for line in said.splitlines() if lie.words in line), "")
    return {
        "build": build, "good": failed and bool(told) and safe, "told": told[:100] or f"NOT TOLD: {said[-300:]}",
        "safe": safe, "lost": lost[:5], "plain": status, "plain_whole": is_whole, "plain_said": words[-500:],
    }  # fmt: skip


def _set(machine: Machine, lie: Lie, release: str) -> None:
    script = lie.before
    if lie.hook:
        program = f"#!/bin/sh\nmodules=/usr/lib/modules/{release}\n{lie.hook}\n"
        script += "\nmkdir -p /etc/pacman.d/hooks"
        script += f"\ncat >/etc/pacman.d/hooks/10-lie.hook <<'END'\n{HOOK.format('/usr/local/bin/hook')}END\n"
        if lie.hook != "missing":
            script += f"cat >/usr/local/bin/hook <<'END'\n{program}END\nchmod 0755 /usr/local/bin/hook\n"
    root(machine.lab, machine.node, script)
