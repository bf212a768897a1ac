"""prepare, sync and release on nodes of the lab: what they do to a machine, and every way in which one refuses."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbuild_tasks.lab.lab import Lab
from kbuild_tasks.lab.names import Places

pytestmark = pytest.mark.lab
ROOT = Path(__file__).parent.parent.parent
WORKDIR = "/home/builder/buildtmp"
STATE = "/var/lib/kbuild-tasks"


class Nodes:
    """A lab of three nodes, and a project in its coordinator that the stages run in as builder."""

    def __init__(self, root: Path) -> None:
        import plumbum
        import yaml

        self.root = root
        os.chmod(root, 0o755)
        for package in (ROOT / "kbuild_tasks", Path(plumbum.__file__).parent, Path(yaml.__file__).parent):
            shutil.copytree(package, root / "lib" / package.name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(Path(__file__).parent / "node_driver.py", root)
        for name, text in {
            "cluster.yaml": "version: 1\n",
            "kernel/PKGBUILD": "pkgbase=linux-test\n",
            "kernel/linux.install": "post_install() { :; }\n",
            "kernel/config": "CONFIG_X=y\n",
            "patches/0001 $(touch pwned) it's.patch": "one\n",
            "kernel/ä\nb.install": "two\n",
        }.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(text)
        self.lab = Lab(root, bases=Places.of(ROOT).bases)

    def run(self, *steps: str, user: str | None = None, constants: dict[str, Any] | None = None, **changes: Any) -> Any:
        """Steps such as "prepare sync:kubenode2" (all nodes where none is named); answers of each step by node.

        changes  build={...}, ssh={...}, kubenode2={...}: fields of cluster.yaml; project: another directory
        """
        nodes: dict[str, Any] = {f"kubenode{i}": {"address": f"10.77.0.{10 + i}"} for i in (1, 2, 3)}
        nodes["kubenode1"]["connection"] = "local"
        project = changes.pop("project", str(self.root))
        build = {"coordinator": "kubenode1", "workdir": {"path": WORKDIR, "tmpfs": "auto"}}
        ssh = {"identity": "~/.ssh/id_ed25519", "connect_timeout": 3}
        for key, value in changes.items():
            {"build": build, "ssh": ssh}.get(key, nodes.get(key)).update(value)
        tasks = []
        for step in steps:
            tasks.append([])
            for word in step.split():
                verb, _, node = word.partition(":")
                tasks[-1] += [[verb, name] for name in ([node] if node else nodes)]
        request = {"root": str(self.root), "project": project, "do": tasks, "constants": constants or {}}
        request["cluster"] = {"nodes": nodes, "build": build, "ssh": ssh}
        done = self.lab.exec(
            "kubenode1",
            ["/usr/bin/python3", f"{self.root}/node_driver.py"],
            user,
            stdin=json.dumps(request),
            timeout=120,
        )
        value = json.loads(done.out)
        self.facts = value["facts"]
        told = [
            {task[1]: answer for task, answer in zip(step, answers, strict=True)}
            for step, answers in zip(tasks, value["answers"], strict=True)
        ]
        return told[0] if len(told) == 1 else told

    def sh(self, node: str, script: str, check: bool = True) -> str:
        """What a script says that runs on a node as root."""
        return self.lab.exec(node, ["sh", "-c", script], "root", timeout=60, check=check).out.strip()

    def look(self, node: str) -> dict[str, str]:
        """Whatever build mode changes, to be compared before and after."""
        return {
            "mounts": self.sh(node, "grep -c kbuild-tasks /proc/mounts", check=False),
            "home": self.sh(node, "ls -A /home"),
            "record": self.sh(node, f"ls -A {STATE} | grep mode", check=False),
            "run": self.sh(node, "ls -A /run/kbuild-tasks /run/systemd/system 2>/dev/null", check=False),
            "processes": self.sh(node, "ps -e -o comm= | grep -c distccd", check=False),
            "units": self.sh(node, "systemctl list-units --state=failed --plain --no-legend"),
        }


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    if os.geteuid() != 0:
        pytest.skip("the lab is root's")
    root = Path(tempfile.mkdtemp(prefix="kbuild-nodes-"))
    made = Nodes(root)
    try:
        made.lab.up(3)
        yield made
    finally:
        made.lab.down(wipe=True)
        shutil.rmtree(root)


@pytest.fixture(autouse=True)
def released(nodes: Nodes) -> Iterator[None]:
    """Every test finds the nodes on, joined and in no build mode, and leaves them so."""
    yield
    for node in nodes.lab.status():
        if node.cut:
            nodes.lab.join(node.name)
        if node.state != "on":
            nodes.lab.start(node.name)
    nodes.run("release-tree")


def test_enter_work_leave(nodes: Nodes) -> None:
    before = {name: nodes.look(name) for name in ("kubenode2", "kubenode3")}
    first, second = nodes.run("prepare", "prepare")
    assert first["kubenode1"]["message"].startswith(("tmpfs ", "on disk"))
    assert first["kubenode2"]["message"] == first["kubenode3"]["message"] == "2 slots, tmpfs 128 MiB"
    assert {name: told["message"] for name, told in second.items()} == {
        name: told["message"] for name, told in first.items()
    }
    told = nodes.facts["kubenode2"]
    assert told["state"] == "ready"
    assert told["mode"]["jobs"] == 2
    assert told["mode"]["address"] == "10.77.0.12"
    facts = told["facts"]
    assert facts["cores"] == 2
    assert facts["boot_id"] == nodes.sh("kubenode2", "cat /proc/sys/kernel/random/boot_id")
    assert facts["user"] == "ansible"
    assert facts["compiler"] == nodes.facts["kubenode1"]["facts"]["compiler"]
    assert facts["compiler"]["machine"] == nodes.sh("kubenode2", "gcc -dumpmachine")
    assert abs(facts["clock"]["ahead"]) <= facts["clock"]["error"] + 1

    argv = nodes.sh(
        "kubenode2",
        "tr '\\0' ' ' <$(ls -d /proc/[0-9]*/comm | xargs grep -lx distccd | head -1 | sed 's/comm/cmdline/')",
    )
    assert "--listen 10.77.0.12 --allow 10.77.0.11/32 --port 3632 --jobs 2" in argv
    assert nodes.sh("kubenode2", "ps -C distccd -o user= | sort -u") == "distccd"
    assert (
        nodes.sh("kubenode2", "grep -c daemon.started " + f"{STATE}/distccd.log") == "1"
    )  # the second was "already so"
    work = "cd /tmp && echo 'int f(void) { return 3; }' >f.c && DISTCC_FALLBACK=0 distcc gcc -c f.c -o f.o && ls f.o"
    env = {"DISTCC_HOSTS": "10.77.0.12:3632/2,lzo", "DISTCC_NO_REWRITE_CROSS": "1"}
    assert nodes.lab.exec("kubenode1", ["sh", "-c", work], env=env).out.strip() == "f.o"
    assert nodes.sh("kubenode2", f"grep -c COMPILE_OK {STATE}/distccd.log") == "1"

    left = nodes.run("release")
    assert left["kubenode2"]["message"] == "kubenode2: distccd down, tmpfs unmounted"
    assert left["kubenode1"]["message"] == "kubenode1: the tree stays"
    assert {name: nodes.look(name) for name in before} == before
    assert nodes.sh("kubenode2", f"grep -c COMPILE_OK {STATE}/distccd.log") == "1"  # readable afterwards
    assert nodes.run("release")["kubenode2"]["message"] == "kubenode2: was not in build mode"


def test_a_run_interrupted_while_it_prepares_leaves_no_node_in_build_mode(nodes: Nodes) -> None:
    before = nodes.look("kubenode2")
    slow = "printf '#!/bin/sh\\nsleep 3\\nexec /usr/bin/as \"$@\"\\n' >/usr/local/bin/as; chmod 755 /usr/local/bin/as"
    nodes.sh("kubenode2", slow)  # its version is asked: prepare takes longer than the run lives
    try:
        nodes.run("prepare:kubenode2 interrupt:kubenode2")
        time.sleep(3)
    finally:
        nodes.sh("kubenode2", "rm /usr/local/bin/as")
    assert nodes.look("kubenode2") == before


def test_a_prepare_that_comes_when_its_run_has_ended_does_nothing(nodes: Nodes) -> None:
    before = nodes.look("kubenode2")
    told = nodes.run("late:kubenode2")["kubenode2"]
    assert told["message"] == "left out: kubenode2 was asked for a run that has ended; run doit again"
    assert nodes.look("kubenode2") == before
    assert nodes.run("prepare:kubenode2")["kubenode2"]["message"] == "2 slots, tmpfs 128 MiB"  # the next run


def test_another_machine_may_not_use_its_distccd(nodes: Nodes) -> None:
    nodes.run("prepare")
    work = "cd /tmp && echo 'int f;' >f.c && DISTCC_FALLBACK=0 distcc gcc -c f.c -o f.o"
    env = {"DISTCC_HOSTS": "10.77.0.12:3632/2,lzo", "DISTCC_NO_REWRITE_CROSS": "1", "DISTCC_IO_TIMEOUT": "5"}
    assert nodes.lab.exec("kubenode3", ["sh", "-c", work], env=env, check=False).code != 0
    assert nodes.sh("kubenode2", f"grep -c COMPILE_OK {STATE}/distccd.log", check=False) == "0"


def left_out(nodes: Nodes, **changes: Any) -> tuple[str, str]:
    """Message and hint of kubenode2, which must be left out while the others are ready."""
    started = time.monotonic()
    told = nodes.run("prepare", **changes)
    assert time.monotonic() - started < 25
    assert "error" not in told["kubenode2"]
    assert told["kubenode2"]["final"] is False
    assert told["kubenode2"]["message"].startswith("left out: ")
    assert nodes.facts["kubenode2"]["state"] == "left-out"
    assert nodes.facts["kubenode1"]["state"] == nodes.facts["kubenode3"]["state"] == "ready"
    return nodes.facts["kubenode2"]["why"], nodes.facts["kubenode2"]["hint"]


def test_worker_that_is_off(nodes: Nodes) -> None:
    nodes.lab.stop("kubenode2")
    why, hint = left_out(nodes)
    known = (
        "kubenode2 cannot be reached: no route to 10.77.0.12",
        "kubenode2 does not answer at 10.77.0.12 port 22",
        "kubenode2 refuses connections at 10.77.0.12 port 22",
        "kubenode2 was lost: it does not respond any more",
    )
    assert why in known
    assert hint
    told = nodes.run("sync:kubenode2")["kubenode2"]  # another run: it asks, and tells what it found
    assert told["message"].startswith(tuple(f"left out: {each}; " for each in known)), told
    assert told["final"] is False


def test_worker_cut_off_with_a_connection_open(nodes: Nodes) -> None:
    nodes.run("prepare")  # masters are up
    nodes.lab.cut("kubenode2")
    why, _ = left_out(nodes)
    assert why.startswith("kubenode2 ")
    told = nodes.run("release")
    assert told["kubenode2"]["error"].startswith("kubenode2 ")
    assert "after a day" in told["kubenode2"]["hint"]
    assert told["kubenode3"]["message"] == "kubenode3: distccd down, tmpfs unmounted"


def test_worker_that_stands_still(nodes: Nodes) -> None:
    nodes.lab.freeze("kubenode2")
    try:
        why, _ = left_out(nodes)
    finally:
        nodes.lab.thaw("kubenode2")
    assert why in (
        "kubenode2 does not answer at 10.77.0.12 port 22",
        "kubenode2 was lost: it does not respond any more",  # a master was open
    )


def test_unknown_and_changed_host_keys_are_never_accepted(nodes: Nodes) -> None:
    known = nodes.root / "known"
    own = nodes.sh("kubenode1", "cat /home/builder/.ssh/known_hosts").splitlines()
    known.write_text("\n".join(line for line in own if "10.77.0.12" not in line) + "\n")
    why, hint = left_out(nodes, ssh={"known_hosts": str(known)})
    assert why == "kubenode2 has a host key that is not known here"
    assert "ssh-keyscan" in hint
    third = next(line for line in own if "10.77.0.13" in line).split()
    with open(known, "a") as file:
        file.write(f"10.77.0.12 {third[1]} {third[2]}\n")
    before = known.read_text()
    why, hint = left_out(nodes, ssh={"known_hosts": str(known)})
    assert why == "kubenode2 shows another host key than the known one; it was not accepted"
    assert "ssh-keygen" in hint
    assert known.read_text() == before


def test_sudo_refused(nodes: Nodes) -> None:
    nodes.sh("kubenode2", "mv /etc/sudoers.d/ansible /root/")
    try:
        why, hint = left_out(nodes)
        assert nodes.run("sync")["kubenode2"]["message"].startswith("left out: ansible may not sudo on kubenode2")
    finally:
        nodes.sh("kubenode2", "mv /root/ansible /etc/sudoers.d/")
    assert why == "ansible may not sudo on kubenode2"
    assert "ansible ALL=(ALL:ALL) NOPASSWD: ALL" in hint


def test_sshd_refuses(nodes: Nodes) -> None:
    nodes.sh("kubenode2", "systemctl stop ssh.service ssh.socket; pkill -x sshd || :")
    try:
        why, _ = left_out(nodes)
    finally:
        nodes.sh("kubenode2", "systemctl start ssh.service")
    assert why == "kubenode2 refuses connections at 10.77.0.12 port 22"


def test_another_compiler(nodes: Nodes) -> None:
    fake = '#!/bin/sh\\ncase $1 in -dumpfullversion) echo 13.1.0 ;; *) exec /usr/bin/gcc "$@" ;; esac\\n'
    nodes.sh("kubenode2", f"printf '{fake}' >/usr/local/bin/gcc; chmod 755 /usr/local/bin/gcc")
    try:
        why, hint = left_out(nodes)
        assert "set" in nodes.run("sync")["kubenode2"].get("results", {})  # it gets the files all the same
    finally:
        nodes.sh("kubenode2", "rm /usr/local/bin/gcc")
    assert why == "kubenode2 has another compiler: gcc 13.1.0, the coordinator has gcc 12.2.0"
    assert "slots: 0" in hint


UNIT = (
    "[Service]\\nUser=distccd\\n"
    "ExecStart=/usr/bin/distccd --no-detach --daemon --allow 127.0.0.1 --listen 0.0.0.0 --port 3632\\n"
)


@pytest.mark.parametrize("unit", ["distccd.service", "our-compile-farm.service"])
def test_a_distccd_that_runs_already_comes_back(nodes: Nodes, unit: str) -> None:
    nodes.sh(
        "kubenode2", f"printf '{UNIT}' >/etc/systemd/system/{unit}; systemctl daemon-reload; systemctl start {unit}"
    )
    try:
        told = nodes.run("prepare", "prepare")
        assert told[0]["kubenode2"]["message"] == f"2 slots, tmpfs 128 MiB; stopped {unit}"
        assert nodes.sh("kubenode2", f"systemctl is-active {unit}", check=False) == "inactive"
        assert nodes.run("release")["kubenode2"]["message"].endswith(f"{unit} back")
        assert nodes.sh("kubenode2", f"systemctl is-active {unit}") == "active"
    finally:
        nodes.sh("kubenode2", f"systemctl stop {unit}; rm /etc/systemd/system/{unit}; systemctl daemon-reload")


def test_a_port_that_nobody_manages_is_taken(nodes: Nodes) -> None:
    nodes.sh("kubenode2", "systemd-run -q --unit=squatter python3 -m http.server 3632; "
                          "for i in 1 2 3 4 5 6 7 8 9; do sleep 0.3; ss -ltn | grep -q 3632 && exit; done")  # fmt: skip
    try:
        why, hint = left_out(nodes)
    finally:
        nodes.sh("kubenode2", "systemctl stop squatter")
    assert why == "kubenode2's port 3632 is taken by something that no service manages"
    assert "ss -ltnp" in hint


AGENT = "[Service]\\nExecStart=/usr/bin/sleep infinity\\n"


@pytest.fixture
def agent(nodes: Nodes) -> Iterator[dict[str, Any]]:
    """A k3s agent on kubenode2, and what cluster.yaml says of it."""
    unit = "k3s-agent.service"
    nodes.sh(
        "kubenode2", f"printf '{AGENT}' >/etc/systemd/system/{unit}; systemctl daemon-reload; systemctl start {unit}"
    )
    yield {"build": {"k3s": "stop"}, "kubenode2": {"k3s": "agent"}}
    nodes.run("release")
    nodes.sh("kubenode2", f"systemctl stop {unit}; rm /etc/systemd/system/{unit}; systemctl daemon-reload")


def test_k3s_agent_is_stopped_only_when_asked(nodes: Nodes, agent: dict[str, Any]) -> None:
    assert "stopped" not in nodes.run("prepare", kubenode2=agent["kubenode2"])["kubenode2"]["message"]
    assert nodes.facts["kubenode2"]["facts"]["k3s"] == "active"
    # Twice, as after a crash: the second finds it stopped and must not forget that it ran.
    told = nodes.run("prepare", "prepare", **agent)
    assert all(step["kubenode2"]["message"].endswith("stopped k3s-agent.service") for step in told)
    assert nodes.sh("kubenode2", "systemctl is-active k3s-agent", check=False) == "inactive"
    assert nodes.run("release")["kubenode2"]["message"].endswith("k3s-agent.service back")
    assert nodes.sh("kubenode2", "systemctl is-active k3s-agent") == "active"


def test_k3s_comes_back_though_somebody_works_in_the_tmpfs(nodes: Nodes, agent: dict[str, Any]) -> None:
    before = nodes.look("kubenode2")
    nodes.run("prepare", **agent)
    nodes.sh("kubenode2", f"systemd-run -q --unit=user --working-directory={WORKDIR} sleep 60")
    for _ in "12":  # the second finds what the first has left
        assert "is in use by sleep" in nodes.run("release")["kubenode2"]["error"]
        assert nodes.sh("kubenode2", "systemctl is-active k3s-agent") == "active"
        assert nodes.sh("kubenode2", "pgrep -c distccd", check=False) == "0"
    nodes.sh("kubenode2", "systemctl stop user")
    assert nodes.run("release")["kubenode2"]["message"] == "kubenode2: tmpfs unmounted"
    assert nodes.look("kubenode2") == before


def test_a_node_that_nobody_releases_leaves_by_itself(nodes: Nodes, agent: dict[str, Any]) -> None:
    before = nodes.look("kubenode2")
    nodes.run("prepare", constants={"LIFETIME": 120}, **agent)
    nodes.run("release", "prepare", constants={"LIFETIME": 3}, **agent)
    for _ in range(100):
        if nodes.sh("kubenode2", "systemctl is-active k3s-agent", check=False) == "active":
            break
        time.sleep(0.2)
    time.sleep(1)
    assert nodes.look("kubenode2") == before


def test_a_node_that_rebooted_in_build_mode(nodes: Nodes, agent: dict[str, Any]) -> None:
    before = nodes.look("kubenode2")
    nodes.run("prepare", **agent)
    nodes.lab.stop("kubenode2")
    nodes.lab.start("kubenode2")
    told = nodes.run("release")["kubenode2"]
    assert "error" not in told
    assert "k3s" not in told["message"]  # not enabled there: after a boot it does not run
    assert nodes.look("kubenode2") == before


def test_slots_and_tmpfs(nodes: Nodes) -> None:
    told = nodes.run("prepare", kubenode2={"slots": 100, "memory_per_job": 1 << 20}, kubenode3={"slots": 0}, build={})
    assert told["kubenode2"]["message"] == "100 slots, on disk: a tmpfs does not fit into its memory"
    assert told["kubenode3"]["message"] == "lends no slot"
    assert nodes.facts["kubenode3"]["facts"]["cores"] == 2
    nodes.run("release")
    told = nodes.run("prepare", kubenode2={"memory_per_job": 1 << 40})
    assert "memory available, a job needs 1024.0 GiB" in told["kubenode2"]["message"]


def test_distccd_s_user_may_not_enter_the_workdir(nodes: Nodes) -> None:
    nodes.sh("kubenode2", "install -d -m 0700 /home/closed/work")
    nodes.sh("kubenode2", "chmod 0700 /home/closed")
    build = {"workdir": {"path": "/home/closed/work/tmp", "tmpfs": "auto"}}
    try:
        told = nodes.run("prepare:kubenode2", build=build)
        assert told["kubenode2"]["message"] == "2 slots, on disk: distccd's user may not enter the workdir"
        nodes.run("release")
        assert nodes.sh("kubenode2", "ls -A /home/closed/work") == ""
    finally:
        nodes.sh("kubenode2", "rm -rf /home/closed")


def test_a_workdir_behind_a_link_is_mounted_once_and_unmounted(nodes: Nodes) -> None:
    nodes.sh("kubenode2", "mkdir -p /data/big; ln -s /data/big /home/link")
    build = {"workdir": {"path": "/home/link/work", "tmpfs": "auto"}}
    mounts = "grep -c ' /data/big/work tmpfs ' /proc/mounts || true"
    try:
        for _ in range(2):
            assert nodes.run("prepare:kubenode2", build=build)["kubenode2"]["message"] == "2 slots, tmpfs 128 MiB"
            assert nodes.sh("kubenode2", mounts) == "1"
        assert "tmpfs unmounted" in nodes.run("release", build=build)["kubenode2"]["message"]
        assert nodes.sh("kubenode2", mounts) == "0"
    finally:
        nodes.sh("kubenode2", "rm -rf /home/link /data")


def test_what_lies_where_distccd_would_work_is_not_touched(nodes: Nodes) -> None:
    """On disk: a directory that others may write to is not used, and what is in the way there stays."""
    build = {"workdir": {"path": "/srv/work", "tmpfs": "off"}}
    kept = "stat -c '%a %U' /srv/victim"
    nodes.sh(
        "kubenode2",
        "install -d -m 0755 /srv/victim; install -d -o nobody /srv/work; ln -s /srv/victim /srv/work/distccd",
    )
    try:
        assert nodes.run("prepare:kubenode2", build=build)["kubenode2"]["message"] == "2 slots, on disk"
        nodes.run("release", build=build)
        assert nodes.sh("kubenode2", f"{kept}; readlink /srv/work/distccd") == "755 root\n/srv/victim"
        nodes.sh(
            "kubenode2",
            "chown root /srv/work; rm /srv/work/distccd; mkdir /srv/work/distccd; touch /srv/work/distccd/mine",
        )
        told = nodes.run("prepare:kubenode2", build=build)["kubenode2"]
        assert "kubenode2's /srv/work/distccd is somebody else's" in told["message"]
        nodes.run("release", build=build)
        assert nodes.sh("kubenode2", "ls /srv/work/distccd") == "mine"
    finally:
        nodes.sh("kubenode2", "rm -rf /srv/work /srv/victim")


def test_a_tmpfs_that_cannot_be_mounted(nodes: Nodes) -> None:
    """What lies in the workdir is the user's, and stays."""
    build = {"workdir": {"path": "/srv/work", "tmpfs": "auto"}}
    nodes.sh(
        "kubenode2", "mv /usr/bin/mount /usr/bin/mount.away; mkdir -p /srv/work/distccd; touch /srv/work/distccd/mine"
    )
    try:
        told = nodes.run("prepare:kubenode2", build=build)["kubenode2"]
        assert told["message"] == "2 slots, on disk: it cannot mount a tmpfs"
        assert "tmpfs unmounted" not in nodes.run("release", build=build)["kubenode2"]["message"]
        assert nodes.sh("kubenode2", f"ls /srv/work/distccd; ls -d {STATE}/distccd 2>&1 || true").startswith(
            "mine\nls:"
        )
    finally:
        nodes.sh("kubenode2", "mv /usr/bin/mount.away /usr/bin/mount; rm -rf /srv/work")


