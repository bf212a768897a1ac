"""One question over a real sshd on loopback: its own port, host key and authorized key, in a private directory."""

from __future__ import annotations

import dataclasses
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import CommandFailed, NodeRefused, NodeUnreachable
from kbuild_tasks.core.model import Build, Cluster, Kernel, Node, Ssh, Workdir
from kbuild_tasks.effects import node as remote
from kbuild_tasks.effects import ssh

pytestmark = pytest.mark.real

HOSTILE = [
    "plain",
    "with space",
    "tab\there",
    "two\nlines",
    "ends in newline\n",
    "'single'",
    '"double"',
    "back\\slash",
    "$HOME",
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned",
    "&& touch pwned",
    "| touch pwned",
    "> pwned",
    "*",
    "!history",
    "~root",
    "-rf",
    "ünïcødé 日本",
    os.fsdecode(b"not \xff utf-8 \x81\x88"),
]


@dataclass
class Daemon:
    cluster: Cluster
    home: Path
    process: subprocess.Popen[bytes]

    @property
    def node(self) -> Node:
        return self.cluster.nodes["kubenode2"]

    def but(self, **changes: object) -> Cluster:
        """The same cluster with other ssh settings."""
        return dataclasses.replace(self.cluster, ssh=dataclasses.replace(self.cluster.ssh, **changes))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def keygen(path: Path) -> str:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text().split()[1]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    if os.geteuid() != 0:
        pytest.skip("sshd is started as root")
    home = tmp_path_factory.mktemp("sshd")
    os.chmod(home, 0o755)
    host = keygen(home / "host")
    keygen(home / "id")
    (home / "authorized").write_text((home / "id.pub").read_text())
    port = free_port()
    (home / "known").write_text(f"[127.0.0.1]:{port} ssh-ed25519 {host}\n")
    (home / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {home}/host\nPidFile none\n"
        f"AuthorizedKeysFile {home}/authorized\nPasswordAuthentication no\nPermitRootLogin prohibit-password\n"
        f"UsePAM no\nStrictModes no\nBanner {home}/banner\n"
    )
    (home / "banner").write_text('{"this": "is a banner"}\n@@ not ours\n')
    Path("/run/sshd").mkdir(exist_ok=True)
    process = subprocess.Popen(
        ["/usr/sbin/sshd", "-D", "-e", "-f", str(home / "sshd_config")], stderr=subprocess.DEVNULL
    )
    node = Node("kubenode2", "127.0.0.1", port=port)
    cluster = Cluster(
        home,
        "cluster.yaml",
        Kernel("kernel/PKGBUILD", "x86_64", "defconfig"),
        Build("kubenode1", Workdir("/home/builder/buildtmp")),
        Ssh("root", str(home / "id"), str(home / "known")),
        {"kubenode1": Node("kubenode1", "127.0.0.1", "local"), "kubenode2": node},
    )
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.05)
    yield Daemon(cluster, home, process)
    process.terminate()
    process.wait(5)


@pytest.fixture(scope="module", autouse=True)
def sockets() -> Iterator[None]:
    """Masters that the tests start end with them. The directory is short: pytest's own are too long for a socket."""
    before, ssh.SOCKETS = ssh.SOCKETS, Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))
    try:
        yield
    finally:
        for config in ssh.SOCKETS.glob("*/*/config"):
            subprocess.run(["ssh", "-F", str(config), "-O", "exit", "kubenode2"], stderr=subprocess.DEVNULL)
        shutil.rmtree(ssh.SOCKETS)
        ssh.SOCKETS = before


PEER = """printf '{"peer": "%s"}' "$1" """
ECHO = """printf '{"value": "'; printf %s "$value" | base64 -w0; printf '", "payload": "'; base64 -w0; printf '"}\\n'"""


