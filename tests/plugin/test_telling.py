"""What plan, status, info, clean and last-run.json tell is what the next run does, and no more than that."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BUILD = ["extract", "patch", "configure", "compile", "package"]


def test_what_was_forgotten_is_planned_and_stale(built) -> None:
    built.doit("forget", "configure")
    assert "run    configure    forgotten (doit forget)" in built.doit("plan")
    assert json.loads(built.doit("status", "--json"))["stale"] == ["configure", "compile", "package"]
    built.doit()
    assert "configure" in built.trace()
    assert json.loads(built.doit("plan", "--json"))["fresh"]


def test_a_task_without_files_is_forgotten_too(bench) -> None:
    bench.doit(FAKE_BARE="1")
    assert "fresh  extract" in bench.doit(FAKE_BARE="1")
    bench.doit("forget", "extract", FAKE_BARE="1")
    assert "done   extract" in bench.doit(FAKE_BARE="1")
    assert "fresh  extract" in bench.doit(FAKE_BARE="1")


def test_what_was_forgotten_without_a_database_runs(built) -> None:
    (built.root / "build/.doit.json").unlink()
    built.doit("forget", "configure")
    assert "run    configure    forgotten (doit forget)" in built.doit("plan")
    built.doit()
    assert [task for task in built.trace() if task in BUILD] == ["configure"]
    assert json.loads(built.doit("plan", "--json"))["fresh"]


def test_all_is_forgotten(built) -> None:
    built.doit("forget", "--all")
    told = json.loads(built.doit("plan", "--json"))["tasks"]
    assert {step["state"] for step in told if not step["task"].startswith("prepare")} == {"run"}
    built.doit("patch")
    assert "forgotten" in built.doit("plan"), "what that run did not reach"
    built.doit()
    assert json.loads(built.doit("plan", "--json"))["fresh"]


def test_a_run_that_ended_early_forgot_nothing(built) -> None:
    """The database was lost, and the next run got no further than patch: receipts go on to decide."""
    (built.root / "build/.doit.json").unlink()
    built.doit("patch")
    assert json.loads(built.doit("plan", "--json"))["fresh"]
    built.doit()
    assert [task for task in built.trace() if task in BUILD] == []


def test_always_is_heeded_without_a_database(built) -> None:
    (built.root / "build/.doit.json").unlink()
    built.doit("-a", "configure")
    assert [task for task in built.trace() if task in BUILD] == ["extract", "patch", "configure"]


def test_another_backend_of_doit_is_no_traceback(built) -> None:
    for command in ("plan", "status"):
        assert "Traceback" not in built.doit(command, "--backend", "json", "--db-file", "other.json", check=None)


def test_a_lost_database_makes_nothing_stale(built) -> None:
    (built.root / "build/.doit.json").unlink()
    assert json.loads(built.doit("plan", "--json"))["fresh"]


@pytest.mark.parametrize("command", ["plan", "status"])
def test_words_that_would_be_passed_over_are_refused(built, command) -> None:
    assert f"doit {command} takes no 'sync:*'" in built.doit(command, "sync:*", check=3)


@pytest.mark.parametrize("command", ["plan", "status", "clean", "forget"])
def test_a_reader_that_goes_away(built, command) -> None:
    argv = [sys.executable, "-m", "doit", command]
    with subprocess.Popen(argv, cwd=built.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None and run.stderr is not None
        run.stdout.close()
        assert "Traceback" not in run.stderr.read()


def test_a_task_that_was_asked_for_by_name_says_that_it_is_fresh(built) -> None:
    out = built.doit("sync:*")
    assert "fresh  sync:n1" in out and "fresh  sync:n2" in out


def test_info_and_clean_say_why_and_what(built) -> None:
    built.edit("kernel/config", "OVERLAY_FS=y", "OVERLAY_FS=m")
    told = built.doit("info", "configure", check=1)
    assert "config changed (line 1)" in told and "functools" not in told
    told = built.doit("clean", "-n", "configure")
    assert "would remove" in told and "functools" not in told


def test_a_refused_run_leaves_the_record_of_the_one_in_progress(built) -> None:
    built.doit("forget", "configure")
    run = built.start(FAKE_SLEEP="configure=3")
    built.wait_for("configure")
    before = json.loads((built.root / "build/last-run.json").read_text())
    assert "another run is in progress" in built.doit("-a", check=None)
    assert json.loads((built.root / "build/last-run.json").read_text())["started"] == before["started"]
    run.communicate(timeout=30)
    assert json.loads((built.root / "build/last-run.json").read_text())["result"] == "done"


def test_nothing_selected_is_no_run(built) -> None:
    before = (built.root / "build/last-run.json").read_bytes()
    built.doit("foo:*", check=None)
    assert (built.root / "build/last-run.json").read_bytes() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="makes another user's directory")
def test_directories_that_makepkg_left_closed_are_removed(tmp_path: Path) -> None:
    made = tmp_path / "makepkg"
    (made / "pkg" / "linux").mkdir(parents=True)
    (made / "pkg" / "linux" / "file").touch()
    for path in (made, *made.rglob("*")):
        os.chown(path, 65534, 65534)
    (made / "pkg").chmod(0o111)
    program = (
        "import os, shutil; from kbuild_tasks.plugin.clean import _open_up; "
        "os.fchdir(3); os.setuid(65534); shutil.rmtree('pkg', onerror=_open_up)"
    )
    with subprocess.Popen(["sh", "-c", 'exec "$@" 3<"$0"', made, sys.executable, "-c", program]) as run:
        assert run.wait() == 0
    assert list(made.iterdir()) == []


@pytest.mark.parametrize("command", ["patch", "plan"])
@pytest.mark.parametrize(
    ("make", "told"), [("fifo", "is no regular file"), ("link", "is a symbolic link that leads nowhere")]
)
def test_a_series_that_is_no_file_is_refused_and_not_waited_for(built, command, make, told) -> None:
    for name in ("series", "c.patch"):
        path = built.root / "patches" / name
        os.mkfifo(path) if make == "fifo" else path.symlink_to("../gone")
        out = built.doit(command, check=1)
        assert f"patches/{name} {told}" in out and "Traceback" not in out
        path.unlink()


def test_a_build_directory_that_takes_no_log_is_told(built) -> None:
    built.edit("patches/a.patch", "+2", "+3")
    logs = built.root / "build" / "logs"
    shutil.rmtree(logs)
    logs.touch()
    out = built.doit(check=None)
    assert "Traceback" not in out and "hint: a directory belongs there" in out


def test_what_may_not_be_looked_at_is_told(built) -> None:
    """An admin who only looks: the stages' places are closed to other accounts."""
    closed = """\
import sys
def lost(paths, results):
    raise PermissionError(13, "Permission denied", "/x.state/repo.git/HEAD")
"""
    late = 'fake_stages.install()\nsys.modules["kbuild_tasks.stages.extract"].lost = lost\n'
    dodo = (built.root / "dodo.py").read_text()
    (built.root / "dodo.py").write_text(closed + dodo.replace("fake_stages.install()\n", late))
    assert "/x.state/repo.git/HEAD: Permission denied" in built.doit("plan", check=1)
    assert "Traceback" not in built.doit("status", check=None)


def test_a_dodo_that_makes_no_pipeline_is_told(built) -> None:
    (built.root / "dodo.py").write_text("def task_x():\n    return {'actions': None}\n")
    for command in ("plan", "status"):
        out = built.doit(command, check=1)
        assert "dodo.py makes no Pipeline" in out and "Traceback" not in out
