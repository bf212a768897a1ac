"""How a run ends that something else ends: a signal at any moment, an output that is gone; in any reporter's voice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

BUILD = ["extract", "patch", "configure", "compile", "package"]


def last(bench) -> dict:
    return json.loads((bench.root / "build/last-run.json").read_text())


def in_shell(bench, script: str, **env: str) -> tuple[int, str]:
    """A line of bash in which "$@" is doit -> (status, standard error)."""
    done = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-m", "doit"],
        cwd=bench.root,
        env={**os.environ, **env},
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        timeout=60,
    )
    return done.returncode, done.stderr


def released(trace: list[str]) -> bool:
    return {"release:n1", "release:n2"} <= set(trace)


def test_a_reader_that_went_away_ends_the_run_quietly(bench) -> None:
    status, told = in_shell(bench, '"$@" prepare package | head -1; exit ${PIPESTATUS[0]}', FAKE_SLEEP="patch=1")
    trace = bench.trace()
    assert (status, told) == (128 + signal.SIGPIPE, "")
    assert last(bench)["result"] == f"ended by signal {signal.SIGPIPE:d}"
    assert "compile" not in trace and released(trace)


def test_no_standard_output_at_all(bench) -> None:
    status, told = in_shell(bench, '"$@" >&-')
    assert (status, told) == (0, "")
    assert last(bench)["result"] == "done"
    assert released(bench.trace())


def test_a_full_disk_behind_standard_output_is_told_once(bench) -> None:
    status, told = in_shell(bench, '"$@" >/dev/full')
    assert status == 1
    assert told.splitlines() == [
        "         warning: standard output cannot be written: No space left on device; "
        "build/last-run.json has what was done"
    ]
    assert last(bench)["result"] == "done"
    assert released(bench.trace())


@pytest.mark.parametrize(("where", "why"), [(">/dev/full", "No space left on device"), (">&-", "it is closed")])
@pytest.mark.parametrize("command", ["list", "info patch", "plan", "status", "clean", "forget"])
def test_what_a_command_could_not_tell_is_one_sentence_and_a_status(bench, command: str, where: str, why: str) -> None:
    status, told = in_shell(bench, f'"$@" {command} {where}')
    assert (status, told) == (1, f"         warning: standard output cannot be written: {why}\n")


def test_state_that_cannot_be_written_loses_no_run(bench) -> None:
    for name in (".doit.json", "last-run.json"):
        (bench.root / "build" / name).mkdir(parents=True)
    out = bench.doit()
    assert out.count("build/last-run.json cannot be written: Is a directory") == 1
    assert out.count(".doit.json cannot be written: Is a directory") == 1
    trace = bench.trace()
    assert [task for task in trace if task in BUILD] == BUILD and released(trace)
    bench.doit()
    assert not [task for task in bench.trace() if task in BUILD], "the receipts are the truth"


@pytest.mark.parametrize("reporter", ["console", "zero", "json"])
def test_whatever_reporter_is_chosen_nodes_are_put_back(bench, reporter: str) -> None:
    out = bench.doit("-r", reporter, "prepare:n2")
    assert bench.trace() == ["prepare:n2", "release:n2"]
    assert last(bench)["result"] == "done"
    assert last(bench)["tasks"]["prepare:n2"]["state"] == "done"
    if reporter == "json":
        assert [task["name"] for task in json.loads(out)["tasks"]] == ["prepare:n2"]


def test_a_signal_with_another_reporter(bench) -> None:
    run = bench.start("-r", "json", FAKE_SLEEP="compile=60")
    bench.wait_for("compile")
    run.send_signal(signal.SIGTERM)
    out, _ = run.communicate(timeout=20)
    assert run.returncode == 143, out
    assert "Traceback" not in out
    assert released(bench.trace())
    assert last(bench)["result"] == "ended by signal 15"
    tasks = last(bench)["tasks"]
    assert tasks["compile"] == {"state": "failed", "why": ["ended by signal 15"]}
    assert tasks["package"] == {"state": "held", "why": ["the run ended before it"]}


def test_processes_are_not_used_and_it_is_said(bench) -> None:
    out = bench.doit("-n", "4", "-P", "process")
    assert "-P process: tasks run in threads" in out
    assert [task for task in bench.trace() if task in BUILD] == BUILD


def test_a_signal_while_nodes_are_put_back_is_noted_and_they_are(bench) -> None:
    run = bench.start(FAKE_SLEEP="release=1")
    bench.wait_for("releasing")
    run.send_signal(signal.SIGTERM)
    out, _ = run.communicate(timeout=20)
    assert run.returncode == 143, out
    assert "ended by signal 15" in out and "Traceback" not in out
    assert released(bench.trace())
    assert last(bench)["result"] == "ended by signal 15"


DURING_CLOSE = """
import os, time
from doit.dependency import Dependency
def close(self, close=Dependency.close):
    os.kill(os.getpid(), 15)
    time.sleep(5)
    close(self)
