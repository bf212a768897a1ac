"""Is this machine fit for a lab, and is the lab fit for use?"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError
from kbuild_tasks.lab import linux, names, session, vm
from kbuild_tasks.lab.names import Places

PROGRAMS = ("systemd-nspawn", "ip", "ssh", "ssh-keygen", "unshare")
VM_PROGRAMS = (vm.PROGRAM, "qemu-img", "nsenter", "sfdisk", "mkfs.vfat", "mcopy", "mke2fs")
SSH_SECONDS = 30
VM_SSH_SECONDS = 240  # emulated, beside others that boot: 20 to 60


def require_root() -> None:
    if os.geteuid() != 0:
        raise KbuildError("the lab needs root: it makes namespaces and mounts", "sudo .venv/bin/doit lab ...")


def require_programs(vms: bool = False) -> None:
    """Raises KbuildError with the names of what is missing."""
    missing = [name for name in (*PROGRAMS, *(VM_PROGRAMS if vms else ())) if not shutil.which(name)]
    if missing:
        raise KbuildError(f"this machine lacks {', '.join(missing)}", "script/setup")
    if "overlay" not in Path("/proc/filesystems").read_text() and not Path("/lib/modules").exists():
        raise KbuildError("this machine's kernel has no overlay file system", "modprobe overlay")


def wait_for_ssh(
    holder: int, nodes: Sequence[str], places: Places, seconds: float, crashed: Callable[[], Sequence[str]]
) -> None:
    """Return when `ansible` can log in to each of the nodes. Raises KbuildError with what ssh said last, or soon when
    a node is among those that crashed() names."""
    interrupted = threading.Event()
    with ThreadPoolExecutor(1) as pool:  # a thread can move to the lab's network alone (setns(2)); it ends with this
        waiting = pool.submit(_wait, holder, nodes, places, seconds, interrupted)
        try:
            while not waiting.done():
                wait([waiting], timeout=1)
                for node in set(crashed() if not waiting.done() else ()) & set(nodes):
                    log = places.logs / f"{node}-console.log"
                    said = log.read_text(errors="replace").splitlines() if log.exists() else []
                    raise KbuildError(f"{node} ended while it started", evidence=said[-5:], log=str(log))
            waiting.result()
        finally:
            interrupted.set()


def _wait(holder: int, nodes: Sequence[str], places: Places, seconds: float, interrupted: threading.Event) -> None:
    network = os.open(f"/proc/{holder}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    linux.setns(network, linux.CLONE_NEWNET)
    os.close(network)
    deadline = time.monotonic() + seconds
    waiting = dict.fromkeys(nodes, "no answer")
    logins: dict[str, subprocess.Popen[bytes]] = {}
    try:
        while waiting and time.monotonic() < deadline and not interrupted.is_set():
            for node in waiting:
                if node not in logins and _speaks(names.address(node)):
                    logins[node] = _login(node, places.keys)
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
    if waiting and not interrupted.is_set():
        node, last = next(iter(waiting.items()))
        raise KbuildError(
            f"{', '.join(waiting)} did not answer by ssh within {seconds:g} s",
            "doit lab status; doit lab down and up again if it stays so",
            evidence=last.splitlines(),
            log=str(places.logs / f"{node}-console.log"),
        )


def _speaks(address: str) -> bool:
    """Whether an sshd says its name there: cheaper to ask than ssh, sixteen times over while all boot. Where somebody
    is at home, an sshd in an emulated machine may take a second to say it."""
    try:
        with socket.create_connection((address, 22), timeout=0.2) as connection:
            connection.settimeout(3)
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _login(node: str, keys: Path) -> subprocess.Popen[bytes]:
    argv = [*session.ssh(node, ["-n"]), "true"]
    return subprocess.Popen(argv, cwd=keys, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
