"""The coordinator's own reboot: a unit that ends its roll-out (or rollback) when it is back, and is gone with that run.

`only=` names the coordinator: it is the last, so nothing else is left to do, and a boot of this machine must never
begin what nobody asked for. For the same reason the unit disables itself however its run ends: a coordinator that fell
back would otherwise roll out whatever lies in artifacts/ at some later boot. A power cut in the run leaves it enabled.

It runs as the user who builds, in the project, with what that user's doit is: nothing of it is root's. Written with the
user's sudo: the coordinator's builder has it (docs/nodes.md).
"""

from __future__ import annotations

import os
import pwd
import sys
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.effects import node as remote
from kbuild_tasks.effects.context import Context

UNIT = "kbuild-rollout-resume.service"

_INSTALL = """
d=/etc/systemd/system
[ -d /run/systemd/system ] || die "has no systemd: nothing would go on after its reboot	run doit rollout after it"
printf %s "$unit" >"$d/.$name.tmp" && mv "$d/.$name.tmp" "$d/$name" || die "cannot write $d/$name"
systemctl daemon-reload && systemctl enable -q "$name" || die "cannot enable $name"
sync "$d/$name"
printf '{"installed": "%s"}\\n' "$name"
"""

_REMOVE = """
d=/etc/systemd/system
if [ -e "$d/$name" ]; then
	systemctl disable -q "$name" && rm -f "$d/$name" && systemctl daemon-reload || die "cannot remove $name"
fi
printf '{}\\n'
"""


def unit(root: Path, user: str, python: str, path: str, log: Path, *words: str) -> str:
    """The unit's text; words: what doit is asked. Raises KbuildError for a path that a unit cannot carry."""
    for text in (str(root), user, python, path, str(log)):
        if not text.isprintable():
            raise KbuildError(f"{text!r} cannot stand in a systemd unit", "move the project to another directory")
    return f"""\
[Unit]
Description=kbuild-tasks: go on with the roll-out after the coordinator's reboot
Wants=network-online.target
After=network-online.target multi-user.target

[Service]
Type=oneshot
User={_plain(user)}
WorkingDirectory={_plain(str(root))}
Environment={_word(f"PATH={path}")}
ExecStart={_word(python)} -m doit {" ".join(_word(word) for word in words)}
ExecStopPost=-+/usr/bin/systemctl disable {UNIT}
StandardOutput=append:{_plain(str(log))}
StandardError=inherit
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
"""


def _plain(text: str) -> str:
    """A value that systemd takes to the end of the line: only % means something (systemd.unit(5), Specifiers)."""
    return text.replace("%", "%%")


def _word(text: str) -> str:
    """One word: in quotes (systemd.syntax(7)); $ would be a variable (systemd.service(5))."""
    quoted = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{quoted}"'


def install(ctx: Context, *words: str) -> None:
    """words: what doit is asked after the boot, "rollout". Raises KbuildError: then the coordinator is not rebooted."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise KbuildError(
            f"uid {os.geteuid()} has no account: nothing would go on after the coordinator's reboot",
            "run doit as builder",
        ) from None
    path = os.environ.get("PATH", remote.SEARCH)
    log, only = ctx.paths.build / "logs" / "rollout-resume.log", f"only={ctx.cluster.coordinator.name}"
    text = unit(ctx.paths.root, user, sys.executable, path, log, *words, only)
    remote.ask(ctx.cluster, ctx.cluster.coordinator, remote.script() + _INSTALL, {"unit": text, "name": UNIT})


def remove(ctx: Context) -> None:
    """Nothing is left to go on with. Costs nothing where there is no unit."""
    if Path("/etc/systemd/system", UNIT).exists():
        remote.ask(ctx.cluster, ctx.cluster.coordinator, remote.script() + _REMOVE, {"name": UNIT})