def test_coordinator_with_a_tmpfs(nodes: Nodes) -> None:
    build = {"workdir": {"path": WORKDIR, "tmpfs": 64 << 20}}
    nodes.sh("kubenode1", f"rm -rf {WORKDIR}/*")
    assert nodes.run("prepare:kubenode1", build=build)["kubenode1"]["message"] == "tmpfs 64 MiB"
    assert nodes.sh("kubenode1", f"stat -c %U {WORKDIR} {WORKDIR}.state") == "builder\nbuilder"
    nodes.sh("kubenode1", f"echo kept >{WORKDIR}/tree")
    assert nodes.run("release")["kubenode1"]["message"] == "kubenode1: the tree stays"
    assert nodes.run("prepare:kubenode1", build=build)["kubenode1"]["message"] == "tmpfs 64 MiB"
    assert nodes.sh("kubenode1", f"cat {WORKDIR}/tree") == "kept"
    nodes.sh("kubenode1", f"cd {WORKDIR}; systemd-run -q --unit=user --working-directory={WORKDIR} sleep 60")
    told = nodes.run("release-tree")["kubenode1"]
    pid = nodes.sh("kubenode1", "systemctl show -P MainPID user")
    assert told["error"] == f"kubenode1 cannot unmount {WORKDIR}: it is in use by sleep (pid {pid})"
    assert told["hint"] == "end what works there, then: doit release"
    nodes.sh("kubenode1", "systemctl stop user")
    assert nodes.run("release-tree")["kubenode1"]["message"] == "kubenode1: tmpfs unmounted"
    assert nodes.run("release-tree")["kubenode1"]["message"] == "kubenode1: was not in build mode"


