"""Is this machine fit for a lab, and is the lab fit for use?"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.lab import names

PROGRAMS = ("systemd-nspawn", "ip", "ssh", "ssh-keygen", "nsenter", "unshare")
SSH_SECONDS = 20


def require_root() -> None:
    if os.geteuid() != 0:
        raise KbuildError("the lab needs root: it makes namespaces and mounts", "sudo .venv/bin/doit lab ...")


def require_programs() -> None:
    """Raises KbuildError with the names of what is missing."""
    missing = [name for name in PROGRAMS if not shutil.which(name)]
    if missing:
        raise KbuildError(f"this machine lacks {', '.join(missing)}", "script/setup")
    if "overlay" not in Path("/proc/filesystems").read_text() and not Path("/lib/modules").exists():
        raise KbuildError("this machine's kernel has no overlay file system", "modprobe overlay")


def wait_for_ssh(holder: int, nodes: Sequence[str], keys: Path, logs: Path) -> None:
    """Return when `ansible` can log in to each of the nodes. Raises KbuildError with what ssh said last."""
    deadline = time.monotonic() + SSH_SECONDS
    waiting: dict[str, str] = dict.fromkeys(nodes, "")
    while waiting:
        tries = {node: _try_ssh(holder, node, keys) for node in waiting}
        for node, attempt in tries.items():
            _, said = attempt.communicate()
            waiting[node] = said.decode("utf-8", "replace").strip()
        for node, attempt in tries.items():
            if attempt.returncode == 0:
                del waiting[node]
        if waiting and time.monotonic() > deadline:
            node, last = next(iter(waiting.items()))
            raise KbuildError(
                f"{', '.join(waiting)} did not answer by ssh within {SSH_SECONDS} s",
                "doit lab status; doit lab down and up again if it stays so",
                evidence=last.splitlines(),
                log=str(logs / f"{node}-console.log"),
            )
        if waiting:
            time.sleep(0.1)


def _try_ssh(holder: int, node: str, keys: Path) -> subprocess.Popen[bytes]:
    """From the lab's network, as the coordinator will do it; the host key is checked."""
    options = {
        "IdentityFile": "id_ed25519",
        "UserKnownHostsFile": "known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "2",
    }
    argv = ["nsenter", f"--net=/proc/{holder}/ns/net", "--", "ssh", "-F", "none", "-n"]
    for name, value in options.items():
        argv += ["-o", f"{name}={value}"]
    argv += [f"{names.REMOTE_USER}@{names.address(node)}", "true"]
    # In the directory of the keys: no path of the project's needs quoting, nor its % escaping (ssh_config(5), TOKENS).
    return subprocess.Popen(argv, cwd=keys, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
