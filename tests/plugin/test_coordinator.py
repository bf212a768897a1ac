"""The coordinator's own reboot, last of all: a real process that ends with its machine and comes again, started in the
words of the unit that it left behind. Nodes are fakes; the unit is read, not run by a systemd."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from kbuild_tasks.effects.resume import unit
from tests.plugin.conftest import DODO, HERE, Workbench, project
from tests.plugin.test_rollout_runs import CLUSTER, WORLD, boots, build, world

pytestmark = pytest.mark.real

ENV = {"FAKE_COORDINATOR": "1"}


@pytest.fixture
def ready(tmp_path: Path) -> Workbench:
    """A built project whose coordinator gets the kernel, in a directory that a unit has to quote."""
    made = project(tmp_path / 'my "100%" $project')
    text = CLUSTER.replace("connection: local, rollout: false", "connection: local")
    (made.root / "cluster.yaml").write_text(text)
    (made.root / "dodo.py").write_text(DODO % str(HERE) + WORLD % str(HERE.parent.parent))
    made.doit()
    build(made.root)
    return made


def field(text: str, name: str) -> str:
    """A setting of the unit as systemd understands it: %% is %, $$ in a command is $."""
    return next(line for line in text.splitlines() if line.startswith(f"{name}=")).partition("=")[2].replace("%%", "%")


def comes_again(bench: Workbench, **env: str) -> subprocess.CompletedProcess[str]:
    """What systemd does with the unit at the next boot."""
    text = (bench.root / "build/unit").read_text()
    command = [word.replace("$$", "$") for word in shlex.split(field(text, "ExecStart"))]
    name, _, path = shlex.split(field(text, "Environment"))[0].partition("=")
    assert name == "PATH" and "Restart=" not in text
    return subprocess.run(
        command, cwd=field(text, "WorkingDirectory"), text=True, capture_output=True, timeout=120,
        env={"PATH": path, "HOME": os.environ["HOME"], **ENV, **env},
    )  # fmt: skip


def goes_down(bench: Workbench, *args: str, **env: str) -> str:
    run = bench.start("rollout", *args, **ENV, **env)
    out, _ = run.communicate(timeout=120)
    assert run.returncode == -signal.SIGKILL, out
    return out


def last(bench: Workbench, name: str) -> str:
    lines = (bench.root / f"build/rollout/{name}.jsonl").read_text().splitlines()
    return str(json.loads(lines[-1])["state"])


def test_it_goes_last_and_finishes_after_its_boot(ready: Workbench) -> None:
    out = goes_down(ready)
    told = [line.split()[1] for line in out.splitlines() if line.split()[:1] == ["done"]]
    assert told[-1] == "deploy:n1" or told[-1] == "verify:n3", out
    assert [last(ready, name) for name in ("n7", "n2", "n3", "n1")] == [*["UNCORDONED"] * 3, "REBOOTING"]
    assert world(ready)["max_down"] == 1
    done = comes_again(ready)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "after a reboot that an earlier run asked for" in done.stdout
    assert last(ready, "n1") == "UNCORDONED"
    assert {name: len(each) for name, each in boots(ready).items()} == dict.fromkeys(("n7", "n2", "n3", "n1"), 1)
    again = comes_again(ready)
    assert again.returncode == 0 and len(boots(ready)["n1"]) == 1


def test_a_bad_kernel_there_is_told_after_its_boot(ready: Workbench) -> None:
    goes_down(ready, FAKE_FAULTS="n1=panic")
    done = comes_again(ready, FAKE_FAULTS="n1=panic")
    assert done.returncode == 1 and "FAILED reboot:n1" in done.stdout and "the new kernel panicked" in done.stdout
    assert last(ready, "n1") == "FELL_BACK"
    told = json.loads(ready.doit("status", "--json", **ENV))["rollout"]["n1"]
    assert told["state"] == "fell back" and "panicked" in told["why"]
    assert "ExecStopPost=-+/usr/bin/systemctl disable" in (ready.root / "build/unit").read_text(), "no later boot does"


def test_only_the_coordinator_is_gone_on_with(ready: Workbench) -> None:
    goes_down(ready, "only=n1")
    done = comes_again(ready)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {name: len(each) for name, each in boots(ready).items()} == {"n7": 0, "n2": 0, "n3": 0, "n1": 1}


def test_its_own_rollback_finishes_as_well(ready: Workbench) -> None:
    goes_down(ready)
    comes_again(ready)
    run = ready.start("rollback:n1", "to=previous", **ENV)
    out, _ = run.communicate(timeout=120)
    assert run.returncode == -signal.SIGKILL, out
    assert last(ready, "n1") == "ROLLING_BACK" and boots(ready)["n1"][-1] == "old"
    done = comes_again(ready)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "runs its previous 6.1.190-cluster" in done.stdout
    assert last(ready, "n1") == "ROLLED_BACK" and len(boots(ready)["n1"]) == 2
    assert comes_again(ready).returncode == 0 and len(boots(ready)["n1"]) == 2


@pytest.mark.real
def test_the_unit_is_one_that_systemd_can_read(tmp_path: Path) -> None:
    assert shutil.which("systemd-analyze")
    odd = tmp_path / 'a "b" $c 100% d\\e'
    odd.mkdir()
    text = unit(odd, "root", "/bin/true", '/bin:/opt/"x":/opt/\\y', odd / "log", "rollout", "only=n1")
    file = tmp_path / "kbuild-rollout-resume.service"
    file.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", file], capture_output=True, text=True)
    assert file.name not in done.stderr, done.stderr