def test_coordinator_whose_workdir_has_another_path_now(nodes: Nodes) -> None:
    old, new = f"{WORKDIR}-old", f"{WORKDIR}-old/new"  # in the old one: gone when that is unmounted
    nodes.run("prepare:kubenode1", build={"workdir": {"path": old, "tmpfs": 64 << 20}})
    told = nodes.run("release", "prepare:kubenode1", build={"workdir": {"path": new, "tmpfs": 32 << 20}})[1]
    assert told["kubenode1"]["message"] == "tmpfs 32 MiB"
    mounts = "grep ^kbuild-tasks /proc/mounts | cut -d' ' -f2"
    assert nodes.sh("kubenode1", mounts) == new
    nodes.run("release-tree")
    assert nodes.sh("kubenode1", mounts) == ""
    nodes.sh("kubenode1", f"rm -rf {old} {old}.state")


def test_a_node_in_build_mode_for_another_project_is_left_alone(nodes: Nodes) -> None:
    """Two clones on one coordinator: whatever the second does, the first one's build goes on."""
    small = {"build": {"workdir": {"path": WORKDIR, "tmpfs": 64 << 20}}}
    second = {"project": f"{nodes.root}/second", "build": {"workdir": {"path": f"{WORKDIR}2", "tmpfs": 32 << 20}}}
    nodes.sh("kubenode1", f"install -d -o builder {nodes.root}/second")
    nodes.run("prepare", **small)
    record = {name: nodes.sh(name, f"cat {STATE}/mode.json") for name in ("kubenode1", "kubenode2")}
    told = nodes.run("prepare", **second)
    since = json.loads(record["kubenode2"])["since"]
    whose = f"is in build mode for {nodes.root} on kubenode1 since {since}"
    assert told["kubenode2"]["message"].startswith(f"left out: kubenode2 {whose}; wait for it, or there: doit release;")
    since = json.loads(record["kubenode1"])["since"]
    assert told["kubenode1"]["error"] == f"kubenode1 is in build mode for {nodes.root} on kubenode1 since {since}"
    for verb in ("release", "release-tree"):
        assert (
            nodes.run(verb, **second)["kubenode2"]["message"]
            == f"kubenode2: not touched, in build mode for {whose[21:]}"
        )
    assert record == {name: nodes.sh(name, f"cat {STATE}/mode.json") for name in record}
    assert nodes.sh("kubenode2", "systemctl is-active kbuild-distccd") == "active"

    # Between two runs of the first, the second may build; the first one's tree stays, and is nobody else's.
    nodes.sh("kubenode1", f"echo kept >{WORKDIR}/tree")
    nodes.run("release")
    told = nodes.run("prepare", **second)
    assert [told[name]["message"] for name in ("kubenode1", "kubenode2")] == ["tmpfs 32 MiB", "2 slots, tmpfs 128 MiB"]
    nodes.run("release", **second)
    told = nodes.run("prepare:kubenode1", **{**second, **small})["kubenode1"]
    assert told["error"].startswith(f"kubenode1 keeps the tree of {nodes.root} on kubenode1 since ")
    assert nodes.run("release-tree", **second)["kubenode1"]["message"] == "kubenode1: tmpfs unmounted"
    assert nodes.run("prepare:kubenode1", **small)["kubenode1"]["message"] == "tmpfs 64 MiB"
    assert nodes.sh("kubenode1", f"cat {WORKDIR}/tree") == "kept"


