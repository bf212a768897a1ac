"""The ssh_config that every connection uses, and what ssh's refusals mean.

One generated file, given with -F to master and clients alike, because an option that only a client has does not help
when the master hangs (measured: ServerAlive on the client alone waits for ever). The user's own ssh_config is not
read: it could forward an agent, switch off host key checking or send a connection elsewhere.

Settings, from ssh_config(5), and why they are here:
- StrictHostKeyChecking yes, UserKnownHostsFile the cluster's, GlobalKnownHostsFile none: an unknown or changed key is
  never accepted, and it is known which file to correct.
- ControlMaster auto, ControlPersist: the next stage's connection costs 7 ms instead of 140.
- ServerAliveInterval 2 x 2: a node that vanished without a reset is an error after 4 s.
- KexAlgorithms ^curve25519-sha256: the default, sntrup761, costs 60 ms of CPU for each connection.
- BatchMode, no agent and X11 forwarding: nobody is there to be asked, and nodes get no access to the user's keys.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

from kbuild_tasks.core.errors import KbuildError, NodeUnreachable
from kbuild_tasks.core.model import Cluster, Node, Ssh
from kbuild_tasks.effects.files import sha256_text, write_atomic

SOCKETS = Path("/tmp")  # short: a socket's path is at most 107 bytes (unix(7)), a project's directory may be longer
PERSIST = 60  # seconds that a master outlives its last client: the stages of one run follow each other faster
_writing = threading.Lock()
_making: dict[Path, threading.Event] = {}  # socket of a connection that is being made -> set when that ssh has ended
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HOST = re.compile(r"[A-Za-z0-9:][A-Za-z0-9.:_-]*")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9._-]*")


def known_hosts(ssh: Ssh) -> str:
    """The file that host keys are looked up in."""
    return os.path.expanduser(ssh.known_hosts or "~/.ssh/known_hosts")


def config(cluster: Cluster) -> Path:
    """The generated ssh_config of a cluster, written if it is not there: a private directory of its own, which
    also holds the masters' sockets; other settings or nodes give another directory.

    Raises KbuildError when the directory belongs to somebody else.
    """
    body = render(cluster)
    directory = SOCKETS / f"kbuild-tasks-{os.getuid()}"
    _private(directory)
    own = directory / sha256_text(f"{cluster.root}\n{body}")[:12]
    _private(own)
    path = own / "config"
    sockets = "".join(f'Host {name}\n  ControlPath "{own}/{_socket(name)}"\n' for name in cluster.nodes)
    text = (body + sockets).encode("utf-8", "surrogateescape")
    with _writing:  # all nodes at once, each from a thread
        if not path.exists() or path.read_bytes() != text:
            write_atomic(path, text, mode=0o600, durable=False)
    return path


def _socket(name: str) -> str:
    """The file of a node's shared connection; its name may be too long for one."""
    return sha256_text(name)[:16]


@contextlib.contextmanager
def shared(cluster: Cluster, node: Node, alone: bool = False) -> Iterator[None]:
    """Around an ssh that shares a node's connection (unless `alone`): while the first one makes it, the others wait.
    ssh itself does not: two that start together make two, 25 ms of processor on either side, and share one."""
    if alone or node.connection == "local":
        yield
        return
    socket = config(cluster).with_name(_socket(node.name))
    ended = threading.Event()
    with _writing:
        maker = ended if socket.exists() else _making.setdefault(socket, ended)
    if maker is not ended:
        while not (socket.exists() or maker.wait(0.005)):
            pass
    try:
        yield
    finally:
        with _writing:
            if _making.get(socket) is ended:
                del _making[socket]
        ended.set()


def render(cluster: Cluster) -> str:
    """ssh_config(5) for the cluster's nodes, without ControlPath. Raises KbuildError for a value it cannot carry."""
    ssh = cluster.ssh
    lines = []
    for node in cluster.nodes.values():
        if node.connection != "local":
            lines += _host(node, ssh)
    options = {
        "BatchMode": "yes",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": _quoted(known_hosts(ssh)),
        "GlobalKnownHostsFile": "/dev/null",
        "UpdateHostKeys": "no",
        "VerifyHostKeyDNS": "no",
        "PreferredAuthentications": "publickey",
        "ConnectTimeout": str(int(ssh.connect_timeout)),
        "ServerAliveInterval": "2",
        "ServerAliveCountMax": "2",
        "KexAlgorithms": "^curve25519-sha256",
        "RequestTTY": "no",
        "ForwardAgent": "no",
        "ForwardX11": "no",
        "ControlMaster": "auto",
        "ControlPersist": str(PERSIST),
    }
    if ssh.identity:  # without it ssh's own choice: the agent's keys and the default files
        options["IdentitiesOnly"] = "yes"
        options["IdentityFile"] = _quoted(os.path.expanduser(ssh.identity))
    lines.append("Host *")
    lines += [f"  {key} {value}" for key, value in options.items()]
    return "\n".join(lines) + "\n"


