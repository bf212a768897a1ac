"""Effects of the roll-out with the real thing: commands in a shell of this machine, knocking at real sockets, the
helper's door when there is no helper."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from kbuild_tasks.core import diagnosis
from kbuild_tasks.core.errors import KbuildError, NodeRefused
from kbuild_tasks.core.model import Node
from kbuild_tasks.effects import commands, helper, reach, shell
from kbuild_tasks.effects import node as remote
from tests.effects.test_node import COORDINATOR, WORKER, cluster


def test_commands_run_each_in_a_shell_of_its_own(tmp_path: Path) -> None:
    wanted = [
        "true",
        "exit 3",
        'echo "it\'s" a; false',
        "cd /; pwd",
        'printf "%s" "$HOME$(id -u)" >/dev/null',
        "no-such-program",
    ]
    ran = commands.run(cluster(tmp_path), COORDINATOR, wanted)
    assert [result["command"] for result in ran] == wanted
    assert [result["status"] for result in ran] == [0, 3, 1, 0, 0, 127]
    assert ran[2]["out"] == "it's a"
    assert ran[3]["out"] == "/"
    assert commands.run(cluster(tmp_path), COORDINATOR, []) == []


def test_what_a_command_prints_cannot_break_the_answer(tmp_path: Path) -> None:
    nasty = r"""printf '"}], "ran": [{"status": 0\n\\\t\001ä'; exit 4"""
    (result,) = commands.run(cluster(tmp_path), COORDINATOR, [nasty])
    assert result["status"] == 4 and '"}], "ran": [{"status": 0' in result["out"]


def test_a_command_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "LIMIT", 1)
    (result,) = commands.run(cluster(tmp_path), COORDINATOR, ["sleep 20"])
    assert result["status"] == 124


def test_a_command_that_leaves_something_running_is_not_waited_for(tmp_path: Path) -> None:
    """What it left held its output open: the roll-out took the node for one that does not answer."""
    left = tmp_path / "left"
    wanted = [f"(sleep 300; touch {left}) & echo ready", "setsid sleep 20 & echo off; exit 3"]
    first, second = commands.run(cluster(tmp_path), COORDINATOR, wanted)
    assert (first["status"], first["out"]) == (0, "ready") and second["status"] == 3
    assert subprocess.run(["pgrep", "-f", f"touch {left}"], capture_output=True).returncode == 1, "it is ended"


def test_megabytes_of_output_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell keeps all of $(...) in its memory: a minute of `yes` is more than a node has."""
    monkeypatch.setattr(commands, "_SCRIPT", "ulimit -v 200000\n" + commands._SCRIPT)
    wanted = ["head -c 400000000 /dev/zero | tr '\\0' x; echo the end; exit 5"]
    (result,) = commands.run(cluster(tmp_path), COORDINATOR, wanted)
    assert result["status"] == 5 and result["out"].rstrip().endswith("xthe end") and len(result["out"]) <= 400


def answering(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """What runs on the node answers with `text`."""

    def says(argv: list[str], *, stdin: bytes, **_: object) -> shell.Done:
        word = re.search(rb"frame=([0-9a-f]{16})", stdin)
        assert word
        frame = word[1].decode()
        return shell.Done(0, f"\n@@{frame} start\n{text}\n\n@@{frame} end 0\n", "", 0.1)

    monkeypatch.setattr(shell, "run", says)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"loader": "x"}', "gave an answer that no helper of ours gives: loader is of another form"),
        ('{"fence": 1e999}', "gave an answer that no helper of ours gives: fence is of another form"),
        ("[" * 100000, "gave an answer that is not JSON"),
        ("x" * 10**6, "gave an answer that is not JSON"),
        ("5", "gave an answer that is not JSON"),
    ],
)
def test_an_answer_that_is_none(text: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, text)
    with pytest.raises(KbuildError, match=told) as caught:
        helper.ask(cluster(tmp_path), WORKER, "observe", alone=True)
    assert "kubenode2" in caught.value.message and max(map(len, caught.value.evidence)) <= 200


def listening(greeting: bytes | None) -> tuple[socket.socket, Node]:
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            if greeting is not None:
                connection.sendall(greeting)
                connection.close()

    threading.Thread(target=serve, daemon=True).start()
    return server, Node("n7", "127.0.0.1", port=server.getsockname()[1])


def test_knocking() -> None:
    for greeting, word in ((b"SSH-2.0-OpenSSH\r\n", ""), (b"HTTP/1.1", diagnosis.SILENT), (None, diagnosis.SILENT)):
        server, node = listening(greeting)
        assert reach.knock(node, 0.3) == word
        server.shutdown(socket.SHUT_RDWR)
        server.close()
    assert reach.knock(node, 0.3) == diagnosis.REFUSED
    assert reach.silent([node, COORDINATOR], 0.3) == ["n7"]


def test_without_a_helper_it_is_told_how_it_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helper, "PATH", str(tmp_path / "helper"))
    there = cluster(tmp_path)
    with pytest.raises(KbuildError, match="kubenode1 has no helper"):
        helper.ask(there, COORDINATOR, "observe")
    sudo = tmp_path / "sudo"
    sudo.write_text('#!/bin/sh\necho "sudo: $2: command not found" >&2\nexit 1\n')
    sudo.chmod(0o755)
    monkeypatch.setattr(helper, "_argv", lambda cluster, node, alone: [str(sudo), "-n", "/x/helper"])
    for setting, hint in (("all", "doit sync:kubenode1 installs it"), ("helper", "the admin of kubenode1 installs it")):
        settings = dataclasses.replace(there, ssh=dataclasses.replace(there.ssh, sudo=setting))
        with pytest.raises(NodeRefused, match="kubenode1 has no helper") as caught:
            helper.ask(settings, COORDINATOR, "observe")
        assert hint in (caught.value.hint or "")
    sudo.write_text('#!/bin/sh\necho "sudo: a password is required" >&2\nexit 1\n')
    with pytest.raises(NodeRefused, match="may not run the helper on kubenode1") as caught:
        helper.ask(there, COORDINATOR, "observe")
    assert "NOPASSWD: " in (caught.value.hint or "")


def test_a_refusal_of_the_helper_has_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "helper"
    fake.write_text(
        "#!/bin/sh\nread -r verb; read -r frame; frame=${frame#frame=}\n"
        'printf "\\n@@%s start\\n" "$frame"; printf "refused: has no space\\tdf -h\\tspace-boot\\n" >&2\n'
        'printf "\\n@@%s end 3\\n" "$frame"\n'
    )
    fake.chmod(0o755)
    monkeypatch.setattr(helper, "_argv", lambda cluster, node, alone: [str(fake)])
    with pytest.raises(NodeRefused) as caught:
        helper.ask(cluster(tmp_path), COORDINATOR, "observe")
    assert (caught.value.message, caught.value.hint, caught.value.word) == (
        "kubenode1 has no space",
        "df -h",
        "space-boot",
    )
    assert os.path.exists(fake) and remote.REFUSAL == "refused: "