def test_a_project_that_is_gone_can_be_put_out_of_build_mode(nodes: Nodes) -> None:
    before = nodes.look("kubenode2")
    gone = f"{nodes.root}/gone"
    nodes.sh("kubenode1", f"install -d -o builder {gone}")
    nodes.run("prepare", project=gone)
    hint = nodes.run("prepare")["kubenode1"].get("hint") or nodes.facts["kubenode2"]["hint"]
    command = hint.partition(": sudo ")[2]
    for name in ("kubenode1", "kubenode2"):
        nodes.sh(name, f"[ ! -e {STATE}/mode.json ] || {command}")
    assert nodes.look("kubenode2") == before
    nodes.run("prepare:kubenode2", project=gone)
    nodes.lab.stop("kubenode2")
    nodes.lab.start("kubenode2")  # nothing of it is there any more: no reason to wait for anybody
    assert nodes.run("prepare")["kubenode2"]["message"] == "2 slots, tmpfs 128 MiB"


def test_two_projects_do_not_build_in_one_workdir_at_once(nodes: Nodes) -> None:
    from concurrent.futures import ThreadPoolExecutor

    disk = {"build": {"workdir": {"path": WORKDIR, "tmpfs": "off"}}}
    nodes.sh("kubenode1", f"install -d -o builder {nodes.root}/second")
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(nodes.run, "prepare:kubenode1", "hold:kubenode1", **disk)
        held = f"[ -e {WORKDIR}.state/.lock ] && ! flock -n {WORKDIR}.state/.lock true && echo held"
        for _ in range(300):
            if "held" in nodes.sh("kubenode1", held, check=False):
                break
            time.sleep(0.1)
        told = nodes.run("prepare:kubenode1", project=f"{nodes.root}/second", **disk)["kubenode1"]
        assert not first.done()
        assert first.result()[0]["kubenode1"]["message"] == "on disk"
    assert told["error"].startswith(
        f"{WORKDIR} is another project's at the moment: another run is in progress in {nodes.root}: pid "
    )
    assert "build.workdir.path" in told["hint"]
    told = nodes.run("prepare:kubenode1", project=f"{nodes.root}/second", **disk)["kubenode1"]
    assert told["message"] == "on disk"


