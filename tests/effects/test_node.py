"""What needs no sshd: the ssh_config, the local connection, ssh's refusals as sentences."""

from __future__ import annotations

import dataclasses
import os
import socket
import stat
import subprocess
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import KbuildError, NodeRefused, NodeUnreachable
from kbuild_tasks.core.model import Build, Cluster, Kernel, Node, Ssh, Workdir
from kbuild_tasks.effects import node as remote
from kbuild_tasks.effects import ssh

COORDINATOR = Node("kubenode1", "127.0.0.1", "local")
WORKER = Node("kubenode2", "10.0.0.12")


def cluster(root: Path, *nodes: Node, **settings: object) -> Cluster:
    return Cluster(
        root,
        "cluster.yaml",
        Kernel("kernel/PKGBUILD", "x86_64", "defconfig"),
        Build("kubenode1", Workdir("/home/builder/buildtmp")),
        Ssh(**{"identity": "/k/id", "known_hosts": "/k/known", **settings}),
        {node.name: node for node in nodes or (COORDINATOR, WORKER)},
    )


def effective(config: Path, name: str) -> dict[str, str]:
    """What ssh itself understands of the file."""
    shown = subprocess.run(["ssh", "-F", str(config), "-G", "--", name], capture_output=True, text=True, check=True)
    return dict(line.split(" ", 1) for line in shown.stdout.splitlines() if " " in line)


@pytest.fixture(autouse=True)
def sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "SOCKETS", tmp_path)


def test_ssh_understands_the_config(tmp_path: Path):
    config = ssh.config(cluster(tmp_path, COORDINATOR, dataclasses.replace(WORKER, port=2222), connect_timeout=7))
    told = effective(config, "kubenode2")
    expected = {
        "hostname": "10.0.0.12",
        "port": "2222",
        "user": "ansible",
        "batchmode": "yes",
        "stricthostkeychecking": "true",
        "userknownhostsfile": "/k/known",
        "globalknownhostsfile": "/dev/null",
        "identitiesonly": "yes",
        "identityfile": "/k/id",
        "connecttimeout": "7",
        "serveraliveinterval": "2",
        "serveralivecountmax": "2",
        "forwardagent": "no",
        "forwardx11": "no",
        "controlmaster": "auto",
        "controlpersist": "60",
    }
    assert {key: told[key] for key in expected} == expected
    assert told["kexalgorithms"].split(",")[0] == "curve25519-sha256"
    assert told["controlpath"].startswith(str(config.parent))


@pytest.mark.parametrize(
    "path", ["/with space/id", "/per%cent/%h", "/quo'te/id", "/hash#id", "/back~tick`/id", "/ü/id"]
)
def test_paths_reach_ssh_as_they_are(tmp_path: Path, path: str):
    told = effective(ssh.config(cluster(tmp_path, identity=path)), "kubenode2")
    assert told["identityfile"].replace("%%", "%") == path  # -G shows it before it replaces %%


@pytest.mark.parametrize("path", ['/a"b', "/a\nHost *", "/a\\b", "/${HOME}/id"])
def test_paths_that_ssh_config_cannot_carry_are_refused(tmp_path: Path, path: str):
    with pytest.raises(KbuildError, match="ssh cannot use the path"):
        ssh.config(cluster(tmp_path, known_hosts=path))


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "-oProxyCommand=touch pwned"},
        {"name": "*"},
        {"name": "a b"},
        {"name": "a\n  ProxyCommand touch pwned"},
        {"name": "!a"},
        {"address": "-x"},
        {"address": "%h"},
        {"address": "a b"},
        {"address": "1.2.3.4\nProxyCommand x"},
    ],
)
def test_names_that_would_mean_something_to_ssh_are_refused(tmp_path: Path, changes: dict[str, str]):
    with pytest.raises(KbuildError, match="ssh cannot use the"):
        ssh.config(cluster(tmp_path, COORDINATOR, dataclasses.replace(WORKER, **changes)))


def test_other_settings_have_other_sockets(tmp_path: Path):
    one, two = ssh.config(cluster(tmp_path)), ssh.config(cluster(tmp_path, known_hosts="/k/other"))
    assert one.parent != two.parent
    assert ssh.config(cluster(tmp_path)) == one


def test_sockets_are_short_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.undo()
    config = ssh.SOCKETS / f"kbuild-tasks-{2**32 - 2}" / ("0" * 12)
    assert len(f"{config}/{'0' * 40}.{'0' * 16}") < 108  # ssh makes the socket under a temporary name first


def test_a_directory_that_others_may_enter_is_refused(tmp_path: Path):
    os.mkdir(tmp_path / f"kbuild-tasks-{os.getuid()}", 0o755)
    with pytest.raises(KbuildError, match="is not a private directory of ours"):
        ssh.config(cluster(tmp_path))


def test_a_link_in_its_place_is_refused(tmp_path: Path):
    os.mkdir(tmp_path / "elsewhere", 0o700)
    os.symlink(tmp_path / "elsewhere", tmp_path / f"kbuild-tasks-{os.getuid()}")
    with pytest.raises(KbuildError, match="is not a private directory of ours"):
        ssh.config(cluster(tmp_path))