@pytest.mark.parametrize("value", HOSTILE)
def test_values_and_payload_arrive_as_they_are(daemon: Daemon, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import base64

    payload = bytes(range(256)) * 300
    answer = remote.ask(daemon.cluster, daemon.node, ECHO, {"value": value}, payload)
    assert os.fsdecode(base64.b64decode(answer["value"])) == value
    assert base64.b64decode(answer["payload"]) == payload
    assert not Path("/root/pwned").exists()


def test_every_byte_but_nul_arrives(daemon: Daemon) -> None:
    import base64

    value = os.fsdecode(bytes(range(1, 256)))
    answer = remote.ask(daemon.cluster, daemon.node, ECHO, {"value": value})
    assert base64.b64decode(answer["value"]) == bytes(range(1, 256))


def test_nothing_of_a_value_is_in_a_command_line(daemon: Daemon) -> None:
    text = """printf '{"lines": "'; cat /proc/[0-9]*/cmdline 2>/dev/null | base64 -w0; printf '"}\\n'"""
    import base64

    answer = remote.ask(daemon.cluster, daemon.node, text, {"secret": "zebra-in-a-value"}, b"zebra-in-a-payload")
    lines = base64.b64decode(answer["lines"])
    assert b"SSH_CONNECTION" in lines or b"kbuild" in lines  # our own sh is among them
    assert b"zebra" not in lines


def test_second_question_uses_the_first_connection(daemon: Daemon) -> None:
    peers = {remote.ask(daemon.cluster, daemon.node, PEER)["peer"] for _ in range(3)}
    assert len(peers) == 1  # client address and port, server address and port: one TCP connection
    sockets = [entry for entry in ssh.config(daemon.cluster).parent.iterdir() if entry.is_socket()]
    assert len(sockets) == 1
    assert ssh.config(daemon.cluster).parent.stat().st_mode & 0o777 == 0o700


def test_master_does_not_keep_the_run_s_lock(daemon: Daemon, tmp_path: Path) -> None:
    """A master outlives the run by a minute; holding the lock so long would refuse the next run."""
    import fcntl

    from kbuild_tasks.effects import shell

    cluster = dataclasses.replace(daemon.cluster, root=tmp_path)  # a socket of its own
    with open(tmp_path / "lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        shell.inherited_fds.add(held.fileno())
        os.set_inheritable(held.fileno(), True)
        try:
            remote.ask(cluster, daemon.node, "printf '{}'")
        finally:
            shell.inherited_fds.discard(held.fileno())
    with open(tmp_path / "lock", "w") as again:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_script_refuses_in_its_own_words(daemon: Daemon) -> None:
    with pytest.raises(NodeRefused) as caught:
        text = remote.script() + "echo some detail >&2; die 'has no space left\tfree some'"
        remote.ask(daemon.cluster, daemon.node, text)
    assert caught.value.message == "kubenode2 has no space left"
    assert caught.value.hint == "free some"
    assert "some detail" in caught.value.evidence


def test_status_255_of_a_script_is_not_ssh_s(daemon: Daemon) -> None:
    with pytest.raises(CommandFailed) as caught:
        remote.ask(daemon.cluster, daemon.node, "echo broken >&2; exit 255")
    assert caught.value.code == 255
    assert caught.value.evidence[-1] == "broken"


def test_an_answer_that_is_not_json_is_told(daemon: Daemon) -> None:
    with pytest.raises(CommandFailed, match="kubenode2 gave an answer that is not JSON"):
        remote.ask(daemon.cluster, daemon.node, "echo '{\"half'")


def test_a_node_that_does_not_answer_in_time(daemon: Daemon) -> None:
    cluster = daemon.but(connect_timeout=4)
    started = time.monotonic()
    with pytest.raises(NodeUnreachable, match=r"kubenode2 did not answer within 1 s"):
        remote.ask(cluster, daemon.node, "sleep 20; printf '{}'", timeout=1)
    assert time.monotonic() - started < 6


def test_a_script_killed_in_the_middle_is_a_lost_node(daemon: Daemon) -> None:
    with pytest.raises(NodeUnreachable, match="kubenode2 was lost in the middle"):
        remote.ask(daemon.cluster, daemon.node, "kill -9 $$; sleep 1")


def refused(cluster: Cluster, node: Node) -> NodeUnreachable:
    with pytest.raises(NodeUnreachable) as caught:
        remote.ask(cluster, node, "printf '{}'", timeout=10)
    return caught.value


def test_unknown_host_key_is_never_accepted(daemon: Daemon, tmp_path: Path) -> None:
    error = refused(daemon.but(known_hosts=str(tmp_path / "none")), daemon.node)
    assert error.message == "kubenode2 has a host key that is not known here"
    assert "ssh-keyscan" in str(error.hint)
    assert not (tmp_path / "none").exists()


def test_changed_host_key_is_never_accepted(daemon: Daemon, tmp_path: Path) -> None:
    other = keygen(tmp_path / "other")
    known = tmp_path / "known hosts"
    known.write_text(f"[127.0.0.1]:{daemon.node.port} ssh-ed25519 {other}\n")
    before = known.read_text()
    error = refused(daemon.but(known_hosts=str(known)), daemon.node)
    assert error.message == "kubenode2 shows another host key than the known one; it was not accepted"
    assert f"ssh-keygen -f '{known}' -R '[127.0.0.1]:{daemon.node.port}'" in str(error.hint)
    assert known.read_text() == before


def test_another_key_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    keygen(tmp_path / "other")
    error = refused(daemon.but(identity=str(tmp_path / "other")), daemon.node)
    assert error.message == f"kubenode2 does not let root in with {tmp_path}/other"


def test_missing_identity(daemon: Daemon, tmp_path: Path) -> None:
    error = refused(daemon.but(identity=str(tmp_path / "none")), daemon.node)
    assert error.message == f"kubenode2 was not asked: the key {tmp_path}/none does not exist"


def test_identity_that_others_can_read(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "open").write_text((daemon.home / "id").read_text())
    os.chmod(tmp_path / "open", 0o644)
    error = refused(daemon.but(identity=str(tmp_path / "open")), daemon.node)
    assert error.message == f"kubenode2 was not asked: {tmp_path}/open can be read by others"
    assert error.hint == f"chmod 600 '{tmp_path}/open'"


def test_nothing_listens(daemon: Daemon) -> None:
    node = dataclasses.replace(daemon.node, port=free_port())
    cluster = dataclasses.replace(daemon.cluster, nodes={**daemon.cluster.nodes, "kubenode2": node})
    assert refused(cluster, node).message == f"kubenode2 refuses connections at 127.0.0.1 port {node.port}"


def test_a_listener_that_says_nothing_is_given_up_in_seconds(daemon: Daemon) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        node = dataclasses.replace(daemon.node, port=silent.getsockname()[1])
        nodes = {**daemon.cluster.nodes, "kubenode2": node}
        cluster = dataclasses.replace(daemon.but(connect_timeout=1), nodes=nodes)
        started = time.monotonic()
        error = refused(cluster, node)
        assert error.message == f"kubenode2 does not answer at 127.0.0.1 port {node.port}"
        assert time.monotonic() - started < 5
