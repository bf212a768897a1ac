"""What makes one node differ from the next: written into its root before it boots, again at each start of the lab.

All of it is written from inside the root (chroot in a child): a link that someone left in a node's disk must not lead
a write out of it. Existing state of a node (its database, its builds, its users' files) is left alone.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kbuild_tasks.lab import names


@dataclass(frozen=True)
class Furniture:
    """What a node gets.

    host_key     private and public text of its sshd's ed25519 key
    login_key    private and public text of the lab's key: every node admits the public one for `ansible`,
                 only the coordinator holds the private one
    known_hosts  lines for all nodes that a lab can have
    machine_id   32 hex digits
    builder      (uid, gid) of `builder`; None on workers, which have no such user
    project      directory of the project; None on workers
    """

    node: str
    host_key: tuple[str, str]
    login_key: tuple[str, str]
    known_hosts: str
    machine_id: str
    builder: tuple[int, int] | None
    project: str | None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Furniture:
        fields = dict(value)
        for key in ("host_key", "login_key", "builder"):
            fields[key] = tuple(fields[key]) if fields[key] is not None else None
        return cls(**fields)


def furnish(root: Path, wanted: Furniture) -> None:
    """Write it into a mounted root. Raises OSError with what the child said."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.umask(0o022)
            os.chroot(root)
            os.chdir("/")
            _write(wanted)
            status = 0
        except BaseException as error:  # a forked child must never return into its parent's code
            os.write(write_end, f"{type(error).__name__}: {error}".encode()[:4000])
        finally:
            sys.stdout.flush()
            os._exit(status)
    os.close(write_end)
    with open(read_end, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise OSError(f"{wanted.node} cannot be furnished: {said or f'status {status}'}")


def _write(wanted: Furniture) -> None:
    _put("/etc/hostname", wanted.node + "\n")
    _put("/etc/hosts", hosts(wanted.node))
    _put("/etc/machine-id", wanted.machine_id + "\n", 0o444)
    _put("/etc/ssh/ssh_host_ed25519_key", wanted.host_key[0], 0o600)
    _put("/etc/ssh/ssh_host_ed25519_key.pub", wanted.host_key[1])
    ansible = _ids("ansible")
    _own_directory("/home/ansible/.ssh", ansible)
    _put("/home/ansible/.ssh/authorized_keys", wanted.login_key[1], 0o600, ansible)
    if wanted.builder:
        _add_builder(wanted, wanted.builder)


def _add_builder(wanted: Furniture, ids: tuple[int, int]) -> None:
    name = names.BUILD_USER
    uid, gid = ids
    _entry("/etc/group", name, f"{name}:x:{gid}:")
    _entry("/etc/passwd", name, f"{name}:x:{uid}:{gid}::/home/{name}:/bin/bash")
    _entry("/etc/shadow", name, f"{name}:*:19000:0:99999:7:::")
    home = f"/home/{name}"
    if not os.path.exists(home):
        shutil.copytree("/etc/skel", home)
        for directory, folders, files in os.walk(home):
            for entry in [directory, *(os.path.join(directory, e) for e in folders + files)]:
                os.lchown(entry, uid, gid)
    os.chmod(home, 0o755)
    os.chown(home, uid, gid)
    _own_directory(f"{home}/.ssh", ids)
    _put(f"{home}/.ssh/id_ed25519", wanted.login_key[0], 0o600, ids)
    _put(f"{home}/.ssh/id_ed25519.pub", wanted.login_key[1], 0o644, ids)
    _put(f"{home}/.ssh/known_hosts", wanted.known_hosts, 0o644, ids)
    _put("/etc/sudoers.d/builder", f"{name} ALL=(ALL:ALL) NOPASSWD: ALL\n", 0o440)
    # The project may belong to root: git then refuses to read it as builder unless told.
    quoted = (wanted.project or "").replace("\\", "\\\\").replace('"', '\\"')
    _put("/etc/gitconfig", f'[safe]\n\tdirectory = "{quoted}"\n')


def hosts(node: str) -> str:
    """/etc/hosts of a node: itself, and every node that a lab can have."""
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"]
    lines += [f"{names.address(other)} {other}" for other in names.NODES]
    return "\n".join(lines) + "\n"


def with_entry(text: str, name: str, line: str) -> str:
    """A passwd-like file's text with exactly one entry of that name, and before all others: a uid that the base
    happens to use too is then shown under our name."""
    others = [other for other in text.splitlines() if not re.match(re.escape(name) + ":", other)]
    return "\n".join([line, *others]) + "\n"


def _entry(path: str, name: str, line: str) -> None:
    before = os.stat(path)
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        text = file.read()
    after = with_entry(text, name, line)
    if after != text:
        _put(path, after, before.st_mode & 0o7777, (before.st_uid, before.st_gid))


def _put(path: str, text: str, mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> None:
    """Replace a file whole (a new file renamed over the old one)."""
    scratch = path + ".lab"
    fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with open(fd, "w", encoding="utf-8", errors="surrogateescape") as file:
        os.fchmod(fd, mode)
        os.fchown(fd, *owner)
        file.write(text)
    os.rename(scratch, path)


def _own_directory(path: str, owner: tuple[int, int]) -> None:
    os.makedirs(path, mode=0o700, exist_ok=True)
    os.chmod(path, 0o700)
    os.chown(path, *owner)


def _ids(name: str) -> tuple[int, int]:
    with open("/etc/passwd", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            fields = line.split(":")
            if fields[0] == name:
                return int(fields[2]), int(fields[3])
    raise LookupError(f"the base image has no user {name}")
