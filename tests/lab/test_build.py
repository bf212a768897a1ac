"""The whole build half on the real thing: Linux 6.1, sshd, distccd and makepkg on three nodes. One tree, compiled once.

Tests are in the order in which a user would live through them, and each leaves the project as it found it: fresh.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterator

import pytest

from kbuild_tasks.effects.files import sha256_file
from tests.lab.project import AUDIT, COORDINATOR, STAGES, WORKDIR, WORKERS, Project

pytestmark = [pytest.mark.lab, pytest.mark.real, pytest.mark.whole]

HEADER = "patches/0003-if_vlan-take-the-identifier-out-of-a-tag-in-one-plac.patch"
DRIVER = "patches/0001-virtio_blk-say-how-deep-the-queues-are.patch"
COMMENT = ("The identifier in a tag, without priority", "The identifier of a tag, without priority")
FEW_SECONDS = 60  # far under distcc's own 300 s, far over what a busy machine needs to notice


@pytest.fixture(scope="module")
def project(lab) -> Iterator[Project]:
    """Built once, by the first test that asks."""
    made = Project.make(lab, "example")
    made.first = made.doit()
    made.first_run = made.last_run()
    yield made
    made.doit("release", status=None)


def fresh(project: Project) -> bool:
    return set(project.states().values()) == {"fresh"}


def test_packages_and_manifest(project) -> None:
    assert project.first.count("  done   ") >= len(STAGES)
    manifest = json.loads((project.root / "artifacts/manifest.json").read_text())
    names = [package["file"] for package in manifest["packages"]]
    assert [re.sub(r"-6\.1\.\d+", "-6.1", name) for name in names] == [
        "linux-cluster-6.1-1-x86_64.pkg.tar.zst",
        "linux-cluster-headers-6.1-1-x86_64.pkg.tar.zst",
    ]
    for package in manifest["packages"]:
        assert sha256_file(project.root / "artifacts" / package["file"]) == package["sha256"]
    assert manifest["kernelrelease"] == project.results("compile")["kernelrelease"]


def test_most_objects_were_compiled_by_the_workers_as_their_own_logs_say(project) -> None:
    told = project.first_run["tasks"]["compile"]
    remote = sum(told["per_node"].get(worker, 0) for worker in WORKERS)
    assert len(told["objects"]) > 1000
    assert remote >= 0.6 * len(told["objects"]), told["per_node"]
    for worker in WORKERS:
        log = project.node("cat /var/lib/kbuild-tasks/distccd.log", node=worker, user="root")
        assert log.count("COMPILE_OK") == told["per_node"][worker]


def test_workers_are_as_they_were_found(project) -> None:
    for worker in WORKERS:
        assert "distccd" not in project.node("ps -A -o comm", node=worker)
        assert WORKDIR not in project.node("cat /proc/mounts", node=worker)


def test_nothing_to_do_starts_nothing_and_connects_nowhere(project) -> None:
    hook = project.root / "build" / "audit"
    hook.mkdir(exist_ok=True)
    (hook / "sitecustomize.py").write_text(AUDIT)
    out = project.doit(env=f"PYTHONPATH={hook}")
    assert fresh(project), out
    assert "AUDIT" not in out
    assert "AUDIT" in project.doit("release", env=f"PYTHONPATH={hook}", status=99), "the hook does see a process"


def test_touching_everything_leaves_all_fresh(project) -> None:
    project.node(f"find {project.root}/kernel {project.root}/patches {project.root}/*.* -exec touch {{}} +")
    project.doit()
    assert fresh(project)


def test_a_patch_edit_compiles_exactly_what_depends_on_it(project) -> None:
    packages = project.results("package")["packages"]
    back = project.edit(DRIVER, "+\t", "+\t/* said once */ ")
    plan = project.doit("plan")
    line = next(
        number for number, text in enumerate((project.root / DRIVER).read_text().splitlines(), 1) if "said once" in text
    )
    assert f"{DRIVER.split('/')[1]} changed (line {line})" in plan
    assert "1 object: drivers/block/virtio_blk.o" in plan
    # what a relink of the image compiles, in any edit of what is built in: addresses of vmlinux are in it
    expected = ["arch/x86/boot/compressed/misc.o", "drivers/block/virtio_blk.o"]
    project.doit()
    assert project.states() == dict.fromkeys(STAGES, "done") | {"extract": "fresh", "configure": "fresh"} | (
        {"configure": "done"} if project.states()["configure"] == "done" else {}
    )
    assert sorted(project.compiled()["objects"]) == expected
    back()
    project.doit()
    assert sorted(project.compiled()["objects"]) == expected
    assert project.results("package")["packages"] == packages, "undone: the same bytes"


def test_a_fragment_edit_leaves_source_and_patches_fresh(project) -> None:
    packages = project.results("package")["packages"]
    fragment = "kernel/config.d/10-k3s.config"
    text = (project.root / fragment).read_text()
    back = project.edit(fragment, text, text + "CONFIG_NLS_ISO8859_15=m\n")
    project.doit()
    states = project.states()
    assert (states["extract"], states["patch"], states["configure"]) == ("fresh", "fresh", "done")
    assert "fs/nls/nls_iso8859-15.o" in project.compiled()["objects"]
    assert len(project.compiled()["objects"]) < 20
    back()
    project.doit()
    assert project.results("package")["packages"] == packages


def test_pkgdesc_runs_package_alone(project) -> None:
    back = project.edit("kernel/PKGBUILD", "pkgdesc='Linux for", "pkgdesc='A Linux for")
    project.doit()
    assert project.states() == dict.fromkeys(STAGES, "fresh") | {"package": "done"}
    back()
    project.doit()


def test_equal_mtime_is_not_taken_for_equal_content(project) -> None:
    path = project.root / HEADER
    before = path.stat()
    back = project.edit(HEADER, "skb_vlan_tag_get_id() masks", "skb_vlan_tag_get_id() masKs")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    project.doit()
    assert project.states() == dict.fromkeys(STAGES, "fresh") | {"patch": "done"}, "words of a mail: the same tree"
    back()
    project.doit()


def test_forget_configure_reruns_exactly_configure(project) -> None:
    project.doit("forget", "configure")
    project.doit()
    assert project.states() == dict.fromkeys(STAGES, "fresh") | {"configure": "done"}


@pytest.mark.parametrize("stage", ["extract", "patch", "configure", "package"])
def test_kill_9_of_doit_in_a_stage_then_doit_finishes_with_the_same_packages(project, stage) -> None:
    packages = project.results("package")["packages"]
    if stage == "extract":  # a source that was there before is not unpacked again: that would be over in no time
        project.node(f"rm -rf {WORKDIR}.state/pristine")
    project.doit("forget", stage)
    run = project.start()
    receipt = project.root / f"build/receipts/{stage}.json"
    project.wait(lambda: not receipt.exists(), f"{stage} to start")
    project.kill_doit()
    run.wait()
    project.doit()
    states = project.states()
    assert states.pop(stage) == "done"
    assert set(states.values()) == {"fresh"}
    assert project.results("package")["packages"] == packages
    assert fresh_after(project)


def fresh_after(project: Project) -> bool:
    project.doit()
    return fresh(project)


def test_two_at_once_the_second_is_refused(project) -> None:
    project.doit("forget", "configure")
    run = project.start()
    receipt = project.root / "build/receipts/configure.json"
    project.wait(lambda: not receipt.exists(), "configure to start")
    out = project.doit("-a", status=1)
    assert "another run is in progress: pid" in out
    assert run.wait() == 0


def begin_to_compile(project: Project):
    """A compilation of some hundred objects that ends in the same bytes: a comment in a header was edited."""
    project.edit(HEADER, *COMMENT)
    run = project.start("compile")
    log = project.root / "build/logs/compile.log"
    project.wait(
        lambda: (
            not (project.root / "build/receipts/compile.json").exists()
            and log.read_text(errors="replace").count("  CC ") > 20
        ),
        "twenty objects",
    )
    return run


@pytest.fixture
def same_bytes(project) -> Iterator[Project]:
    """After the test the header's comment is undone and vmlinux is what it was."""
    before = project.results("compile")
    text = (project.root / HEADER).read_bytes()
    yield project
    after = project.results("compile")
    assert {key: after[key] for key in ("vmlinux_sha256", "modules_sha256")} == {
        key: before[key] for key in ("vmlinux_sha256", "modules_sha256")
    }
    (project.root / HEADER).write_bytes(text)
    project.doit()


