"""Is this machine fit for a lab, and is the lab fit for use?"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.lab import linux, names

PROGRAMS = ("systemd-nspawn", "ip", "ssh", "ssh-keygen", "unshare")
SSH_SECONDS = 30


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
    interrupted = threading.Event()
    with ThreadPoolExecutor(1) as pool:  # a thread can move to the lab's network alone (setns(2)); it ends with this
        try:
            pool.submit(_wait, holder, nodes, keys, logs, interrupted).result()
        except BaseException:
            interrupted.set()
            raise


def _wait(holder: int, nodes: Sequence[str], keys: Path, logs: Path, interrupted: threading.Event) -> None:
    network = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    linux.setns(network, linux.CLONE_NEWNET)
    os.close(network)
    deadline = time.monotonic() + SSH_SECONDS
    waiting = dict.fromkeys(nodes, "no answer")
    logins: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while waiting and time.monotonic() < deadline and not interrupted.is_set():
            for node in waiting:
                if node not in logins and _speaks(names.address(node)):
                    logins[node] = _login(node, keys)
            for node, login in list(logins.items()):
                if login.poll() is not None:
                    said = login.communicate()[1].decode("utf-8", "replace").strip()
                    del logins[node]
                    if login.returncode == 0:
                        del waiting[node]
                    else:
                        waiting[node] = said
            time.sleep(0.05 if waiting else 0)
    finally:
        for login in logins.values():
            login.kill()
            login.communicate()
    if waiting:
        node, last = next(iter(waiting.items()))
        raise KbuildError(
            f"{', '.join(waiting)} did not answer by ssh within {SSH_SECONDS} s",
            "doit lab status; doit lab down and up again if it stays so",
            evidence=last.splitlines(),
            log=str(logs / f"{node}-console.log"),
        )


def _speaks(address: str) -> bool:
    """Whether an sshd says its name there: cheaper to ask than ssh, sixteen times over while all boot."""
    try:
        with socket.create_connection((address, 22), timeout=0.2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _login(node: str, keys: Path) -> subprocess.Popen[bytes]:
    """As the coordinator will do it; the host key is checked."""
    options = {
        "IdentityFile": "id_ed25519",
        "UserKnownHostsFile": "known_hosts",
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
        "ConnectTimeout": "5",
    }
    argv = ["ssh", "-F", "none", "-n"]
    for name, value in options.items():
        argv += ["-o", f"{name}={value}"]
    argv += [f"{names.REMOTE_USER}@{names.address(node)}", "true"]
    # In the directory of the keys: no path of the project's needs quoting, nor its % escaping (ssh_config(5), TOKENS).
    return subprocess.Popen(argv, cwd=keys, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
