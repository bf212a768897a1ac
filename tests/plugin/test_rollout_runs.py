"""The roll-out through the real doit, on fake nodes: what is told, what a failure holds, edges with threads."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.fake_nodes import NEW_CONFIG
from tests.plugin.conftest import DODO, HERE, Workbench, project

CLUSTER = """\
version: 1
kernel: {pkgbuild: kernel/PKGBUILD, arch: x86_64, config: kernel/config, patches: patches}
build:
  coordinator: n1
  workdir: {path: /home/builder/buildtmp}
nodes:
  n1: {address: 127.0.0.1, connection: local, rollout: false}
  n7: {address: 10.0.0.10}
  n2: {address: 10.0.0.11}
  n3: {address: 10.0.0.12}
rollout:
  canary: [n7]
  verify: {modules: [overlay]}
"""
WORLD = """\
sys.path.insert(0, %r)
from tests.plugin import fake_rollout
fake_rollout.install(__import__("pathlib").Path(__file__).parent)
"""


DEAD = """\
from kbuild_tasks.core.errors import NodeUnreachable
from kbuild_tasks.effects import helper
ask = helper.ask
def dead(cluster, node, *more, **named):
    if node.name == "n2":
        raise NodeUnreachable("n2 cannot be reached")
    return ask(cluster, node, *more, **named)
helper.ask = dead
"""


def build(root: Path, data: bytes = b"kernel" * 999) -> str:
    """Packages in artifacts/, as if built; the name of the build."""
    digest = hashlib.sha256(data).hexdigest()
    (root / "artifacts").mkdir(exist_ok=True)
    (root / "artifacts/linux.pkg.tar.zst").write_bytes(data)
    manifest: dict[str, Any] = {"packages_sha256": digest, "kernelrelease": "6.1.192-cluster", "build_id": digest[:40]}
    manifest["config_sha256"] = NEW_CONFIG
    manifest["packages"] = [{"file": "linux.pkg.tar.zst", "size": len(data), "sha256": digest}]
    (root / "artifacts/manifest.json").write_text(json.dumps(manifest))
    return digest[:12]


def named(bench: Workbench) -> str:
    """The build in artifacts/."""
    digest = json.loads((bench.root / "artifacts/manifest.json").read_text())["packages_sha256"]
    return str(digest[:12])


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    made = project(tmp_path_factory.mktemp("packaged") / "project")
    (made.root / "cluster.yaml").write_text(CLUSTER)
    (made.root / "dodo.py").write_text(DODO % str(HERE) + WORLD % str(HERE.parent.parent))
    made.doit()
    build(made.root)
    made.trace()
    return made


@pytest.fixture
def ready(packaged: Workbench, tmp_path: Path) -> Workbench:
    """A built project with three nodes that get the kernel."""
    return Workbench(Path(shutil.copytree(packaged.root, tmp_path / "my project", symlinks=True)))


def world(bench: Workbench) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((bench.root / "build/world.json").read_text())
    return value


def boots(bench: Workbench) -> dict[str, list[str]]:
    return {name: node["boots"] for name, node in world(bench)["nodes"].items()}


def test_a_good_roll_out(ready: Workbench) -> None:
    out = ready.doit("rollout")
    lines = out.splitlines()
    told = f"6.1.192-cluster (build {named(ready)})"
    assert f"  done   deploy:n7    installed {told}; 6.1.190-cluster stays the default" in lines
    assert any(re.fullmatch(r"  done   reboot:n7    6\.1\.192-cluster after 2\d s", line) for line in lines), out
    assert any(
        re.match(
            r"  done   verify:n7    1\d checks, twice, 20 s apart; 6\.1\.192-cluster \(build [0-9a-f]{12}\) is its def",
            line,
        )
        for line in lines
    )
    order = [
        line.split()[1] for line in lines if line.split()[1:2] and line.split()[1].startswith(("reboot", "verify"))
    ]
    assert order == ["reboot:n7", "verify:n7", "reboot:n2", "verify:n2", "reboot:n3", "verify:n3"]
    table = lines[lines.index("") + 1 :]
    assert table[0].split() == ["node", "runs", "result", "away"]
    assert re.fullmatch(rf"  n7    6\.1\.192-cluster {named(ready)}  verified +2\d s", table[1])
    assert world(ready)["max_down"] == 1
    assert len({tuple(each) for each in boots(ready).values()}) == 1 and len(boots(ready)["n7"]) == 1


def test_again_it_changes_nothing_and_says_so(ready: Workbench) -> None:
    ready.doit("rollout")
    before = world(ready)["nodes"]
    out = ready.doit("rollout")
    assert [line for line in out.splitlines() if line.startswith("  fresh")] == [
        "  fresh  deploy       3 nodes",
        "  fresh  reboot       3 nodes",
        "  fresh  verify       3 nodes",
    ]
    assert world(ready)["nodes"] == before
    told = f"6.1.192-cluster (build {named(ready)}) is its default and known-good"
    assert f"  fresh  verify:n2    {told}" in ready.doit("verify:n2", "only=n2")


def test_a_bad_kernel_costs_one_node_one_reboot(ready: Workbench) -> None:
    out = ready.doit("rollout", check=1, FAKE_FAULTS="n7=panic")
    assert re.search(
        r"""  FAILED reboot:n7    came back after 3\d s on 6\.1\.190-cluster: the new kernel panicked
           Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block\(0,0\)
         roll-out halted; (not touched|installed, not rebooted): .*
         hint: the failed build is not tried again there
