"""`doit lab exec` is a pipeline's honest member: words, streams, status, signals, terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kbuild_tasks.lab.lab import Lab

pytestmark = pytest.mark.lab

DOIT = [str(Path(sys.executable).with_name("doit")), "lab"]
HOSTILE = [
    "",
    " ",
    "a b",
    "$HOME",
    "`id`",
    "$(id)",
    "'",
    '"',
    "\\",
    "*",
    ";id",
    "a\nb",
    "-x",
    "--",
    "é",
    "%s",
    "A=b",
    "\x01",
]


def _run(words: list[str], **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(DOIT + words, capture_output=True, text=True, **more)  # type: ignore[call-overload,no-any-return]


def _wait_for(what: object, seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if what():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


def test_words_arrive_as_they_are(lab: Lab) -> None:
    show = "import sys; print(sys.argv[1:])"
    assert lab.exec("kubenode2", ["python3", "-c", show, *HOSTILE]).out == f"{HOSTILE}\n"
    words = [word for word in HOSTILE if word]  # doit itself breaks on an empty word
    done = _run(["exec", "kubenode2", "--", "python3", "-c", show, *words], cwd=lab.root)
    assert done.stdout == f"{words}\n", done.stderr


def test_status_and_streams_pass(lab: Lab) -> None:
    done = _run(["exec", "kubenode2", "sh", "-c", "cat; echo bad >&2; exit 7"], cwd=lab.root, input="in\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "in\n", "bad\n")
    assert _run(["exec", "kubenode2", "sh", "-c", "kill -9 $$"], cwd=lab.root).returncode == 137
    assert _run(["exec", "kubenode2", "/no/such/program"], cwd=lab.root).returncode == 127
    done = _run(["exec", "kubenode16", "true"], cwd=lab.root)
    assert (done.returncode, "hint: " in done.stderr, "Traceback" in done.stderr) == (1, True, False)


def test_the_environment_is_clean(lab: Lab) -> None:
    given = {"PATH": os.environ["PATH"], "TERM": "vt100", "NO_COLOR": "1", "LANG": "C.UTF-8", "SECRET": "x"}
    done = _run(["exec", "kubenode1", "env"], cwd=lab.root, env=given)
    found = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert found == {
        **{"HOME": "/home/builder", "USER": "builder", "LOGNAME": "builder", "SHELL": "/bin/bash"},
        **{"TERM": "vt100", "NO_COLOR": "1", "LANG": "C.UTF-8"},
        "PATH": f"{lab.root}/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }


def test_doit_itself_runs_on_the_coordinator(lab: Lab) -> None:
    done = _run(["exec", "kubenode1", "--", "doit", "list"], cwd=lab.root)
    assert done.returncode == 0, done.stderr
    assert "package" in done.stdout


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_an_ended_client_ends_the_command(lab: Lab, number: signal.Signals) -> None:
    mark = f"86{os.getpid()}{number.value}"
    client = subprocess.Popen([*DOIT, "exec", "kubenode2", "sleep", mark], cwd=lab.root)

    def running() -> bool:
        return lab.exec("kubenode2", ["pgrep", "-f", f"^sleep {mark}"], check=False).code == 0

    assert _wait_for(running)
    client.send_signal(number)
    assert client.wait(10) in (-9, 128 + 15)
    assert _wait_for(lambda: not running())


def test_a_terminal_and_its_ctrl_c_reach_the_command(lab: Lab) -> None:
    script = 'trap "echo interrupted; exit 9" INT; test -t 0 && test -t 1 && echo ready; while :; do sleep 0.05; done'
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(lab.root)
        os.execv(DOIT[0], [*DOIT, "exec", "kubenode2", "--", "sh", "-c", script])
    assert "ready" in _read_until(master, "ready")
    os.write(master, b"\x03")
    assert "interrupted" in _read_until(master, "interrupted")
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert os.waitstatus_to_exitcode(status) == 9


def test_a_shell_has_a_terminal_of_the_node(lab: Lab) -> None:
    pid, master = pty.fork()
    if pid == 0:
        os.chdir(lab.root)
        os.execv(DOIT[0], [*DOIT, "shell", "kubenode2"])
    os.write(master, b"tty; hostname; exit 5\n")
    said = _read_until(master, "kubenode2\r\n")
    assert "/dev/pts/" in said
    _read_until(master, "never", 2)
    _, status = os.waitpid(pid, 0)
    os.close(master)
    assert os.waitstatus_to_exitcode(status) == 5


def _read_until(fd: int, text: str, seconds: float = 15) -> str:
    said = ""
    deadline = time.monotonic() + seconds
    while text not in said and time.monotonic() < deadline:
        if select.select([fd], [], [], 0.2)[0]:
            try:
                piece = os.read(fd, 4096).decode("utf-8", "replace")
            except OSError:  # the other end is closed
                break
            said += piece
    return said
