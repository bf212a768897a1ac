"""What sync declares, and what it does without a node; the rest is in test_prepare_lab.py."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from kbuild_tasks.core.errors import KbuildError, NodeRefused, NodeUnreachable
from kbuild_tasks.core.model import Build, Cluster, Kernel, Node, Ssh, Workdir
from kbuild_tasks.effects import node as remote
from kbuild_tasks.effects import owner
from kbuild_tasks.effects.context import Context, Paths
from kbuild_tasks.effects.files import read_json, write_json
from kbuild_tasks.effects.project import Project
from kbuild_tasks.stages import prepare, release, sync


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    for name in ("cluster.yaml", "kernel/PKGBUILD", "kernel/a.install", "kernel/.hidden", "kernel/config",
                 "kernel/config.d/10.config", "patches/b.patch", "patches/a.patch", "patches/README"):  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(f"{name}\n")
    (tmp_path / "patches/series").write_text("b.patch\na.patch\n")
    with open(tmp_path / "kernel/linux-6.1.tar.xz", "wb") as file:
        file.truncate(sync.LARGEST + 1)
    return Cluster(
        tmp_path,
        "cluster.yaml",
        Kernel("kernel/PKGBUILD", "x86_64", "kernel/config", ("kernel/config.d/10.config",), "patches"),
        Build("kubenode1", Workdir("/home/builder/buildtmp")),
        Ssh(),
        {"kubenode1": Node("kubenode1", "127.0.0.1", "local"), "kubenode2": Node("kubenode2", "10.0.0.12")},
    )


def context(cluster: Cluster, verb: str, name: str = "kubenode2") -> Context:
    return Context(cluster, Paths.of(cluster), f"{verb}:{name}", cluster.nodes[name])


def test_every_file_that_a_build_is_made_of(cluster: Cluster) -> None:
    declared = sync.inputs(Project(cluster), cluster.nodes["kubenode2"])
    assert declared.files == (
        "cluster.yaml",
        "kernel/PKGBUILD",
        "kernel/a.install",
        "kernel/config",
        "kernel/config.d/10.config",
        "patches/b.patch",
        "patches/a.patch",
        "patches/series",
    )
    assert {key: declared.values[key] for key in ("node", "address")} == {"node": "kubenode2", "address": "10.0.0.12"}


def test_another_helper_is_brought_and_the_admins_is_left(cluster: Cluster) -> None:
    from dataclasses import replace

    def told(cluster: Cluster, **changes: object) -> object:
        node = replace(cluster.nodes["kubenode2"], **changes)
        return sync.inputs(Project(cluster), node).values.get("helper")

    assert len(str(told(cluster))) == 64
    assert told(cluster, rollout=False) is None
    assert told(replace(cluster, ssh=replace(cluster.ssh, sudo="helper"))) == "the admin's"


def test_a_defconfig_is_no_file(cluster: Cluster) -> None:
    from dataclasses import replace

    named = replace(cluster, kernel=replace(cluster.kernel, config="bcm2711_defconfig"))
    assert "bcm2711_defconfig" not in sync.inputs(Project(named), named.nodes["kubenode2"]).files


def test_a_missing_file_is_told(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "ask", lambda *args, **more: pytest.fail("nothing may be sent"))
    (cluster.root / "kernel/config.d/10.config").unlink()
    with pytest.raises(KbuildError, match=r"kernel/config.d/10.config cannot be read: No such file or directory"):
        sync.run(context(cluster, "sync"))


def test_equal_contents_are_equal_bytes() -> None:
    assert sync._tar({"a": b"1", "b": b"2"}) == sync._tar({"a": b"1", "b": b"2"})


@pytest.mark.parametrize(
    ("run", "reached", "asked"), [("this", False, False), ("another", False, True), ("this", True, True)]
)
def test_a_node_that_was_just_found_down_is_not_waited_for_again(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, run: str, reached: bool, asked: bool
) -> None:
    calls = []

    def down(*args: object, **more: object) -> None:
        calls.append(args)
        raise NodeUnreachable("kubenode2 is down", "switch it on")

    monkeypatch.setattr(remote, "ask", down)
    monkeypatch.setattr(owner, "TOKEN", "this")
    ctx = context(cluster, "sync")
    record = {"reached": reached, "why": "kubenode2 was down", "hint": "plug it in", "at": time.time(), "run": run}
    write_json(ctx.paths.facts("kubenode2"), record)
    outcome = sync.run(ctx)
    assert outcome.final is False
    assert bool(calls) == asked
    expected = "left out: kubenode2 is down; switch it on" if asked else "left out: kubenode2 was down; plug it in"
    assert outcome.message == expected


@pytest.mark.parametrize("stage", [prepare, sync])
def test_the_coordinator_being_out_of_reach_is_an_error(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, stage: object
) -> None:
    def refuse(*args: object, **more: object) -> None:
        raise remote.NotAdmitted("builder may not sudo on kubenode1", "the line")

    monkeypatch.setattr(remote, "ask", refuse)
    monkeypatch.setattr(prepare, "_refuse_root", lambda node: None)
    with pytest.raises(NodeRefused, match="builder may not sudo on kubenode1"):
        stage.run(context(cluster, stage.__name__.rpartition(".")[2], "kubenode1"))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "error", [NodeUnreachable("kubenode2 is down", "switch it on"), NodeRefused("kubenode2 is full", "empty it")]
)
def test_a_worker_that_fails_is_left_out_and_recorded(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, error: KbuildError
) -> None:
    def fail(*args: object, **more: object) -> None:
        raise error

    monkeypatch.setattr(remote, "ask", fail)
    ctx = context(cluster, "prepare")
    outcome = prepare.run(ctx)
    assert outcome.final is False
    assert outcome.message == f"left out: {error.message}; {error.hint}"
    record = read_json(ctx.paths.facts("kubenode2"))
    assert (record["state"], record["why"], record["hint"]) == ("left-out", error.message, error.hint)
    with pytest.raises(type(error), match=error.message) as caught:
        release.release_node(ctx, cluster.nodes["kubenode2"])
    assert ("doit release" if isinstance(error, NodeUnreachable) else "empty it") in str(caught.value.hint)


@pytest.mark.parametrize(("deadline", "unsure"), [(0, True), (30, False)])
def test_a_node_that_was_too_slow_may_be_in_build_mode(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, deadline: int, unsure: bool
) -> None:
    def slow(*args: object, **more: object) -> None:
        raise NodeUnreachable("kubenode2 did not answer within 30 s")

    monkeypatch.setattr(remote, "ask", slow)
    monkeypatch.setattr(prepare, "DEADLINE", deadline)
    ctx = context(cluster, "prepare")
    prepare.run(ctx)
    assert read_json(ctx.paths.facts("kubenode2"))["unsure"] is unsure


def test_doit_as_root_is_refused(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(remote, "ask", lambda *args, **more: pytest.fail("nothing may be done"))
    with pytest.raises(KbuildError, match="makepkg refuses root"):
        prepare.run(context(cluster, "prepare", "kubenode1"))