""",
        out,
    ), out
    told = boots(ready)
    assert told["n2"] == told["n3"] == [] and len(told["n7"]) == 2
    states = json.loads((ready.root / "build/last-run.json").read_text())["tasks"]
    assert states["reboot:n7"]["state"] == "failed" and states["reboot:n2"]["state"] == "held"
    again = ready.doit("rollout", check=1)
    assert "failed on n7 and is not tried again there" in again
    assert boots(ready) == told
    status = ready.doit("status")
    assert re.search(r"n7 +6\.1\.190-cluster +6\.1\.190-cluster +- +fell back", status), status
    assert json.loads(ready.doit("status", "--json"))["rollout"]["n7"]["state"] == "fell back"
    last = status[status.index("last run   failed") :]
    assert "reboot:n7: " not in last, "the second run's failure is told, not the first's"
    assert "deploy:n7: build" in last and "hint: doit allow:n7 lets it be tried once more" in last
    assert "may be tried there again" in ready.doit("allow:n7")
    assert "run    deploy:n7" in ready.doit("plan"), "the node's own list was asked for anew"
    assert json.loads(ready.doit("status", "--json"))["rollout"]["n7"]["state"] == "may be tried again"
    ready.doit("rollout")
    assert len(boots(ready)["n3"]) == 1


def test_nothing_else_goes_down_with_continue_and_many_threads(ready: Workbench) -> None:
    out = ready.doit("-n", "16", "--continue", "rollout", check=None, FAKE_FAULTS="n7=panic", FAKE_REAL_SLEEP="1")
    assert "held   reboot:n2" in out
    assert boots(ready)["n2"] == boots(ready)["n3"] == []
    assert world(ready)["max_down"] == 1


def test_killed_and_resumed_through_doit(ready: Workbench) -> None:
    for point in (9, 25, 30, 33, 40, 45, 52, 60, 75):
        run = ready.start("rollout", FAKE_KILL=str(point))
        out, _ = run.communicate(timeout=60)
        assert run.returncode == -9, (point, out)
    ready.doit("rollout")
    assert {len(each) for each in boots(ready).values()} == {1}


def test_the_build_half_is_not_touched_and_must_be_done(ready: Workbench) -> None:
    ready.edit("patches/a.patch", "+2", "+3")
    out = ready.doit("rollout", check=1)
    assert "artifacts/ is behind its sources: patch: a.patch changed (line 6)" in out
    assert "hint: doit, then doit rollout" in out
    assert ready.trace() == [] and boots(ready)["n7"] == []


def test_all_that_is_verified_is_of_before_the_edit(ready: Workbench) -> None:
    ready.doit("rollout")
    assert "behind" not in ready.doit("rollout")
    ready.edit("patches/a.patch", "+2", "+3")
    out = ready.doit("rollout")
    assert out.count("artifacts/ is behind its sources (patch: a.patch changed (line 6)); doit, then doit rollout") == 1
    assert "doit rollout would" not in ready.doit("plan"), "there is nothing to do with what lies there"
    build(ready.root, b"newer" * 999)
    told = "doit rollout refuses until doit has run patch; then it would, with what is in artifacts/ now:"
    assert told in ready.doit("plan")


def test_plan_tells_what_the_roll_out_does_and_no_more(ready: Workbench) -> None:
    plan = ready.doit("plan")
    assert plan.count(", then reboot and verify; it was never asked") == 3
    ready.doit("deploy")
    told = re.findall("  run    (reboot:n.)  goes on: it is installed, then verify\n", ready.doit("plan"))
    assert told == ["reboot:n7", "reboot:n2", "reboot:n3"]
    ready.doit("rollout", check=1, FAKE_FAULTS="n7=panic")
    plan = ready.doit("plan")
    assert re.search("  held   deploy:n7  .*: doit allow:n7 lets it be tried once more\n", plan), plan
    assert "  held   reboot:n2  waits for n7\n  held   reboot:n3  waits for n7\n" in plan
    out = ready.doit("rollout", check=1)
    assert "FAILED deploy:n7" in out and boots(ready)["n2"] == []
    newer = build(ready.root, b"newer" * 999)
    assert f"(build {newer}) over 6.1.190-cluster, then reboot and verify" in ready.doit("plan")
    ready.doit("rollout")
    newest = build(ready.root, b"newest" * 999)
    told = f"(build {newest}) over 6.1.192-cluster (build {newer}), then reboot and verify"
    assert told in ready.doit("plan"), "two builds of one release"


def test_on_the_wrong_machine_it_is_said(ready: Workbench) -> None:
    ready.edit("cluster.yaml", "n1: {address: 127.0.0.1", "n1: {address: 192.0.2.1")
    out = ready.doit("rollout", check=1)
    assert "n1 is not this machine: 192.0.2.1 is not one of its addresses" in out
    assert "hint: run doit on n1" in out and not (ready.root / "build/world.json").exists()


def test_who_takes_no_part_is_named(ready: Workbench) -> None:
    ready.edit("cluster.yaml", "n3: {address: 10.0.0.12}", "n3: {address: 10.0.0.12, hold: true}")
    plan = ready.doit("plan")
    assert re.search("  hold   deploy:n3 +hold: true in cluster.yaml\n", plan), plan
    out = ready.doit("rollout")
    assert re.search("\n  n3 +[?] +on hold +-\n", out) and boots(ready)["n3"] == [], out
    assert json.loads(ready.doit("status", "--json"))["rollout"]["n3"]["state"] == "on hold"
    assert "n3" not in ready.doit("rollout", "only=n7"), "only= names whom it is about"


def test_a_node_that_is_put_on_hold_in_the_middle_is_not_forgotten(ready: Workbench) -> None:
    ready.doit("rollout", "only=n2")
    ready.doit("deploy", "reboot:n7")
    for name, number in (("n7", "10"), ("n2", "11")):
        ready.edit(
            "cluster.yaml", f"{name}: {{address: 10.0.0.{number}}}", f"{name}: {{address: 10.0.0.{number}, hold: true}}"
        )
    ready.edit("cluster.yaml", "canary: [n7]", "canary: [n3]")
    told = json.loads(ready.doit("status", "--json"))["rollout"]
    assert told["n7"]["why"] == "it was on trial when it was put on hold, and is not looked after since"
    assert told["n2"]["state"] == told["n7"]["state"] == "on hold" and told["n2"]["why"] is None
    assert told["n7"]["why"] in ready.doit("status")


def test_status_tells_whose_a_node_is_and_what_it_tries(ready: Workbench) -> None:
    ready.doit("deploy", "reboot:n7")
    told = json.loads(ready.doit("status", "--json"))["rollout"]["n7"]
    assert told["trial"] == "6.1.192-cluster" and told["trial_build"] == named(ready)
    assert re.search(
        rf"\n  n7 .* 6\.1\.192-cluster {named(ready)} +on trial +....-..-.. ..:.. UTC\n", ready.doit("status")
    )
    value = world(ready)
    value["nodes"]["n2"]["holder"] = {"who": "eve@n9:/srv/p", "since": 1}
    (ready.root / "build/world.json").write_text(json.dumps(value))
    out = ready.doit("status", "--ask")
    assert "in the roll-out of eve@n9:/srv/p, since 1970-01-01 00:00 UTC" in out
    assert f"artifacts  6.1.192-cluster (build {named(ready)})" in out
    assert re.search(r"n2 +worker +\S+ +.* 6\.1\.190-cluster +20..-..-.. ..:.. UTC\n", out), "both tables are of now"


def test_a_build_that_one_took_back_oneself_has_not_failed(ready: Workbench) -> None:
    ready.doit("deploy", "reboot:n7")
    ready.doit("rollback:n7")
    out = ready.doit("rollout", check=1)
    assert f"build {named(ready)} was rolled back on n7 and is not tried again there\n" in out
    assert "hint: doit allow:n7 lets it be tried once more" in out


def test_without_artifacts_there_is_nothing_to_roll_out(bench: Workbench) -> None:
    out = bench.doit("rollout", check=1)
    assert "there is no kernel to roll out: artifacts/manifest.json is not there" in out
    assert "hint: doit builds it" in out and "Traceback" not in out


def test_only_leaves_the_others_out(ready: Workbench) -> None:
    ready.doit("rollout", "only=n3")
    assert {name: len(each) for name, each in boots(ready).items()} == {"n7": 0, "n2": 0, "n3": 1}
    out = ready.doit("rollout", "only=n33", check=3)
    assert "only=n33: there is no such node, did you mean n3?" in out and "Traceback" not in out


def test_plan_and_status_open_no_connection(ready: Workbench) -> None:
    plan = ready.doit("plan")
    assert "  run    deploy:n7  6.1.192-cluster" in plan and "it was never asked" in plan
    assert json.loads(ready.doit("plan", "--json"))["fresh"] is True, "plain doit does none of it"
    assert not (ready.root / "build/world.json").exists()
    ready.doit("deploy")
    assert "reboot:n2  goes on: it is installed, then verify" in ready.doit("plan")
    assert boots(ready) == {"n7": [], "n2": [], "n3": []}
    ready.doit("rollout")
    assert "doit rollout would" not in ready.doit("plan")
    told = json.loads(ready.doit("status", "--json", "--ask"))["rollout"]["n2"]
    assert told["running"] == told["known_good"] == "6.1.192-cluster" and told["state"] == "verified"


def test_the_report_tells_of_a_roll_out_that_is_half_done(ready: Workbench) -> None:
    def page() -> str:
        ready.doit("report")
        return (ready.root / "build/report.html").read_text()

    assert "not finished" not in page()
    ready.doit("deploy")
    assert "roll-out not finished: installed, not rebooted: n7 n2 n3" in page()
    ready.doit("rollout", "only=n7")
    assert "roll-out not finished: installed, not rebooted: n2 n3" in page()
    ready.doit("rollout")
    assert "not finished" not in page()


def test_a_verified_node_that_runs_another_kernel_is_told(ready: Workbench) -> None:
    ready.doit("rollout")
    seen = ready.root / "build/rollout/n7-seen.json"
    told = json.loads(seen.read_text())
    told["observe"]["release"] = "6.0.1-rescue"
    seen.write_text(json.dumps(told))
    told = json.loads(ready.doit("status", "--json"))["rollout"]
    assert told["n7"]["state"] == "verified, and runs another kernel"
    assert told["n2"]["state"] == "verified"


def test_rollback_one_after_the_other(ready: Workbench) -> None:
    ready.doit("rollout")
    build(ready.root, b"another" * 999)
    out = ready.doit("rollout", check=1, FAKE_FAULTS="n7=other-build-id")
    assert "FAILED reboot:n7" in out
    out = ready.doit("rollback")
    assert "runs its known-good 6.1.192-cluster" in out
    assert world(ready)["max_down"] == 1
    assert re.findall("  rollback:(n[0-9])", out) == ["n7", "n2", "n3"], "in the order of the roll-out"
    out = ready.doit("rollback:n3", "rollback:n7")
    assert re.findall("  rollback:(n[0-9])", out) == ["n7", "n3"], "and nobody who was not asked for"
    assert "; doit rollback:n3 to=previous goes to 6.1.190-cluster" in out


def test_a_group_of_one_node_is_told_as_that_node(ready: Workbench) -> None:
    ready.doit("rollout", "only=n7")
    (line,) = [line for line in ready.doit("deploy", "only=n7").splitlines() if line.startswith("  fresh")]
    assert re.fullmatch(r"  fresh  deploy:n7 +runs 6\.1\.192-cluster \(build [0-9a-f]{12}\), verified", line)


def test_a_node_that_is_dead_says_how_the_others_go_on(ready: Workbench) -> None:
    dodo = ready.root / "dodo.py"
    dodo.write_text(dodo.read_text() + DEAD)
    out = ready.doit("--continue", "rollout", check=None)
    assert re.search("FAILED deploy:n2 +n2 cannot be reached", out), out
    assert "hint: the roll-out goes on without it where n2 has hold: true in cluster.yaml" in out
    assert boots(ready)["n2"] == []
    ready.edit("cluster.yaml", "n2: {address: 10.0.0.11}", "n2: {address: 10.0.0.11, hold: true}")
    ready.doit("rollout")
    assert {name: len(each) for name, each in boots(ready).items()} == {"n7": 1, "n2": 0, "n3": 1}


def test_prune_is_a_word_of_its_own(ready: Workbench) -> None:
    for number in range(4):
        build(ready.root, b"%d" % number * 999)
        ready.doit("rollout", "only=n7")
    staged = list(world(ready)["nodes"]["n7"]["staged"])
    assert len(staged) == 4
    assert "prune" not in ready.doit("plan")
    out = ready.doit("prune:n7", "build=" + staged[0])
    assert re.search(rf"  done   prune:n7 +removed {staged[0]}: .* MiB of / and 20 MiB of /boot are free again", out), (
        out
    )
    out = ready.doit("prune")
    assert re.search(rf"  done   prune:n7 +removed {staged[1]}: ", out), out
    for name in ("n2", "n3"):
        assert re.search(rf"  fresh  prune:{name} +nothing to remove; nothing was rolled out there", out), out
    assert re.search("  fresh  prune +3 nodes: nothing to remove\n", ready.doit("prune"))
    assert re.search("  fresh  prune:n7 +nothing to remove; known-good ", ready.doit("prune", "only=n7"))
    assert list(world(ready)["nodes"]["n7"]["staged"]) == staged[2:]
    assert f"n7 needs build {staged[2]}: previous" in ready.doit("prune:n7", "build=" + staged[2], check=1)
    assert "build=x: a build is named by 12 hex digits" in ready.doit("prune", "build=x", check=3)


def test_a_second_operator_is_refused_and_takes_over_by_word(ready: Workbench) -> None:
    ready.doit("deploy")
    value = world(ready)
    for node in value["nodes"].values():
        node["holder"], node["fence"] = {"who": "eve@n9:/srv/p", "since": 1}, 7
    (ready.root / "build/world.json").write_text(json.dumps(value))
    out = ready.doit("rollout", check=1)
    assert "n7 is in the roll-out of eve@n9:/srv/p, since 1970-01-01 00:00 UTC (number 7)" in out
    assert "taken over from eve@n9:/srv/p" in ready.doit("takeover")
    ready.doit("rollout")
    assert min(node["fence"] for node in world(ready)["nodes"].values()) >= 8


def test_the_list_names_them(ready: Workbench) -> None:
    listed = ready.doit("list")
    for name in ("deploy", "reboot", "verify", "rollout", "rollback", "allow", "takeover", "prune"):
        assert any(line.split()[:1] == [name] and len(line.split()) > 2 for line in listed.splitlines()), listed
    assert "reboot:n2" in ready.doit("list", "--all")
    assert os.path.exists(ready.root / "build")
