"""distccd's unit on a node of the lab: it compiles in it, and who sends it something else reads and reaches nothing."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from tests.stages.test_prepare_lab import Nodes, nodes, released

pytestmark = pytest.mark.lab
__all__ = ["nodes", "released"]  # fixtures
PORT = 3632
ENV = {"DISTCC_HOSTS": f"10.77.0.12:{PORT}/2,lzo", "DISTCC_NO_REWRITE_CROSS": "1", "DISTCC_FALLBACK": "0"}
SEEN = """\
/etc/passwd /etc/shadow /etc/machine-id /etc/ssh /home /root /var/lib/kbuild-tasks /run/kbuild-tasks /proc/1/cmdline
/proc/meminfo /sys/kernel /boot /srv /dev/kmsg /dev/mem /run/systemd/system /run/systemd/journal /run/dbus /run/sshd
/tmp /var/lib /var/log
"""
HOSTILE = f"""\
exec 2>/dev/null
say() {{ echo "HOSTILE $*" >&4; }}
say ran as $(id -u)
for path in {SEEN.replace(chr(10), " ")}; do
	ls -d $path/* || timeout 2 head -c 1 $path | grep -q . && say sees $path
done
for path in / /usr /usr/bin /etc /opt /dev /dev/shm /lib; do true >$path/kbuild-x && say writes $path; done
for where in 10.77.0.11/22 10.77.0.12/22 10.77.0.13/22 127.0.0.1/22; do
	timeout 3 bash -c "exec 3<>/dev/tcp/$where" && say calls $where
	timeout 3 bash -c "echo x >/dev/udp/$where" && say sends $where
done
timeout 3 perl -MSocket -e 'socket(S, PF_UNIX, SOCK_STREAM, 0) or exit 1' && say has a unix socket
unshare -U true && say has a namespace
mount -t tmpfs x /work && say mounts
cp /usr/bin/id /work/suid && chmod 4755 /work/suid && say makes suid
rm -f /work/suid
for other in /proc/[0-9]*; do [ "$(stat -c %u $other)" = "$(id -u)" ] || say sees process $other; done
grep -q '^CapEff:.*[1-9a-f]' /proc/self/status && say has capabilities
say ended
"""


def hostile(node: str, nodes: Nodes) -> str:
    """What a job of a coordinator that is taken over says, run as its compiler."""
    script = base64.b64encode(HOSTILE.encode()).decode()
    wrapper = f'sh,-c,if [ -d /work ]; then echo {script} | base64 -d | sh 4>&2; fi; exec "$0" "$@"'
    work = f"cd /tmp && echo 'int f;' >h.c && distcc gcc -wrapper '{wrapper}' -c h.c -o h.o 2>&1"
    return nodes.lab.exec(node, ["sh", "-c", work], env=ENV, check=False).out


def test_it_compiles_the_same_bytes(nodes: Nodes) -> None:
    nodes.run("prepare")
    code = "#include <stdio.h>\nint f(int x) { return x + (int)sizeof(FILE); }\n"
    work = (
        f"cd /tmp && rm -rf t && mkdir t && printf '%s' '{code}' >g.c && TMPDIR=/tmp/t DISTCC_SAVE_TEMPS=1 "
        "distcc gcc -O2 -g -fdirectives-only -c g.c -o g.o && gcc -O2 -g -fdirectives-only -c t/*.i -o here.o && "
        "cmp g.o here.o && echo same"
    )
    assert nodes.lab.exec("kubenode1", ["sh", "-c", work], env=ENV, check=False).out.strip().endswith("same")
    assert nodes.sh("kubenode2", "grep -c COMPILE_OK /var/lib/kbuild-tasks/distccd.log") == "1"
    told = dict(
        line.split("=", 1)
        for line in nodes.sh("kubenode2", "systemctl show kbuild-distccd").splitlines()
        if "=" in line
    )
    assert told["User"] == "distccd" and told["NoNewPrivileges"] == "yes"
    assert 0 < int(told["MemoryMax"]) <= int(nodes.facts["kubenode2"]["facts"]["memory"])
    assert int(told["TasksMax"]) == 48


def test_a_hostile_job_reads_and_reaches_nothing(nodes: Nodes) -> None:
    nodes.run("prepare")
    uid = nodes.sh("kubenode2", "id -u distccd")
    said = [line for line in hostile("kubenode1", nodes).splitlines() if line.startswith("HOSTILE ")]
    # Once as the compiler and once as the assembler.
    assert said == [f"HOSTILE ran as {uid}", "HOSTILE ended"] * 2


def test_the_same_where_distccd_has_no_user_of_its_own(nodes: Nodes) -> None:
    """systemd makes one up then (DynamicUser)."""
    nodes.sh("kubenode2", "sed -i.away 's/^distccd:/away:/' /etc/passwd")
    try:
        nodes.run("prepare")
        assert nodes.sh("kubenode2", "systemctl show -P DynamicUser kbuild-distccd") == "yes"
        said = [line for line in hostile("kubenode1", nodes).splitlines() if line.startswith("HOSTILE ")]
        nodes.run("release")
    finally:
        nodes.sh("kubenode2", "mv /etc/passwd.away /etc/passwd")
    assert len(said) == 4 and said[0].startswith("HOSTILE ran as 6") and said[1] == "HOSTILE ended"


def test_the_script_of_the_hostile_job_does_tell_what_it_sees(nodes: Nodes) -> None:
    """Where nothing confines it, it says so: the test above does not pass for want of words."""
    script = base64.b64encode(HOSTILE.encode()).decode()
    work = (
        f"mkdir -p /work && chmod 777 /work && echo {script} | base64 -d | runuser -u distccd -- sh 4>&1; rm -r /work"
    )
    told = nodes.sh("kubenode2", work)
    words = "sees /etc/passwd", "calls 10.77.0.11/22", "sends 10.77.0.11/22", "sees process", "makes suid", "ended"
    for word in words:
        assert f"HOSTILE {word}" in told


def answers(nodes: Nodes, node: str) -> Any:
    work = f"timeout 3 bash -c 'exec 3<>/dev/tcp/10.77.0.12/{PORT}' && echo open || echo closed"
    return nodes.lab.exec(node, ["sh", "-c", work], "root", check=False).out.strip()


def test_it_answers_the_coordinator_and_only_during_a_build(nodes: Nodes) -> None:
    assert [answers(nodes, name) for name in ("kubenode1", "kubenode3")] == ["closed", "closed"]
    nodes.run("prepare")
    assert answers(nodes, "kubenode1") == "open"
    assert "HOSTILE" not in hostile("kubenode3", nodes), "no job is accepted"
    if nodes.sh("kubenode2", "test -e /sys/fs/cgroup/cgroup.controllers && echo 2", check=False) == "2":
        assert answers(nodes, "kubenode3") == "closed", "with cgroup version 2 no packet arrives"
    nodes.run("release")
    assert [answers(nodes, name) for name in ("kubenode1", "kubenode3")] == ["closed", "closed"]