Dependency.close = close
"""


def test_a_signal_while_doit_closes_its_database_leaves_no_node_in_build_mode(bench) -> None:
    (bench.root / "dodo.py").write_text((bench.root / "dodo.py").read_text() + DURING_CLOSE)
    out = bench.doit(check=143)
    assert "Traceback" not in out
    assert released(bench.trace())
    assert last(bench)["result"] == "ended by signal 15"


BUG = """
from kbuild_tasks.plugin.reporter import Reporter
class Broken(Reporter):
    def add_success(self, task):
        if task.name == "patch":
            raise RuntimeError("a bug")
DOIT_CONFIG["reporter"] = Broken
"""


def test_a_bug_in_a_reporter_is_no_run_that_was_done(bench) -> None:
    (bench.root / "dodo.py").write_text((bench.root / "dodo.py").read_text() + BUG)
    out = bench.doit(check=3)
    assert "RuntimeError: a bug" in out
    assert released(bench.trace())
    assert last(bench)["result"] == "failed"


AT_LOAD = """
from kbuild_tasks.effects import shell
open("loading", "w").close()
shell.run(["sleep", %r])
"""


@pytest.mark.parametrize(
    ("command", "number"), [("run", signal.SIGINT), ("run", signal.SIGTERM), ("list", signal.SIGHUP)]
)
def test_a_signal_while_the_project_is_read(bench, number: int, command: str) -> None:
    seconds = f"{700 + os.getpid() / 1e7:.7f}"
    (bench.root / "dodo.py").write_text((bench.root / "dodo.py").read_text() + AT_LOAD % seconds)
    run = bench.start(command)
    deadline = time.monotonic() + 20
    while not sleeping(seconds):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    run.send_signal(number)
    out, _ = run.communicate(timeout=20)
    assert run.returncode == 128 + number, out
    assert out == ""
    assert not sleeping(seconds)


def sleeping(seconds: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                if file.read().split("\0")[1:2] == [seconds]:
                    found.append(pid)
        except OSError:
            continue
    return found


def test_nothing_is_taken_from_under_a_run(bench) -> None:
    run = bench.start(FAKE_SLEEP="compile=60")
    bench.wait_for("compile")
    before = {path: path.read_bytes() for path in (bench.root / "build").rglob("*.json")}
    for command in (["clean"], ["forget", "patch"], ["ignore", "patch"], ["reset-dep"]):
        out = bench.doit(*command, check=1)
        assert f"another run is in progress: pid {run.pid} of " in out and "Traceback" not in out
    assert {path: path.read_bytes() for path in (bench.root / "build").rglob("*.json")} == before
    assert "would remove" in bench.doit("clean", "-n", "patch")
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=20)
    bench.doit("forget", "patch")


def test_what_a_run_makes_has_the_modes_of_makepkg_whatever_the_umask_is(bench, tmp_path) -> None:
    bench.edit("cluster.yaml", "/home/builder/buildtmp", str(tmp_path / "work"))
    status, told = in_shell(bench, 'umask 077; "$@"', FAKE_TREE="1")
    assert (status, told) == (0, "")
    tree = tmp_path / "work/makepkg/linux/src/linux-6.1"
    assert {path.name: path.stat().st_mode & 0o777 for path in (tree, *tree.iterdir())} == {
        "linux-6.1": 0o755,
        "Makefile": 0o644,
        ".config": 0o644,
        "vmlinux": 0o644,
    }