def test_two_names_for_one_machine(nodes: Nodes) -> None:
    told = nodes.run("prepare", kubenode3={"address": "10.77.0.12"})
    ready = [name for name in ("kubenode2", "kubenode3") if told[name]["message"] == "2 slots, tmpfs 128 MiB"]
    assert len(ready) == 1, told
    twin = {"kubenode2": "kubenode3", "kubenode3": "kubenode2"}[ready[0]]
    assert told[twin]["message"].startswith(f"left out: {twin} is the same machine as {ready[0]}; take one of the two")
    nodes.run("release")
    told = nodes.run("prepare", kubenode3={"address": "10.77.0.11"})
    assert told["kubenode3"]["message"].startswith("left out: kubenode3 is the same machine as kubenode1; ")


def test_coordinator_unfit_is_an_error(nodes: Nodes) -> None:
    def error(**changes: Any) -> str:
        told = nodes.run("prepare:kubenode1", **changes)["kubenode1"]
        assert told["hint"]
        return str(told["error"])

    assert "of memory, less than build.workdir.tmpfs" in error(build={"workdir": {"path": WORKDIR, "tmpfs": 1 << 45}})
    assert error(kubenode1={"address": "10.77.0.99"}) == (
        "kubenode1 is not this machine: 10.77.0.99 is not one of its addresses"
    )
    assert "makepkg refuses root" in error(user="root")
    nodes.sh(
        "kubenode1", "mkdir -p /mnt/small && mount -t tmpfs -o size=100M none /mnt/small && chown builder /mnt/small"
    )
    try:
        assert error(build={"workdir": {"path": "/mnt/small/work", "tmpfs": "off"}}) == (
            "kubenode1 has 100 MiB free in /mnt/small/work, a build needs 6.0 GiB (1.0 GiB once unpacked)"
        )
    finally:
        nodes.sh("kubenode1", "umount /mnt/small")
    nodes.sh("kubenode1", "mkdir -p /mnt/theirs")
    assert error(build={"workdir": {"path": "/mnt/theirs", "tmpfs": "off"}}) == (
        "kubenode1's /mnt/theirs belongs to somebody else than the user that builds"
    )