def test_config_is_made_once_by_many_threads(tmp_path: Path):
    from concurrent.futures import ThreadPoolExecutor

    value = cluster(tmp_path)
    with ThreadPoolExecutor(16) as pool:
        made = set(pool.map(lambda _: ssh.config(value), range(64)))
    assert len(made) == 1
    assert stat.S_IMODE(made.pop().stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("ssh: Could not resolve hostname x: Name or service not known", "cannot be found: no address for 10.0.0.12"),
        ("ssh: connect to host 10.0.0.12 port 22: Connection refused", "refuses connections at 10.0.0.12 port 22"),
        ("ssh: connect to host 10.0.0.12 port 22: No route to host", "cannot be reached: no route to 10.0.0.12"),
        ("ssh: connect to host 10.0.0.12 port 22: Connection timed out", "does not answer at 10.0.0.12 port 22"),
        ("Connection timed out during banner exchange", "does not answer at 10.0.0.12 port 22"),
        ("kex_exchange_identification: Connection closed by remote host", "closes connections at 10.0.0.12 port 22"),
        ("Timeout, server 10.0.0.12 not responding.", "was lost: it does not respond any more"),
        ("ansible@10.0.0.12: Permission denied (publickey).", "does not let ansible in with /k/id"),
        ("Unable to negotiate with 10.0.0.12 port 22: no matching key exchange method found.",
         "and this ssh have no algorithm in common"),
        ("", "was lost: the connection ended without a word"),
        ("something new", "cannot be reached: something new"),
    ],
)  # fmt: skip
def test_refusals_of_ssh_are_sentences(said: str, expected: str):
    error = ssh.unreachable(WORKER, Ssh(identity="/k/id", known_hosts="/k/known"), said)
    assert error.message == f"kubenode2 {expected}"
    assert error.hint


def test_local_connection_runs_the_same_scripts(tmp_path: Path):
    text = remote.script() + """json=''; text b "$value"; printf '{%s"n": %d}' "$json" "$(wc -c)" """
    value = 'it\'s "hard" \\ \t ü'
    answer = remote.ask(cluster(tmp_path), COORDINATOR, text, {"value": value}, b"xyz", sudo=False)
    assert answer == {"b": 'it\'s "hard" \\ ? ??', "n": 3}


def test_a_script_that_came_in_part_is_not_run(tmp_path: Path):
    text = remote.script() + f"touch '{tmp_path}/pwned'\n" + "printf '{}'\n" * 9
    whole = remote.spoken(text, {}, "word", b"").partition(b"\n")[2]
    at = whole.index(b"printf '{}'")
    for part, made in ((whole[:at], False), (whole, True)):
        said = subprocess.run(["sh", "-c", remote.BOOT, "kbuild", ""], input=b"%d\n" % len(whole) + part,
                              capture_output=True)  # fmt: skip
        assert (tmp_path / "pwned").exists() == made, said


def test_local_means_this_machine(tmp_path: Path):
    elsewhere = dataclasses.replace(COORDINATOR, address="192.0.2.1")  # TEST-NET-1 (RFC 5737): nobody's
    with pytest.raises(KbuildError) as caught:
        remote.ask(cluster(tmp_path, elsewhere), elsewhere, "printf '{}'")
    assert caught.value.message == "kubenode1 is not this machine: 192.0.2.1 is not one of its addresses"
    assert caught.value.hint == "run doit on kubenode1 (in the lab: doit lab exec kubenode1 -- doit)"
    with socket.socket(type=socket.SOCK_DGRAM):
        remote.check_local(COORDINATOR)


@pytest.mark.parametrize(
    ("said", "status", "message"),
    [
        ("sudo: a password is required", 1, "tester may not sudo on kubenode1"),
        ("tester is not in the sudoers file.  This incident will be reported by sudo.", 1,
         "tester may not sudo on kubenode1"),
        ("sh: 1: sudo: not found", 127, "kubenode1 has no sudo"),
        ("This account is currently not available.", 1, "kubenode1 let tester in but ran nothing (status 1)"),
    ],
)  # fmt: skip
def test_sudo_refused_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, status: int, message: str
):
    fake = tmp_path / "bin" / "sudo"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\necho '{said}' >&2\nexit {status}\n")
    fake.chmod(0o755)
    monkeypatch.setattr(remote, "argv_of", lambda *args: [str(fake), "-n", "sh", "-c", remote.BOOT])
    monkeypatch.setattr(remote, "_me", lambda: "tester")
    with pytest.raises(NodeRefused) as caught:
        remote.ask(cluster(tmp_path), COORDINATOR, "printf '{}'")
    assert caught.value.message == message
    if "may not" in message:
        assert "tester ALL=(ALL:ALL) NOPASSWD: ALL" in str(caught.value.hint)


@pytest.mark.parametrize("values", [{"a": "nul\0"}, {"A": "x"}, {"a b": "x"}, {"a;b": "x"}])
def test_what_no_shell_variable_can_hold_is_refused(tmp_path: Path, values: dict[str, str]):
    with pytest.raises(KbuildError, match="cannot be a shell variable"):
        remote.ask(cluster(tmp_path), COORDINATOR, "printf '{}'", values, sudo=False)


def test_scripts_are_ascii_posix_shell():
    folder = Path(remote.__file__).parent
    for name in ("common", "facts", "leave", "release", "enter", "worker", "coordinator", "sync_list", "sync_put"):
        path = folder / f"{name}.sh"
        assert path.read_text("ascii")
        subprocess.run(["dash", "-n", path], check=True)
        subprocess.run(["bash", "--posix", "-n", path], check=True)


@pytest.mark.parametrize("begun", [False, True])
def test_an_ssh_that_is_killed_here_says_nothing_of_the_account_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
):
    start = "printf '@@word start\\n'; " if begun else ""
    with pytest.raises(NodeUnreachable, match=r"^the ssh to kubenode2 was ended by signal 15$") as caught:
        remote.converse(cluster(tmp_path), WORKER, ["sh", "-c", f"{start}kill -15 $$"], b"", "word", 5)
    assert caught.value.hint == "doit again"
