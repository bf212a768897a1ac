"""Nodes behave like hosts, and break like hosts."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator

import pytest

from kbuild_tasks.core.errors import CommandFailed, KbuildError
from kbuild_tasks.lab.lab import Lab

pytestmark = pytest.mark.lab

BOOT_ID = ["cat", "/proc/sys/kernel/random/boot_id"]
ECHO_SERVER = """
import socket
server = socket.create_server(("10.77.0.12", 7777))
print("listening", flush=True)
peer, _ = server.accept()
while data := peer.recv(100):
    peer.sendall(data)
"""
ECHO_CLIENT = """
import socket, sys
peer = socket.create_connection(("10.77.0.12", 7777), timeout=20)
for line in sys.stdin:
    peer.sendall(line.encode())
    print(peer.recv(100).decode(), end="", flush=True)
"""


@contextlib.contextmanager
def running(lab: Lab, node: str, argv: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A command in a node, with pipes; ended with the block, however that is left."""
    with subprocess.Popen(lab.command(node, argv), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.fixture
def up(breakable: Lab) -> Iterator[Lab]:
    """Two nodes, all well again for each test."""
    breakable.up(2)
    yield breakable


def test_what_a_node_is(up: Lab) -> None:
    script = """
    hostname; cat /etc/hostname; id -un; pwd; sudo id -un; systemctl is-system-running
    ip -4 -o address show dev eth0 | awk '{print $4}'
    test -e /var/lib/pacman/local/ALPM_DB_VERSION && pacman -T bc gcc libelf; pacman -T pahole
    pgrep -c distccd; command -v distccd
    sudo mkdir -p /mnt/t && sudo mount -t tmpfs -o size=1M t /mnt/t && stat -f -c %T /mnt/t; sudo umount /mnt/t
    id -un builder 2>/dev/null
    """
    assert up.exec("kubenode2", ["bash", "-c", script], check=False).out.split() == [
        *["kubenode2", "kubenode2", "ansible", "/home/ansible", "root", "running", "10.77.0.12/24"],
        *["pahole", "0", "/usr/bin/distccd", "tmpfs"],
    ]


def test_what_the_coordinator_is(up: Lab) -> None:
    script = f"""
    id -un; pwd -P; sudo id -un; echo "${{PATH%%:/usr/local/*}}"; ls ~/.ssh; stat -c %a ~/.ssh/id_ed25519
    touch build/x artifacts/x && rm build/x artifacts/x && echo written
    stat -c %i '/usr/bin/python3.11' > /dev/null && ls {'"$PWD"'}/.lab | wc -l
    """
    assert up.exec("kubenode1", ["bash", "-c", script]).out.splitlines() == [
        *["builder", str(up.root), "root", f"{up.root}/.venv/bin", "id_ed25519", "id_ed25519.pub", "known_hosts"],
        *["600", "written", "0"],
    ]


def test_host_keys_are_checked(up: Lab) -> None:
    ssh = ["ssh", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=yes", "ansible@10.77.0.12", "hostname"]
    assert up.exec("kubenode1", ssh).out == "kubenode2\n"
    up.exec("kubenode2", ["sudo", "sh", "-c", "yes | ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key"])
    try:
        with pytest.raises(CommandFailed, match="kubenode1: ssh ended with status 255") as caught:
            up.exec("kubenode1", ssh)
        assert caught.value.evidence[-1] == "Host key verification failed."
    finally:
        up.down()  # a start of the lab puts the node's own key back
        up.up(2)
    assert up.exec("kubenode1", ssh).out == "kubenode2\n"


def test_makepkg_resolves_what_debian_installed(up: Lab) -> None:
    script = r"""
    mkdir -p ~/pkg && cd ~/pkg
    printf '%s\n' pkgname=tiny pkgver=1 pkgrel=1 'arch=(any)' "makedepends=($1)" \
        'package() { install -Dm644 /etc/hostname "$pkgdir/usr/share/tiny/name"; }' > PKGBUILD
    makepkg -s -f --noconfirm && sudo pacman -U --noconfirm tiny-1-1-any.pkg.tar.zst && cat /usr/share/tiny/name
    """
    done = up.exec("kubenode1", ["bash", "-c", script, "bash", "bc libelf 'python>=3.9'"])
    assert done.out.endswith("kubenode1\n")
    with pytest.raises(CommandFailed) as caught:
        up.exec("kubenode1", ["bash", "-c", script, "bash", "bc pahole"])
    assert caught.value.evidence[-1] == "==> ERROR: Could not resolve all dependencies."


def test_cut_off_means_silence_not_a_reset(up: Lab) -> None:
    with running(up, "kubenode2", ["python3", "-c", ECHO_SERVER]) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == "listening\n"
        with running(up, "kubenode1", ["python3", "-c", ECHO_CLIENT]) as client:
            _talk_while_cut(up, client)
        assert server.wait(10) == 0


def _talk_while_cut(up: Lab, client: subprocess.Popen[str]) -> None:
    assert client.stdout is not None and client.stdin is not None

    def say(text: str) -> None:
        assert client.stdin is not None
        client.stdin.write(text + "\n")
        client.stdin.flush()

    say("one")
    assert client.stdout.readline() == "one\n"
    up.cut("kubenode2")
    assert [n.cut for n in up.status()] == [False, True]
    assert up.exec("kubenode1", ["ping", "-c1", "-W1", "10.77.0.12"], check=False).code == 1
    say("two")
    time.sleep(0.5)
    assert client.poll() is None
    up.join("kubenode2")
    assert client.stdout.readline() == "two\n"
    client.stdin.close()
    assert client.wait(20) == 0


def test_a_frozen_node_stands_still(up: Lab) -> None:
    script = "i=0; while :; do i=$((i+1)); echo $i > ~/new; mv ~/new ~/count; sleep 0.02; done"
    with running(up, "kubenode2", ["sh", "-c", script]):
        count = up.places.disks / "kubenode2/root/home/ansible/count"
        deadline = time.monotonic() + 10
        while not count.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        up.freeze("kubenode2")
        assert up.status()[1].state == "frozen"
        seen = count.read_text()
        time.sleep(0.5)
        assert count.read_text() == seen
        with pytest.raises(KbuildError, match="frozen") as caught:
            up.exec("kubenode2", ["true"])
        assert caught.value.hint == "doit lab thaw kubenode2"
        up.thaw("kubenode2")
        deadline = time.monotonic() + 10
        while count.read_text() == seen and time.monotonic() < deadline:
            time.sleep(0.02)
        assert int(count.read_text()) > int(seen)


def test_power_cut_and_back(up: Lab) -> None:
    before = up.exec("kubenode2", BOOT_ID).out
    up.exec("kubenode2", ["sh", "-c", "echo here > ~/file; sync"])
    with running(up, "kubenode2", ["sh", "-c", "echo asleep; exec sleep 100"]) as sleeper:
        assert sleeper.stdout is not None
        assert sleeper.stdout.readline() == "asleep\n"
        up.freeze("kubenode2")  # also when nothing in it can react
        up.stop("kubenode2")
        assert sleeper.wait(10) == 137
    assert up.status()[1].state == "off"
    with pytest.raises(KbuildError, match="kubenode2 is not running") as caught:
        up.exec("kubenode2", ["true"])
    assert caught.value.hint is not None and "doit lab start kubenode2" in caught.value.hint
    up.stop("kubenode2")  # already so
    up.start("kubenode2")
    up.start("kubenode2")
    assert up.exec("kubenode2", ["cat", "file"]).out == "here\n"
    assert up.exec("kubenode2", BOOT_ID).out != before


def test_a_reboot_comes_back_by_itself(up: Lab) -> None:
    before, boots = up.exec("kubenode2", BOOT_ID).out, up.status()[1].boots
    up.exec("kubenode2", ["sudo", "systemctl", "reboot"], check=False)
    deadline = time.monotonic() + 20
    while up.status()[1].boots == boots and time.monotonic() < deadline:
        time.sleep(0.05)
    up.up()
    assert up.status()[1].boots == boots + 1
    assert up.exec("kubenode2", BOOT_ID).out != before


def test_a_node_that_switches_itself_off_stays_off(up: Lab) -> None:
    up.exec("kubenode2", ["sudo", "systemctl", "poweroff"], check=False)
    deadline = time.monotonic() + 20
    while (state := up.status()[1]).state == "on" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert (state.state, state.exit) == ("off", 0)


def test_a_cpu_share_holds(up: Lab) -> None:
    burn = "import time; end = time.time() + 1.5\nwhile time.time() < end: pass\nprint(time.process_time())"
    up.cpu("kubenode2", "20%")
    assert up.status()[1].share == 0.2
    used = float(up.exec("kubenode2", ["python3", "-c", burn]).out)
    assert 0.03 < used < 0.5  # a fifth of 1.5 s is 0.3 s
    up.cpu("kubenode2", "max")
    assert up.status()[1].share is None
    with pytest.raises(KbuildError):
        up.cpu("kubenode9", "1")
    assert [n.share for n in up.up(shares=["max", "0.5"])] == [None, 0.5]
    up.up(shares=["max"])