def current(nodes: Nodes, node: str) -> str:
    return nodes.sh(node, f"readlink {STATE}/sync/current", check=False)


def test_sync_whole_or_nothing(nodes: Nodes) -> None:
    for name in ("kubenode1", "kubenode2", "kubenode3"):
        nodes.sh(name, f"rm -rf {STATE}/sync")
    first, again = nodes.run("sync", "sync")
    assert {told["message"] for told in first.values()} == {"7 files, 7 sent"}
    assert {told["message"] for told in again.values()} == {"7 files, already there"}
    assert current(nodes, "kubenode2") == first["kubenode2"]["results"]["set"]
    patch = nodes.root / "patches" / "0001 $(touch pwned) it's.patch"
    told = nodes.sh("kubenode2", f"cd {STATE}/sync/current && find . -type f | sort -z | head -20; cat patches/0001*")
    assert "0001 $(touch pwned) it's.patch" in told
    assert told.endswith("one")
    assert (
        nodes.sh("kubenode2", f"find / -xdev -name pwned | wc -l; ls {STATE}/sync/current/patches")
        == f"0\n{patch.name}"
    )

    patch.write_text("changed\n")
    changed = nodes.run("sync")
    assert {told["message"] for told in changed.values()} == {"7 files, 1 sent"}
    assert nodes.sh("kubenode2", f"cat {STATE}/sync/current/patches/0001*") == "changed"
    old = first["kubenode2"]["results"]["set"]
    assert nodes.sh("kubenode2", f"cat {STATE}/sync/{old}/patches/0001*") == "one"  # the one before is as it was
    (nodes.root / "kernel" / "linux.install").unlink()
    assert nodes.run("sync")["kubenode2"]["message"] == "6 files, 0 sent"
    assert len(nodes.sh("kubenode2", f"ls -A {STATE}/sync").splitlines()) == 3  # current and two sets
    patch.write_text("one\n")
    (nodes.root / "kernel" / "linux.install").write_text("post_install() { :; }\n")


