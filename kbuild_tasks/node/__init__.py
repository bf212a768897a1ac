"""What may run as root on a node: one POSIX sh file, made here of its parts; see docs/helper.md.

VERBS is the whole list, and the checks in the file are generated from it: a verb, a key or a value that is not in
the table is refused before anything is looked at. Values are never evaluated and never part of a program text; they
come on stdin (`spoken`), because sudo can then allow the file without any argument.
"""

from __future__ import annotations

import functools
import hashlib
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources

SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LINE = 16384  # characters of a header line at most

PARTS = (
    "protocol", "state", "running", "observe", "health", "stage", "package", "check", "modules", "pacman", "mend",
    "initramfs", "bootfiles", "trial", "forget", "node",
)  # fmt: skip
LOADERS = ("systemd_boot", "grub", "extlinux", "raspberrypi")  # in the order in which they are looked for


@dataclass(frozen=True)
class Pattern:
    """What a value may look like: a class of characters (as in a bracket of sh and of re), its length; `first` is the
    class of the first character, `also` a value that is good besides."""

    chars: str
    low: int
    high: int
    first: str = ""
    also: str | None = None

    @property
    def regex(self) -> str:
        head = f"(?=[{self.first}])" if self.first else ""
        return f"{head}[{self.chars}]{{{self.low},{self.high}}}" + (
            "" if self.also is None else f"|{re.escape(self.also)}"
        )


PATTERNS = {
    "build": Pattern("0-9a-f", 12, 12),
    "frame": Pattern("0-9a-f", 16, 16),
    "sha256": Pattern("0-9a-f", 64, 64),
    "number": Pattern("0-9", 1, 15, first="1-9", also="0"),
    "name": Pattern("A-Za-z0-9@._+:-", 1, 200, first="A-Za-z0-9"),
    "release": Pattern("A-Za-z0-9._+~-", 1, 64, first="0-9"),
    "uuid": Pattern("0-9a-f-", 36, 36, first="0-9a-f"),
    "words": Pattern("A-Za-z0-9_ -", 0, 8192, first="A-Za-z0-9", also=""),
    "base64": Pattern("A-Za-z0-9+/=", 0, 8192),
    "flag": Pattern("01", 1, 1),
    "word": Pattern("a-z", 1, 16),
    "loader": Pattern("a-z-", 1, 16, first="a-z"),
}

# verb -> key -> name of a pattern; a "?" after it: the key may be left out. A verb that changes anything has `fence`;
# one that looks at the loader takes `loader`, which is then used without being looked for (rollout.bootloader).
VERBS: Mapping[str, Mapping[str, str]] = {
    "observe": {"loader": "loader?"},
    "baseline": {},
    "stage-list": {"build": "build"},
    "stage-put": {
        "build": "build", "name": "name", "size": "number", "sha256": "sha256", "offset": "number", "fence": "number",
    },
    "check": {"build": "build", "fence": "number", "signed": "flag?", "loader": "loader?"},
    "install": {"build": "build", "fence": "number", "signed": "flag?", "loader": "loader?"},
    "bootfiles": {"build": "build", "fence": "number", "modules": "words?", "panic": "number?", "loader": "loader?"},
    "arm": {"build": "build", "panic": "number", "fence": "number", "timeout": "number?", "loader": "loader?"},
    "disarm": {"fence": "number", "loader": "loader?"},
    "reboot": {"fence": "number", "delay": "number?", "boot_id": "uuid?", "loader": "loader?"},
    "probe": {"modules": "words?", "release": "release?", "build": "build?"},
    "commit": {"build": "build", "fence": "number", "loader": "loader?"},
    "rollback": {"fence": "number", "to": "word?", "loader": "loader?"},
    "deny": {"build": "build", "why": "base64", "fence": "number"},
    "allow": {"build": "build", "fence": "number"},
    "forget": {"build": "build", "fence": "number", "kept": "flag?", "loader": "loader?"},
    "lease": {"fence": "number", "who": "base64", "boot_id": "uuid?", "force": "flag?"},
    "k3s": {"action": "word", "fence": "number"},
    "journal": {"boot": "word"},
    "boot-modules": {},  # by kbuild-modules.service
    "dead-man": {},  # by kbuild-deadman.service
}  # fmt: skip


@functools.cache
def helper_text(root: str = "") -> str:
    """The helper, whole. `root` is put before every path of the node, for tests alone: callers cannot choose it."""
    if root and not re.fullmatch(r"(/[A-Za-z0-9._-]+)+", root):
        raise ValueError(f"{root!r} cannot be a root of the helper")
    search = f"{root}/stand-in:{SEARCH}" if root else SEARCH
    body = "".join(
        [
            f"root={shlex.quote(root)}\n",
            f"LC_ALL=C TZ=UTC HOME={shlex.quote(root)}/root PATH={search}\nexport LC_ALL TZ HOME PATH\n",
            _tables(),
            *(_part("kbuild_tasks.node", name) for name in PARTS),
            _part("kbuild_tasks.bootloader", "loader"),
            *(_part("kbuild_tasks.bootloader", name) for name in LOADERS),
            'main "$@"\nexit\n',
        ]
    )
    version = hashlib.sha256(body.encode()).hexdigest()
    return f"#!/bin/sh\nversion={version}\n{body}"


