"""Run a command in a node as if one sat at it: in all its namespaces and cgroups, in a scope of its systemd.

The command is our own grandchild, not one of a daemon: stdin, stdout, the terminal and its Ctrl-C reach it as in any
pipeline; what is sent to us is passed on; and should we be killed outright, it gets SIGTERM (PR_SET_PDEATHSIG, set
last because a change of user clears it). systemd-run --scope gives it a cgroup of its own in the node, so that the
node's shutdown ends it in order. This module is also a program, for callers that need a process of their own:
python -m kbuild_tasks.lab.enter PID USER DIRECTORY [NAME=VALUE...] -- COMMAND [ARGUMENT...]
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from kbuild_tasks.core.errors import CommandFailed
from kbuild_tasks.lab import linux
from kbuild_tasks.lab.cgroups import parse_mountinfo

NAMESPACES = (  # the mount namespace last: after it, /proc is the node's
    ("ipc", linux.CLONE_NEWIPC),
    ("uts", linux.CLONE_NEWUTS),
    ("net", linux.CLONE_NEWNET),
    ("cgroup", linux.CLONE_NEWCGROUP),
    ("mnt", linux.CLONE_NEWNS),
)
PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
SI_KERNEL = 0x80  # <asm-generic/siginfo.h>: sent by the kernel, as the terminal's Ctrl-C is, to the whole group


def command_line(argv: Sequence[str], user: str, environment: Mapping[str, str]) -> list[str]:
    """What the node's root executes to run argv as `user` in a scope of its own."""
    line = ["/usr/bin/systemd-run", "--scope", "--quiet", "--collect", "--"]
    line += ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in environment.items())]
    line += ["/usr/bin/setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--pdeathsig=TERM", "--"]
    return line + list(argv)


def enter(leader: int, argv: Sequence[str], directory: str) -> int:
    """Run argv (see command_line) in the namespaces of `leader`, the node's init as the machine numbers it.

    Returns the status as a shell tells it: 128 + N for a command that signal N ended. Must run in the main thread
    of a process that starts no other children after it. Raises CommandFailed where the node cannot be entered.
    """
    try:
        where = [(os.open(f"/proc/{leader}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC), kind) for name, kind in NAMESPACES]
        groups = [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in _cgroup_files(leader)]
        pids = os.open(f"/proc/{leader}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        raise CommandFailed("the node is no longer running", "doit lab status", code=126) from None
    said_read, said_write = os.pipe()
    linux.setns(pids, linux.CLONE_NEWPID)
    sys.stdout.flush()
    sys.stderr.flush()
    watched = {signal.SIGCHLD, *PASSED_ON}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    try:
        child = os.fork()
        if child == 0:
            _become(argv, directory, where, groups, before, said_write)
        os.close(said_write)
        with open(said_read, encoding="utf-8", errors="replace") as pipe:
            said = pipe.read()  # ends when the child has executed
        status = _wait(child, watched)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for fd in [pids, *groups, *(fd for fd, _ in where)]:
            os.close(fd)
    if said:
        raise CommandFailed(said, code=126)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _wait(child: int, watched: set[signal.Signals]) -> int:
    """Wait for the child; signals that only we got are passed on, and a stop of the child is not the end."""
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return status
        info = signal.sigwaitinfo(watched)
        if info.si_signo != signal.SIGCHLD and info.si_code != SI_KERNEL:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, info.si_signo)


def _become(
    argv: Sequence[str],
    directory: str,
    where: Sequence[tuple[int, int]],
    groups: Sequence[int],
    mask: set[signal.Signals] | set[int],
    said: int,
) -> NoReturn:
    """In the child: enter, execute. Says why not on `said`, which closes at exec."""
    try:
        for fd in groups:
            os.write(fd, b"0")
        for fd, kind in where:
            linux.setns(fd, kind)
        os.chdir(directory)
        os.umask(0o022)
        for number in (signal.SIGPIPE, signal.SIGXFSZ, *PASSED_ON):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.execve(argv[0], list(argv), {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"})
    except BaseException as error:  # a forked child must never return into its parent's code
        os.write(said, f"the node could not be entered: {error}".encode())
    finally:
        os._exit(126)


def _cgroup_files(leader: int) -> list[str]:
    """cgroup.procs of the cgroups that the node's init is in (proc(5), /proc/pid/cgroup)."""
    files = []
    lines = Path(f"/proc/{leader}/cgroup").read_text().splitlines()
    for tree in parse_mountinfo(Path("/proc/self/mountinfo").read_text()):
        for line in lines:
            number, controllers, path = line.split(":", 2)
            version2 = number == "0" and not controllers
            if (tree.version == 2 and version2) or (tree.controllers & set(controllers.split(","))):
                files.append(f"{tree.mount}{path}/cgroup.procs")
                break
    return files


def main(arguments: Sequence[str]) -> int:
    split = arguments.index("--")
    leader, user, directory, *environment = arguments[:split]
    pairs = dict(item.split("=", 1) for item in environment)
    try:
        return enter(int(leader), command_line(arguments[split + 1 :], user, pairs), directory)
    except (CommandFailed, OSError) as error:
        print(error, file=sys.stderr)
        return 126


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