def test_sync_repairs_what_was_changed_by_hand(nodes: Nodes) -> None:
    nodes.run("sync")
    nodes.sh("kubenode2", f"echo tampered >{STATE}/sync/current/kernel/PKGBUILD; touch {STATE}/sync/current/extra")
    assert nodes.run("sync")["kubenode2"]["message"] == "7 files, 7 sent", "nothing is built upon such a set"
    assert nodes.sh("kubenode2", f"cat {STATE}/sync/current/kernel/PKGBUILD") == "pkgbase=linux-test"
    assert nodes.sh("kubenode2", f"ls -A {STATE}/sync/current") == "build\ncluster.yaml\nkernel\npatches"


def test_sync_with_a_full_disk_changes_nothing(nodes: Nodes) -> None:
    nodes.sh("kubenode2", f"mkdir -p {STATE} && mount -t tmpfs -o size=96k none {STATE}")
    try:
        assert nodes.run("sync")["kubenode2"]["message"] == "7 files, 7 sent"
        before = current(nodes, "kubenode2")
        (nodes.root / "kernel" / "config").write_text("CONFIG_LONG=y\n" * 10000)
        told = nodes.run("sync")
        assert told["kubenode2"]["error"] == f"kubenode2 has no space left in {STATE}; nothing was changed there"
        assert "df -h" in told["kubenode2"]["hint"]
        assert told["kubenode3"]["message"] == "7 files, 1 sent"
        assert current(nodes, "kubenode2") == before
        assert nodes.sh("kubenode2", f"ls -A {STATE}/sync | wc -l") == "2"
        (nodes.root / "kernel" / "config").write_text("CONFIG_X=y\n")
        assert nodes.run("sync")["kubenode2"]["message"] == "7 files, already there"
    finally:
        (nodes.root / "kernel" / "config").write_text("CONFIG_X=y\n")
        with contextlib.suppress(Exception):
            nodes.sh("kubenode2", f"umount {STATE}")