def test_kill_9_in_mid_compile(same_bytes) -> None:
    project = same_bytes
    run = begin_to_compile(project)
    project.kill_doit()
    run.wait()
    project.doit()
    assert project.states()["patch"] == "fresh", "what was finished is not repeated"
    assert project.states()["compile"] == "done"


def test_ctrl_c_in_mid_compile_leaves_build_mode(same_bytes) -> None:
    project = same_bytes
    run = begin_to_compile(project)
    project.node("pkill -INT -f 'venv/bin/[d]oit compile'", user="root")
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 130, out
    assert "Traceback" not in out
    for worker in WORKERS:
        assert "distccd" not in project.node("ps -A -o comm", node=worker)
    project.doit()


@pytest.mark.parametrize("how", ["stop", "cut"])
def test_a_worker_lost_in_mid_compile_costs_seconds_and_is_told(same_bytes, how) -> None:
    project, lost = same_bytes, WORKERS[0]
    run = begin_to_compile(project)
    try:
        getattr(project.lab, how)(lost)
        out, _ = run.communicate(timeout=900)
    finally:
        (project.lab.start if how == "stop" else project.lab.join)(lost)
    assert run.returncode == 0, out
    assert lost in out.partition("done   compile")[2], "the loss is told"
    assert project.compiled()["per_node"][WORKERS[1]] > 0
    assert longest_silence(project) < FEW_SECONDS
    project.lab.up()


def longest_silence(project: Project) -> float:
    """The longest time in which no object was finished, in seconds, of the last compilation."""
    tree = f"{WORKDIR}/makepkg/{project.results('compile')['tree']}"
    names = " ".join(project.compiled()["objects"])
    times = sorted(float(line) for line in project.node(f"cd {tree} && stat -c %.9Y -- {names}").splitlines())
    return max((later - earlier for earlier, later in itertools.pairwise(times)), default=0.0)


def test_without_workers_it_builds_locally_and_says_so(same_bytes) -> None:
    project = same_bytes
    for worker in WORKERS:
        project.lab.stop(worker)
    try:
        project.edit(HEADER, *COMMENT)
        out = project.doit("compile")
    finally:
        for worker in WORKERS:
            project.lab.start(worker)
        project.lab.up()
    assert f"all on {COORDINATOR}: no worker took part" in out
    for worker in WORKERS:
        assert re.search(rf"prepare:{worker} +left out: ", out), out


def test_a_lost_tmpfs_rebuilds_nothing_until_something_changes(project) -> None:
    project.doit("release")
    project.node(f"rm -rf {WORKDIR}", user="root", check=False)
    project.doit()
    assert fresh(project)
