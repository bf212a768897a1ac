"""Runs of the real doit: what is fresh, what a kill leaves, what is told, who is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

BUILD = ["extract", "patch", "configure", "compile", "package"]


def stages(trace: list[str]) -> list[str]:
    return [line for line in trace if line in BUILD]


def states(bench) -> dict[str, str]:
    tasks = json.loads((bench.root / "build/last-run.json").read_text())["tasks"]
    return {name: entry["state"] for name, entry in tasks.items()}


def test_first_run_does_all_in_order_and_leaves_build_mode(bench) -> None:
    out = bench.doit()
    trace = bench.trace()
    assert stages(trace) == BUILD
    assert trace.index("prepare:n2") < trace.index("compile")
    assert {"release:n1", "release:n2"} <= set(trace[trace.index("package") :])
    assert "done   compile      compile did it" in out
    assert "warning: mind this" in out


def test_second_run_does_nothing(built) -> None:
    out = built.doit()
    assert built.trace() == []
    assert out.splitlines() == [
        "  fresh  sync         2 nodes",
        *(f"  fresh  {stage}" for stage in BUILD),
    ]
    assert set(states(built).values()) == {"fresh"}


def test_touching_everything_leaves_all_fresh(built) -> None:
    for path in built.root.rglob("*"):
        os.utime(path)
    built.doit()
    assert built.trace() == []


def test_a_patch_edit_runs_what_follows_it_and_says_which_line(built) -> None:
    built.edit("patches/a.patch", "+2", "+3")
    plan = built.doit("plan")
    assert built.trace() == [], "plan changes nothing"
    assert "run    patch        a.patch changed (line 6)" in plan
    assert "maybe  configure    if the result of patch changes" in plan
    assert "extract" not in [line.split()[1] for line in plan.splitlines() if not line.startswith("  fresh")]
    built.doit()
    assert stages(built.trace()) == ["patch", "configure", "compile", "package"]


def test_equal_mtime_and_size_but_other_content_is_noticed(built) -> None:
    path = built.root / "patches/a.patch"
    before = path.stat()
    built.edit("patches/a.patch", "+2", "+3")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    built.doit()
    assert stages(built.trace())[0] == "patch"


def test_a_stage_that_ends_in_the_same_result_stops_the_wave(built) -> None:
    built.edit("patches/a.patch", "# one", "# two")
    built.doit()
    assert stages(built.trace()) == ["patch"]


def test_forget_configure_reruns_exactly_configure(built) -> None:
    built.doit("forget", "configure")
    built.doit()
    assert stages(built.trace()) == ["configure"]


def test_without_its_database_doit_trusts_the_receipts(built) -> None:
    (built.root / "build/.doit.json").unlink()
    built.doit()
    assert stages(built.trace()) == []
    (built.root / "build/.doit.json").write_text("{ torn")
    built.doit()
    assert stages(built.trace()) == []


def test_a_lost_tmpfs_is_made_anew_from_patch_to_package(bench, tmp_path) -> None:
    bench.edit("cluster.yaml", "/home/builder/buildtmp", str(tmp_path / "work"))
    bench.doit(FAKE_TREE="1")
    bench.trace()
    shutil.rmtree(tmp_path / "work" / "makepkg")
    bench.doit(FAKE_TREE="1")
    assert stages(bench.trace()) == [], "nothing needs the tree"
    (bench.root / "build/receipts/package.json").unlink()
    bench.doit(FAKE_TREE="1")
    assert stages(bench.trace()) == BUILD[1:]
    shutil.rmtree(tmp_path / "work" / "makepkg")
    bench.doit("forget", "package", FAKE_TREE="1")
    told = json.loads(bench.doit("plan", "--json", FAKE_TREE="1"))["tasks"]
    assert [step["task"] for step in told if step["task"] in BUILD and step["state"] == "run"] == BUILD[1:]
    bench.doit(FAKE_TREE="1")
    assert stages(bench.trace()) == BUILD[1:], "forgotten counts as needing it"
    bench.doit("clean", "patch", FAKE_TREE="1")
    (bench.root / "build/receipts/package.json").unlink()
    bench.doit(FAKE_TREE="1")
    assert stages(bench.trace()) == BUILD[1:]


def test_a_patch_added_removed_and_renamed(built) -> None:
    new = built.root / "patches/c.patch"
    new.write_text("--- a/z\n+++ b/z\n@@ -1 +1 @@\n-1\n+2\n")
    assert "c.patch added" in built.doit("plan")
    built.doit()
    assert "patch" in stages(built.trace())
    new.unlink()
    assert "c.patch removed" in built.doit("plan")


def test_kill_9_in_each_stage_then_doit_finishes_and_repeats_nothing(bench) -> None:
    for stage in BUILD:
        run = bench.start(FAKE_SLEEP=f"{stage}=60")
        bench.wait_for(stage)
        run.kill()
        run.wait()
        assert stages(bench.trace()) == [stage], f"what comes before {stage} had been finished"
        bench.doit(stage)
        assert stages(bench.trace()) == [stage], f"only {stage} was unfinished"
    bench.doit()
    assert stages(bench.trace()) == []


def test_orphans_of_a_killed_run_are_ended(bench) -> None:
    seconds = f"{600 + os.getpid() / 1e7:.7f}"  # names our orphan among whatever else runs here
    run = bench.start(FAKE_SLEEP=f"compile={seconds}")
    bench.wait_for("compile")
    time.sleep(0.3)
    run.kill()
    run.wait()
    orphans = [pid for pid in os.listdir("/proc") if pid.isdigit() and _cmdline(pid)[1:] == [seconds]]
    assert orphans
    bench.doit()
    assert not [pid for pid in orphans if _cmdline(pid)[1:] == [seconds]]


def _cmdline(pid: str) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    except OSError:
        return []


def test_a_second_run_is_refused_with_who_and_since_when(bench) -> None:
    first = bench.start(FAKE_SLEEP="patch=60")
    bench.wait_for("patch")
    out = bench.doit("run", "--continue", "prepare", "patch", check=None)
    assert out.count(f"another run is in progress: pid {first.pid}") == 1
    assert len([line for line in out.splitlines() if re.match(r"  FAILED \S+ +as prepare:", line)]) >= 2, out
    assert "since 2" in out
    first.send_signal(signal.SIGTERM)
    first.wait(20)


def test_ctrl_c_and_term_leave_build_mode_without_a_traceback(bench) -> None:
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        run = bench.start(FAKE_SLEEP="compile=60")
        bench.wait_for("compile")
        run.send_signal(number)
        out, _ = run.communicate(timeout=20)
        assert run.returncode == status, out
        assert "Traceback" not in out
        trace = bench.trace()
        assert {"release:n1", "release:n2"} <= set(trace)
        assert states(bench)["package"] == "held"
    bench.doit()
    assert "extract" not in bench.trace(), "finished stages were kept"


def test_a_failure_is_one_sentence_and_holds_what_follows(bench) -> None:
    out = bench.doit(check=1, FAKE_FAIL="configure")
    assert "  FAILED configure    configure was told to fail\n" in out
    assert "           line one\n         log:  build/logs/x.log\n         hint: unset FAKE_FAIL\n" in out
    assert "Traceback" not in out
    assert states(bench)["compile"] == states(bench)["package"] == "held"
    assert "release:n1" in bench.trace()


def test_a_node_that_cannot_be_released_is_told(bench) -> None:
    out = bench.doit(FAKE_STAYS="n2")
    assert "warning: not released: n2 cannot unmount it: it is in use; end what works there, then: doit release" in out
    out = bench.doit("release", check=1, FAKE_STAYS="n2")
    assert "  FAILED release      n2 not released\n" in out
    assert "           n2 cannot unmount it: it is in use\n           n1 left build mode\n" in out
    assert "hint: end what works there, then: doit release" in out
    assert "done   release" in bench.doit("release")


def test_a_node_that_was_too_slow_is_released_too(bench) -> None:
    bench.doit("prepare:n2", FAKE_SLOW="n2")
    assert bench.trace() == ["prepare:n2", "release:n2"]


def test_a_bug_is_told_as_one_with_its_log(bench) -> None:
    out = bench.doit(check=1, FAKE_BUG="patch")
    assert "ZeroDivisionError: a bug" in out and "Traceback" not in out
    assert "Traceback" in (bench.root / "build/logs/patch.log").read_text()


def test_a_node_left_out_does_not_stop_the_build_and_is_tried_again(bench) -> None:
    out = bench.doit(FAKE_LEFT_OUT="sync:n2")
    assert "  out    sync:n2      left out: it is down; start it" in out, "it was not done"
    bench.trace()
    bench.doit()
    assert bench.trace() == ["sync:n2"]


def test_broken_cluster_yaml_is_one_line(bench) -> None:
    bench.edit("cluster.yaml", "coordinator: n1", "coordinator: n7")
    out = bench.doit(check=3)
    assert "cluster.yaml:9: build.coordinator" in out
    assert "Traceback" not in out


HANGS = """
from kbuild_tasks.core.errors import ConfigError
from kbuild_tasks.effects import pkgbuild
def ask(path, arch):
    with open("asked", "a") as file:
        file.write("x")
    raise ConfigError("PKGBUILD: it hangs", "mend it")
