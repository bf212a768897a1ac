"""What a node shows after a power cut: which kernel runs, what boots next, and every file that the old kernel needs."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kbuild_tasks.lab.lab import Lab
from tests.vm.machines import root

HELPER = "/usr/local/lib/kbuild-tasks/helper"
LOOK = """\
printf 'observe\\n\\n' | {helper}
hashes() {{
	[ ! -d "$1" ] || (cd "$1" && find . -xdev -type f ! -name release -print0 | xargs -0 sha256sum) | sed "s|^|$2 |"
}}
hashes {seen} seen
hashes {kept} kept
for file in {boot}; do sha256sum -- "$file" | sed 's/^/boot /'; done
for module in overlay br_netfilter; do ! modprobe "$module" || echo "loads x $module"; done
"""
ENTRY = "/boot/loader/entries/{}.conf"


@dataclass(frozen=True)
class Old:
    """The kernel that must still be there: its modules (path below their directory -> sha256) and its boot files.
    kept: the name under which its modules are kept aside."""

    release: str
    kept: str
    entry: str
    modules: Mapping[str, str]
    boot: Mapping[str, str]


@dataclass(frozen=True)
class Look:
    observe: Mapping[str, Any]
    seen: Mapping[str, str] = field(default_factory=dict)  # in /usr/lib/modules/<old release>
    kept: Mapping[str, str] = field(default_factory=dict)  # kept aside
    boot: Mapping[str, str] = field(default_factory=dict)
    loads: Sequence[str] = ()  # modules of the running kernel

    @property
    def default(self) -> str:
        return str(self.observe["loader"]["default"])

    @property
    def selected(self) -> str:
        return str(self.observe["loader"]["selected"])


def look(lab: Lab, node: str, release: str, kept: str, boot: Sequence[str]) -> Look:
    script = LOOK.format(
        helper=HELPER,
        seen=shlex.quote(f"/usr/lib/modules/{release}"),
        kept=shlex.quote(f"/usr/lib/modules.kbuild/{kept}"),
        boot=" ".join(shlex.quote(path) for path in boot),
    )
    lines = root(lab, node, script).splitlines()
    found: dict[str, dict[str, str]] = {"seen": {}, "kept": {}, "boot": {}, "loads": {}}
    for line in lines[1:]:
        kind, digest, path = line.split(maxsplit=2)
        found[kind][path] = digest
    return Look(json.loads(lines[0]), found["seen"], found["kept"], found["boot"], tuple(found["loads"]))


def old(lab: Lab, node: str) -> Old:
    """The kernel that runs, and boots by default."""
    first = json.loads(root(lab, node, f"printf 'observe\\n\\n' | {HELPER}"))
    release, entry = first["release"], first["loader"]["default"]
    kept = entry.removeprefix("kbuild-") if re.fullmatch("kbuild-[0-9a-f]{12}", entry) else first["build_id"]
    conf = ENTRY.format(entry)
    awk = f'awk \'$1 == "linux" || $1 == "initrd" {{ print "/boot" $2 }}\' {shlex.quote(conf)}'
    files = [conf, *root(lab, node, awk).split()]
    now = look(lab, node, release, kept, files)
    assert now.seen and set(now.boot) == set(files), now
    return Old(release, kept, entry, now.seen, now.boot)


def changed(before: Old, now: Look, entry: str) -> list[str]:
    """Files of the old kernel that are not what they were. `entry` is that of the trial: while another kernel runs, the
    old one would see what was kept aside for it (kbuild-modules.service)."""
    there = now.seen
    if now.selected == entry and now.kept:
        there = now.kept
    wrong = [f"module {path}" for path, digest in before.modules.items() if there.get(path) != digest]
    return wrong + [f"boot file {path}" for path, digest in before.boot.items() if now.boot.get(path) != digest]


def default_holds(before: Old, now: Look, entry: str) -> bool:
    """Before COMMITTED: the default is the old kernel's entry, or the copy of it that install makes."""
    good = now.observe["known_good"]
    named = {before.entry, *([good["entry"]] if good else [])}
    return now.default != entry and (now.default in named or now.default.startswith("kbuild-keep-"))