def version(root: str = "") -> str:
    """What a node's helper says in `observe` if it is this one."""
    return helper_text(root).split("\n", 2)[1].removeprefix("version=")


def setup_text() -> str:
    """A script for root that puts the helper, its units and the sudoers line in place; effects/node.py sends it.

    Values it wants: helper_sha256 and user (who may call the helper), sudoers (1: write the line). Its payload is
    helper_text().
    """
    return _part("kbuild_tasks.node", "setup")


def by_hand(user: str = "ansible") -> str:
    """The same as one script that root runs on a node, with its values and the helper inside. Raises ValueError for a
    name that no account has (useradd(8))."""
    if not re.fullmatch("[a-z_][a-z0-9_-]{0,31}", user):
        raise ValueError(f"{user!r} is no name of an account")
    helper = helper_text()
    return f"""\
#!/bin/sh
# Puts the helper of kbuild-tasks on this node, with its two units and the sudoers line of {user}.
set -u
umask 022
LC_ALL=C PATH={SEARCH}
export LC_ALL PATH
[ "$(id -u)" = 0 ] || {{
	echo 'only root can do that' >&2
	exit 1
}}
helper_sha256={hashlib.sha256(helper.encode()).hexdigest()} user={user} sudoers=1
put_all() {{
{setup_text()}}}
put_all <<'THE END OF THE HELPER'
{helper}THE END OF THE HELPER
"""


def spoken(verb: str, values: Mapping[str, str | int]) -> bytes:
    """The header of a request, as the helper reads it; the payload goes behind it. Raises ValueError for what the
    helper would refuse."""
    keys = {"frame": "frame?", **VERBS[verb]}
    for key, value in values.items():
        pattern = PATTERNS[keys[key].removesuffix("?")] if key in keys else None
        if pattern is None or not re.fullmatch(pattern.regex, str(value)):
            raise ValueError(f"{verb}: {key}={value!r}")
    missing = [key for key, pattern in keys.items() if not pattern.endswith("?") and key not in values]
    if missing:
        raise ValueError(f"{verb} needs {', '.join(missing)}")
    return "".join([f"{verb}\n", *(f"{key}={value}\n" for key, value in values.items()), "\n"]).encode("ascii")


def _part(package: str, name: str) -> str:
    return (resources.files(package) / f"{name}.sh").read_text("utf-8")


def _tables() -> str:
    """The table as sh: which verb has which key, which of them it needs, what a value looks like, where it goes."""
    keys = sorted({key for verb in VERBS.values() for key in verb} | {"frame"})
    lines = ["# generated from the table in kbuild_tasks/node/__init__.py", "pattern_of() {", "\tcase $1:$2 in"]
    lines.append(f"\t{' | '.join(f'{verb}:frame' for verb in VERBS)}) pattern=frame ;;")
    for verb, table in VERBS.items():
        for key, pattern in table.items():
            lines.append(f"\t{verb}:{key}) pattern={pattern.removesuffix('?')} ;;")
    lines += ["\t*) return 1 ;;", "\tesac", "}", "", "needed_by() {", "\tcase $1 in"]
    for verb, table in VERBS.items():
        needed = [key for key, pattern in table.items() if not pattern.endswith("?")]
        lines.append(f"\t{verb}) needed='{' '.join(needed)}' ;;")
    lines += ["\t*) return 1 ;;", "\tesac", "}", "", "fits() {", "\tcase $1 in"]
    for name, shape in PATTERNS.items():
        good = [f"[ ${{#2}} -ge {shape.low} ] && [ ${{#2}} -le {shape.high} ]"]
        escaped = shape.chars.replace(" ", "\\ ")
        good.append(f"case $2 in *[!{escaped}]*) false ;; esac")
        if shape.first:
            good.append(f"case $2 in [{shape.first}]*) ;; *) false ;; esac")
        also = "" if shape.also is None else f"[ \"$2\" = '{shape.also}' ] || "
        lines.append(f"\t{name}) {also}{{ {' && '.join(good)}; }} ;;")
    lines += [
        "\t*) false ;;",
        "\tesac",
        "}",
        "",
        " ".join(f"ask_{key}=''" for key in keys),
        "store() {",
        "\tcase $1 in",
    ]
    lines += [f"\t{key}) ask_{key}=$2 ;;" for key in keys]
    lines += ["\t*) false ;;", "\tesac", "}", f"longest={LINE}", ""]
    return "\n".join(lines) + "\n"


VERSION = version()