def test_sync_after_a_kill_in_the_middle(nodes: Nodes) -> None:
    nodes.run("sync")
    nodes.sh(
        "kubenode2",
        f"cp -al {STATE}/sync/$(readlink {STATE}/sync/current) {STATE}/sync/.new; ln -s x {STATE}/sync/.current",
    )
    (nodes.root / "kernel" / "config").write_text("CONFIG_Y=y\n")
    try:
        assert nodes.run("sync")["kubenode2"]["message"] == "7 files, 1 sent"
    finally:
        (nodes.root / "kernel" / "config").write_text("CONFIG_X=y\n")
    assert nodes.sh("kubenode2", f"ls -A {STATE}/sync | grep -c '^\\.'", check=False) == "0"


def test_sync_writes_through_no_link(nodes: Nodes) -> None:
    """What root makes of a set that somebody changed on the node stays in that set."""
    nodes.run("sync")
    nodes.sh("kubenode2", f"mkdir /etc/evil; cd {STATE}/sync/current; rm -rf kernel; ln -s /etc/evil kernel")
    assert nodes.run("sync:kubenode2")["kubenode2"]["message"].startswith("7 files")
    nodes.sh("kubenode2", f"cd {STATE}/sync/current; rm kernel/config; mkdir -p kernel/config/sub; ln -s /etc extra")
    nodes.run("sync:kubenode2")
    nodes.sh("kubenode2", f"cd {STATE}/sync; rm current; mkdir current")
    nodes.run("sync:kubenode2")
    nodes.sh("kubenode2", "rmdir /etc/evil")  # it is empty
    assert nodes.sh("kubenode2", f"cat {STATE}/sync/current/kernel/config") == "CONFIG_X=y"
    assert nodes.sh("kubenode2", f"find {STATE}/sync/current/ ! -type f ! -type d") == ""