pkgbuild._ask_bash = ask
"""


def test_a_pkgbuild_that_hangs_is_asked_once_and_not_at_all_for_release(bench) -> None:
    (bench.root / "dodo.py").write_text((bench.root / "dodo.py").read_text() + HANGS)
    for command in (["release"], ["prepare:n2"], ["prepare"]):
        bench.doit(*command, FAKE_PKGBUILD="1")
    assert not (bench.root / "asked").exists()
    out = bench.doit(check=1, FAKE_PKGBUILD="1")
    assert "PKGBUILD: it hangs" in out
    assert (bench.root / "asked").read_text() == "x"


def test_lists_info_and_selection_work_as_doit_users_expect(bench) -> None:
    listed = bench.doit("list")
    for name in ("compile", "configure", "extract", "package", "patch", "prepare", "release", "sync"):
        assert any(line.startswith(name + " ") and len(line.split()) > 2 for line in listed.splitlines()), listed
    assert "prepare:n2" in bench.doit("list", "--all")
    bench.doit("-n", "4", "sync:*")
    assert sorted(bench.trace()) == ["sync:n1", "sync:n2"]
    assert "patches/a.patch" in bench.doit("info", "patch", check=1)


def test_clean_removes_what_was_made_and_nothing_else(built) -> None:
    built.doit("clean")
    assert sorted(p.name for p in (built.root / "patches").iterdir()) == ["a.patch", "b.patch"]
    built.doit()
    assert stages(built.trace()) == BUILD


def test_plan_json_and_status(bench) -> None:
    tasks = {t["task"]: t for t in json.loads(bench.doit("plan", "--json"))["tasks"]}
    assert tasks["package"]["state"] in ("run", "maybe")
    bench.doit()
    plan = json.loads(bench.doit("plan", "--json"))
    assert plan["fresh"] is True
    status = json.loads(bench.doit("status", "--json"))
    assert status["running"] is None and status["stale"] == []
    assert "last run   done" in bench.doit("status")


def test_build_mode_is_not_left_while_the_last_task_still_runs(bench) -> None:
    run = bench.start("compile", FAKE_SLEEP="compile=2")
    bench.wait_for("compile")
    time.sleep(1)
    assert not [line for line in (bench.root / "build/trace").read_text().splitlines() if line.startswith("release")]
    assert run.wait(20) == 0
    assert {"release:n1", "release:n2"} <= set(bench.trace())


def test_a_stage_that_is_run_alone_wants_what_the_others_made(bench) -> None:
    out = bench.doit("--single", "compile", check=1)
    assert "compile cannot run alone: stage patch has not run" in out
    assert "hint: doit compile, without --single" in out
    assert "compile" not in bench.trace()


def test_a_stage_that_is_run_alone_wants_the_source_that_it_counts_on(bench) -> None:
    with_tree = {"FAKE_TREE": "1"}
    workdir = bench.root.parent / "work"
    bench.edit("cluster.yaml", "/home/builder/buildtmp", str(workdir))
    bench.doit(**with_tree)
    mark = workdir / "makepkg" / "linux" / ".linux-6.1.tree"
    mark.write_text(mark.read_text().replace(str(bench.root), "/srv/other"))
    bench.trace()
    bench.doit("forget", "compile", **with_tree)
    out = bench.doit("-s", "compile", check=1, **with_tree)
    assert "was last used by the project in /srv/other" in out
    assert "compile" not in bench.trace()
    bench.doit(**with_tree)
    assert "compile" in bench.trace()