def _host(node: Node, ssh: Ssh) -> list[str]:
    for value, rule, what in ((node.name, _NAME, "name"), (node.address, _HOST, "address"), (ssh.user, _USER, "user")):
        if not rule.fullmatch(value):
            raise KbuildError(f"{node.name!r}: ssh cannot use the {what} {value!r}", "correct it in cluster.yaml")
    return [f"Host {node.name}", f"  HostName {node.address}", f"  Port {int(node.port)}", f"  User {ssh.user}"]


def _quoted(path: str) -> str:
    """A path as one argument: in quotes, % doubled (ssh_config(5) TOKENS). Raises for what cannot be escaped."""
    if re.search(r'[\x00-\x1f\x7f"\\]|\$\{', path):
        raise KbuildError(f"ssh cannot use the path {path!r}", "use a path without quotes, '${' and control characters")
    return '"' + path.replace("%", "%%") + '"'


def _private(directory: Path) -> None:
    """A directory that only we can enter: whoever may write to a master's socket owns the connection."""
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        found = os.lstat(directory)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise KbuildError(
                f"{directory} is not a private directory of ours", f"look who made it (ls -ld {directory}), remove it"
            ) from None


def unreachable(node: Node, ssh: Ssh, stderr: str) -> NodeUnreachable:
    """ssh's exit status 255 as one sentence, the next thing to do, and what ssh itself said."""
    hosts = known_hosts(ssh)
    where = node.address if node.port == 22 else f"[{node.address}]:{node.port}"
    reach = f"{node.address} port {node.port}"
    identity = os.path.expanduser(ssh.identity) if ssh.identity else "the key"
    scan = f"ssh-keyscan -p {node.port} {node.address}"
    compare = "compare its fingerprint with ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub on the node"
    known = (
        ("REMOTE HOST IDENTIFICATION HAS CHANGED", "shows another host key than the known one; it was not accepted",
         f"if the node was installed anew: ssh-keygen -f '{hosts}' -R '{where}', then {scan} >> '{hosts}', {compare}"),
        ("marked as revoked", "shows a revoked host key", f"see {hosts}"),
        ("host key is known for|Host key verification failed", "has a host key that is not known here",
         f"{scan} >> '{hosts}', then {compare}"),
        ("are too open|bad permissions", f"was not asked: {identity} can be read by others", f"chmod 600 '{identity}'"),
        ("no such identity", f"was not asked: the key {identity} does not exist",
         f"correct ssh.identity in cluster.yaml, or make one: ssh-keygen -t ed25519 -f '{identity}'"),
        ("Load key .*(incorrect passphrase|libcrypto|invalid format)",
         f"was not asked: {identity} cannot be read as a key without a passphrase",
         "load it into ssh-agent (ssh-add), or name another key in ssh.identity"),
        ("Too many authentication failures", f"refused {ssh.user} after too many keys", "set ssh.identity"),
        ("Permission denied", f"does not let {ssh.user} in with {identity}",
         f"put {identity}.pub into ~{ssh.user}/.ssh/authorized_keys there" if ssh.identity else "set ssh.identity"),
        ("Unable to negotiate|no matching", "and this ssh have no algorithm in common", "update OpenSSH there"),
        ("Could not resolve hostname|Name or service not known", f"cannot be found: no address for {node.address}",
         "correct its address in cluster.yaml, or /etc/hosts"),
        ("Connection refused", f"refuses connections at {reach}", "start sshd there, or correct its port"),
        ("No route to host|Network is unreachable", f"cannot be reached: no route to {node.address}",
         "is it switched on, and its address right?"),
        ("not responding|Broken pipe|mux_client", "was lost: it does not respond any more", "is it switched on?"),
        ("timed out", f"does not answer at {reach}", "is it switched on, and its address right?"),
        ("Connection reset|Connection closed|kex_exchange_identification", f"closes connections at {reach}",
         "see journalctl -u ssh (Debian) or -u sshd (Arch) there"),
    )  # fmt: skip
    lines = [line for line in stderr.splitlines() if line.strip()]
    for pattern, what, hint in known:
        if re.search(pattern, stderr):
            return NodeUnreachable(f"{node.name} {what}", hint, evidence=lines[-4:])
    if not lines:
        return NodeUnreachable(f"{node.name} was lost: the connection ended without a word", "is it switched on?")
    return NodeUnreachable(f"{node.name} cannot be reached: {lines[-1].strip()}", f"try: ping {node.address}",
                           evidence=lines[-4:])  # fmt: skip
